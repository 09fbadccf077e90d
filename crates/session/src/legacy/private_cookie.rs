//! The private jar of the `cookie` crate: AES-256-GCM with the cookie's name as associated data.

use alloc::string::String;
use core::fmt;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{BYTES_MAX, LegacyError};

const NONCE: usize = 12;
const TAG: usize = 16;

/// The key of a private jar of `cookie` 0.16 to 0.18: opens the values of its cookies. Wiped on drop.
pub struct PrivateCookie(Aes256Gcm);

impl PrivateCookie {
    /// The key as `cookie::Key::master` gives it, 64 bytes: its second half encrypts.
    ///
    /// # Errors
    /// [`LegacyError::Secret`] for another length.
    pub fn from_master(master: &[u8]) -> Result<Self, LegacyError> {
        let (64, Some(key)) = (master.len(), master.get(32..)) else {
            return Err(LegacyError::Secret);
        };
        Aes256Gcm::new_from_slice(key)
            .map(Self)
            .map_err(|_| LegacyError::Secret)
    }

    /// The value that was put into the cookie of this name.
    ///
    /// # Errors
    /// [`LegacyError`] says why not.
    pub fn open(&self, name: &str, value: &str) -> Result<String, LegacyError> {
        if value.len() > BYTES_MAX {
            return Err(LegacyError::TooLong);
        }
        let raw = STANDARD.decode(value).map_err(|_| LegacyError::Malformed)?;
        if raw.len() < NONCE + TAG {
            return Err(LegacyError::Malformed);
        }
        let (nonce, msg) = raw.split_at(NONCE);
        let nonce = nonce.try_into().map_err(|_| LegacyError::Malformed)?;
        let aad = name.as_bytes();
        let text = (self.0)
            .decrypt(nonce, Payload { msg, aad })
            .map_err(|_| LegacyError::NotAuthentic)?;
        String::from_utf8(text).map_err(|_| LegacyError::Malformed)
    }
}

impl fmt::Debug for PrivateCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateCookie(..)")
    }
}
