//! `compact`: the shortest token, for cookies alone. Not PASETO, and never takes one for its own.
//!
//! base64url (no padding) of: version byte 1, key id (4 bytes), nonce (12), ciphertext, tag (16).
//! Version 1 is AES-256-GCM-SIV (RFC 8452), which survives a nonce that comes twice, with the claims in
//! postcard. The version, the key id and the [`Binding`](crate::Binding) are authenticated.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::claims::{Claims, Level, SessionId, Unreadable};
use crate::format::sealed::{self, Cut, Encoding};
use crate::format::{DerivedKey, IssuingKey, TokenKey, behaves};
use crate::hash::keyed;
use crate::key::{KeyError, KeyId, not_a_placeholder};
use crate::paseto::Parts;
use crate::time::Timestamp;

const VERSION: u8 = 1;
const ID: usize = 4;
const NONCE: usize = 12;
const TAG: usize = 16;
const FRONT: usize = 1 + ID + NONCE;
/// Times count from 2026, which saves a byte until 2034.
const EPOCH: u64 = 1_767_225_600;

/// A 256-bit key for compact tokens: `Sessions<T, R, CompactKey>` makes them. Wiped on drop.
///
/// One key seals at most 2^32 tokens by the limits of RFC 8452 for random nonces; rotate before that.
#[derive(Clone)]
pub struct CompactKey {
    bytes: Zeroizing<[u8; 32]>,
    id: KeyId,
    cipher: Arc<LessSafeKey>,
}

impl CompactKey {
    /// A new random key from the operating system.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        crate::random::system(&mut bytes[..])?;
        Self::from_bytes(&bytes[..])
    }

    /// A key of 32 bytes that came from a random generator.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        let mut id = [0; 8];
        keyed(&mut id[..ID], &bytes[..], &[b"stackbeam-session compact 1"]);
        let cipher = UnboundKey::new(&AES_256_GCM_SIV, &bytes[..]);
        Ok(Self {
            id: KeyId(id),
            cipher: Arc::new(LessSafeKey::new(cipher.map_err(|_| KeyError::Malformed)?)),
            bytes,
        })
    }

    /// The public name of the key: four bytes, the rest zero.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for CompactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactKey({:?})", self.id)
    }
}

fn associated(front: &[u8], implicit: &[u8]) -> Aad<Vec<u8>> {
    let mut aad = Vec::with_capacity(1 + ID + implicit.len());
    aad.extend_from_slice(&front[..=ID]);
    aad.extend_from_slice(implicit);
    Aad::from(aad)
}

impl TokenKey for CompactKey {}
impl sealed::TokenKey for CompactKey {
    const ENCODING: Encoding = Encoding::Postcard;
    fn key_id(&self) -> KeyId {
        self.id
    }
    fn self_test(&self) -> Result<(), KeyError> {
        not_a_placeholder(&self.bytes[..])?;
        let sealed = sealed::IssuingKey::seal(self, self.id, crate::format::TEST, b"i")?;
        behaves(self, &sealed)
    }
    fn cut(token: &str) -> Option<Cut<'_>> {
        let raw = URL_SAFE_NO_PAD.decode(token).ok()?;
        if raw.len() < FRONT + TAG || raw[0] != VERSION {
            return None;
        }
        let mut id = [0; 8];
        id[..ID].copy_from_slice(&raw[1..=ID]);
        Some(Cut {
            id: KeyId(id),
            parts: Parts {
                body: "",
                footer: raw,
            },
        })
    }
    fn open(&self, cut: &Cut<'_>, implicit: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let raw = &cut.parts.footer;
        let (front, sealed) = raw.split_at_checked(FRONT)?;
        let nonce = Nonce::try_assume_unique_for_key(&front[1 + ID..]).ok()?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let length = self
            .cipher
            .open_in_place(nonce, associated(front, implicit), &mut text)
            .ok()?
            .len();
        text.truncate(length);
        Some(text)
    }
}
impl IssuingKey for CompactKey {}
impl sealed::IssuingKey for CompactKey {
    fn seal(&self, id: KeyId, payload: &[u8], implicit: &[u8]) -> Result<String, KeyError> {
        let mut raw = Vec::with_capacity(FRONT + payload.len() + TAG);
        raw.push(VERSION);
        raw.extend_from_slice(&id.0[..ID]);
        let mut nonce = [0; NONCE];
        crate::random::pooled(&mut nonce)?;
        raw.extend_from_slice(&nonce);
        raw.extend_from_slice(payload);
        let (front, text) = raw.split_at_mut(FRONT);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                associated(front, implicit),
                text,
            )
            .map_err(|_| KeyError::SelfTest)?;
        raw.extend_from_slice(tag.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(&raw))
    }
}
impl DerivedKey for CompactKey {}
impl sealed::DerivedKey for CompactKey {
    fn from_derived(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        Self::from_bytes(bytes)
    }
}

/// The claims as they stand in a token; times after the first are differences from it.
#[derive(Serialize, Deserialize)]
struct Wire<'a, T> {
    subject: &'a str,
    session: [u8; 16],
    issued: u64,
    expires: u64,
    authenticated: u64,
    ends: u64,
    /// The generation, and the level in the low two bits.
    standing: u64,
    data: T,
}

pub(crate) fn write<T: Serialize>(claims: &Claims<T>) -> Result<Vec<u8>, Unreadable> {
    let out = || Unreadable::from("a time that a compact token cannot hold");
    let issued = claims.issued_at.as_secs();
    let after = |time: Timestamp| time.as_secs().checked_sub(issued).ok_or_else(out);
    if claims.not_before.is_some() {
        return Err(out());
    }
    Ok(postcard::to_stdvec(&Wire {
        subject: &claims.subject,
        session: claims.session.0,
        issued: issued.checked_sub(EPOCH).ok_or_else(out)?,
        expires: after(claims.expires_at)?,
        authenticated: (issued.checked_sub(claims.authenticated_at.as_secs())).ok_or_else(out)?,
        ends: after(claims.ends_at)?,
        standing: (claims.generation.checked_mul(4))
            .map(|generation| generation | u64::from(claims.level.number()))
            .ok_or_else(out)?,
        data: &claims.data,
    })?)
}

pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Claims<T>, Unreadable> {
    let mut reader = postcard::Deserializer::from_bytes(bytes);
    let wire = Wire::<T>::deserialize(&mut reader)?;
    if !reader.finalize()?.is_empty() {
        return Err(Unreadable::from("bytes after the claims"));
    }
    let out = || Unreadable::from("a time out of range");
    let issued = wire.issued.checked_add(EPOCH).ok_or_else(out)?;
    let after = |by: u64| {
        issued
            .checked_add(by)
            .map(Timestamp::from_secs)
            .ok_or_else(out)
    };
    Ok(Claims {
        subject: wire.subject.to_owned(),
        session: SessionId(wire.session),
        issued_at: Timestamp::from_secs(issued),
        not_before: None,
        expires_at: after(wire.expires)?,
        authenticated_at: (issued.checked_sub(wire.authenticated))
            .map(Timestamp::from_secs)
            .ok_or_else(out)?,
        ends_at: after(wire.ends)?,
        generation: wire.standing >> 2,
        level: Level::of((wire.standing & 3).to_le_bytes()[0]).ok_or_else(out)?,
        data: wire.data,
    })
}
