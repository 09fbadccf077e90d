//! `v4.public`: the payload in the clear, and an Ed25519 signature over everything that was sent and
//! what was not.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::{Parts, PasetoError, encode_pieces, text};
use crate::key::KeyError;
use crate::keypair::{PublicKey, SecretKey};

pub(crate) const HEADER: &str = "v4.public.";
const SIGNATURE: usize = 64;

pub(crate) fn seal(
    key: &SecretKey,
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, KeyError> {
    let signature = key.sign(&message(payload, footer, implicit))?;
    let mut raw = Vec::with_capacity(payload.len() + SIGNATURE);
    raw.extend_from_slice(payload);
    raw.extend_from_slice(&signature);
    Ok(text(HEADER, &raw, footer))
}

pub(crate) fn open(
    key: &PublicKey,
    parts: &Parts<'_>,
    implicit: &[u8],
) -> Result<Zeroizing<Vec<u8>>, PasetoError> {
    let mut raw = URL_SAFE_NO_PAD
        .decode(parts.body)
        .map_err(|_| PasetoError::Malformed)?;
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
    Ok(Zeroizing::new(raw))
}

fn message(payload: &[u8], footer: &[u8], implicit: &[u8]) -> Vec<u8> {
    let pieces = [HEADER.as_bytes(), payload, footer, implicit];
    let length: usize = pieces.iter().map(|piece| piece.len() + 8).sum();
    let mut message = Vec::with_capacity(length + 8);
    encode_pieces(&pieces, |piece| message.extend_from_slice(piece));
    message
}
