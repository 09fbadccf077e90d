//! Issue and verify: the one place where keys, claims, time and revocation meet.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "cache")]
use crate::cache::TokenCache;
use crate::claims::{Claims, Level, SessionId, Unsealed};
use crate::event::event;
use crate::format::{IssuingKey, TokenKey};
use crate::key::{Key, KeyError, KeyId};
use crate::policy::Policy;
use crate::revocation::{NoRevocations, RevocationQuery, Revocations, Verdict};
use crate::ring::{KeyRing, KeyState};
use crate::stats::{Counters, SessionStats};
use crate::time::Timestamp;
use crate::verify::{self, Binding, TOKEN_BYTES_MAX, VerifyError};

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
    /// The session has reached its absolute lifetime, or was ended; the subject must log in again.
    #[error("the session has reached its absolute lifetime, or was ended")]
    Ended,
    /// The token would be longer than [`TOKEN_BYTES_MAX`]: keep the state in a store.
    #[error(
        "the token would have {0} bytes, more than {TOKEN_BYTES_MAX}: keep the state in a store"
    )]
    TooLong(usize),
    /// The data could not be serialised.
    #[error("the claims could not be serialised: {0}")]
    Data(String),
    /// Another site made the browser send the request that wanted to log in.
    #[error("another site may have made the browser send this request")]
    CrossSite,
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "by somebody, or by time")]
pub enum End {
    /// It was ended before its time.
    Revoked,
    /// Its time was over.
    Expired,
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

/// [`Verified`], with claims that others may hold too.
#[non_exhaustive]
pub struct VerifiedShared<T> {
    /// What it says.
    pub claims: Arc<Claims<T>>,
    /// The key it is under.
    pub key: KeyId,
    /// As [`Verified::renew`].
    pub renew: bool,
}

impl<T> fmt::Debug for VerifiedShared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedShared")
            .field("claims", &self.claims)
            .field("key", &self.key)
            .field("renew", &self.renew)
            .finish()
    }
}

struct Inner<R, K: TokenKey> {
    ring: KeyRing<K>,
    policy: Policy,
    revocations: R,
    counters: Counters,
}

/// Issues and verifies the tokens of one purpose. Clones share everything; no lock, no I/O.
///
/// `T` is what the application puts into each token: small, and never a secret of the server,
/// although `v4.local` tokens are encrypted. `R` says which sessions have been ended early. `K` decides
/// the kind of token: [`Key`] for `v4.local`, [`SecretKey`](crate::SecretKey) for `v4.public`,
/// [`PublicKey`](crate::PublicKey) to verify `v4.public` only.
pub struct Sessions<T = (), R = NoRevocations, K: TokenKey = Key> {
    inner: Arc<Inner<R, K>>,
    binding: Binding,
    whole_key_ids: bool,
    #[cfg(feature = "cache")]
    cache: Option<Arc<TokenCache<T>>>,
    data: PhantomData<fn(T) -> T>,
}

impl<T, R, K: TokenKey> Clone for Sessions<T, R, K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            binding: self.binding.clone(),
            whole_key_ids: self.whole_key_ids,
            #[cfg(feature = "cache")]
            cache: self.cache.clone(),
            data: PhantomData,
        }
    }
}

impl<T, R: Revocations, K: TokenKey> Sessions<T, R, K> {
    /// Tokens of `purpose` (such as `"login"`) for `audience` (such as the host name).
    ///
    /// Both are authenticated with each token without being sent, so a token for one purpose or
    /// audience is not authentic for another, even under the same key. See [`Binding`].
    ///
    /// # Errors
    /// [`ConfigError::GraceTooShort`] when rotating the keys of `ring` would log users out,
    /// [`ConfigError::RevocationsTooShort`] when ended sessions would come back.
    pub fn new(
        ring: KeyRing<K>,
        purpose: &str,
        audience: &str,
        policy: Policy,
        revocations: R,
    ) -> Result<Self, ConfigError> {
        let (grace, absolute) = (ring.grace(), policy.absolute());
        if grace < absolute {
            return Err(ConfigError::GraceTooShort { grace, absolute });
        }
        if let Some(remembered) = revocations.remembered().filter(|time| *time < absolute) {
            return Err(ConfigError::RevocationsTooShort {
                remembered,
                absolute,
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                ring,
                policy,
                revocations,
                counters: Counters::default(),
            }),
            binding: Binding::new(purpose, audience),
            whole_key_ids: false,
            #[cfg(feature = "cache")]
            cache: None,
            data: PhantomData,
        })
    }

    /// The same keys, policy and revocations for tokens that travel in the cookie of this full name,
    /// such as `__Host-id`: they are good in no other cookie and in no header.
    #[must_use]
    pub fn for_cookie(&self, name: &str) -> Self {
        let mut sessions = self.clone();
        sessions.binding = sessions.binding.cookie(name);
        // What was good in another place is not good in this one.
        #[cfg(feature = "cache")]
        if let Some(cache) = &mut sessions.cache {
            *cache = Arc::new(cache.emptied());
        }
        sessions
    }

    /// Names the key of each token by its whole PASERK id, in the footer `{"kid":"k4.lid.…"}` (`k4.pid.…` for `v4.public`),
    /// as other implementations of PASETO do. Defaults to 8 bytes of it, which saves 71 characters a token;
    /// verifying takes both. Compact tokens always have the short one.
    #[must_use]
    pub fn whole_key_ids(mut self) -> Self {
        self.whole_key_ids = true;
        self
    }

    /// The keys, to rotate them.
    #[must_use]
    pub fn ring(&self) -> &KeyRing<K> {
        &self.inner.ring
    }

    /// What was issued, verified and refused so far.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.inner.counters.read()
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

    /// Resolves when the session of these claims ends, and says how: for a connection that outlives its
    /// request, such as a web socket, which closes then. `sleep` waits for the time it is given, such as
    /// `tokio::time::sleep`; the session is not renewed meanwhile.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn ended<F, W>(
        &self,
        claims: &Claims<T>,
        now: Timestamp,
        sleep: W,
    ) -> impl Future<Output = End> + Send + use<T, R, K, F, W>
    where
        F: Future<Output = ()> + Send,
        W: FnOnce(Duration) -> F,
    {
        let revoked = (self.inner.revocations).ended(&RevocationQuery::new(claims), now);
        let over = sleep(self.inner.policy.end_of(claims).since(now));
        async move {
            let (mut revoked, mut over) = (pin!(revoked), pin!(over));
            poll_fn(|cx| {
                if revoked.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(End::Revoked);
                }
                over.as_mut().poll(cx).map(|()| End::Expired)
            })
            .await
        }
    }

    /// Everything about a token that can change after it was issued: its times, its key, and whether
    /// it was ended.
    fn holds(&self, claims: &Claims<T>, key: KeyId, now: Timestamp) -> Result<(), VerifyError> {
        self.inner.policy.check(claims, now)?;
        if self.inner.ring.bars(key, claims.issued_at) {
            return Err(VerifyError::KeyNotAccepted);
        }
        match (self.inner.revocations).check(&RevocationQuery::new(claims), now) {
            Verdict::Good => Ok(()),
            Verdict::Revoked => Err(VerifyError::Revoked),
            Verdict::Unknown => Err(VerifyError::Stale),
        }
    }
}

impl<T: Serialize, R: Revocations, K: IssuingKey> Sessions<T, R, K> {
    /// A new session for a subject that has just proved who it is, at level [`Level::Aal1`]: a new id
    /// each time, so that nothing from before the login is carried over.
    ///
    /// # Errors
    /// When no key is active, the data is too long, or the system has no randomness.
    pub fn issue(&self, subject: &str, data: T, now: Timestamp) -> Result<String, IssueError> {
        self.issue_at(Level::Aal1, subject, data, now)
    }

    /// [`issue`](Self::issue) for a subject that proved who it is at this level.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn issue_at(
        &self,
        level: Level,
        subject: &str,
        data: T,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let (mut id, mut random) = ([0; 16], [0; 32]);
        crate::random::pooled_pieces([&mut id, &mut random])?;
        let policy = self.inner.policy;
        let claims = Unsealed {
            subject,
            session: SessionId(id),
            issued_at: now,
            not_before: None,
            expires_at: now.after(policy.idle()),
            authenticated_at: now,
            ends_at: now.after(policy.absolute()),
            generation: self.inner.revocations.generation(subject, now),
            level,
            data: &data,
        };
        self.seal(&claims, &random)
    }

    /// A session for a subject that proved who it is elsewhere and before: the absolute lifetime counts from then, and
    /// what was ended since holds.
    #[cfg(feature = "tower")]
    pub(crate) fn issue_since(
        &self,
        from: crate::web::Adopted<T>,
        now: Timestamp,
    ) -> Result<String, IssueError> {
        let (mut id, mut random) = ([0; 16], [0; 32]);
        crate::random::pooled_pieces([&mut id, &mut random])?;
        let (policy, session) = (self.inner.policy, SessionId(id));
        let authenticated_at = from.authenticated_at.min(now);
        let ends_at = authenticated_at.after(policy.absolute());
        let subject = &*from.subject;
        // Of no generation: whatever ended the subject's sessions, ended this one.
        let asked = RevocationQuery {
            session,
            subject,
            generation: 0,
            authenticated_at,
        };
        let ended = self.inner.revocations.check(&asked, now) != Verdict::Good;
        if ended || now >= ends_at {
            return Err(IssueError::Ended);
        }
        let claims = Unsealed {
            subject,
            session,
            issued_at: now,
            not_before: None,
            expires_at: now.after(policy.idle()).min(ends_at),
            authenticated_at,
            ends_at,
            generation: 0,
            level: from.level,
            data: &from.data,
        };
        self.seal(&claims, &random)
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
        claims.not_before = None;
        claims.expires_at = now.after(self.inner.policy.idle()).min(claims.ends_at);
        let mut random = [0; 32];
        crate::random::pooled(&mut random)?;
        self.seal(&Unsealed::from(&claims), &random)
    }

    fn seal(&self, claims: &Unsealed<'_, T>, random: &[u8; 32]) -> Result<String, IssueError> {
        let payload = claims
            .write(K::ENCODING, K::FRONT)
            .map_err(|error| IssueError::Data(error.0))?;
        if payload.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::TooLong(payload.len()));
        }
        let implicit = self.binding.implicit();
        let token = self
            .inner
            .ring
            .signer(claims.issued_at, |entry| {
                let whole = entry.kid.as_ref().filter(|_| self.whole_key_ids);
                let footer = whole.map_or(&entry.id.0[..], |kid| kid.as_bytes());
                entry.key.seal(footer, random, payload, implicit)
            })
            .ok_or(IssueError::NoActiveKey)??;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(IssueError::TooLong(token.len()));
        }
        self.inner.counters.issued();
        Ok(token)
    }
}

impl<T: DeserializeOwned, R: Revocations, K: TokenKey> Sessions<T, R, K> {
    /// Whether `token` holds at `now`. The tag is checked before anything inside is read.
    ///
    /// # Errors
    /// [`VerifyError`] says why not; tell the client only that it is not logged in.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Verified<T>, VerifyError> {
        let (claims, key, state) = self.opened(token, now)?;
        Ok(Verified {
            renew: self.wants_renewal(&claims, state, now),
            claims,
            key,
        })
    }

    fn opened(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Claims<T>, KeyId, KeyState), VerifyError> {
        let opened = self.open(token, now);
        self.inner.counters.verified(&opened);
        opened.inspect_err(|_why| {
            event!(debug, why = %_why, "a token was refused");
        })
    }

    fn open(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(Claims<T>, KeyId, KeyState), VerifyError> {
        let cut = verify::cut::<K>(token)?;
        let id = cut.id;
        let (claims, state) = self
            .inner
            .ring
            .verifier(id, now, |key, state| {
                verify::open(key, cut, &self.binding).map(|claims| (claims, state))
            })
            .map_err(|_| VerifyError::KeyNotAccepted)??;
        self.holds(&claims, id, now)?;
        Ok((claims, id, state))
    }

    fn wants_renewal(&self, claims: &Claims<T>, state: KeyState, now: Timestamp) -> bool {
        let wanted = state == KeyState::Retired || self.inner.policy.wants_renewal(claims, now);
        wanted && now < claims.ends_at
    }
}

impl<T: DeserializeOwned + Send + Sync, R: Revocations, K: TokenKey> Sessions<T, R, K> {
    /// [`verify`](Self::verify), without a copy of the claims: with a cache, those of the last time.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_shared(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<VerifiedShared<T>, VerifyError> {
        #[cfg(feature = "cache")]
        if let Some(cache) = &self.cache {
            // What is too long is refused by the other way, before it is hashed.
            let name = (token.len() <= TOKEN_BYTES_MAX).then(|| cache.name(token));
            if let Some(found) = name.and_then(|name| cache.find(name)) {
                let state = self.inner.ring.verifier(found.key, now, |_, state| state);
                let state = state.map_err(|_| VerifyError::KeyNotAccepted);
                let held = state.and_then(|state| {
                    self.holds(&found.claims, found.key, now)?;
                    self.inner.counters.cached();
                    Ok(state)
                });
                self.inner.counters.verified(&held);
                return Ok(self.shared(found.claims, found.key, held?, now));
            }
            let (claims, key, state) = self.opened(token, now)?;
            let claims = Arc::new(claims);
            if let Some(name) = name {
                cache.keep(name, Arc::clone(&claims), key);
            }
            return Ok(self.shared(claims, key, state, now));
        }
        let (claims, key, state) = self.opened(token, now)?;
        Ok(self.shared(Arc::new(claims), key, state, now))
    }

    fn shared(
        &self,
        claims: Arc<Claims<T>>,
        key: KeyId,
        state: KeyState,
        now: Timestamp,
    ) -> VerifiedShared<T> {
        VerifiedShared {
            renew: self.wants_renewal(&claims, state, now),
            claims,
            key,
        }
    }
}

#[cfg(feature = "cache")]
impl<T: Send + Sync + 'static, R, K: TokenKey> Sessions<T, R, K> {
    /// Remembers as many verified tokens: one that comes again is found by a keyed hash of its text, and only its
    /// times, its key and the revocations are checked. Worth it for `v4.public`, forty times and more; less for the
    /// others. [`verify_shared`](Self::verify_shared) and the layer use it; refusals are never remembered.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    pub fn cached(mut self, entries: usize) -> Result<Self, KeyError> {
        self.cache = Some(Arc::new(TokenCache::new(entries)?));
        Ok(self)
    }
}

impl<T, R, K: TokenKey> fmt::Debug for Sessions<T, R, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("ring", &self.inner.ring)
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}
