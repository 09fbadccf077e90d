//! Checking tokens, without a ring, a clock or a thread: all that a verifier needs.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::claims::Claims;
use crate::format::{Cut, TokenKey};
use crate::key::{KeyError, KeyId};
use crate::policy::Policy;
use crate::time::Timestamp;

/// Longest token in bytes that is looked at, and longest that is issued: what a browser keeps.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Why a token was refused. Safe to log: it holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not the text of a token of this kind with the id of a key.
    #[error("not a token of this kind with a key id")]
    Malformed,
    /// The key is unknown, past its grace, or revoked.
    #[error("the token's key is not accepted")]
    KeyNotAccepted,
    /// Forged, damaged, or made for another purpose, audience or cookie.
    #[error("the token is not authentic for this purpose")]
    NotAuthentic,
    /// Authentic, but its claims are not ours: missing, of a wrong type, or twice.
    #[error("the claims of the token are not valid")]
    Claims,
    /// Issued in the future, beyond the leeway.
    #[error("the token comes from the future; are the clocks in step?")]
    FromTheFuture,
    /// Its time is over.
    #[error("the session has expired")]
    Expired,
    /// Ended before its time.
    #[error("the session has been ended")]
    Revoked,
    /// It is not known well enough which sessions have been ended; see `Staleness`.
    #[error("it is not known which sessions have been ended")]
    Stale,
}

/// What a token is for. All of it is authenticated with each token without being sent, so a token
/// for one purpose, audience or cookie is not authentic for another, even under the same key.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding {
    implicit: Vec<u8>,
}

impl Binding {
    /// Tokens of `purpose` (such as `"login"`) for `audience` (such as the host name), in no cookie.
    #[must_use]
    pub fn new(purpose: &str, audience: &str) -> Self {
        let mut binding = Self {
            implicit: Vec::with_capacity(64),
        };
        for piece in ["stackbeam-session 1", purpose, audience] {
            binding.push(piece);
        }
        binding
    }

    /// The same for tokens in the cookie of this full name. `SessionLayer::cookie` does it by itself.
    #[must_use]
    pub fn cookie(mut self, name: &str) -> Self {
        self.push("cookie");
        self.push(name);
        self
    }

    fn push(&mut self, piece: &str) {
        (self.implicit).extend_from_slice(&(piece.len() as u64).to_le_bytes());
        self.implicit.extend_from_slice(piece.as_bytes());
    }

    pub(crate) fn implicit(&self) -> &[u8] {
        &self.implicit
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").finish_non_exhaustive()
    }
}

/// Checks tokens under a fixed list of keys: no ring, no revocation, no clock, no `std`.
///
/// For a gateway or a device that only verifies; servers use [`Sessions`](crate::Sessions), which add key
/// rotation and revocation.
pub struct Verifier<T, K: TokenKey> {
    keys: Vec<(KeyId, K)>,
    binding: Binding,
    policy: Policy,
    data: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned, K: TokenKey> Verifier<T, K> {
    /// A verifier under `keys`.
    ///
    /// # Errors
    /// [`KeyError`] when one of the keys does not pass its self-test.
    pub fn new(
        keys: impl IntoIterator<Item = K>,
        binding: Binding,
        policy: Policy,
    ) -> Result<Self, KeyError> {
        let keys = keys.into_iter().map(|key| {
            key.self_test()?;
            Ok((key.key_id(), key))
        });
        Ok(Self {
            keys: keys.collect::<Result<_, KeyError>>()?,
            binding,
            policy,
            data: PhantomData,
        })
    }

    /// The claims of `token`, if it holds at `now`.
    ///
    /// # Errors
    /// [`VerifyError`] says why not.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims<T>, VerifyError> {
        let cut = cut::<K>(token)?;
        let (_, key) = (self.keys.iter())
            .find(|(id, _)| *id == cut.id)
            .ok_or(VerifyError::KeyNotAccepted)?;
        let claims = open(key, cut, &self.binding)?;
        self.policy.check(&claims, now)?;
        Ok(claims)
    }
}

impl<T, K: TokenKey> fmt::Debug for Verifier<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys.len())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

pub(crate) fn cut<K: TokenKey>(token: &str) -> Result<Cut<'_>, VerifyError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(VerifyError::TooLong);
    }
    K::cut(token).ok_or(VerifyError::Malformed)
}

/// The tag is checked before anything inside is read.
pub(crate) fn open<T: DeserializeOwned, K: TokenKey>(
    key: &K,
    cut: Cut<'_>,
    binding: &Binding,
) -> Result<Claims<T>, VerifyError> {
    let payload = (key.open(cut, binding.implicit())).ok_or(VerifyError::NotAuthentic)?;
    Claims::read(&payload, K::ENCODING).map_err(|_| VerifyError::Claims)
}
