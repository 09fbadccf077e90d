//! The cache for one owner: `&mut self`, no clock, no lock.

use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use equivalent::Equivalent;
use foldhash::fast::FixedState;

use crate::builder::{Builder, Weigher};
use crate::engine::{Engine, Gone, New};
use crate::life::{Life, Lives};
use crate::policy::{Adaptive, Outlook, Policy};
use crate::stats::{Cause, Stats};

/// Entries that an insertion looks at for some that have expired, if they are to leave promptly: more
/// than one, so that what comes at once can leave at once, too.
pub(crate) const EXPIRED_BY_INSERTION: usize = 4;

/// An entry that is heavier than the whole cache, handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of weight {weight} does not fit a cache of capacity {capacity}")]
#[non_exhaustive]
pub struct TooHeavy<K, V> {
    /// The key that was to be inserted.
    pub key: K,
    /// The value that was to be inserted.
    pub value: V,
    /// Its weight.
    pub weight: u64,
    /// The capacity of the whole cache.
    pub capacity: u64,
}

impl<K, V, S> Builder<K, V, S> {
    /// Builds the cache with policy `P`.
    #[must_use]
    pub fn build<P: Policy>(self) -> Cache<K, V, P, S>
    where
        K: Hash + Eq,
        S: BuildHasher,
    {
        // Of entries that are weighed nobody knows how many there will be.
        let expected = self.weigher.as_ref().map_or(self.capacity, |_| 0);
        let mut engine = Engine::new(self.hasher, expected, P::default());
        if self.lives.prompt {
            engine.expire_promptly();
        }
        Cache {
            engine,
            capacity: self.capacity,
            lives: self.lives,
            weigher: self.weigher,
            now: Duration::ZERO,
        }
    }
}

/// An eviction cache for one owner, with policy `P`.
///
/// It has no clock: [`Cache::advance`] tells it the time, as the time since a moment of the caller's
/// choice. A cache without expiry never needs it.
pub struct Cache<K, V, P = Adaptive, S = FixedState> {
    engine: Engine<K, V, P, S>,
    capacity: u64,
    lives: Lives<K, V>,
    weigher: Option<Weigher<K, V>>,
    now: Duration,
}

impl<K, V, P, S> fmt::Debug for Cache<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V, P: Policy> Cache<K, V, P> {
    /// A cache of at most `capacity` entries. With 0 it keeps nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Builder::new(capacity).build()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Sets the time: the time since a moment of the caller's choice. It never goes back; an earlier
    /// one is ignored.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// The value of a key, if it is there and its time is not over. Counts as a use.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&V> {
        self.get_mut(key).map(|value| &*value)
    }

    /// The value of a key, to be changed in place. Its weight stays what it was.
    pub fn get_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        let hash = self.engine.hash(key);
        let Some(slot) = self.engine.find(hash, key) else {
            self.engine.stats.misses += 1;
            return None;
        };
        if self.engine.expires(slot) <= self.now {
            self.engine.stats.misses += 1;
            self.engine.take(slot, Cause::Expired);
            return None;
        }
        self.engine.stats.hits += 1;
        self.engine.hit(slot, hash);
        self.engine.touch(slot, self.now);
        Some(self.engine.value_mut(slot))
    }

    /// The value of a key without counting as a use.
    pub fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.engine
            .find(self.engine.hash(key), key)
            .filter(|slot| self.engine.expires(*slot) > self.now)
            .map(|slot| self.engine.value(slot))
    }

    /// Inserts an entry and returns the value that the key had. What has to make room is dropped. An
    /// entry heavier than the whole cache is dropped too, and an older value of its key with it; use
    /// [`Cache::try_insert`] to get it back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.place(key, value, Life::new()).ok().flatten()
    }

    /// Inserts an entry that lives for `ttl`, whatever the cache's own is.
    pub fn insert_with_ttl(&mut self, key: K, value: V, ttl: Duration) -> Option<V> {
        self.insert_with(key, value, Life::new().ttl(ttl))
    }

    /// Inserts an entry that lives as `life` says.
    pub fn insert_with(&mut self, key: K, value: V, life: Life) -> Option<V> {
        self.place(key, value, life).ok().flatten()
    }

    /// Inserts an entry and returns the value that the key had.
    ///
    /// # Errors
    ///
    /// [`TooHeavy`], with the entry, if it is heavier than the whole cache. An older value of the key
    /// is removed all the same: it is not what the caller wants to find there.
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>, TooHeavy<K, V>> {
        self.place(key, value, Life::new())
    }

    fn place(&mut self, key: K, value: V, life: Life) -> Result<Option<V>, TooHeavy<K, V>> {
        let weight = self
            .weigher
            .as_ref()
            .map_or(1, |weigh| weigh(&key, &value).max(1));
        if self.engine.expires_promptly() {
            self.expire(EXPIRED_BY_INSERTION);
        }
        let hash = self.engine.hash(&key);
        let full = self.engine.stats.weight >= self.capacity;
        let foreseen = if full { self.engine.foresee() } else { None };
        let known = self.engine.find(hash, &key);
        let others = self.engine.stats.weight - known.map_or(0, |slot| self.engine.weight(slot));
        if let Some(slot) = known {
            self.engine.unpin(slot);
        }
        if weight > self.capacity.saturating_sub(self.engine.pinned()) {
            if let Some(slot) = known {
                self.engine.take(slot, Cause::Replaced);
            }
            self.engine.stats.refused += 1;
            return Err(TooHeavy {
                key,
                value,
                weight,
                capacity: self.capacity,
            });
        }
        let end = self.lives.end(&key, &value, hash, life, || self.now);
        let new = New {
            key,
            value,
            hash,
            weight,
            end,
        };
        let Some(slot) = known else {
            self.put(new, foreseen);
            return Ok(None);
        };
        let old = if others <= self.capacity - weight {
            self.engine.replace(slot, new)
        } else {
            let old = self.engine.take(slot, Cause::Replaced);
            self.put(new, None);
            old
        };
        Ok((old.expires > self.now).then_some(old.value))
    }

    /// Puts in an entry that is not there and fits, letting go whoever has to.
    #[inline]
    fn put(&mut self, new: New<K, V>, mut foreseen: Option<(u32, u64)>) {
        loop {
            let over = (self.engine.stats.weight).saturating_sub(self.capacity - new.weight);
            let victim = if over == 0 {
                None
            } else {
                self.engine.victim(Some(new.hash))
            };
            let Some(victim) = victim else {
                self.engine.put(new);
                return;
            };
            let cause = self.cause(victim);
            if self.engine.weight(victim) >= over {
                self.engine.put_for(victim, new, cause, foreseen);
                return;
            }
            self.engine.take(victim, cause);
            // Another entry may have taken that slot.
            foreseen = None;
        }
    }

    /// Why a victim leaves.
    #[inline]
    fn cause(&self, victim: u32) -> Cause {
        if self.engine.expires(victim) <= self.now {
            Cause::Expired
        } else {
            Cause::Evicted
        }
    }

    /// Removes a key and returns its value, unless its time was over.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        let slot = self.engine.find(self.engine.hash(key), key)?;
        let gone = self.engine.take(slot, Cause::Removed);
        (gone.expires > self.now).then_some(gone.value)
    }

    /// Pins an entry: it is not evicted until it is [unpinned](Cache::unpin), replaced, removed or its time is
    /// over. Says whether it is pinned: not if it is not there, or if more than half the capacity would
    /// be. What is pinned counts against the capacity; the policy's next choice leaves in its place.
    pub fn pin<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> bool {
        let found = self.engine.find(self.engine.hash(key), key);
        let live = found.filter(|slot| self.engine.expires(*slot) > self.now);
        live.is_some_and(|slot| self.engine.pin(slot, self.capacity / 2))
    }

    /// Lets a pinned entry be evicted again, and says whether it was pinned.
    pub fn unpin<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> bool {
        let found = self.engine.find(self.engine.hash(key), key);
        found.is_some_and(|slot| self.engine.unpin(slot))
    }

    /// Lets go entries whose time is over, looking at `most` at most, and returns how many there were. None
    /// without [prompt expiry](Builder::with_prompt_expiry).
    pub fn expire(&mut self, most: usize) -> usize {
        let (mut looks, mut gone) = (most, 0);
        while let Some(slot) = self.engine.overdue(self.now, &mut looks) {
            self.engine.take(slot, Cause::Expired);
            gone += 1;
        }
        gone
    }

    /// Removes every entry whose time is over and returns how many there were. O(entries).
    pub fn remove_expired(&mut self) -> usize {
        let now = self.now;
        self.engine
            .take_where(Cause::Expired, |_, _, expires| expires <= now)
            .len()
    }

    /// Removes the entries for which `keep` is false. O(entries).
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let gone = self
            .engine
            .take_where(Cause::Removed, |key, value, _| !keep(key, value));
        drop(gone);
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.retain(|_, _| false);
    }

    /// Sets another capacity. What no longer fits leaves now, in the policy's order, and is returned. If
    /// more than half of it would be pinned, nothing is pinned any more.
    pub fn resize(&mut self, capacity: u64) -> Vec<(K, V)> {
        self.capacity = capacity;
        if self.engine.pinned() > capacity / 2 {
            self.engine.unpin_all();
        }
        let mut gone = Vec::new();
        while self.engine.stats.weight > capacity {
            let Some(victim) = self.engine.victim(None) else {
                break;
            };
            let Gone { key, value, .. } = self.engine.take(victim, self.cause(victim));
            gone.push((key, value));
        }
        gone
    }

    /// The entries whose time is not over, in no particular order, without counting as uses.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let now = self.now;
        self.engine
            .iter()
            .filter(move |(_, _, expires)| *expires > now)
            .map(|(key, value, _)| (key, value))
    }

    /// How many entries there are, some of which may have expired unnoticed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.engine.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights; never above the capacity.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.engine.stats.weight
    }

    /// The capacity.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What share of the requests would be missed with half and with twice the capacity: what more memory
    /// would buy. Nothing for policies that do not simulate it; [`Adaptive`] does.
    #[must_use]
    pub fn outlook(&self) -> Option<Outlook> {
        self.engine.outlook()
    }

    pub(crate) const fn engine(&self) -> &Engine<K, V, P, S> {
        &self.engine
    }

    pub(crate) const fn time(&self) -> Duration {
        self.now
    }

    /// Bytes that the cache keeps on the heap: entries, index and policy, whatever is in use or kept
    /// in reserve, without what keys and values own themselves.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.engine.memory()
    }

    /// Checks what must hold between any two calls: for tests of whatever this is built on. O(entries).
    ///
    /// # Panics
    ///
    /// If something does not.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.engine.validate();
        assert!(self.weight() <= self.capacity, "the capacity is a bound");
    }

    /// What happened so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.engine.stats
    }
}
