//! Which sessions have been ended before their time, and telling the other servers.
//!
//! Changes form a merge: each is a maximum over what is known, so the order and the number of times
//! they arrive does not matter. Only a missing one does, and sequence numbers show it.

mod ended;
#[cfg(feature = "feed")]
mod feed;
mod filter;
mod known;
mod memory;
mod message;
#[cfg(feature = "redis")]
mod redis;
mod set;
mod waiters;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::claims::{Claims, SessionId};
use crate::time::Timestamp;

#[cfg(feature = "feed")]
pub use feed::{
    FeedFailure, LOG_WAIT, LogEntry, LogError, MemoryLog, RevocationFeed, RevocationLog,
};
pub use memory::{MemoryRevocations, PREFIXES_MAX, REVOCATIONS_MAX, SENDERS_MAX, WhenStale};
#[cfg(feature = "redis")]
pub use redis::RedisLog;

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a session has ended, has not, or it is not known"
)]
pub enum Verdict {
    /// It has not been ended.
    Good,
    /// It has been ended.
    Revoked,
    /// What is known is too old to say, or not there yet: the token is refused.
    Unknown,
}

/// What [`Sessions`](crate::Sessions) asks about each token. Called for every request: no blocking.
pub trait Revocations: Send + Sync + 'static {
    /// Whether the session of a token that is otherwise good has been ended.
    fn check(&self, token: &RevocationQuery<'_>, now: Timestamp) -> Verdict;
    /// The generation that a login of `subject` gets.
    fn generation(&self, subject: &str, now: Timestamp) -> u64;
    /// For how long a revocation is remembered at least; `None` when forever.
    /// [`Sessions::new`](crate::Sessions::new) refuses less than the absolute lifetime.
    fn remembered(&self) -> Option<Duration> {
        None
    }
    /// Resolves when the session is ended. By default, never.
    ///
    /// # Cancel safety
    /// Safe.
    fn ended(
        &self,
        _token: &RevocationQuery<'_>,
        _now: Timestamp,
    ) -> impl Future<Output = ()> + Send + 'static + use<Self> {
        std::future::pending()
    }
}

/// Nothing is ever revoked: tokens end by time alone.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit value that callers write")]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn check(&self, _: &RevocationQuery<'_>, _: Timestamp) -> Verdict {
        Verdict::Good
    }
    fn generation(&self, _: &str, _: Timestamp) -> u64 {
        0
    }
}

impl<R: Revocations> Revocations for std::sync::Arc<R> {
    fn check(&self, token: &RevocationQuery<'_>, now: Timestamp) -> Verdict {
        (**self).check(token, now)
    }
    fn generation(&self, subject: &str, now: Timestamp) -> u64 {
        (**self).generation(subject, now)
    }
    fn remembered(&self) -> Option<Duration> {
        (**self).remembered()
    }
    fn ended(
        &self,
        token: &RevocationQuery<'_>,
        now: Timestamp,
    ) -> impl Future<Output = ()> + Send + 'static + use<R> {
        (**self).ended(token, now)
    }
}

/// The claims of a token that revocation looks at.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RevocationQuery<'a> {
    /// The session.
    pub session: SessionId,
    /// Who it belongs to.
    pub subject: &'a str,
    /// The subject's generation when it logged in.
    pub generation: u64,
    /// When the subject logged in or was last authenticated anew.
    pub authenticated_at: Timestamp,
}

impl<'a> RevocationQuery<'a> {
    /// What is asked about these claims.
    #[must_use]
    pub fn new<T>(claims: &'a Claims<T>) -> Self {
        Self {
            session: claims.session,
            subject: &claims.subject,
            generation: claims.generation,
            authenticated_at: claims.authenticated_at,
        }
    }
}

impl fmt::Debug for RevocationQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationQuery")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A revocation that could not be taken, or a message of the feed that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The bound on entries is reached and none may be forgotten yet. The revocation did not happen.
    #[error("{0} revocations are held and none may be forgotten yet")]
    Full(usize),
    /// Not a message of this feed: another key, another version, or damaged.
    #[error("not a message of this feed")]
    Malformed,
}

/// What a message of the feed brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// The next message of its sender, or one of a sender not met before.
    InOrder,
    /// Known already.
    Duplicate,
    /// Messages before it are missing: ask any server for a snapshot. It was applied all the same.
    Gap {
        /// How many are missing.
        missing: u64,
    },
}
