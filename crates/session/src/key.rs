//! A 256-bit symmetric key, its public id, and the randomness both come from.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 32 bytes, or not the hex or PASERK `k4.local.` text of 32 bytes.
    #[error("a key is 32 bytes, or `k4.local.` text or 64 hex digits of them")]
    Malformed,
    /// All bytes are equal, or the bytes count up by one: a placeholder, not a key.
    #[error("the key is a placeholder, not random bytes")]
    Placeholder,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
    /// Sealing and opening a known text with this key did not behave; nothing may be signed.
    #[error("the self-test of the key failed")]
    SelfTest,
}

/// A 256-bit key for `v4.local` tokens. Wiped on drop; `Debug` shows its id alone.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new random key from the operating system.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill(&mut bytes[..])?;
        Ok(Self(bytes))
    }

    /// A key of 32 bytes that came from a random generator.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length, [`KeyError::Placeholder`] for constant bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_raw(bytes)?.not_a_placeholder()
    }

    fn not_a_placeholder(self) -> Result<Self, KeyError> {
        let step = self.0[1].wrapping_sub(self.0[0]);
        if step <= 1
            && self
                .0
                .windows(2)
                .all(|pair| pair[1].wrapping_sub(pair[0]) == step)
        {
            return Err(KeyError::Placeholder);
        }
        Ok(self)
    }

    pub(crate) fn from_raw(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Reads PASERK `k4.local.…` text, or 64 hex digits.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes).
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::read_text(text)?.not_a_placeholder()
    }

    /// The syntax alone: the published vectors are placeholders, which `from_text` refuses.
    fn read_text(text: &str) -> Result<Self, KeyError> {
        if let Some(encoded) = text.strip_prefix("k4.local.") {
            let bytes = Zeroizing::new(
                URL_SAFE_NO_PAD
                    .decode(encoded)
                    .map_err(|_| KeyError::Malformed)?,
            );
            return Self::from_raw(&bytes);
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
        Self::from_raw(&bytes[..])
    }

    /// The PASERK `k4.local.…` text: the secret itself, for a vault.
    #[must_use]
    pub fn to_paserk(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("k4.local.{}", URL_SAFE_NO_PAD.encode(&self.0[..])))
    }

    /// The public name of the key: the first 8 bytes of its PASERK `k4.lid`.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = self.lid();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }

    /// The full PASERK id, `k4.lid.…`.
    #[must_use]
    pub fn paserk_id(&self) -> String {
        format!("k4.lid.{}", URL_SAFE_NO_PAD.encode(self.lid()))
    }

    fn lid(&self) -> [u8; 33] {
        let text = self.to_paserk();
        let hash = blake2b_simd::Params::new()
            .hash_length(33)
            .to_state()
            .update(b"k4.lid.")
            .update(text.as_bytes())
            .finalize();
        let mut digest = [0; 33];
        digest.copy_from_slice(hash.as_bytes());
        digest
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
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

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// Fills `buffer` from the operating system, one call each time: after a fork nothing is repeated.
pub(crate) fn fill(buffer: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(buffer).map_err(|error| KeyError::Random(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(file: &str) -> Vec<serde_json::Value> {
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        file["tests"].as_array().unwrap().clone()
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn every_paserk_vector_of_local_keys_holds_both_ways_and_the_bad_texts_fail() {
        let (mut good, mut bad) = (0, 0);
        for test in tests(include_str!("../tests/vectors/paserk-k4.local.json")) {
            let paserk = test["paserk"].as_str().unwrap();
            if test["expect-fail"].as_bool().unwrap() {
                assert!(
                    matches!(Key::read_text(paserk), Err(KeyError::Malformed)),
                    "{test}"
                );
                assert!(
                    matches!(Key::from_text(paserk), Err(KeyError::Malformed)),
                    "{test}"
                );
                bad += 1;
            } else {
                let bytes = unhex(test["key"].as_str().unwrap());
                let key = Key::from_raw(&bytes).unwrap();
                assert_eq!(*key.to_paserk(), paserk, "{test}");
                assert_eq!(Key::read_text(paserk).unwrap().bytes()[..], bytes, "{test}");
                good += 1;
            }
        }
        assert_eq!((good, bad), (3, 2), "none skipped");
    }

    #[test]
    fn every_paserk_vector_of_key_ids_holds_and_the_short_key_has_none() {
        let (mut good, mut bad) = (0, 0);
        for test in tests(include_str!("../tests/vectors/paserk-k4.lid.json")) {
            let bytes = unhex(test["key"].as_str().unwrap());
            if test["expect-fail"].as_bool().unwrap() {
                assert!(
                    matches!(Key::from_raw(&bytes), Err(KeyError::Malformed)),
                    "{test}"
                );
                bad += 1;
            } else {
                let id = Key::from_raw(&bytes).unwrap().paserk_id();
                assert_eq!(id, test["paserk"].as_str().unwrap());
                good += 1;
            }
        }
        assert_eq!((good, bad), (3, 1), "none skipped");
    }
}
