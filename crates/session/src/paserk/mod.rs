//! PASERK version 4: keys wrapped under another key, under a password, or sealed to a public key.
//!
//! Plain texts and ids are methods of the keys: [`Key::from_paserk`], [`Key::to_paserk`],
//! [`Key::paserk_id`], and the same of [`SecretKey`] and [`PublicKey`](crate::PublicKey). Here are the
//! kinds for keys that travel or rest in the open, so that a vault or a KMS unwraps once at the start:
//!
//! | text | in | out |
//! | --- | --- | --- |
//! | `k4.local-wrap.pie.`, `k4.secret-wrap.pie.` | [`wrap`] | [`unwrap`] |
//! | `k4.local-pw.`, `k4.secret-pw.` (feature `password`) | `wrap_with_password` | `unwrap_with_password` |
//! | `k4.seal.` | [`seal`] | [`unseal`] |
//!
//! Source: the PASERK specification, "PIE", "PBKW" and "PKE", version 4
//! (github.com/paseto-standard/paserk).

#[cfg(feature = "password")]
mod password;
mod pie;
mod seal;

use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::key::{Key, KeyError};
use crate::keypair::SecretKey;

#[cfg(all(feature = "password", feature = "std"))]
pub use password::wrap_with_password;
#[cfg(feature = "password")]
pub use password::{PasswordCost, unwrap_with_password};
pub use pie::unwrap;
#[cfg(feature = "std")]
pub use pie::wrap;
#[cfg(feature = "std")]
pub use seal::seal;
pub use seal::unseal;

/// Why a wrapped key was not opened, or not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaserkError {
    /// Not the text of a wrapped key of this kind.
    #[error("not the text of a wrapped key of this kind")]
    Malformed,
    /// The wrong key or password, or a damaged text.
    #[error("the wrapped key is not authentic under this key or password")]
    NotAuthentic,
    /// The text asks for more memory or time than the caller allows.
    #[error("the wrapped key asks for more memory or time than is allowed")]
    TooCostly,
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Keys that can be wrapped: [`Key`] and [`SecretKey`].
pub trait Wrappable: private::Wrappable {}
impl Wrappable for Key {}
impl Wrappable for SecretKey {}

mod private {
    use super::{Key, KeyError, SecretKey};

    #[expect(unnameable_types, reason = "sealed: only the two keys of PASERK")]
    pub trait Wrappable: Sized {
        /// `local` or `secret`.
        const KIND: &'static str;
        const BYTES: usize;
        fn raw(&self) -> &[u8];
        fn from_raw(bytes: &[u8]) -> Result<Self, KeyError>;
    }

    impl Wrappable for Key {
        const KIND: &'static str = "local";
        const BYTES: usize = 32;
        fn raw(&self) -> &[u8] {
            self.bytes()
        }
        fn from_raw(bytes: &[u8]) -> Result<Self, KeyError> {
            Self::from_bytes(bytes)
        }
    }

    impl Wrappable for SecretKey {
        const KIND: &'static str = "secret";
        const BYTES: usize = 64;
        fn raw(&self) -> &[u8] {
            self.bytes()
        }
        fn from_raw(bytes: &[u8]) -> Result<Self, KeyError> {
            Self::from_bytes(bytes)
        }
    }
}

fn decode(text: &str, header: &str, bytes: usize) -> Result<Zeroizing<Vec<u8>>, PaserkError> {
    let raw = crate::key::decode(text, header).map_err(|_| PaserkError::Malformed)?;
    if raw.len() == bytes {
        Ok(raw)
    } else {
        Err(PaserkError::Malformed)
    }
}

/// Applies the XChaCha20 stream to `text`.
fn stream(key: &[u8; 32], nonce: &[u8; 24], text: &mut [u8]) {
    use chacha20::cipher::{KeyIvInit, StreamCipher};
    chacha20::XChaCha20::new(key.into(), nonce.into()).apply_keystream(text);
}
