//! `compact`: the shortest token, for cookies alone. Not PASETO, and never takes one for its own.
//!
//! base64url (no padding) of: version byte 1, key id (4 bytes), nonce (12), ciphertext, tag (16).
//! Version 1 is AES-256-GCM-SIV (RFC 8452), which survives a nonce that comes twice, with the claims in
//! postcard. The version, the key id and the [`Binding`](crate::Binding) are authenticated.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::claims::{Claims, Level, SessionId, Unreadable, Unsealed};
use crate::format::sealed::{self, Cut, Encoding};
use crate::format::{DerivedKey, IssuingKey, TokenKey, behaves};
use crate::hash::keyed;
use crate::key::{KeyError, KeyId, not_a_placeholder};
use crate::paseto::Parts;
use crate::text::{decode, encode_onto};
use crate::time::Timestamp;
use crate::wipe::Wiped;

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

/// Runs `with` on what is authenticated beside the text: version, key id and implicit assertion. On the stack,
/// for all but a very long one.
fn associated<R>(front: &[u8; FRONT], implicit: &[u8], with: impl FnOnce(Aad<&[u8]>) -> R) -> R {
    let length = 1 + ID + implicit.len();
    let (mut short, mut long) = ([0; 256], Vec::new());
    let aad = match short.get_mut(..length) {
        Some(short) => short,
        None => {
            long.resize(length, 0);
            &mut long
        }
    };
    aad[..=ID].copy_from_slice(&front[..=ID]);
    aad[1 + ID..].copy_from_slice(implicit);
    with(Aad::from(&*aad))
}

impl TokenKey for CompactKey {}
impl sealed::TokenKey for CompactKey {
    const ENCODING: Encoding = Encoding::Postcard;
    fn key_id(&self) -> KeyId {
        self.id
    }
    fn self_test(&self) -> Result<(), KeyError> {
        not_a_placeholder(&self.bytes[..])?;
        let payload = Wiped([&[0; FRONT], crate::format::TEST].concat());
        let sealed = sealed::IssuingKey::seal(self, &self.id.0, &[7; 32], payload, b"i")?;
        behaves(self, &sealed)
    }
    fn cut(token: &str) -> Option<Cut<'_>> {
        let raw = decode(token)?;
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
    fn open(&self, cut: Cut<'_>, implicit: &[u8]) -> Option<Wiped> {
        let mut raw = Wiped(cut.parts.footer);
        let front = *raw.0.first_chunk::<FRONT>()?;
        let nonce = Nonce::try_assume_unique_for_key(&front[1 + ID..]).ok()?;
        let length = associated(&front, implicit, |aad| {
            let opened = (self.cipher).open_within(nonce, aad, &mut raw.0, FRONT..);
            Some(opened.ok()?.len())
        })?;
        raw.0.truncate(length);
        Some(raw)
    }
}
impl IssuingKey for CompactKey {}
impl sealed::IssuingKey for CompactKey {
    const FRONT: usize = FRONT;
    fn seal(
        &self,
        footer: &[u8],
        random: &[u8; 32],
        mut payload: Wiped,
        implicit: &[u8],
    ) -> Result<String, KeyError> {
        let raw = &mut payload.0;
        let Some((front, text)) = raw.split_first_chunk_mut::<FRONT>() else {
            return Err(KeyError::SelfTest);
        };
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&random[..NONCE]);
        front[0] = VERSION;
        let id = footer.get(..ID).ok_or(KeyError::SelfTest)?;
        front[1..=ID].copy_from_slice(id);
        front[1 + ID..].copy_from_slice(&nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = associated(front, implicit, |aad| {
            self.cipher.seal_in_place_separate_tag(nonce, aad, text)
        });
        raw.extend_from_slice(tag.map_err(|_| KeyError::SelfTest)?.as_ref());
        let mut token = String::with_capacity(raw.len() * 4 / 3 + 4);
        encode_onto(&mut token, raw);
        Ok(token)
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

pub(crate) fn write<T: Serialize>(
    claims: &Unsealed<'_, T>,
    mut onto: Wiped,
) -> Result<Wiped, Unreadable> {
    let out = || Unreadable::from("a time that a compact token cannot hold");
    let issued = claims.issued_at.as_secs();
    let after = |time: Timestamp| time.as_secs().checked_sub(issued).ok_or_else(out);
    if claims.not_before.is_some() {
        return Err(out());
    }
    let wire = Wire {
        subject: claims.subject,
        session: claims.session.0,
        issued: issued.checked_sub(EPOCH).ok_or_else(out)?,
        expires: after(claims.expires_at)?,
        authenticated: (issued.checked_sub(claims.authenticated_at.as_secs())).ok_or_else(out)?,
        ends: after(claims.ends_at)?,
        standing: (claims.generation.checked_mul(4))
            .map(|generation| generation | u64::from(claims.level.number()))
            .ok_or_else(out)?,
        data: claims.data,
    };
    onto.0 = postcard::to_extend(&wire, std::mem::take(&mut onto.0))?;
    Ok(onto)
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
