//! JSON web tokens of somebody else, read strictly. Nothing here makes one.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stackbeam_session::Timestamp;
//! use stackbeam_session::jwt::{Algorithm, JwtKey, JwtRules};
//!
//! let key = JwtKey::hmac(Algorithm::Hs256, b"at least as long as the hash: 32 bytes")?;
//! let rules = JwtRules::new("https://issuer.example", "my-service");
//! let token = "eyJhbGciOiJub25lIn0.e30.";
//! assert!(rules.verify::<serde_json::Value>(&key, token, Timestamp::now()).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! What holds, after RFC 8725: a key has one algorithm and the header must name it; `none` has no key;
//! `jku`, `x5u`, `jwk`, `x5c`, `crit` and `zip` are refused wherever they stand; the signature is checked before
//! the claims are read; `exp` must be there and a number, `typ`, `iss` and `aud` must be the expected ones; a claim
//! of the wrong type is refused and not taken as absent; duplicate keys are refused; base64 has one form.
//!
//! Sources: RFC 7515, 7518, 7519, 8037, 8725. The primitives are those of aws-lc-rs and `ed25519-dalek`.

mod key;
mod rules;

pub use key::{Algorithm, JwtKey};
pub use rules::{JwtClaims, JwtRules, open_jws, untrusted_kid};

/// Longest token in bytes that is looked at.
pub const BYTES_MAX: usize = 8192;

/// Why a token was refused, or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The key is too short for its algorithm, or not a key for it.
    #[error("the key is too short for its algorithm, or not a key for it")]
    Key,
    /// Longer than [`BYTES_MAX`].
    #[error("longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or its header is not a JSON object.
    #[error("not a JSON web token")]
    Malformed,
    /// The header names another algorithm than the key's.
    #[error("the token is not of the key's algorithm")]
    Algorithm,
    /// The header asks for something that is never done: a key from elsewhere, an extension, compression.
    #[error("the header asks for something that is never done")]
    Header,
    /// Forged, damaged, or under another key.
    #[error("the token is not authentic")]
    NotAuthentic,
    /// A claim is missing, twice there, or of the wrong type.
    #[error("the claims of the token are not valid")]
    Claims,
    /// Of another type, by another issuer or for another audience.
    #[error("the token is not meant for here")]
    NotForUs,
    /// Not yet good, beyond the leeway.
    #[error("the token is not good yet")]
    FromTheFuture,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}
