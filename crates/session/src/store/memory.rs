//! A store in the memory of one process: the model of the contract.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use parking_lot::Mutex;

use super::{NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, SubjectKey, fits};
use crate::time::Timestamp;

/// Records held by default.
pub const RECORDS_MAX: usize = 100_000;

/// A [`Store`] in the memory of one process: for tests, and for a service of one server.
pub struct MemoryStore {
    tables: Mutex<Tables>,
    capacity: usize,
}

#[derive(Default)]
struct Tables {
    records: HashMap<StoreKey, Record>,
    subjects: HashMap<SubjectKey, BTreeSet<StoreKey>>,
}

impl Tables {
    fn remove(&mut self, key: StoreKey) -> Option<Record> {
        let record = self.records.remove(&key)?;
        if let Some(keys) = self.subjects.get_mut(&record.subject) {
            keys.remove(&key);
            if keys.is_empty() {
                self.subjects.remove(&record.subject);
            }
        }
        Some(record)
    }

    fn sweep(&mut self, now: Timestamp) {
        let over = |(key, record): (&StoreKey, &Record)| (record.expires_at <= now).then_some(*key);
        let over: Vec<_> = self.records.iter().filter_map(over).collect();
        for key in over {
            self.remove(key);
        }
    }
}

impl MemoryStore {
    /// An empty store of at most `capacity` records; more are refused. See [`RECORDS_MAX`].
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            tables: Mutex::default(),
            capacity,
        }
    }

    fn with<R>(
        &self,
        key: StoreKey,
        now: Timestamp,
        change: impl FnOnce(&mut Record) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        match self.tables.lock().records.get_mut(&key) {
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
            .field("len", &self.tables.lock().records.len())
            .finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let version = fits(&record.data)?;
        let mut tables = self.tables.lock();
        if let Some(known) = tables.records.get(&key) {
            if known.expires_at > now {
                return Err(StoreError::Exists);
            }
            tables.remove(key);
        }
        if tables.records.len() >= self.capacity {
            tables.sweep(now);
        }
        if tables.records.len() >= self.capacity {
            return Err(StoreError::Full(self.capacity));
        }
        tables
            .subjects
            .entry(record.subject)
            .or_default()
            .insert(key);
        let record = Record::new(record.subject, record.data, version, now, record.expires_at);
        tables.records.insert(key, record);
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
        let next = fits(&data)?;
        self.with(key, now, |record| {
            if record.version != version {
                return Err(StoreError::Conflict {
                    version: record.version,
                });
            }
            record.data = data;
            record.version = next;
            Ok(next)
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
        let removed = self.tables.lock().remove(key);
        Ok(removed.is_some_and(|record| record.expires_at > now))
    }
}

impl SubjectIndex for MemoryStore {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        let tables = self.tables.lock();
        let keys = tables.subjects.get(&subject).into_iter().flatten();
        let mut all: Vec<_> = keys
            .filter_map(|key| Some((*key, tables.records.get(key)?)))
            .filter(|(_, record)| record.expires_at > now)
            .map(|(key, record)| (key, record.clone()))
            .collect();
        all.sort_by_key(|(key, record)| (record.created_at, *key));
        Ok(all)
    }
}
