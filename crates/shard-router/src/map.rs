//! Versioned maps, and the router that holds the newest.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::key::{ShardId, ShardKey};
use crate::partition::Partition;

/// A partition with a version. It never changes; a change is a map with a higher version.
pub struct ShardMap {
    version: u64,
    partition: Box<dyn Partition>,
    shards: Vec<ShardId>,
}

impl fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMap")
            .field("version", &self.version)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

impl ShardMap {
    /// A map. Versions are the caller's: whoever decides about shards counts them up.
    #[must_use]
    pub fn new(version: u64, partition: impl Partition + 'static) -> Self {
        Self {
            version,
            shards: partition.shards(),
            partition: Box::new(partition),
        }
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// All shards, in ascending order.
    #[must_use]
    pub fn shards(&self) -> &[ShardId] {
        &self.shards
    }

    /// The shard of a key.
    pub fn shard(&self, key: &(impl ShardKey + ?Sized)) -> ShardId {
        self.partition.shard(key.shard_key())
    }
}

/// Where a key is, and as of which map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The shard.
    pub shard: ShardId,
    /// The version of the map that says so; send it along, so that the shard can refuse what is
    /// outdated.
    pub version: u64,
}

/// A map is not newer than the one in force, or a request was routed by an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shard map version {given} is outdated; version {current} is in force: route again")]
#[non_exhaustive]
pub struct StaleMap {
    /// The version that was shown.
    pub given: u64,
    /// The version in force.
    pub current: u64,
}

/// Holds the newest map. Clones share it; readers never wait.
#[derive(Debug, Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    map: ArcSwap<ShardMap>,
    updates: AtomicU64,
    outdated_updates: AtomicU64,
    stale_requests: AtomicU64,
}

/// What a [`Router`] has seen. [`Router::update`] was called `updates + outdated_updates` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RouterStats {
    /// The version in force.
    pub version: u64,
    /// The shards of the map in force.
    pub shards: usize,
    /// Maps that were put in force.
    pub updates: u64,
    /// Maps that came too late.
    pub outdated_updates: u64,
    /// Requests that [`Router::check`] refused.
    pub stale_requests: u64,
}

impl Router {
    /// Starts with `map`.
    #[must_use]
    pub fn new(map: ShardMap) -> Self {
        Self {
            shared: Arc::new(Shared {
                map: ArcSwap::from_pointee(map),
                updates: AtomicU64::new(0),
                outdated_updates: AtomicU64::new(0),
                stale_requests: AtomicU64::new(0),
            }),
        }
    }

    /// The map in force. A request that makes several look-ups should take it once, so that all of
    /// them agree.
    #[must_use]
    pub fn map(&self) -> Arc<ShardMap> {
        self.shared.map.load_full()
    }

    /// Where a key is.
    pub fn route(&self, key: &(impl ShardKey + ?Sized)) -> Route {
        let map = self.shared.map.load();
        Route {
            shard: map.shard(key),
            version: map.version,
        }
    }

    /// Puts a newer map in force, for every clone and every thread.
    ///
    /// # Errors
    ///
    /// [`StaleMap`] unless the version is higher than the one in force, which stays. So news may
    /// arrive late, twice or out of order.
    pub fn update(&self, map: ShardMap) -> Result<(), StaleMap> {
        let given = map.version;
        let map = Arc::new(map);
        let before = self.shared.map.rcu(|current| {
            if given > current.version {
                Arc::clone(&map)
            } else {
                Arc::clone(current)
            }
        });
        let current = before.version;
        if given > current {
            self.shared.updates.fetch_add(1, Ordering::Relaxed);
            #[cfg(feature = "tracing")]
            tracing::info!(version = given, before = current, "shard map in force");
            Ok(())
        } else {
            self.shared.outdated_updates.fetch_add(1, Ordering::Relaxed);
            Err(StaleMap { given, current })
        }
    }

    /// Whether a request that was routed by version `given` may be served: it was not routed by an
    /// older map than ours.
    ///
    /// # Errors
    ///
    /// [`StaleMap`] if it was.
    pub fn check(&self, given: u64) -> Result<(), StaleMap> {
        let current = self.shared.map.load().version;
        if given < current {
            self.shared.stale_requests.fetch_add(1, Ordering::Relaxed);
            Err(StaleMap { given, current })
        } else {
            Ok(())
        }
    }

    /// What it has seen so far.
    #[must_use]
    pub fn stats(&self) -> RouterStats {
        let map = self.shared.map.load();
        RouterStats {
            version: map.version,
            shards: map.shards.len(),
            updates: self.shared.updates.load(Ordering::Relaxed),
            outdated_updates: self.shared.outdated_updates.load(Ordering::Relaxed),
            stale_requests: self.shared.stale_requests.load(Ordering::Relaxed),
        }
    }
}
