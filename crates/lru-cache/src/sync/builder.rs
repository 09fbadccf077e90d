//! Settings that only the shared cache has.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::Cache;
use super::invalidation::Invalidation;
use super::shards::Shards;
use crate::builder::Settings;
use crate::policy::Policy;
use crate::stats::Cause;

pub(super) type Listener<K, V> = Box<dyn Fn(K, V, Cause) + Send + Sync>;
pub(super) type Invalidations<K> = Box<dyn Fn(Invalidation<'_, K>) + Send + Sync>;
pub(super) type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Shards unless told otherwise: enough that two threads rarely meet.
const SHARDS: u64 = 16;

/// Capacity that a default shard has at least: with fewer entries it would forget the wrong ones.
const SHARD_CAPACITY_MIN: u64 = 64;

fn default_shards(capacity: u64) -> usize {
    let most = (capacity / SHARD_CAPACITY_MIN).clamp(1, SHARDS);
    1 << most.ilog2()
}

/// Settings of a [`Cache`].
pub type Builder<K, V, S = RandomState> = Settings<K, V, S, Shared<K, V>>;

/// The face for many threads: the settings that it has besides the common ones.
pub struct Shared<K, V> {
    pub(super) shards: usize,
    pub(super) invalidations: Option<Invalidations<K>>,
    pub(super) listener: Option<Listener<K, V>>,
    pub(super) clock: Clock,
}

impl<K, V> fmt::Debug for Shared<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the default clock of the shared face; a parameter replaces it"
)]
fn system_clock() -> Instant {
    Instant::now()
}

impl<K, V> Builder<K, V> {
    /// A cache whose weights sum up to at most `capacity`. With 0 it keeps nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let face = Shared {
            shards: default_shards(capacity),
            invalidations: None,
            listener: None,
            clock: Box::new(system_clock),
        };
        Self::of(capacity, RandomState::default(), face)
    }
}

impl<K, V, S> Builder<K, V, S> {
    /// Sets the number of shards; rounded up to a power of two, at most 1024. One shard evicts exactly
    /// as the policy says; several do so each for its own keys. Defaults to
    /// 16, or fewer for a capacity below 1024: one below 128.
    #[must_use]
    pub fn with_shards(mut self, shards: usize) -> Self {
        self.face.shards = shards.clamp(1, 1024).next_power_of_two();
        self
    }

    /// Sets who is told what left, and why. Called outside any lock, by the thread whose call made it
    /// leave. If it panics, that call does; the cache is not harmed, but others that left in the same
    /// call are dropped without being told. Defaults to nobody.
    #[must_use]
    pub fn with_listener(mut self, listener: impl Fn(K, V, Cause) + Send + Sync + 'static) -> Self {
        self.face.listener = Some(Box::new(listener));
        self
    }

    /// Sets who is told what was invalidated here ([`Cache::invalidate`] and the like), to carry it to
    /// other servers, whose caches [apply](Cache::apply) it. Called outside any lock, after it was done here. What
    /// is removed, evicted or expires is not told. Defaults to nobody.
    #[must_use]
    pub fn with_invalidations(
        mut self,
        listener: impl Fn(Invalidation<'_, K>) + Send + Sync + 'static,
    ) -> Self {
        self.face.invalidations = Some(Box::new(listener));
        self
    }

    /// Sets the clock. It is read only for entries that can expire. Defaults to [`Instant::now`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.face.clock = Box::new(clock);
        self
    }

    /// Builds the cache with policy `P`.
    #[must_use]
    pub fn build<P: Policy>(self) -> Cache<K, V, P, S>
    where
        K: Hash + Eq,
        S: BuildHasher + Clone,
    {
        Cache::from(Shards::new(self))
    }
}
