//! Settings of the shared cache.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::Cache;
use super::invalidation::Invalidation;
use super::shards::Shards;
use crate::life::Lives;
use crate::policy::Policy;
use crate::stats::Cause;

pub(super) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;
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
pub struct Builder<K, V, S = RandomState> {
    pub(super) capacity: u64,
    pub(super) shards: usize,
    pub(super) invalidations: Option<Invalidations<K>>,
    pub(super) lives: Lives<K, V>,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) listener: Option<Listener<K, V>>,
    pub(super) clock: Clock,
    pub(super) hasher: S,
}

impl<K, V, S> fmt::Debug for Builder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("ttl", &self.lives.ttl)
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
        Self {
            capacity,
            shards: default_shards(capacity),
            invalidations: None,
            lives: Lives::default(),
            weigher: None,
            listener: None,
            clock: Box::new(system_clock),
            hasher: RandomState::default(),
        }
    }
}

impl<K, V, S> Builder<K, V, S> {
    /// Sets the number of shards; rounded up to a power of two, at most 1024. One shard evicts exactly
    /// as the policy says; several do so each for its own keys. Defaults to
    /// 16, or fewer for a capacity below 1024: one below 128.
    #[must_use]
    pub fn with_shards(mut self, shards: usize) -> Self {
        self.shards = shards.clamp(1, 1024).next_power_of_two();
        self
    }

    /// Sets how long entries live unless they say otherwise. Defaults to for ever.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.lives.ttl = Some(ttl);
        self
    }

    /// Sets how long an entry lives from what it is; `None` is as [`Builder::with_ttl`] says. So *negative*
    /// entries, which say that the store has nothing, may get a short time of their own. Defaults to
    /// `None` for all.
    #[must_use]
    pub fn with_ttl_by(
        mut self,
        ttl_by: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.lives.ttl_by = Some(Box::new(ttl_by));
        self
    }

    /// Sets how long entries live after their last use. Defaults to for ever. With it, hits need
    /// exclusive access, and read the clock.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.lives.idle = Some(idle);
        self
    }

    /// Sets by how many hundredths a time to live may be shorter, by chance, so that what came together
    /// does not end together. At most 100. Defaults to 0.
    #[must_use]
    pub fn with_jitter(mut self, hundredths: u8) -> Self {
        self.lives.jitter = hundredths.min(100);
        self
    }

    /// Sets what an entry counts against the capacity. It is asked once, at insertion and outside any
    /// lock; 0 counts as 1, so that their number is bounded too. Defaults to 1 for each.
    #[must_use]
    pub fn with_weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets who is told what left, and why. Called outside any lock, by the thread whose call made it
    /// leave. If it panics, that call does; the cache is not harmed, but others that left in the same
    /// call are dropped without being told. Defaults to nobody.
    #[must_use]
    pub fn with_listener(mut self, listener: impl Fn(K, V, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
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
        self.invalidations = Some(Box::new(listener));
        self
    }

    /// Sets the clock. It is read only for entries that can expire. Defaults to [`Instant::now`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets the hasher. Defaults to foldhash seeded at random.
    #[must_use]
    pub fn with_hasher<T>(self, hasher: T) -> Builder<K, V, T> {
        Builder {
            capacity: self.capacity,
            shards: self.shards,
            invalidations: self.invalidations,
            lives: self.lives,
            weigher: self.weigher,
            listener: self.listener,
            clock: self.clock,
            hasher,
        }
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
