//! Session state that all servers share, and a store in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::claims::SessionId;
use crate::hash::keyed;
use crate::key::Key;
use crate::time::Timestamp;

/// The name of a record: a keyed hash of the session id, so a leaked table logs nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreKey([u8; 32]);

impl StoreKey {
    /// The name of the record of `session` under the secret `key` of all servers.
    #[must_use]
    pub fn new(key: &Key, session: SessionId) -> Self {
        let mut name = [0; 32];
        let label = b"stackbeam-session store 1";
        keyed(&mut name, key.bytes(), &[label, &session.0]);
        Self(name)
    }

    /// The bytes to store it under.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

/// A record as it was loaded.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// What the application stored.
    pub data: Vec<u8>,
    /// Changes with every update; an update names the one it is based on.
    pub version: u64,
    /// From then on the record is gone.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("bytes", &self.data.len())
            .field("version", &self.version)
            .field("expires_at", &self.expires_at)
            .finish()
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
    /// The bound on records is reached.
    #[error("the store holds {0} records, its bound")]
    Full(usize),
    /// The store could not be asked. Treat the request as not logged in.
    #[error("the store could not be asked: {0}")]
    Unavailable(String),
}

/// State of sessions, shared by all servers.
///
/// An implementation must keep true, under any concurrency: only [`create`](Self::create) makes a
/// record; an update happens only on the version it names, and
/// a record made anew never has a version of the one before it; an expired record is as good as deleted.
/// [`MemoryStore`] is the model.
///
/// # Cancel safety
///
/// A dropped future has either had its whole effect or none.
pub trait Store: Send + Sync + 'static {
    /// Makes a record; [`StoreError::Exists`] when there is one. Returns its version.
    fn create(
        &self,
        key: StoreKey,
        data: Vec<u8>,
        expires_at: Timestamp,
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
    /// Moves the end of a record to `expires_at` when that is later. Never creates.
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
}

/// Records held by default.
pub const RECORDS_MAX: usize = 100_000;

/// A [`Store`] in the memory of one process: for tests, and for a service of one server.
pub struct MemoryStore {
    records: Mutex<HashMap<StoreKey, Record>>,
    /// The last version given. One count for all records, so that a record made anew shares no version
    /// with the one before it.
    versions: AtomicU64,
    capacity: usize,
}

impl MemoryStore {
    /// An empty store of at most `capacity` records; more are refused. See [`RECORDS_MAX`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            records: Mutex::default(),
            versions: AtomicU64::new(0),
            capacity,
        }
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn with<R>(
        &self,
        key: StoreKey,
        now: Timestamp,
        change: impl FnOnce(&mut Record) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        match self.records.lock().get_mut(&key) {
            Some(record) if record.expires_at > now => change(record),
            _ => Err(StoreError::Gone),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(RECORDS_MAX)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("len", &self.records.lock().len())
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn create(
        &self,
        key: StoreKey,
        data: Vec<u8>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut records = self.records.lock();
        if records
            .get(&key)
            .is_some_and(|record| record.expires_at > now)
        {
            return Err(StoreError::Exists);
        }
        if records.len() >= self.capacity {
            records.retain(|_, record| record.expires_at > now);
        }
        if records.len() >= self.capacity {
            return Err(StoreError::Full(self.capacity));
        }
        let version = self.next_version();
        records.insert(
            key,
            Record {
                data,
                version,
                expires_at,
            },
        );
        Ok(version)
    }

    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        self.with(key, now, |record| Ok(record.clone()))
    }

    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.with(key, now, |record| {
            if record.version != version {
                return Err(StoreError::Conflict {
                    version: record.version,
                });
            }
            record.data = data;
            record.version = self.next_version();
            Ok(record.version)
        })
    }

    async fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with(key, now, |record| {
            record.expires_at = record.expires_at.max(expires_at);
            Ok(())
        })
    }

    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self
            .records
            .lock()
            .remove(&key)
            .is_some_and(|record| record.expires_at > now))
    }
}
