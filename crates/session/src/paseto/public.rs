//! `v4.public`: the payload in the clear, and an Ed25519 signature over everything that was sent and
//! what was not.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Parts, PasetoError, push_piece, text};
use crate::key::KeyError;
use crate::keypair::{PublicKey, SecretKey};
use crate::text::decode;
use crate::wipe::Wiped;

pub(crate) const HEADER: &str = "v4.public.";
const SIGNATURE: usize = 64;

pub(crate) fn seal(
    key: &SecretKey,
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, KeyError> {
    seal_in_place(key, Wiped(payload.to_vec()), footer, implicit)
}

pub(crate) fn seal_in_place(
    key: &SecretKey,
    mut raw: Wiped,
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, KeyError> {
    let signature = key.sign(&message(&raw, footer, implicit))?;
    raw.0.extend_from_slice(&signature);
    Ok(text(HEADER, &raw, footer))
}

pub(crate) fn open(
    key: &PublicKey,
    parts: &Parts<'_>,
    implicit: &[u8],
) -> Result<Wiped, PasetoError> {
    let mut raw = decode(parts.body).ok_or(PasetoError::Malformed)?;
    let Some((payload, signature)) = raw.split_last_chunk::<SIGNATURE>() else {
        return Err(PasetoError::Malformed);
    };
    if key.point().is_none() {
        return Err(PasetoError::Key(KeyError::NotAPoint));
    }
    if !key.verifies(&message(payload, &parts.footer, implicit), signature) {
        return Err(PasetoError::NotAuthentic);
    }
    let length = payload.len();
    raw.truncate(length);
    Ok(Wiped(raw))
}

fn message(payload: &[u8], footer: &[u8], implicit: &[u8]) -> Vec<u8> {
    let pieces = [HEADER.as_bytes(), payload, footer, implicit];
    let length: usize = pieces.iter().map(|piece| piece.len() + 8).sum();
    let mut message = Vec::with_capacity(length + 8);
    message.extend_from_slice(&(pieces.len() as u64).to_le_bytes());
    for piece in pieces {
        push_piece(&mut message, piece);
    }
    message
}
