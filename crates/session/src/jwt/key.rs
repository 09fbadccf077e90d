//! A key and its one algorithm.

use std::fmt;

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::JwtError;
use crate::keypair::PublicKey;

/// A signature algorithm of RFC 7518 and RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 to 8192 bits.
    Rs256,
    /// RSASSA-PSS with SHA-256, 2048 to 8192 bits.
    Ps256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The name in a header's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

enum Kind {
    Hmac(Box<hmac::Key>),
    Curve(&'static signature::EcdsaVerificationAlgorithm, Vec<u8>),
    Rsa(
        &'static signature::RsaParameters,
        signature::RsaPublicKeyComponents<Vec<u8>>,
    ),
    Ed(PublicKey),
}

/// A key that checks the signatures of one algorithm. `Debug` shows the algorithm alone.
pub struct JwtKey {
    algorithm: Algorithm,
    kind: Kind,
}

impl JwtKey {
    /// A shared secret for an `Hs*` algorithm.
    ///
    /// # Errors
    /// [`JwtError::Key`] for a secret shorter than the hash, and for another algorithm.
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, JwtError> {
        let (hash, least) = match algorithm {
            Algorithm::Hs256 => (hmac::HMAC_SHA256, 32),
            Algorithm::Hs384 => (hmac::HMAC_SHA384, 48),
            Algorithm::Hs512 => (hmac::HMAC_SHA512, 64),
            _ => return Err(JwtError::Key),
        };
        if secret.len() < least {
            return Err(JwtError::Key);
        }
        let kind = Kind::Hmac(Box::new(hmac::Key::new(hash, secret)));
        Ok(Self { algorithm, kind })
    }

    /// A public key for an `Es*` algorithm: the two coordinates, big-endian, of full length.
    ///
    /// # Errors
    /// [`JwtError::Key`] for coordinates of another length or off the curve, and for another algorithm.
    pub fn curve(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Result<Self, JwtError> {
        let (check, bytes): (&'static signature::EcdsaVerificationAlgorithm, _) = match algorithm {
            Algorithm::Es256 => (&signature::ECDSA_P256_SHA256_FIXED, 32),
            Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED, 48),
            Algorithm::Es512 => (&signature::ECDSA_P521_SHA512_FIXED, 66),
            _ => return Err(JwtError::Key),
        };
        if x.len() != bytes || y.len() != bytes {
            return Err(JwtError::Key);
        }
        let point: Vec<u8> = [&[4], x, y].concat();
        signature::ParsedPublicKey::new(check, &point).map_err(|_| JwtError::Key)?;
        let kind = Kind::Curve(check, point);
        Ok(Self { algorithm, kind })
    }

    /// A public key for `Rs256` or `Ps256`: modulus and exponent, big-endian.
    ///
    /// # Errors
    /// [`JwtError::Key`] for less than 2048 bits, and for another algorithm.
    pub fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Result<Self, JwtError> {
        let check = match algorithm {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            _ => return Err(JwtError::Key),
        };
        let modulus: Vec<u8> = modulus
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        if !(256..=1024).contains(&modulus.len()) || exponent.is_empty() {
            return Err(JwtError::Key);
        }
        let n = modulus;
        let e = exponent.to_vec();
        let kind = Kind::Rsa(check, signature::RsaPublicKeyComponents { n, e });
        Ok(Self { algorithm, kind })
    }

    /// An Ed25519 public key, for `EdDSA`.
    ///
    /// # Errors
    /// [`JwtError::Key`] when it is not a point that may be used.
    pub fn ed25519(key: PublicKey) -> Result<Self, JwtError> {
        if key.point().is_none() {
            return Err(JwtError::Key);
        }
        Ok(Self {
            algorithm: Algorithm::EdDsa,
            kind: Kind::Ed(key),
        })
    }

    /// A key of a configured JSON web key (RFC 7517), for this algorithm. An `alg` or `use` that it names must
    /// agree.
    ///
    /// # Errors
    /// [`JwtError::Key`] for anything else.
    pub fn from_jwk(algorithm: Algorithm, jwk: &str) -> Result<Self, JwtError> {
        let jwk: Value = serde_json::from_str(jwk).map_err(|_| JwtError::Key)?;
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let text = text(name).ok_or(JwtError::Key)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Key)
        };
        let agrees = |name: &str, with: &str| jwk.get(name).is_none_or(|is| is == with);
        if !agrees("alg", algorithm.name()) || !agrees("use", "sig") {
            return Err(JwtError::Key);
        }
        match (text("kty"), text("crv"), algorithm) {
            (Some("oct"), None, _) => Self::hmac(algorithm, &bytes("k")?),
            (Some("EC"), Some("P-256"), Algorithm::Es256)
            | (Some("EC"), Some("P-384"), Algorithm::Es384)
            | (Some("EC"), Some("P-521"), Algorithm::Es512) => {
                Self::curve(algorithm, &bytes("x")?, &bytes("y")?)
            }
            (Some("RSA"), None, _) => Self::rsa(algorithm, &bytes("n")?, &bytes("e")?),
            (Some("OKP"), Some("Ed25519"), Algorithm::EdDsa) => {
                Self::ed25519(PublicKey::from_bytes(&bytes("x")?).map_err(|_| JwtError::Key)?)
            }
            _ => Err(JwtError::Key),
        }
    }

    /// The one algorithm of this key.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn verifies(&self, message: &[u8], tag: &[u8]) -> bool {
        match &self.kind {
            Kind::Hmac(key) => hmac::verify(key, message, tag).is_ok(),
            Kind::Curve(check, point) => signature::UnparsedPublicKey::new(*check, point)
                .verify(message, tag)
                .is_ok(),
            Kind::Rsa(check, key) => key.verify(check, message, tag).is_ok(),
            Kind::Ed(key) => tag.try_into().is_ok_and(|tag| key.verifies(message, tag)),
        }
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
