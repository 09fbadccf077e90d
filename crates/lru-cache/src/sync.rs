//! The cache for many threads: the same engine in shards, each behind a lock.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use equivalent::Equivalent;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::cache::TooHeavy;
use crate::engine::{Cause, Engine, Entry, Stats};
use crate::policy::{Lru, Policy};

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;
type Listener<K, V> = Box<dyn Fn(K, V, Cause) + Send + Sync>;
type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

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
    capacity: u64,
    shards: usize,
    ttl: Option<Duration>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    clock: Clock,
    hasher: S,
}

impl<K, V, S> fmt::Debug for Builder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("shards", &self.shards)
            .field("ttl", &self.ttl)
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
            ttl: None,
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
        self.ttl = Some(ttl);
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
            ttl: self.ttl,
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
        let start = (self.clock)();
        Cache {
            inner: Arc::new(Inner {
                shards: (0..self.shards)
                    .map(|_| {
                        Mutex::new(Shard {
                            engine: Engine::new(self.hasher.clone()),
                            leases: HashMap::new(),
                        })
                    })
                    .collect(),
                capacity: self.capacity,
                reserved: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                next_lease: AtomicU64::new(1),
                ttl: self.ttl,
                weigher: self.weigher,
                listener: self.listener,
                clock: self.clock,
                start,
                hasher: self.hasher,
            }),
        }
    }
}

struct Shard<K, V, P, S> {
    engine: Engine<K, V, P, S>,
    /// For keys that somebody is loading: who may still fill them. By hash: a collision refuses a
    /// fill that would have been fine, which is harmless.
    leases: HashMap<u64, Leased>,
}

#[derive(Debug, Default)]
struct Leased {
    /// Leases given before this number are outdated.
    valid_from: u64,
    /// How many leases are out.
    out: u32,
}

type Shards<K, V, P, S> = Box<[Mutex<Shard<K, V, P, S>>]>;

struct Inner<K, V, P, S> {
    shards: Shards<K, V, P, S>,
    capacity: u64,
    /// Weight of all entries and of what is about to be put in: never above the capacity.
    reserved: AtomicU64,
    refused: AtomicU64,
    next_lease: AtomicU64,
    ttl: Option<Duration>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    clock: Clock,
    start: Instant,
    hasher: S,
}

/// An eviction cache that threads share. Clones are handles on the same cache.
///
/// Values are cloned out: put large ones behind an [`Arc`].
pub struct Cache<K, V, P = Lru, S = RandomState> {
    inner: Arc<Inner<K, V, P, S>>,
}

impl<K, V, P, S> Clone for Cache<K, V, P, S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K, V, P, S> fmt::Debug for Cache<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.inner.capacity)
            .field("shards", &self.inner.shards.len())
            .finish_non_exhaustive()
    }
}

/// The right to fill a key with what is being read from the store; see [`Cache::lease`].
pub struct Lease<K: Hash + Eq, V, P: Policy, S: BuildHasher> {
    cache: Cache<K, V, P, S>,
    hash: u64,
    number: u64,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> fmt::Debug for Lease<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Lease<K, V, P, S> {
    /// Whether a fill would still be taken: nobody wrote or invalidated the key since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let shard = self.cache.inner.shard(self.hash).lock();
        shard.is_current(self.hash, self.number)
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Drop for Lease<K, V, P, S> {
    fn drop(&mut self) {
        let mut shard = self.cache.inner.shard(self.hash).lock();
        if let Some(leased) = shard.leases.get_mut(&self.hash) {
            leased.out -= 1;
            if leased.out == 0 {
                shard.leases.remove(&self.hash);
            }
        }
    }
}

/// A fill that came too late: the key was written or invalidated while its value was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key was written or invalidated while its value was being read")]
#[non_exhaustive]
pub struct Outdated;

impl<K, V, P, S> Shard<K, V, P, S> {
    fn is_current(&self, hash: u64, number: u64) -> bool {
        self.leases
            .get(&hash)
            .is_some_and(|leased| leased.valid_from <= number)
    }
}

impl<K, V, P, S> Inner<K, V, P, S> {
    fn shard(&self, hash: u64) -> &Mutex<Shard<K, V, P, S>> {
        // The table inside uses the low and the top bits; the shard uses others.
        let bits = (hash >> 32) as usize;
        &self.shards[bits & (self.shards.len() - 1)]
    }

    fn now(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.start)
    }

    /// Takes `weight` from what is left of the capacity, or nothing.
    fn reserve(&self, weight: u64) -> bool {
        self.reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
                reserved
                    .checked_add(weight)
                    .filter(|sum| *sum <= self.capacity)
            })
            .is_ok()
    }

    fn release(&self, weight: u64) {
        self.reserved.fetch_sub(weight, Ordering::Relaxed);
    }

    fn tell(&self, gone: impl IntoIterator<Item = (Entry<K, V>, Cause)>) {
        for (entry, cause) in gone {
            if let Some(listener) = &self.listener {
                listener(entry.key, entry.value, cause);
            }
        }
    }
}

impl<K: Hash + Eq, V: Clone, P: Policy> Cache<K, V, P> {
    /// A cache of at most `capacity` entries. With 0 it keeps nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Builder::new(capacity).build()
    }
}

impl<K: Hash + Eq, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.inner.hasher.hash_one(key)
    }

    /// The value of a key, if it is there and its time is not over. Counts as a use.
    #[must_use]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.get_if(key, |_| true)
    }

    /// The value of a key if `valid` says yes to it. A value that is refused stays and counts as a
    /// hit: it may do for somebody else. `valid` runs under the shard's lock: keep it short, and do
    /// not use the cache in it.
    pub fn get_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        valid: impl FnOnce(&V) -> bool,
    ) -> Option<V> {
        let inner = &self.inner;
        let hash = self.hash(key);
        let (value, gone) = {
            let mut shard = inner.shard(hash).lock();
            let now = if shard.engine.can_expire(hash, key) {
                inner.now()
            } else {
                Duration::ZERO
            };
            let (value, gone) = shard.engine.get(hash, key, now);
            let value = value
                .map(|value| &*value)
                .filter(|value| valid(value))
                .cloned();
            if let Some(gone) = &gone {
                inner.release(gone.weight);
            }
            (value, gone)
        };
        inner.tell(gone.map(|gone| (gone, Cause::Expired)));
        value
    }

    /// The value of a key if `valid` says yes to it, without counting as a use or as a look-up.
    pub(crate) fn peek_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        valid: impl FnOnce(&V) -> bool,
    ) -> Option<V> {
        let hash = self.hash(key);
        let shard = self.inner.shard(hash).lock();
        shard
            .engine
            .peek(hash, key)
            .filter(|entry| entry.expires == Duration::MAX || entry.expires > self.inner.now())
            .map(|entry| &entry.value)
            .filter(|value| valid(value))
            .cloned()
    }

    /// Inserts an entry. What has to make room leaves; an entry heavier than the whole cache is
    /// dropped, with an older value of its key. Leases on the key become outdated.
    pub fn insert(&self, key: K, value: V) {
        let ttl = self.inner.ttl;
        let _refused = self.place(key, value, ttl, None);
    }

    /// Inserts an entry that lives for `ttl`, whatever the cache's own is.
    pub fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        let _refused = self.place(key, value, Some(ttl), None);
    }

    /// Inserts an entry.
    ///
    /// # Errors
    ///
    /// [`TooHeavy`], with the entry, if it is heavier than the whole cache; an older value of the key
    /// is removed all the same.
    pub fn try_insert(&self, key: K, value: V) -> Result<(), TooHeavy<K, V>> {
        let ttl = self.inner.ttl;
        match self.place(key, value, ttl, None) {
            Ok(()) | Err(Refusal::Outdated) => Ok(()),
            Err(Refusal::TooHeavy(refused)) => Err(refused),
        }
    }

    /// Takes the right to fill a key. Take it **before** reading from the store; then no write or
    /// invalidation that comes after the read can be undone by the fill.
    #[must_use]
    pub fn lease<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Lease<K, V, P, S> {
        let hash = self.hash(key);
        let mut shard = self.inner.shard(hash).lock();
        let number = self.inner.next_lease.fetch_add(1, Ordering::Relaxed);
        shard.leases.entry(hash).or_default().out += 1;
        Lease {
            cache: self.clone(),
            hash,
            number,
        }
    }

    /// Inserts what was read under a lease on `key`. Other leases on the key stay current: they read
    /// the same store.
    ///
    /// # Errors
    ///
    /// [`Outdated`] if the key was written or invalidated since, or the lease is for another key;
    /// nothing is inserted. An entry heavier than the whole cache is dropped without an error: it was
    /// only a copy.
    pub fn fill(&self, lease: &Lease<K, V, P, S>, key: K, value: V) -> Result<(), Outdated> {
        let ttl = self.inner.ttl;
        self.fill_with_ttl(lease, key, value, ttl)
    }

    pub(crate) fn fill_with_ttl(
        &self,
        lease: &Lease<K, V, P, S>,
        key: K,
        value: V,
        ttl: Option<Duration>,
    ) -> Result<(), Outdated> {
        if self.hash(&key) != lease.hash {
            return Err(Outdated);
        }
        match self.place(key, value, ttl, Some(lease.number)) {
            Err(Refusal::Outdated) => Err(Outdated),
            Ok(()) | Err(Refusal::TooHeavy(_)) => Ok(()),
        }
    }

    fn place(
        &self,
        key: K,
        value: V,
        ttl: Option<Duration>,
        lease: Option<u64>,
    ) -> Result<(), Refusal<K, V>> {
        let inner = &self.inner;
        let weight = inner
            .weigher
            .as_ref()
            .map_or(1, |weigh| weigh(&key, &value).max(1));
        let hash = self.hash(&key);
        let now = inner.now_if(ttl.is_some());
        let mut gone: Vec<(Entry<K, V>, Cause)> = Vec::new();
        // Whose turn it is to make room when our own shard is empty.
        let mut elsewhere = 0;
        let result = loop {
            let mut shard = inner.shard(hash).lock();
            if lease.is_some_and(|number| !shard.is_current(hash, number)) {
                break Err(Refusal::Outdated);
            }
            if lease.is_none()
                && let Some(leased) = shard.leases.get_mut(&hash)
            {
                leased.valid_from = inner.next_lease.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(old) = shard.engine.remove(hash, &key, Cause::Replaced) {
                inner.release(old.weight);
                gone.push((old, Cause::Replaced));
            }
            if weight > inner.capacity {
                inner.refused.fetch_add(1, Ordering::Relaxed);
                break Err(Refusal::TooHeavy(TooHeavy {
                    key,
                    value,
                    weight,
                    capacity: inner.capacity,
                }));
            }
            let mut fits = inner.reserve(weight);
            while !fits {
                let Some((victim, cause)) = shard.engine.evict(now) else {
                    break;
                };
                inner.release(victim.weight);
                gone.push((victim, cause));
                fits = inner.reserve(weight);
            }
            if fits {
                shard.engine.put(Entry {
                    key,
                    value,
                    hash,
                    weight,
                    expires: ttl.map_or(Duration::MAX, |ttl| now.saturating_add(ttl)),
                });
                break Ok(());
            }
            drop(shard);
            // Our shard has nothing left to give: take from the others, one lock at a time.
            let other = &inner.shards[elsewhere % inner.shards.len()];
            elsewhere += 1;
            let victim = other.lock().engine.evict(now);
            match victim {
                Some((victim, cause)) => {
                    inner.release(victim.weight);
                    gone.push((victim, cause));
                }
                // Others hold reservations that they are about to use or to give back.
                None => std::thread::yield_now(),
            }
        };
        inner.tell(gone);
        result
    }

    /// Removes a key and returns its value, unless its time was over. Leases on it become outdated:
    /// this is the invalidation to call when the store has changed.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let inner = &self.inner;
        let hash = self.hash(key);
        let gone = {
            let mut shard = inner.shard(hash).lock();
            if let Some(leased) = shard.leases.get_mut(&hash) {
                leased.valid_from = inner.next_lease.fetch_add(1, Ordering::Relaxed);
            }
            let gone = shard.engine.remove(hash, key, Cause::Removed)?;
            inner.release(gone.weight);
            gone
        };
        let live = gone.expires == Duration::MAX || gone.expires > inner.now();
        let value = gone.value.clone();
        inner.tell([(gone, Cause::Removed)]);
        live.then_some(value)
    }

    /// Removes the entries that `doomed` names, shard by shard, and outdates all leases. O(entries);
    /// `doomed` runs under one shard's lock at a time.
    pub fn remove_where(&self, mut doomed: impl FnMut(&K, &V) -> bool) {
        for shard in &self.inner.shards {
            let gone = {
                let mut shard = shard.lock();
                let number = self.inner.next_lease.fetch_add(1, Ordering::Relaxed);
                for leased in shard.leases.values_mut() {
                    leased.valid_from = number;
                }
                let gone = shard
                    .engine
                    .remove_where(Cause::Removed, |entry| doomed(&entry.key, &entry.value));
                self.inner
                    .release(gone.iter().map(|entry| entry.weight).sum());
                gone
            };
            self.inner
                .tell(gone.into_iter().map(|entry| (entry, Cause::Removed)));
        }
    }

    /// Removes every entry whose time is over. O(entries), a shard at a time.
    pub fn remove_expired(&self) {
        let now = self.inner.now();
        for shard in &self.inner.shards {
            let gone = {
                let mut shard = shard.lock();
                let gone = shard
                    .engine
                    .remove_where(Cause::Expired, |entry| entry.expires <= now);
                self.inner
                    .release(gone.iter().map(|entry| entry.weight).sum());
                gone
            };
            self.inner
                .tell(gone.into_iter().map(|entry| (entry, Cause::Expired)));
        }
    }

    /// How many entries there are, some of which may have expired unnoticed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner
            .shards
            .iter()
            .map(|shard| shard.lock().engine.len())
            .sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights and of what is just being put in; never above the capacity.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.inner.reserved.load(Ordering::Relaxed)
    }

    /// The capacity.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.inner.capacity
    }

    /// What happened so far, summed over the shards one after the other.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self
            .inner
            .shards
            .iter()
            .map(|shard| shard.lock().engine.stats)
            .fold(Stats::default(), |sum, stats| sum.plus(&stats));
        stats.refused += self.inner.refused.load(Ordering::Relaxed);
        stats
    }
}

impl<K, V, P, S> Inner<K, V, P, S> {
    fn now_if(&self, needed: bool) -> Duration {
        // Without a time to live the time matters only for telling evicted from expired.
        if needed || self.ttl.is_some() {
            self.now()
        } else {
            Duration::ZERO
        }
    }
}

enum Refusal<K, V> {
    TooHeavy(TooHeavy<K, V>),
    Outdated,
}
