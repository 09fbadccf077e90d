//! PBKW: a key wrapped under a password, stretched by Argon2id.

use alloc::format;
use alloc::string::String;

use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{PaserkError, Wrappable, decode, stream};
use crate::hash::{keyed, plain};
#[cfg(feature = "std")]
use crate::key::encode;

const SALT: usize = 16;
/// Salt, memory (8), passes (4), lanes (4).
const PARAMETERS: usize = SALT + 16;
const NONCE: usize = 24;
const TAG: usize = 32;

/// What stretching a password costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    memory_bytes: u64,
    passes: u32,
}

impl PasswordCost {
    /// `memory_bytes` of memory, written `passes` times. The specification's lanes are always one.
    #[must_use]
    pub const fn new(memory_bytes: u64, passes: u32) -> Self {
        Self {
            memory_bytes,
            passes,
        }
    }
}

impl Default for PasswordCost {
    /// 256 MiB and three passes.
    fn default() -> Self {
        Self::new(256 << 20, 3)
    }
}

/// Wraps `key` under a password: `k4.local-pw.…` or `k4.secret-pw.…`. Takes as long as `cost` says.
///
/// # Errors
/// [`PaserkError::TooCostly`] for a cost that Argon2id cannot have, [`PaserkError::Key`] when the system
/// has no randomness.
#[cfg(feature = "std")]
pub fn wrap_with_password<K: Wrappable>(
    key: &K,
    password: &[u8],
    cost: PasswordCost,
) -> Result<String, PaserkError> {
    let header = header::<K>();
    let mut front = [0; PARAMETERS + NONCE];
    crate::random::system(&mut front)?;
    front[SALT..SALT + 8].copy_from_slice(&cost.memory_bytes.to_be_bytes());
    front[SALT + 8..SALT + 12].copy_from_slice(&cost.passes.to_be_bytes());
    front[SALT + 12..PARAMETERS].copy_from_slice(&1_u32.to_be_bytes());
    let stretched = stretch(password, &front[..SALT], cost.memory_bytes, cost.passes, 1)?;
    let mut text = Zeroizing::new(key.raw().to_vec());
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&front[PARAMETERS..]);
    stream(&derive(&stretched, 0xff), &nonce, &mut text);
    let tag = tag(&stretched, &header, &[&front, &text]);
    let mut raw = front.to_vec();
    raw.extend_from_slice(&text);
    raw.extend_from_slice(&tag);
    Ok(encode(&header, &raw).as_str().into())
}

/// Opens what [`wrap_with_password`] made, if it asks for no more than `cost_max`.
///
/// # Errors
/// [`PaserkError::TooCostly`] before any work, [`PaserkError::NotAuthentic`] for another password,
/// [`PaserkError::Malformed`] for another kind of text.
pub fn unwrap_with_password<K: Wrappable>(
    text: &str,
    password: &[u8],
    cost_max: PasswordCost,
) -> Result<K, PaserkError> {
    let header = header::<K>();
    let mut raw = decode(text, &header, PARAMETERS + NONCE + K::BYTES + TAG)?;
    let (front, tag_is) = raw.split_at_mut(PARAMETERS + NONCE + K::BYTES);
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&front[at..at + 4]);
        u32::from_be_bytes(bytes)
    };
    let memory = u64::from(number(SALT)) << 32 | u64::from(number(SALT + 4));
    let (passes, lanes) = (number(SALT + 8), number(SALT + 12));
    if memory > cost_max.memory_bytes || passes > cost_max.passes || lanes > 16 {
        return Err(PaserkError::TooCostly);
    }
    let stretched = stretch(password, &front[..SALT], memory, passes, lanes)?;
    if !bool::from(tag(&stretched, &header, &[front]).ct_eq(tag_is)) {
        return Err(PaserkError::NotAuthentic);
    }
    let (front, text) = front.split_at_mut(PARAMETERS + NONCE);
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&front[PARAMETERS..]);
    stream(&derive(&stretched, 0xff), &nonce, text);
    Ok(K::from_raw(text)?)
}

fn header<K: Wrappable>() -> String {
    format!("k4.{}-pw.", K::KIND)
}

fn stretch(
    password: &[u8],
    salt: &[u8],
    memory_bytes: u64,
    passes: u32,
    lanes: u32,
) -> Result<Zeroizing<[u8; 32]>, PaserkError> {
    let kib = u32::try_from(memory_bytes / 1024).map_err(|_| PaserkError::TooCostly)?;
    let params = Params::new(kib, passes, lanes, Some(32)).map_err(|_| PaserkError::TooCostly)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut key[..])
        .map_err(|_| PaserkError::TooCostly)?;
    Ok(key)
}

fn derive(stretched: &[u8; 32], label: u8) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    plain(&mut key[..], &[&[label], stretched]);
    key
}

fn tag(stretched: &[u8; 32], header: &str, pieces: &[&[u8]]) -> [u8; TAG] {
    let key = derive(stretched, 0xfe);
    let mut all = alloc::vec![header.as_bytes()];
    all.extend_from_slice(pieces);
    let mut tag = [0; TAG];
    keyed(&mut tag, &key[..], &all);
    tag
}
