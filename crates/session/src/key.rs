//! A 256-bit symmetric key, and the public id that tokens name it by.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::hash::{self, Schedule};

/// Why a key could not be had, or must not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the bytes or the text of a key of this kind.
    #[error("not the bytes or the text of a key of this kind")]
    Malformed,
    /// All bytes are equal, or the bytes count up by one: a placeholder, not a key.
    #[error("the key is a placeholder, not random bytes")]
    Placeholder,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// The public half is not a point of the curve that may be used, or not that of the secret half.
    #[error("the public key is not a point of the curve, or not that of the secret key")]
    NotAPoint,
    /// Sealing and opening a known text with this key did not behave; nothing may be signed.
    #[error("the self-test of the key failed")]
    SelfTest,
}

/// A 256-bit key for `v4.local` tokens. Wiped on drop; `Debug` shows its id alone.
///
/// A key of any 32 bytes can be built, so that published vectors can be checked; a
/// [`KeyRing`](crate::KeyRing) refuses placeholders.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    schedule: Schedule,
}

impl Key {
    /// A new random key from the operating system.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    #[cfg(feature = "std")]
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        crate::random::system(&mut bytes[..])?;
        Ok(Self::new(bytes))
    }

    /// A key of 32 bytes that came from a random generator.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        Ok(Self::new(Zeroizing::new(bytes)))
    }

    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self {
            schedule: Schedule::new(&bytes),
            bytes,
        }
    }

    /// Reads PASERK `k4.local.…` text, or 64 hex digits.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(LOCAL) {
            return Self::from_paserk(text);
        }
        if text.len() != 64 || !text.is_ascii() {
            return Err(KeyError::Malformed);
        }
        let mut bytes = Zeroizing::new([0_u8; 32]);
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(KeyError::Malformed);
            };
            *byte = high << 4 | low;
        }
        Ok(Self::new(bytes))
    }

    /// Reads PASERK `k4.local.…` text.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else.
    pub fn from_paserk(text: &str) -> Result<Self, KeyError> {
        let bytes = decode(text, LOCAL)?;
        Self::from_bytes(&bytes)
    }

    /// The PASERK `k4.local.…` text: the secret itself, for a vault.
    #[must_use]
    pub fn to_paserk(&self) -> Zeroizing<String> {
        encode(LOCAL, &self.bytes[..])
    }

    /// The public name of the key: the first 8 bytes of its PASERK `k4.lid`.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.digest())
    }

    /// The full PASERK id, `k4.lid.…`.
    #[must_use]
    pub fn paserk_id(&self) -> String {
        id_text("k4.lid.", &self.digest())
    }

    fn digest(&self) -> [u8; 33] {
        id_digest("k4.lid.", &self.to_paserk())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Refuses bytes that somebody typed instead of drawing them.
    pub(crate) fn not_a_placeholder(&self) -> Result<(), KeyError> {
        not_a_placeholder(&self.bytes[..])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.id())
    }
}

/// The public name of a key, carried in the clear, authenticated footer of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) [u8; 8]);

impl KeyId {
    pub(crate) fn of(digest: &[u8; 33]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }

    /// The bytes that a footer carries.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

const LOCAL: &str = "k4.local.";

pub(crate) fn not_a_placeholder(bytes: &[u8]) -> Result<(), KeyError> {
    let step = bytes[1].wrapping_sub(bytes[0]);
    let even = |pair: &[u8]| pair[1].wrapping_sub(pair[0]) == step;
    if step <= 1 && bytes.windows(2).all(even) {
        Err(KeyError::Placeholder)
    } else {
        Ok(())
    }
}

/// The bytes behind `prefix` of a PASERK text.
pub(crate) fn decode(text: &str, prefix: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let encoded = text.strip_prefix(prefix).ok_or(KeyError::Malformed)?;
    if encoded.len() > 1024 {
        return Err(KeyError::Malformed);
    }
    URL_SAFE_NO_PAD
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Malformed)
}

pub(crate) fn encode(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes));
    Zeroizing::new(format!("{prefix}{}", *encoded))
}

/// PASERK "ID": BLAKE2b-264 over the header of the id and the text of the key.
pub(crate) fn id_digest(header: &str, text: &str) -> [u8; 33] {
    let mut digest = [0; 33];
    hash::plain(&mut digest, &[header.as_bytes(), text.as_bytes()]);
    digest
}

pub(crate) fn id_text(header: &str, digest: &[u8; 33]) -> String {
    format!("{header}{}", URL_SAFE_NO_PAD.encode(digest))
}
