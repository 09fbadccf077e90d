//! PIE: a key wrapped under a symmetric key.

use alloc::format;
use alloc::string::String;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{PaserkError, Wrappable, decode, stream};
use crate::hash::keyed;
use crate::key::Key;
#[cfg(feature = "std")]
use crate::key::{KeyError, encode};

const TAG: usize = 32;
const NONCE: usize = 32;

/// Wraps `key` under `wrapping`: `k4.local-wrap.pie.…` or `k4.secret-wrap.pie.…`.
///
/// # Errors
/// [`KeyError::Random`] when the system has no randomness.
#[cfg(feature = "std")]
pub fn wrap<K: Wrappable>(key: &K, wrapping: &Key) -> Result<String, KeyError> {
    let mut nonce = [0; NONCE];
    crate::random::system(&mut nonce)?;
    let header = header::<K>();
    let mut text = Zeroizing::new(key.raw().to_vec());
    let derived = derive(wrapping, &nonce);
    stream(&derived.cipher, &derived.nonce, &mut text);
    let mut raw = derived.tag(&header, &nonce, &text).to_vec();
    raw.extend_from_slice(&nonce);
    raw.extend_from_slice(&text);
    Ok(encode(&header, &raw).as_str().into())
}

/// Opens what [`wrap`] made.
///
/// # Errors
/// [`PaserkError::Malformed`] for another kind of text, [`PaserkError::NotAuthentic`] under another key.
pub fn unwrap<K: Wrappable>(text: &str, wrapping: &Key) -> Result<K, PaserkError> {
    let header = header::<K>();
    let mut raw = decode(text, &header, TAG + NONCE + K::BYTES)?;
    let (tag, rest) = raw.split_at_mut(TAG);
    let (nonce, text) = rest.split_at_mut(NONCE);
    let nonce: &[u8; NONCE] = (&*nonce).try_into().map_err(|_| PaserkError::Malformed)?;
    let derived = derive(wrapping, nonce);
    if !bool::from(derived.tag(&header, nonce, text).ct_eq(tag)) {
        return Err(PaserkError::NotAuthentic);
    }
    stream(&derived.cipher, &derived.nonce, text);
    Ok(K::from_raw(text)?)
}

fn header<K: Wrappable>() -> String {
    format!("k4.{}-wrap.pie.", K::KIND)
}

struct Derived {
    cipher: Zeroizing<[u8; 32]>,
    nonce: [u8; 24],
    mac: Zeroizing<[u8; 32]>,
}

fn derive(wrapping: &Key, nonce: &[u8; NONCE]) -> Derived {
    let mut both = Zeroizing::new([0; 56]);
    keyed(&mut both[..], wrapping.bytes(), &[&[0x80], nonce]);
    let mut derived = Derived {
        cipher: Zeroizing::new([0; 32]),
        nonce: [0; 24],
        mac: Zeroizing::new([0; 32]),
    };
    derived.cipher.copy_from_slice(&both[..32]);
    derived.nonce.copy_from_slice(&both[32..]);
    keyed(&mut derived.mac[..], wrapping.bytes(), &[&[0x81], nonce]);
    derived
}

impl Derived {
    fn tag(&self, header: &str, nonce: &[u8], text: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        keyed(&mut tag, &self.mac[..], &[header.as_bytes(), nonce, text]);
        tag
    }
}
