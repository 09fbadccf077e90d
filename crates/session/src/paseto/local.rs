//! `v4.local`: XChaCha20, then keyed BLAKE2b over everything that was sent and what was not.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Parts, PasetoError, encode_pieces, text};
use crate::key::Key;

pub(crate) const HEADER: &str = "v4.local.";
const NONCE: usize = 32;
const TAG: usize = 32;

pub(crate) fn seal(
    key: &Key,
    nonce: &[u8; NONCE],
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> String {
    let mut raw = Vec::with_capacity(NONCE + payload.len() + TAG);
    raw.extend_from_slice(nonce);
    raw.extend_from_slice(payload);
    let (mut cipher, mac_key) = split_key(key, nonce);
    cipher.apply_keystream(&mut raw[NONCE..]);
    let tag = authenticate(&mac_key, nonce, &raw[NONCE..], footer, implicit);
    raw.extend_from_slice(tag.as_bytes());
    text(HEADER, &raw, footer)
}

pub(crate) fn open(
    key: &Key,
    parts: &Parts<'_>,
    implicit: &[u8],
) -> Result<Zeroizing<Vec<u8>>, PasetoError> {
    let mut raw = URL_SAFE_NO_PAD
        .decode(parts.body)
        .map_err(|_| PasetoError::Malformed)?;
    if raw.len() < NONCE + TAG {
        return Err(PasetoError::Malformed);
    }
    let (nonce, rest) = raw.split_at_mut(NONCE);
    let (text, tag) = rest.split_at_mut(rest.len() - TAG);
    let nonce: &[u8; NONCE] = (&*nonce).try_into().map_err(|_| PasetoError::Malformed)?;
    let (mut cipher, mac_key) = split_key(key, nonce);
    let expected = authenticate(&mac_key, nonce, text, &parts.footer, implicit);
    if !bool::from(expected.as_bytes().ct_eq(tag)) {
        return Err(PasetoError::NotAuthentic);
    }
    let length = text.len();
    // In place: the plain text exists once, in the buffer that is handed out and wiped.
    raw.copy_within(NONCE..NONCE + length, 0);
    raw.truncate(length);
    cipher.apply_keystream(&mut raw);
    Ok(Zeroizing::new(raw))
}

fn split_key(key: &Key, nonce: &[u8; NONCE]) -> (XChaCha20, Zeroizing<[u8; 32]>) {
    let mut derived = Zeroizing::new([0; 56]);
    let mut mac_key = Zeroizing::new([0; 32]);
    key.schedule().split(nonce, &mut derived, &mut mac_key);
    let (mut cipher_key, mut cipher_nonce) = (Zeroizing::new([0; 32]), [0; 24]);
    cipher_key.copy_from_slice(&derived[..32]);
    cipher_nonce.copy_from_slice(&derived[32..]);
    let cipher = XChaCha20::new((&*cipher_key).into(), (&cipher_nonce).into());
    (cipher, mac_key)
}

fn authenticate(
    key: &[u8; 32],
    nonce: &[u8],
    text: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> blake2b_simd::Hash {
    let mut params = blake2b_simd::Params::new();
    let mut state = params.hash_length(TAG).key(key).to_state();
    encode_pieces(
        &[HEADER.as_bytes(), nonce, text, footer, implicit],
        |piece| {
            state.update(piece);
        },
    );
    state.finalize()
}
