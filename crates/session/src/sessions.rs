//! Issue and verify: the one place where keys, claims, time and revocation meet.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::claims::{Claims, SessionId};
use crate::key::{self, KeyError, KeyId};
use crate::paseto;
use crate::revocation::{NoRevocations, RevocationQuery, Revocations};
use crate::ring::{KeyRing, KeyState};
use crate::time::Timestamp;

/// Longest token in bytes that is looked at, and longest that is issued: what a browser keeps.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Longest footer in characters.
const FOOTER_MAX: usize = 683;
/// Largest leeway between clocks.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// How long sessions live. There is no unlimited value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    idle: Duration,
    absolute: Duration,
    leeway: Duration,
}

impl Policy {
    /// Ends after `idle` without a request, and in any case `absolute` after the login.
    ///
    /// Both are held to between one minute and 400 days, and `idle` to at most `absolute`.
    #[must_use]
    pub fn new(idle: Duration, absolute: Duration) -> Self {
        let bounds = (Duration::from_secs(60), Duration::from_secs(400 * 86_400));
        let absolute = absolute.clamp(bounds.0, bounds.1);
        Self {
            idle: idle.clamp(bounds.0, absolute),
            absolute,
            leeway: Duration::from_secs(30),
        }
    }

    /// 30 days, 30 days idle: NIST SP 800-63B-4 AAL1.
    #[must_use]
    pub fn aal1() -> Self {
        Self::new(
            Duration::from_secs(30 * 86_400),
            Duration::from_secs(30 * 86_400),
        )
    }

    /// 24 hours, one hour idle: NIST SP 800-63B-4 AAL2.
    #[must_use]
    pub fn aal2() -> Self {
        Self::new(Duration::from_secs(3600), Duration::from_secs(86_400))
    }

    /// 12 hours, 15 minutes idle: NIST SP 800-63B-4 AAL3.
    #[must_use]
    pub fn aal3() -> Self {
        Self::new(Duration::from_secs(900), Duration::from_secs(12 * 3600))
    }

    /// How far apart the clocks of two servers may be. Defaults to 30 s; at most [`LEEWAY_MAX`].
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(LEEWAY_MAX);
        self
    }

    /// The longest a session lives.
    #[must_use]
    pub fn absolute(&self) -> Duration {
        self.absolute
    }

    /// The longest a session lives without a request.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.idle
    }
}

/// A configuration that would not keep its promises.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Retired keys would end before the sessions that were issued under them.
    #[error(
        "keys verify for {grace:?} after retiring, but sessions live {absolute:?}: rotation would log users out"
    )]
    GraceTooShort {
        /// The grace of the ring.
        grace: Duration,
        /// The absolute lifetime.
        absolute: Duration,
    },
    /// Revocations would be forgotten while the sessions that they ended could still verify.
    #[error(
        "revocations are remembered for {remembered:?}, but sessions live {absolute:?}: ended ones would come back"
    )]
    RevocationsTooShort {
        /// For how long a revocation is remembered.
        remembered: Duration,
        /// The absolute lifetime.
        absolute: Duration,
    },
}

/// Why no token could be issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// No key of the ring is active: all are pending or revoked.
    #[error("no key of the ring is active")]
    NoActiveKey,
    /// The session has reached its absolute lifetime; the subject must log in again.
    #[error("the session has reached its absolute lifetime")]
    Ended,
    /// The token would be longer than [`TOKEN_BYTES_MAX`]: keep the state in a store.
    #[error(
        "the token would have {0} bytes, more than {TOKEN_BYTES_MAX}: keep the state in a store"
    )]
    TooLong(usize),
    /// The data could not be serialised.
    #[error("the claims could not be serialised: {0}")]
    Data(String),
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why a token was refused. Safe to log: it holds nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not the text of a `v4.local` token with the id of a key.
    #[error("not a v4.local token with a key id")]
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
}

/// A token that holds, and what should be done about it.
#[non_exhaustive]
pub struct Verified<T> {
    /// What it says.
    pub claims: Claims<T>,
    /// The key it is under.
    pub key: KeyId,
    /// Half of the idle time has gone, or the key is retired: give the client a new token, as
    /// [`Sessions::renew`] makes it.
    pub renew: bool,
}

impl<T> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("claims", &self.claims)
            .field("key", &self.key)
            .field("renew", &self.renew)
            .finish()
    }
}

struct Inner<R> {
    ring: KeyRing,
    implicit: Vec<u8>,
    policy: Policy,
    revocations: R,
}

/// Issues and verifies the tokens of one purpose. Clones share everything; no lock, no I/O.
///
/// `T` is what the application puts into each token: small, and never a secret of the server,
/// although the token is encrypted. `R` says which sessions have been ended early.
pub struct Sessions<T = (), R = NoRevocations> {
    inner: Arc<Inner<R>>,
    data: PhantomData<fn(T) -> T>,
}

impl<T, R> Clone for Sessions<T, R> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            data: PhantomData,
        }
    }
}

impl<T, R: Revocations> Sessions<T, R> {
    /// Tokens of `purpose` (such as `"login"`) for `audience` (such as the host name).
    ///
    /// Both are authenticated with each token without being sent, so a token for one purpose or
    /// audience is not authentic for another, even under the same key. When the token travels in a
    /// cookie, use the cookie's name as the purpose.
    ///
    /// # Errors
    /// [`ConfigError::GraceTooShort`] when rotating the keys of `ring` would log users out,
    /// [`ConfigError::RevocationsTooShort`] when ended sessions would come back.
    pub fn new(
        ring: KeyRing,
        purpose: &str,
        audience: &str,
        policy: Policy,
        revocations: R,
    ) -> Result<Self, ConfigError> {
        let (grace, absolute) = (ring.grace(), policy.absolute);
        if grace < absolute {
            return Err(ConfigError::GraceTooShort { grace, absolute });
        }
        if let Some(remembered) = revocations.remembered().filter(|time| *time < absolute) {
            return Err(ConfigError::RevocationsTooShort {
                remembered,
                absolute,
            });
        }
        let mut implicit = Vec::new();
        for piece in ["stackbeam-session 1", purpose, audience] {
            implicit.extend_from_slice(&(piece.len() as u64).to_le_bytes());
            implicit.extend_from_slice(piece.as_bytes());
        }
        Ok(Self {
            inner: Arc::new(Inner {
                ring,
                implicit,
                policy,
                revocations,
            }),
            data: PhantomData,
        })
    }

    /// The keys, to rotate them.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.inner.ring
    }

    /// What answers whether a session has been ended.
    #[must_use]
    pub fn revocations(&self) -> &R {
        &self.inner.revocations
    }

    /// The lifetimes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.inner.policy
    }
}

impl<T: Serialize, R: Revocations> Sessions<T, R> {
    /// A new session for a subject that has just proved who it is: a new id each time, so that
    /// nothing from before the login is carried over.
    ///
    /// # Errors
    /// When no key is active, the data is too long, or the system has no randomness.
    pub fn issue(&self, subject: &str, data: T, now: Timestamp) -> Result<String, IssueError> {
        let policy = self.inner.policy;
        self.seal(&Claims {
            subject: subject.to_owned(),
            session: SessionId::generate()?,
            issued_at: now,
            expires_at: now.after(policy.idle),
            authenticated_at: now,
            ends_at: now.after(policy.absolute),
            generation: self.inner.revocations.generation(subject, now),
            data,
        })
    }

    /// The same session for another idle period, never past its absolute end.
    ///
    /// # Errors
    /// [`IssueError::Ended`] at the absolute end, else as [`issue`](Self::issue).
    pub fn renew(&self, mut claims: Claims<T>, now: Timestamp) -> Result<String, IssueError> {
        if now >= claims.ends_at {
            return Err(IssueError::Ended);
        }
        claims.issued_at = now;
        claims.expires_at = now.after(self.inner.policy.idle).min(claims.ends_at);
        self.seal(&claims)
    }

    fn seal(&self, claims: &Claims<T>) -> Result<String, IssueError> {
        let entry = self
            .inner
            .ring
            .signer(claims.issued_at)
            .ok_or(IssueError::NoActiveKey)?;
        let payload = claims
            .to_json()
            .map_err(|error| IssueError::Data(error.to_string()))?;
        let payload = zeroize::Zeroizing::new(payload);
        if payload.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::TooLong(payload.len()));
        }
        let mut nonce = [0; 32];
        key::fill(&mut nonce)?;
        let token = paseto::seal(
            &entry.key,
            &nonce,
            &payload,
            &entry.id.0,
            &self.inner.implicit,
        );
        if token.len() > TOKEN_BYTES_MAX {
            Err(IssueError::TooLong(token.len()))
        } else {
            Ok(token)
        }
    }
}

impl<T: DeserializeOwned, R: Revocations> Sessions<T, R> {
    /// Whether `token` holds at `now`. The tag is checked before anything inside is read.
    ///
    /// # Errors
    /// [`VerifyError`] says why not; tell the client only that it is not logged in.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Verified<T>, VerifyError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(VerifyError::TooLong);
        }
        let parts = paseto::split(token, FOOTER_MAX).map_err(|_| VerifyError::Malformed)?;
        let id: [u8; 8] = parts
            .footer
            .as_slice()
            .try_into()
            .map_err(|_| VerifyError::Malformed)?;
        let id = KeyId(id);
        let opened = self.inner.ring.verifier(id, now, |key, state| {
            paseto::open(key, &parts, &self.inner.implicit).map(|payload| (payload, state))
        });
        let (payload, state) = opened
            .map_err(|_| VerifyError::KeyNotAccepted)?
            .map_err(|_| VerifyError::NotAuthentic)?;
        let claims = Claims::<T>::from_json(&payload).map_err(|_| VerifyError::Claims)?;
        self.check(&claims, now)?;
        let half = self.inner.policy.idle / 2;
        let renew = state == KeyState::Retired || now.since(claims.issued_at) >= half;
        Ok(Verified {
            renew: renew && now < claims.ends_at,
            claims,
            key: id,
        })
    }

    fn check(&self, claims: &Claims<T>, now: Timestamp) -> Result<(), VerifyError> {
        let policy = self.inner.policy;
        if claims.issued_at > now.after(policy.leeway)
            || claims.authenticated_at > now.after(policy.leeway)
        {
            return Err(VerifyError::FromTheFuture);
        }
        let early = now.before(policy.leeway);
        // A policy that was made stricter holds for the tokens of before, too.
        let ends_at = claims
            .ends_at
            .min(claims.authenticated_at.after(policy.absolute));
        if early >= claims.expires_at.min(ends_at) || claims.expires_at < claims.issued_at {
            return Err(VerifyError::Expired);
        }
        let query = RevocationQuery {
            session: claims.session,
            subject: &claims.subject,
            generation: claims.generation,
            authenticated_at: claims.authenticated_at,
        };
        if self.inner.revocations.is_revoked(&query, now) {
            Err(VerifyError::Revoked)
        } else {
            Ok(())
        }
    }
}

impl<T, R> fmt::Debug for Sessions<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("ring", &self.inner.ring)
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}
