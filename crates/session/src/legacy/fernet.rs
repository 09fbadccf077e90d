//! Fernet (github.com/fernet/spec): AES-128-CBC and HMAC-SHA256.

#[cfg(feature = "vectors")]
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use aes::Aes128;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{KeyInit, Mac};
use zeroize::Zeroizing;

use super::{BYTES_MAX, LegacyError};
use crate::time::Timestamp;

const VERSION: u8 = 0x80;
const FRONT: usize = 1 + 8 + 16;
const TAG: usize = 32;
const BLOCK: usize = 16;
/// How far ahead of ours the clock of the maker may be, as in the specification.
const SKEW: Duration = Duration::from_secs(60);

type Hmac = hmac::Hmac<sha2::Sha256>;

/// A Fernet secret: opens Fernet tokens. Wiped on drop; `Debug` shows nothing of it.
pub struct Fernet(Zeroizing<[u8; 32]>);

impl Fernet {
    /// The secret as it is written: 32 bytes in base64url with padding.
    ///
    /// # Errors
    /// [`LegacyError::Secret`] for anything else.
    pub fn from_text(secret: &str) -> Result<Self, LegacyError> {
        let bytes = Zeroizing::new(URL_SAFE.decode(secret).map_err(|_| LegacyError::Secret)?);
        let bytes: [u8; 32] = (bytes[..]).try_into().map_err(|_| LegacyError::Secret)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// What a token holds, if it was made less than `ttl` before `now`. The tag is checked before its
    /// time, and that before anything is decrypted.
    ///
    /// # Errors
    /// [`LegacyError`] says why not.
    pub fn open(
        &self,
        token: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, LegacyError> {
        if token.len() > BYTES_MAX {
            return Err(LegacyError::TooLong);
        }
        let raw = URL_SAFE.decode(token).map_err(|_| LegacyError::Malformed)?;
        if raw.len() < FRONT + BLOCK + TAG
            || !(raw.len() - FRONT - TAG).is_multiple_of(BLOCK)
            || raw[0] != VERSION
        {
            return Err(LegacyError::Malformed);
        }
        let (body, tag) = raw.split_at(raw.len() - TAG);
        let (sign, encrypt) = self.0.split_at(BLOCK);
        let mut mac = <Hmac as KeyInit>::new_from_slice(sign).map_err(|_| LegacyError::Secret)?;
        mac.update(body);
        mac.verify_slice(tag)
            .map_err(|_| LegacyError::NotAuthentic)?;
        let mut time = [0; 8];
        time.copy_from_slice(&body[1..9]);
        let made = Timestamp::from_secs(u64::from_be_bytes(time));
        if made > now.after(SKEW) {
            return Err(LegacyError::FromTheFuture);
        }
        if made.after(ttl) < now {
            return Err(LegacyError::Expired);
        }
        let cipher = cbc::Decryptor::<Aes128>::new_from_slices(encrypt, &body[9..FRONT])
            .map_err(|_| LegacyError::Secret)?;
        // The text was authentic, so what its padding says tells nobody anything.
        cipher
            .decrypt_padded_vec::<Pkcs7>(&body[FRONT..])
            .map(Zeroizing::new)
            .map_err(|_| LegacyError::Malformed)
    }

    /// Makes a token with an initialisation vector of the caller, to check published vectors.
    ///
    /// # Errors
    /// [`LegacyError::Secret`], which cannot happen with a secret that was read.
    #[cfg(feature = "vectors")]
    pub fn seal_with(
        &self,
        text: &[u8],
        iv: &[u8; 16],
        now: Timestamp,
    ) -> Result<String, LegacyError> {
        use aes::cipher::BlockModeEncrypt;
        let (sign, encrypt) = self.0.split_at(BLOCK);
        let cipher = cbc::Encryptor::<Aes128>::new_from_slices(encrypt, iv)
            .map_err(|_| LegacyError::Secret)?;
        let mut raw = alloc::vec![VERSION];
        raw.extend_from_slice(&now.as_secs().to_be_bytes());
        raw.extend_from_slice(iv);
        raw.extend_from_slice(&cipher.encrypt_padded_vec::<Pkcs7>(text));
        let mut mac = <Hmac as KeyInit>::new_from_slice(sign).map_err(|_| LegacyError::Secret)?;
        mac.update(&raw);
        raw.extend_from_slice(&mac.finalize().into_bytes());
        Ok(URL_SAFE.encode(&raw))
    }
}

impl fmt::Debug for Fernet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fernet(..)")
    }
}
