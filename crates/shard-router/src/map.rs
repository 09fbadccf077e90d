//! Versioned maps, and the router that holds the newest.

use std::fmt;
use std::sync::Arc;

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
    map: Arc<ArcSwap<ShardMap>>,
}

impl Router {
    /// Starts with `map`.
    #[must_use]
    pub fn new(map: ShardMap) -> Self {
        Self {
            map: Arc::new(ArcSwap::from_pointee(map)),
        }
    }

    /// The map in force. A request that makes several look-ups should take it once, so that all of
    /// them agree.
    #[must_use]
    pub fn map(&self) -> Arc<ShardMap> {
        self.map.load_full()
    }

    /// Where a key is.
    pub fn route(&self, key: &(impl ShardKey + ?Sized)) -> Route {
        let map = self.map.load();
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
        let before = self.map.rcu(|current| {
            if given > current.version {
                Arc::clone(&map)
            } else {
                Arc::clone(current)
            }
        });
        if given > before.version {
            Ok(())
        } else {
            Err(StaleMap {
                given,
                current: before.version,
            })
        }
    }

    /// Whether a request that was routed by version `given` may be served: it was not routed by an
    /// older map than ours.
    ///
    /// # Errors
    ///
    /// [`StaleMap`] if it was.
    pub fn check(&self, given: u64) -> Result<(), StaleMap> {
        let current = self.map.load().version;
        if given < current {
            Err(StaleMap { given, current })
        } else {
            Ok(())
        }
    }
}
