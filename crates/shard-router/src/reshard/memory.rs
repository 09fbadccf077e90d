//! Shards in memory, and the mover between them.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::ops::Bound;
use std::sync::Arc;

use super::mover::{Cursor, Mover, Moving, Tailed};
use crate::key::ShardId;
use crate::map::{ShardMap, StaleMap};

/// Rows in one chunk of a copy, and changes in one look at a log.
const CHUNK: usize = 64;

/// Shards of numbered rows in memory that keep the contract of a [`Mover`]: to try a move with, and as
/// the model for one of your own. Their logs grow for ever.
#[derive(Debug)]
pub struct Memory<V> {
    map: Arc<ShardMap>,
    shards: BTreeMap<ShardId, Shard<V>>,
}

#[derive(Debug)]
struct Shard<V> {
    rows: BTreeMap<u64, V>,
    /// Change n is at position n + 1; a row that was deleted has no value.
    log: Vec<(u64, Option<V>)>,
    fence: Option<Moving>,
}

impl<V> Default for Shard<V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            log: Vec::new(),
            fence: None,
        }
    }
}

impl<V> Shard<V> {
    fn end(&self) -> u64 {
        self.log.len() as u64
    }
}

/// Why a shard in memory refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Route again.
    #[error(transparent)]
    Stale(#[from] StaleMap),
    /// The row is being moved; try again in a moment.
    #[error("the row is being moved away from {from}: try again in a moment")]
    #[non_exhaustive]
    Fenced {
        /// Where it still is.
        from: ShardId,
    },
    /// This shard does not have rows with that key.
    #[error("{shard} does not hold that key")]
    #[non_exhaustive]
    NotHere {
        /// Who was asked.
        shard: ShardId,
    },
    /// A purge by a map that is not in force.
    #[error("map version {given} is not in force, {current} is: nothing was removed")]
    #[non_exhaustive]
    NotInForce {
        /// The version that was given.
        given: u64,
        /// The version in force.
        current: u64,
    },
}

impl<V: Clone + PartialEq> Memory<V> {
    /// No rows yet.
    #[must_use]
    pub const fn new(map: Arc<ShardMap>) -> Self {
        Self {
            map,
            shards: BTreeMap::new(),
        }
    }

    /// The map in force.
    #[must_use]
    pub fn map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.map)
    }

    /// Writes a row at a shard, or deletes it, for a request that was routed by `version`.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the map is outdated, the row is being moved, or the shard does not hold it.
    /// Nothing was written then.
    pub fn write(
        &mut self,
        shard: ShardId,
        version: u64,
        key: u64,
        value: Option<V>,
    ) -> Result<(), MemoryError> {
        self.check(shard, version, key)?;
        let there = self.shards.entry(shard).or_default();
        let fenced = there
            .fence
            .as_ref()
            .is_some_and(|moving| moving.target(shard, &key).is_some());
        if fenced {
            return Err(MemoryError::Fenced { from: shard });
        }
        apply(&mut there.rows, key, value.clone());
        there.log.push((key, value));
        Ok(())
    }

    /// Reads a row at a shard, for a request that was routed by `version`.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the map is outdated, or the shard does not hold such a key.
    pub fn read(&self, shard: ShardId, version: u64, key: u64) -> Result<Option<V>, MemoryError> {
        self.check(shard, version, key)?;
        let there = self.shards.get(&shard);
        Ok(there.and_then(|there| there.rows.get(&key).cloned()))
    }

    /// Every row and where it is, by shard and key.
    pub fn rows(&self) -> impl Iterator<Item = (ShardId, u64, &V)> {
        self.shards.iter().flat_map(|(shard, there)| {
            let rows = there.rows.iter();
            rows.map(|(key, value)| (*shard, *key, value))
        })
    }

    fn check(&self, shard: ShardId, version: u64, key: u64) -> Result<(), MemoryError> {
        let current = self.map.version();
        if version < current {
            return Err(StaleMap {
                given: version,
                current,
            }
            .into());
        }
        if self.map.shard(&key) != shard {
            return Err(MemoryError::NotHere { shard });
        }
        Ok(())
    }

    fn at(&mut self, shard: ShardId) -> &mut Shard<V> {
        self.shards.entry(shard).or_default()
    }

    fn purge_now(&mut self, shard: ShardId, keep: &ShardMap) -> Result<(), MemoryError> {
        if keep.version() != self.map.version() {
            return Err(MemoryError::NotInForce {
                given: keep.version(),
                current: self.map.version(),
            });
        }
        self.at(shard)
            .rows
            .retain(|key, _| keep.shard(key) == shard);
        Ok(())
    }

    fn copy_now(
        &mut self,
        moving: &Moving,
        from: ShardId,
        cursor: Option<Cursor>,
    ) -> Option<Cursor> {
        // The cursor is the last key that was looked at.
        let last = cursor
            .and_then(|cursor| cursor.0.try_into().ok())
            .map(u64::from_le_bytes);
        let rows = last.map_or(Bound::Unbounded, Bound::Excluded);
        let chunk: Vec<(u64, V)> = self
            .at(from)
            .rows
            .range((rows, Bound::Unbounded))
            .take(CHUNK)
            .map(|(key, value)| (*key, value.clone()))
            .collect();
        let next = chunk
            .get(CHUNK - 1)
            .map(|(key, _)| Cursor(key.to_le_bytes().into()));
        for (key, value) in chunk {
            if let Some(to) = moving.target(from, &key) {
                self.at(to).rows.insert(key, value);
            }
        }
        next
    }

    fn tail_now(&mut self, moving: &Moving, from: ShardId, after: Option<u64>) -> Tailed {
        let end = self.at(from).end();
        let after = after.unwrap_or(end).min(end);
        let start = usize::try_from(after).unwrap_or(usize::MAX);
        let changes: Vec<(u64, Option<V>)> = {
            let log = &self.at(from).log;
            log.iter().skip(start).take(CHUNK).cloned().collect()
        };
        let position = after + changes.len() as u64;
        for (key, value) in changes {
            if let Some(to) = moving.target(from, &key) {
                apply(&mut self.at(to).rows, key, value);
            }
        }
        Tailed {
            position,
            behind: end - position,
        }
    }

    fn verify_now(&self, moving: &Moving, from: ShardId) -> bool {
        let source = self.shards.get(&from);
        let leaving: BTreeMap<&u64, &V> = source
            .into_iter()
            .flat_map(|there| &there.rows)
            .filter(|(key, _)| moving.target(from, *key).is_some())
            .collect();
        let arrived: BTreeMap<&u64, &V> = self
            .shards
            .iter()
            .flat_map(|(shard, there)| there.rows.iter().map(|row| (*shard, row)))
            .filter(|(shard, (key, _))| moving.target(from, *key) == Some(*shard))
            .map(|(_, row)| row)
            .collect();
        leaving == arrived
    }
}

fn apply<V>(rows: &mut BTreeMap<u64, V>, key: u64, value: Option<V>) {
    match value {
        Some(value) => rows.insert(key, value),
        None => rows.remove(&key),
    };
}

impl<V: Clone + PartialEq + Send> Mover for Memory<V> {
    type Error = MemoryError;

    fn purge(
        &mut self,
        shard: ShardId,
        keep: &ShardMap,
    ) -> impl Future<Output = Result<(), MemoryError>> + Send {
        ready(self.purge_now(shard, keep))
    }

    fn copy(
        &mut self,
        moving: &Moving,
        from: ShardId,
        cursor: Option<Cursor>,
    ) -> impl Future<Output = Result<Option<Cursor>, MemoryError>> + Send {
        ready(Ok(self.copy_now(moving, from, cursor)))
    }

    fn tail(
        &mut self,
        moving: &Moving,
        from: ShardId,
        after: Option<u64>,
    ) -> impl Future<Output = Result<Tailed, MemoryError>> + Send {
        ready(Ok(self.tail_now(moving, from, after)))
    }

    fn fence(
        &mut self,
        moving: &Moving,
        from: ShardId,
        up: bool,
    ) -> impl Future<Output = Result<u64, MemoryError>> + Send {
        let source = self.at(from);
        source.fence = up.then(|| moving.clone());
        ready(Ok(source.end()))
    }

    fn verify(
        &mut self,
        moving: &Moving,
        from: ShardId,
    ) -> impl Future<Output = Result<bool, MemoryError>> + Send {
        ready(Ok(self.verify_now(moving, from)))
    }

    fn switch(&mut self, moving: &Moving) -> impl Future<Output = Result<(), MemoryError>> + Send {
        // Again is not an error, and an older map never replaces a newer one.
        if moving.after().version() > self.map.version() {
            self.map = moving.shared_after();
        }
        ready(Ok(()))
    }
}
