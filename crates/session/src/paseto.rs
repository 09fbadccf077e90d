//! PASETO `v4.local`: the framing of the specification over BLAKE2b and XChaCha20 of libraries.
//!
//! Source: the PASETO specification, Version 4, "Encrypt" and "Decrypt".

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20::XChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::key::Key;

pub(crate) const HEADER: &str = "v4.local.";
const NONCE: usize = 32;
const TAG: usize = 32;

/// The text of a token is not the one text that PASETO gives it, or its tag is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected;

/// A token cut at its dots, its footer decoded; nothing is authenticated yet.
pub(crate) struct Parts<'a> {
    body: &'a str,
    pub(crate) footer: Vec<u8>,
}

/// Cuts a token. `footer_max` is in bytes before decoding.
pub(crate) fn split(token: &str, footer_max: usize) -> Result<Parts<'_>, Rejected> {
    let rest = token.strip_prefix(HEADER).ok_or(Rejected)?;
    let Some((body, footer)) = rest.split_once('.') else {
        return Ok(Parts {
            body: rest,
            footer: Vec::new(),
        });
    };
    // An empty footer has no dot, so that a token has one text.
    if footer.is_empty() || footer.len() > footer_max {
        return Err(Rejected);
    }
    let footer = URL_SAFE_NO_PAD.decode(footer).map_err(|_| Rejected)?;
    Ok(Parts { body, footer })
}

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
    let mut token = String::with_capacity(HEADER.len() + (raw.len() + footer.len()) * 4 / 3 + 8);
    token.push_str(HEADER);
    URL_SAFE_NO_PAD.encode_string(&raw, &mut token);
    if !footer.is_empty() {
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(footer, &mut token);
    }
    token
}

pub(crate) fn open(
    key: &Key,
    parts: &Parts<'_>,
    implicit: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Rejected> {
    let mut raw = Zeroizing::new(URL_SAFE_NO_PAD.decode(parts.body).map_err(|_| Rejected)?);
    if raw.len() < NONCE + TAG {
        return Err(Rejected);
    }
    let (nonce, rest) = raw.split_at_mut(NONCE);
    let (text, tag) = rest.split_at_mut(rest.len() - TAG);
    let nonce: &[u8; NONCE] = (&*nonce).try_into().map_err(|_| Rejected)?;
    let (mut cipher, mac_key) = split_key(key, nonce);
    let expected = authenticate(&mac_key, nonce, text, &parts.footer, implicit);
    if !bool::from(expected.as_bytes().ct_eq(tag)) {
        return Err(Rejected);
    }
    cipher.apply_keystream(text);
    let payload = Zeroizing::new(text.to_vec());
    Ok(payload)
}

fn split_key(key: &Key, nonce: &[u8; NONCE]) -> (XChaCha20, Zeroizing<[u8; 32]>) {
    let derived = keyed(key.bytes(), 56, &[b"paseto-encryption-key", nonce]);
    let mut cipher_key = Zeroizing::new([0_u8; 32]);
    cipher_key.copy_from_slice(&derived.as_bytes()[..32]);
    let mut cipher_nonce = [0_u8; 24];
    cipher_nonce.copy_from_slice(&derived.as_bytes()[32..]);
    let cipher = XChaCha20::new((&*cipher_key).into(), (&cipher_nonce).into());
    let mac = keyed(key.bytes(), 32, &[b"paseto-auth-key-for-aead", nonce]);
    let mut mac_key = Zeroizing::new([0_u8; 32]);
    mac_key.copy_from_slice(mac.as_bytes());
    (cipher, mac_key)
}

fn authenticate(
    key: &[u8; 32],
    nonce: &[u8],
    text: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> blake2b_simd::Hash {
    let pieces: [&[u8]; 5] = [HEADER.as_bytes(), nonce, text, footer, implicit];
    let mut params = blake2b_simd::Params::new();
    let mut state = params.hash_length(32).key(key).to_state();
    // Pre-authentication encoding: count and lengths as 64-bit little endian.
    state.update(&(pieces.len() as u64).to_le_bytes());
    for piece in pieces {
        state.update(&(piece.len() as u64).to_le_bytes());
        state.update(piece);
    }
    state.finalize()
}

pub(crate) fn keyed(key: &[u8], length: usize, pieces: &[&[u8]]) -> blake2b_simd::Hash {
    let mut params = blake2b_simd::Params::new();
    let mut state = params.hash_length(length).key(key).to_state();
    for piece in pieces {
        state.update(piece);
    }
    state.finalize()
}

/// Known behaviour of a key before anything is signed with it: opens, and refuses one flipped bit,
/// another implicit assertion and a truncation.
pub(crate) fn self_test(key: &Key) -> bool {
    let token = seal(key, &[7; NONCE], b"self-test", b"f", b"i");
    let opens =
        |text: &str, implicit: &[u8]| split(text, 64).and_then(|parts| open(key, &parts, implicit));
    let mut flipped = token.clone().into_bytes();
    flipped[60] = if flipped[60] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap_or_default();
    opens(&token, b"i").is_ok_and(|text| &text[..] == b"self-test")
        && opens(&flipped, b"i").is_err()
        && opens(&token, b"j").is_err()
        && opens(&token[..60], b"i").is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn every_v4_local_vector_seals_to_the_same_text_and_every_bad_one_is_refused() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/paseto-v4.json")).unwrap();
        let (mut good, mut bad, mut confused, mut public) = (0, 0, 0, 0);
        for test in file["tests"].as_array().unwrap() {
            let text = |name: &str| test[name].as_str().unwrap_or_default();
            let implicit = text("implicit-assertion").as_bytes();
            let parts = split(text("token"), 4096);
            if test["expect-fail"].as_bool().unwrap() {
                let Some(key) = test["key"].as_str() else {
                    // 4-F-1 is sealed under the bytes of a public key. No cipher can refuse that:
                    // the type must, so a public key's text is no local key.
                    let public = URL_SAFE_NO_PAD.encode(hex(text("public-key")));
                    assert!(Key::from_text(&format!("k4.public.{public}")).is_err());
                    confused += 1;
                    continue;
                };
                let key = Key::from_raw(&hex(key)).unwrap();
                let opened = parts.and_then(|parts| open(&key, &parts, implicit));
                assert!(opened.is_err(), "{}", text("name"));
                bad += 1;
            } else if text("token").starts_with(HEADER) {
                let key = Key::from_raw(&hex(text("key"))).unwrap();
                let nonce: [u8; 32] = hex(text("nonce")).try_into().unwrap();
                let sealed = seal(
                    &key,
                    &nonce,
                    text("payload").as_bytes(),
                    text("footer").as_bytes(),
                    implicit,
                );
                assert_eq!(sealed, text("token"), "{}", text("name"));
                let opened = open(&key, &parts.ok().unwrap(), implicit).unwrap();
                assert_eq!(&opened[..], text("payload").as_bytes());
                good += 1;
            } else {
                assert!(parts.is_err(), "a public token is no local token");
                public += 1;
            }
        }
        assert_eq!((good, bad, confused, public), (9, 4, 1, 3));
    }
}
