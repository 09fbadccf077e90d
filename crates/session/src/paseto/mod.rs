//! PASETO version 4, as it is specified: payload, footer and implicit assertion in, text out, and back.
//!
//! [`Sessions`](crate::Sessions) are built on this. Use it directly for messages of your own, or to
//! speak with other implementations: `local` tokens are encrypted under a shared [`Key`], `public` tokens
//! are signed with a [`SecretKey`] and anybody with the [`PublicKey`] can check them.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stackbeam_session::{Key, paseto};
//!
//! let key = Key::generate()?;
//! let token = paseto::encrypt(&key, b"{\"to\":\"7\"}", b"footer", b"implicit assertion")?;
//! let opened = paseto::decrypt(&key, &token, Some(b"footer"), b"implicit assertion")?;
//! assert_eq!(&opened.payload[..], b"{\"to\":\"7\"}");
//! assert!(paseto::decrypt(&key, &token, None, b"another").is_err());
//! # Ok(())
//! # }
//! ```
//!
//! Source: the PASETO specification, "Version 4" and "Common implementation details"
//! (github.com/paseto-standard/paseto-spec). The primitives are those of `blake2b_simd`, `chacha20` and
//! `ed25519-dalek`.

mod local;
mod public;

use alloc::string::String;
use alloc::vec::Vec;

use zeroize::Zeroizing;

use crate::key::{Key, KeyError};
use crate::keypair::{PublicKey, SecretKey};
use crate::text::{decode, encode_onto};

pub(crate) use local::{HEADER as LOCAL, open as open_local, seal as seal_local};
#[cfg(feature = "std")]
pub(crate) use local::{NONCE, seal_in_place as seal_local_in_place};
pub(crate) use public::{
    HEADER as PUBLIC, open as open_public, seal as seal_public,
    seal_in_place as seal_public_in_place,
};

/// Longest token in bytes that is looked at here. [`Sessions`](crate::Sessions) take less.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Why a token was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasetoError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not the text of a token of this version and purpose: another header, another base64, or too short.
    #[error("not a token of this version and purpose")]
    Malformed,
    /// The footer is not the one that was expected.
    #[error("the footer is not the expected one")]
    Footer,
    /// Forged, damaged, under another key, or with another implicit assertion.
    #[error("the token is not authentic")]
    NotAuthentic,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What an authentic token held.
#[derive(Clone)]
#[non_exhaustive]
pub struct Opened {
    /// The payload, wiped on drop.
    pub payload: Zeroizing<Vec<u8>>,
    /// The footer, authentic; empty when there was none.
    pub footer: Vec<u8>,
}

impl core::fmt::Debug for Opened {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opened")
            .field("bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// A `v4.local` token: encrypted, and authenticated with `footer` (sent in the clear) and `implicit`
/// (not sent).
///
/// # Errors
/// [`PasetoError::Key`] when the system has no randomness, [`PasetoError::TooLong`].
#[cfg(feature = "std")]
pub fn encrypt(
    key: &Key,
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, PasetoError> {
    let mut nonce = [0; 32];
    crate::random::pooled(&mut nonce)?;
    fits(local::seal(key, &nonce, payload, footer, implicit))
}

/// [`encrypt`] with a nonce of the caller, to check published vectors. A nonce that is used twice under
/// one key breaks the encryption of both tokens: never use it for anything else.
///
/// # Errors
/// [`PasetoError::TooLong`].
#[cfg(feature = "vectors")]
pub fn encrypt_with_nonce(
    key: &Key,
    nonce: &[u8; 32],
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, PasetoError> {
    fits(local::seal(key, nonce, payload, footer, implicit))
}

/// Opens a `v4.local` token. `footer`: what it must be, or `None` for any, which is returned authentic.
///
/// # Errors
/// [`PasetoError`] says why not; nothing of the payload is looked at before the tag was right.
pub fn decrypt(
    key: &Key,
    token: &str,
    footer: Option<&[u8]>,
    implicit: &[u8],
) -> Result<Opened, PasetoError> {
    let parts = checked(token, LOCAL, footer)?;
    let mut payload = local::open(key, &parts, implicit)?;
    Ok(Opened {
        payload: Zeroizing::new(core::mem::take(&mut payload.0)),
        footer: parts.footer,
    })
}

/// A `v4.public` token: signed, readable by anybody.
///
/// # Errors
/// [`PasetoError::Key`] when the public half is not that of the secret key, [`PasetoError::TooLong`].
pub fn sign(
    key: &SecretKey,
    payload: &[u8],
    footer: &[u8],
    implicit: &[u8],
) -> Result<String, PasetoError> {
    fits(public::seal(key, payload, footer, implicit)?)
}

/// Checks a `v4.public` token. `footer`: what it must be, or `None` for any, which is returned authentic.
///
/// # Errors
/// [`PasetoError`] says why not.
pub fn verify(
    key: &PublicKey,
    token: &str,
    footer: Option<&[u8]>,
    implicit: &[u8],
) -> Result<Opened, PasetoError> {
    let parts = checked(token, PUBLIC, footer)?;
    let mut payload = public::open(key, &parts, implicit)?;
    Ok(Opened {
        payload: Zeroizing::new(core::mem::take(&mut payload.0)),
        footer: parts.footer,
    })
}

/// The footer of a token that nobody has checked yet: good for choosing a key, and for nothing else.
///
/// # Errors
/// [`PasetoError::Malformed`] for anything but the frame of a version 4 token.
pub fn untrusted_footer(token: &str) -> Result<Vec<u8>, PasetoError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(PasetoError::TooLong);
    }
    let header = [LOCAL, PUBLIC]
        .into_iter()
        .find(|header| token.starts_with(header))
        .ok_or(PasetoError::Malformed)?;
    Ok(split(token, header, TOKEN_BYTES_MAX)?.footer)
}

fn fits(token: String) -> Result<String, PasetoError> {
    if token.len() > TOKEN_BYTES_MAX {
        Err(PasetoError::TooLong)
    } else {
        Ok(token)
    }
}

fn checked<'a>(
    token: &'a str,
    header: &str,
    footer: Option<&[u8]>,
) -> Result<Parts<'a>, PasetoError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(PasetoError::TooLong);
    }
    let parts = split(token, header, TOKEN_BYTES_MAX)?;
    if footer
        .is_some_and(|footer| !bool::from(subtle::ConstantTimeEq::ct_eq(footer, &*parts.footer)))
    {
        return Err(PasetoError::Footer);
    }
    Ok(parts)
}

/// A token cut at its dots, its footer decoded; nothing is authenticated yet.
pub(crate) struct Parts<'a> {
    pub(crate) body: &'a str,
    pub(crate) footer: Vec<u8>,
}

/// Cuts a token. `footer_max` is in characters.
pub(crate) fn split<'a>(
    token: &'a str,
    header: &str,
    footer_max: usize,
) -> Result<Parts<'a>, PasetoError> {
    let rest = token.strip_prefix(header).ok_or(PasetoError::Malformed)?;
    // From the end, where the footer is; a dot before it is no base64 and refused with the body.
    let Some((body, footer)) = rest.rsplit_once('.') else {
        return Ok(Parts {
            body: rest,
            footer: Vec::new(),
        });
    };
    // An empty footer has no dot, so that a token has one text.
    if footer.is_empty() || footer.len() > footer_max {
        return Err(PasetoError::Malformed);
    }
    let footer = decode(footer).ok_or(PasetoError::Malformed)?;
    Ok(Parts { body, footer })
}

/// One piece of the pre-authentication encoding: its length as 64-bit little endian, and itself. Before all stands
/// the count in the same form.
fn push_piece(onto: &mut Vec<u8>, piece: &[u8]) {
    onto.extend_from_slice(&(piece.len() as u64).to_le_bytes());
    onto.extend_from_slice(piece);
}

fn text(header: &str, raw: &[u8], footer: &[u8]) -> String {
    let mut token = String::with_capacity(header.len() + (raw.len() + footer.len()) * 4 / 3 + 8);
    token.push_str(header);
    encode_onto(&mut token, raw);
    if !footer.is_empty() {
        token.push('.');
        encode_onto(&mut token, footer);
    }
    token
}
