//! `v4.local`: XChaCha20, then keyed BLAKE2b over everything that was sent and what was not.

use alloc::string::String;
use alloc::vec::Vec;

use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use zeroize::Zeroizing;

use super::{Parts, PasetoError, push_piece, text};
use crate::key::Key;
use crate::text::decode;
use crate::wipe::Wiped;

pub(crate) const HEADER: &str = "v4.local.";
pub(crate) const NONCE: usize = 32;
const TAG: usize = 32;

pub(crate) fn seal(
    key: &Key,
    nonce: &[u8; NONCE],
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> String {
    let mut raw = Wiped(Vec::with_capacity(NONCE + payload.len() + TAG));
    raw.0.resize(NONCE, 0);
    raw.0.extend_from_slice(payload);
    seal_in_place(key, nonce, raw, footer, implicit)
}

/// [`seal`] of the payload that stands behind [`NONCE`] bytes of room.
pub(crate) fn seal_in_place(
    key: &Key,
    nonce: &[u8; NONCE],
    mut raw: Wiped,
    footer: &[u8],
    implicit: &[u8],
) -> String {
    let (front, payload) = raw.0.split_at_mut(NONCE);
    front.copy_from_slice(nonce);
    let (mut cipher, mac_key) = split_key(key, nonce);
    cipher.apply_keystream(payload);
    let tag = authenticate(&mac_key, nonce, payload, footer, implicit);
    raw.0.extend_from_slice(tag.as_bytes());
    text(HEADER, &raw, footer)
}

pub(crate) fn open(key: &Key, parts: &Parts<'_>, implicit: &[u8]) -> Result<Wiped, PasetoError> {
    let mut raw = decode(parts.body).ok_or(PasetoError::Malformed)?;
    let parted = raw.split_first_chunk::<NONCE>();
    let parted = parted.and_then(|(nonce, rest)| Some((nonce, rest.split_last_chunk::<TAG>()?)));
    let (nonce, (text, tag)) = parted.ok_or(PasetoError::Malformed)?;
    let (mut cipher, mac_key) = split_key(key, nonce);
    // In constant time, says the library.
    if authenticate(&mac_key, nonce, text, &parts.footer, implicit) != tag[..] {
        return Err(PasetoError::NotAuthentic);
    }
    let length = text.len();
    // In place: the plain text exists once, in the buffer that is handed out and wiped.
    raw.copy_within(NONCE..NONCE + length, 0);
    raw.truncate(length);
    let mut payload = Wiped(raw);
    cipher.apply_keystream(&mut payload.0);
    Ok(payload)
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
    // Whole blocks are hashed where they stand, so the pieces before and behind the text are put together.
    let mut front = Vec::with_capacity(128);
    front.extend_from_slice(&5_u64.to_le_bytes());
    push_piece(&mut front, HEADER.as_bytes());
    push_piece(&mut front, nonce);
    front.extend_from_slice(&(text.len() as u64).to_le_bytes());
    state.update(&front).update(text);
    let mut back = front;
    back.clear();
    push_piece(&mut back, footer);
    push_piece(&mut back, implicit);
    state.update(&back).finalize()
}
