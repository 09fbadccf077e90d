//! Session state that all servers share: the contract of a store.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod reference;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "memcached", feature = "redis"))]
mod text;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::claims::SessionId;
use crate::hash::keyed;
use crate::key::{Key, KeyError};
use crate::time::Timestamp;

#[cfg(feature = "memcached")]
pub use memcached::MemcachedStore;
pub use memory::{MemoryStore, RECORDS_MAX};
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use reference::{REFERENCE_CHARS, ReferenceError, References, Renewed};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// Longest data of one record in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// How often [`Store::modify`] begins anew before it gives up.
pub const ATTEMPTS_MAX: usize = 1000;

macro_rules! hashed {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            fn of(key: &Key, label: &[u8], bytes: &[u8]) -> Self {
                let mut name = [0; 32];
                keyed(&mut name, key.bytes(), &[label, bytes]);
                Self(name)
            }

            /// The name of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes to store it under.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

hashed! {
    /// The name of a record: a keyed hash of the session id, so a leaked table logs nobody in.
    StoreKey
}
hashed! {
    /// Whose record it is: a keyed hash of the subject, so a leaked table names nobody.
    SubjectKey
}

impl StoreKey {
    /// The name of the record of `session` under the secret `key` of all servers.
    #[must_use]
    pub fn new(key: &Key, session: SessionId) -> Self {
        Self::of(key, b"stackbeam-session store 1", &session.0)
    }

    /// Enough of the keyed hash to tell sessions apart in a log.
    #[cfg(feature = "tracing")]
    fn tag(&self) -> impl fmt::Display + use<> {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.0[..8]);
        format!("{:016x}", u64::from_be_bytes(tag))
    }

    fn of_reference(key: &Key, family: &[u8]) -> Self {
        Self::of(key, b"stackbeam-session reference 1", family)
    }
}

impl SubjectKey {
    /// The name of `subject` under the secret `key` of all servers.
    #[must_use]
    pub fn new(key: &Key, subject: &str) -> Self {
        Self::of(key, b"stackbeam-session subject 1", subject.as_bytes())
    }
}

/// A record to be made.
#[derive(Clone)]
#[expect(clippy::exhaustive_structs, reason = "callers write it out")]
pub struct NewRecord {
    /// Whose it is.
    pub subject: SubjectKey,
    /// What the application stores, at most [`RECORD_BYTES_MAX`].
    pub data: Vec<u8>,
    /// From then on the record is gone.
    pub expires_at: Timestamp,
}

impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRecord")
            .field("bytes", &self.data.len())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A record as it was loaded.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Whose it is.
    pub subject: SubjectKey,
    /// What the application stored.
    pub data: Vec<u8>,
    /// Another after every update; an update names the one it is based on. Random, so that a record
    /// made anew has none of the one before it.
    pub version: u64,
    /// When the record was made.
    pub created_at: Timestamp,
    /// From then on the record is gone.
    pub expires_at: Timestamp,
}

impl Record {
    /// A record, for a store that reads it from somewhere.
    #[must_use]
    pub const fn new(
        subject: SubjectKey,
        data: Vec<u8>,
        version: u64,
        created_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            subject,
            data,
            version,
            created_at,
            expires_at,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("bytes", &self.data.len())
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is a record of this key already.
    #[error("the record exists already")]
    Exists,
    /// Another update came first: load and decide again.
    #[error("the record has changed to version {version}")]
    Conflict {
        /// The version now.
        version: u64,
    },
    /// Deleted or expired. The session is over; nothing may bring it back.
    #[error("the record is gone")]
    Gone,
    /// A bound is reached: records of the store, or sessions of one subject.
    #[error("the store holds {0}, its bound")]
    Full(usize),
    /// The data is longer than [`RECORD_BYTES_MAX`].
    #[error("{0} bytes of data are more than {RECORD_BYTES_MAX}")]
    TooLong(usize),
    /// The store could not be asked, or answered what no store answers. Treat the request as not logged
    /// in.
    #[error("the store could not be asked: {0}")]
    Unavailable(String),
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// State of sessions, shared by all servers.
///
/// An implementation must keep true, under any concurrency: only [`create`](Self::create) makes a
/// record; an update happens only on the version it names, and a record made anew never has a version of
/// the one before it ([`fresh_version`] gives them); an expired record is as good as deleted. Expiry is by the
/// caller's `now`; a store may drop what has expired by it. [`MemoryStore`] is the model, and
/// `conformance` (feature `conformance`) checks any other.
///
/// # Cancel safety
///
/// A dropped future has either had its whole effect or none.
pub trait Store: Send + Sync + 'static {
    /// Makes a record; [`StoreError::Exists`] when there is one. Returns its version.
    fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// The record, or [`StoreError::Gone`].
    fn load(
        &self,
        key: StoreKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Record, StoreError>> + Send;

    /// Replaces the data of `version`. Never creates. Returns the new version.
    fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Moves the end of a record to `expires_at` when that is later. Never creates, and leaves the version.
    fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a record; whether there was one.
    fn delete(
        &self,
        key: StoreKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Changes the data: loads it, calls `change`, and updates, again with a fresh copy when another
    /// update came first. Never creates. Returns the new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] after [`ATTEMPTS_MAX`] attempts, else as [`load`](Self::load) and
    /// [`update`](Self::update).
    fn modify<F>(
        &self,
        key: StoreKey,
        now: Timestamp,
        mut change: F,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send
    where
        F: FnMut(&mut Vec<u8>) + Send,
    {
        async move {
            let mut attempts = 0;
            loop {
                let mut record = self.load(key, now).await?;
                change(&mut record.data);
                match self.update(key, record.version, record.data, now).await {
                    Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
                    result => return result,
                }
            }
        }
    }
}

/// A [`Store`] that knows which sessions a subject has.
pub trait SubjectIndex: Store {
    /// The records of a subject, oldest first.
    fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<(StoreKey, Record)>, StoreError>> + Send;

    /// Ends all sessions of a subject but one; how many there were. A session that begins meanwhile
    /// may stay: raise the subject's generation with [`Revocations`](crate::Revocations) as well.
    ///
    /// # Errors
    /// As [`list`](Self::list) and [`delete`](Store::delete); some may have been ended then.
    fn delete_all(
        &self,
        subject: SubjectKey,
        except: Option<StoreKey>,
        now: Timestamp,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        async move {
            let mut ended = 0;
            for (key, _) in self.list(subject, now).await? {
                if Some(key) != except && self.delete(key, now).await? {
                    ended += 1;
                }
            }
            Ok(ended)
        }
    }

    /// Ends the oldest sessions of a subject until `most` are left; how many it ended. Call it after a
    /// login. Two logins at one moment may end one more than needed, and never leave more.
    ///
    /// # Errors
    /// As [`delete_all`](Self::delete_all).
    fn keep_newest(
        &self,
        subject: SubjectKey,
        most: usize,
        now: Timestamp,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send {
        async move {
            let all = self.list(subject, now).await?;
            let mut ended = 0;
            for (key, _) in all.iter().take(all.len().saturating_sub(most)) {
                if self.delete(*key, now).await? {
                    ended += 1;
                }
            }
            Ok(ended)
        }
    }
}

/// A version for a record: random, so that none comes twice.
///
/// # Errors
/// [`KeyError::Random`] when the system has no randomness.
pub fn fresh_version() -> Result<u64, KeyError> {
    let mut bytes = [0; 8];
    crate::random::pooled(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// [`fresh_version`], and the bound on data.
fn fits(data: &[u8]) -> Result<u64, StoreError> {
    if data.len() > RECORD_BYTES_MAX {
        return Err(StoreError::TooLong(data.len()));
    }
    Ok(fresh_version()?)
}

impl<S: Store> Store for Arc<S> {
    fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        (**self).create(key, record, now)
    }
    fn load(
        &self,
        key: StoreKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Record, StoreError>> + Send {
        (**self).load(key, now)
    }
    fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        (**self).update(key, version, data, now)
    }
    fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        (**self).touch(key, expires_at, now)
    }
    fn delete(
        &self,
        key: StoreKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        (**self).delete(key, now)
    }
}

impl<S: SubjectIndex> SubjectIndex for Arc<S> {
    fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<(StoreKey, Record)>, StoreError>> + Send {
        (**self).list(subject, now)
    }
}
