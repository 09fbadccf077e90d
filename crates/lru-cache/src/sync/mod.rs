//! The cache for many threads: the same engine in shards, each behind a lock.
//!
//! A look-up takes one shard's lock for reading. With a policy that [shares hits](Policy::SHARES_HITS),
//! as the default one does, a hit writes at most one byte and a counter besides.

mod builder;
mod invalidation;
mod lease;
mod reservation;
mod shards;

use crate::lock::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;
use foldhash::fast::RandomState;

use crate::cache::TooHeavy;
use crate::life::Life;
use crate::policy::{Adaptive, Outlook, Policy};
use crate::saved::Saved;
use crate::stats::{Cause, Stats};
use crate::tag::Tag;
pub use builder::{Builder, Shared};
pub use invalidation::{Invalidation, NotInserted, Sweep};
pub use lease::{Lease, Outdated};
pub(crate) use reservation::Reservation;
use shards::{Left, Refusal, Shards};

/// An eviction cache that threads share. Clones are handles on the same cache.
///
/// Values are cloned out: put large ones behind an [`Arc`].
pub struct Cache<K, V, P = Adaptive, S = RandomState> {
    shards: Arc<Shards<K, V, P, S>>,
}

impl<K, V, P, S> Clone for Cache<K, V, P, S> {
    fn clone(&self) -> Self {
        Self {
            shards: Arc::clone(&self.shards),
        }
    }
}

impl<K, V, P, S> fmt::Debug for Cache<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("capacity", &self.shards.capacity)
            .finish_non_exhaustive()
    }
}

impl<K, V, P, S> From<Shards<K, V, P, S>> for Cache<K, V, P, S> {
    fn from(shards: Shards<K, V, P, S>) -> Self {
        Self {
            shards: Arc::new(shards),
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
        self.shards.hasher.hash_one(key)
    }

    /// The value of a key, if it is there and its time is not over. Counts as a use.
    #[must_use]
    #[inline]
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.get_if(key, |_| true)
    }

    /// The value of a key if `valid` says yes to it. A value that is refused stays and counts as a
    /// hit: it may do for somebody else. `valid` runs under the shard's lock: keep it short, and do
    /// not use the cache in it.
    #[inline]
    pub fn get_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        valid: impl FnOnce(&V) -> bool,
    ) -> Option<V> {
        self.look(key, |value, _| valid(value).then(|| value.clone()))
    }

    /// As [`Cache::get_if`], and how long the entry lives still.
    pub(crate) fn get_with_life(
        &self,
        key: &K,
        valid: impl FnOnce(&V) -> bool,
    ) -> Option<(V, Duration)> {
        self.look(key, |value, left| {
            valid(value).then(|| (value.clone(), left))
        })
    }

    /// Looks a key up and lets `take` see its value and how long it lives still.
    #[inline]
    fn look<Q: Hash + Equivalent<K> + ?Sized, T>(
        &self,
        key: &Q,
        take: impl FnOnce(&V, Duration) -> Option<T>,
    ) -> Option<T> {
        let hash = self.hash(key);
        let part = self.shards.of(hash);
        if P::SHARES_HITS {
            let shard = part.shard.read();
            let Some(slot) = shard.engine.find(hash, key) else {
                part.misses.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            let left = self.shards.left(shard.engine.expires(slot));
            if !left.is_zero()
                && !shard.engine.is_idling(slot)
                && shard.engine.hit_shared(slot, hash)
            {
                part.hits.fetch_add(1, Ordering::Relaxed);
                return take(shard.engine.value(slot), left);
            }
        }
        self.look_exclusively(hash, key, take)
    }

    fn look_exclusively<Q: Equivalent<K> + ?Sized, T>(
        &self,
        hash: u64,
        key: &Q,
        take: impl FnOnce(&V, Duration) -> Option<T>,
    ) -> Option<T> {
        let mut shard = self.shards.of(hash).shard.write();
        let Some(slot) = shard.engine.find(hash, key) else {
            shard.engine.stats.misses += 1;
            return None;
        };
        let left = self.shards.left(shard.engine.expires(slot));
        if left.is_zero() {
            shard.engine.stats.misses += 1;
            let gone = shard.engine.take(slot, Cause::Expired);
            self.shards.release(gone.weight);
            drop(shard);
            let mut left = Left::new();
            left.push(gone, Cause::Expired);
            self.shards.tell(left);
            return None;
        }
        shard.engine.stats.hits += 1;
        shard.engine.hit(slot, hash);
        if shard.engine.is_idling(slot) {
            shard.engine.touch(slot, self.shards.now());
        }
        take(shard.engine.value(slot), left)
    }

    /// The value of a key without counting as a use or as a look-up.
    #[must_use]
    pub fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let (value, _) = self.peek_with_life(key, |_| true)?;
        Some(value)
    }

    /// How long an entry lives still, without counting as a use or a look-up; [`Duration::MAX`] is as long
    /// as there is room, and a time to idle counts from the last use. Nothing if it is not there.
    #[must_use]
    pub fn left<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Duration> {
        let hash = self.hash(key);
        let shard = self.shards.of(hash).shard.read();
        let slot = shard.engine.find(hash, key)?;
        let left = self.shards.left(shard.engine.expires(slot));
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn peek_with_life<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        valid: impl FnOnce(&V) -> bool,
    ) -> Option<(V, Duration)> {
        let hash = self.hash(key);
        let shard = self.shards.of(hash).shard.read();
        let slot = shard.engine.find(hash, key)?;
        let left = self.shards.left(shard.engine.expires(slot));
        let value = shard.engine.value(slot);
        (!left.is_zero() && valid(value)).then(|| (value.clone(), left))
    }

    /// The time since the cache was built, by its clock.
    pub(crate) fn now(&self) -> Duration {
        self.shards.now()
    }

    /// The tag of a group, as the group is now. Take it **before** reading from the store what is to be
    /// inserted with it ([`Life::tag`]); then no invalidation of the group that comes after the read can be missed.
    ///
    /// Groups take memory while a tag or an entry of them is there, and up to as much again.
    #[must_use]
    pub fn tag(&self, group: &str) -> Tag {
        self.shards.tag(group)
    }

    /// Makes room for a weight and holds it until the reservation is dropped.
    pub(crate) fn reserve(&self, weight: u64) -> Option<Reservation<K, V, P, S>> {
        self.shards.hold(weight).then(|| Reservation {
            shards: Arc::clone(&self.shards),
            weight,
        })
    }

    /// Inserts an entry. What has to make room leaves; an entry heavier than the whole cache is
    /// dropped, with an older value of its key. Leases on the key become outdated.
    pub fn insert(&self, key: K, value: V) {
        let _refused = self.shards.place(key, value, Life::new(), None, None);
    }

    /// Inserts an entry that lives for `ttl`, whatever the cache's own is.
    pub fn insert_with_ttl(&self, key: K, value: V, ttl: Duration) {
        self.insert_with(key, value, Life::new().ttl(ttl));
    }

    /// Inserts an entry that lives as `life` says.
    pub fn insert_with(&self, key: K, value: V, life: Life) {
        let _refused = self.shards.place(key, value, life, None, None);
    }

    /// Inserts an entry.
    ///
    /// # Errors
    ///
    /// [`TooHeavy`], with the entry, if it is heavier than the whole cache; an older value of the key
    /// is removed all the same.
    pub fn try_insert(&self, key: K, value: V) -> Result<(), TooHeavy<K, V>> {
        match self.shards.place(key, value, Life::new(), None, None) {
            Ok(()) | Err(Refusal::Outdated { .. }) => Ok(()),
            Err(Refusal::TooHeavy(refused)) => Err(refused),
        }
    }

    /// Takes the right to fill a key. Take it **before** reading from the store; then no write or
    /// invalidation that comes after the read can be undone by the fill.
    #[must_use]
    pub fn lease<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Lease<K, V, P, S> {
        let hash = self.hash(key);
        let number = self.shards.of(hash).shard.write().leases.take(hash);
        Lease {
            shards: Arc::clone(&self.shards),
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
        self.fill_with(lease, key, value, Life::new())
    }

    /// As [`Cache::fill`], and the entry lives as `life` says.
    ///
    /// # Errors
    ///
    /// As [`Cache::fill`].
    pub fn fill_with(
        &self,
        lease: &Lease<K, V, P, S>,
        key: K,
        value: V,
        life: Life,
    ) -> Result<(), Outdated> {
        if self.hash(&key) != lease.hash {
            return Err(Outdated);
        }
        match self
            .shards
            .place(key, value, life, Some(lease.number), None)
        {
            Err(Refusal::Outdated { .. }) => Err(Outdated),
            Ok(()) | Err(Refusal::TooHeavy(_)) => Ok(()),
        }
    }

    /// Removes a key and returns its value, unless its time was over. Leases on it become outdated:
    /// this is the invalidation to call when the store has changed.
    pub fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let hash = self.hash(key);
        let gone = {
            let mut shard = self.shards.of(hash).shard.write();
            shard.leases.outdate(hash);
            let slot = shard.engine.find(hash, key)?;
            let gone = shard.engine.take(slot, Cause::Removed);
            self.shards.release(gone.weight);
            gone
        };
        let value = (!self.shards.is_over(gone.expires)).then(|| gone.value.clone());
        let mut left = Left::new();
        left.push(gone, Cause::Removed);
        self.shards.tell(left);
        value
    }

    /// Pins an entry: it is not evicted until it is [unpinned](Cache::unpin), replaced, removed or its time is
    /// over. Says whether it is pinned: not if it is not there, or if more than half the capacity would
    /// be. What is pinned counts against the capacity; the policy's next choice leaves in its place.
    pub fn pin<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let hash = self.hash(key);
        let mut shard = self.shards.of(hash).shard.write();
        let found = shard.engine.find(hash, key);
        let live = found.filter(|slot| !self.shards.is_over(shard.engine.expires(*slot)));
        live.is_some_and(|slot| shard.engine.pin(slot, self.capacity() / 2))
    }

    /// Lets a pinned entry be evicted again, and says whether it was pinned.
    pub fn unpin<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let hash = self.hash(key);
        let mut shard = self.shards.of(hash).shard.write();
        let found = shard.engine.find(hash, key);
        found.is_some_and(|slot| shard.engine.unpin(slot))
    }

    /// Copies of the entries whose time is not over, in no particular order, without counting as uses. They
    /// are copied a shard at a time, under its lock; what comes or goes meanwhile may be in it or not.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)>
    where
        K: Clone,
    {
        self.shards.iter().flat_map(|part| {
            let shard = part.shard.read();
            let live = shard
                .engine
                .iter()
                .filter(|(_, _, expires)| !self.shards.is_over(*expires));
            let copies: Vec<_> = live
                .map(|(key, value, _)| (key.clone(), value.clone()))
                .collect();
            copies
        })
    }

    /// As [`Cache::snapshot`](crate::Cache::snapshot): the shards' entries, each in its order, interleaved so
    /// that the front leaves first. Copied a shard at a time, under its lock.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Saved<K, V>>
    where
        K: Clone,
    {
        let mut all = Vec::new();
        for part in self.shards.iter() {
            let saved = part.shard.read().engine.saved(|expires| {
                let left = self.shards.left(expires);
                (!left.is_zero()).then_some(left)
            });
            let len = saved.len() as u64;
            let ranked = saved.into_iter().zip(1_u64..);
            // How far from the front, in shares of its shard: 32 bits tell enough.
            all.extend(ranked.map(|(saved, at)| ((at << 32) / (len + 1), saved)));
        }
        all.sort_by_key(|(share, _)| *share);
        all.into_iter().map(|(_, saved)| saved).collect()
    }

    /// As [`Cache::restore`](crate::Cache::restore).
    pub fn restore(&self, saved: impl IntoIterator<Item = Saved<K, V>>) {
        for Saved { key, value, left } in saved {
            let life = left.map_or_else(Life::new, |left| Life::new().ttl(left));
            self.insert_with(key, value, life);
        }
    }

    /// Removes the entries that `doomed` names, shard by shard, and outdates all leases. O(entries);
    /// `doomed` runs under one shard's lock at a time.
    pub fn remove_where(&self, mut doomed: impl FnMut(&K, &V) -> bool) {
        self.shards
            .take_where(Cause::Removed, |key, value, _| doomed(key, value), true);
    }

    /// Lets go entries whose time is over, looking at `most` of each shard at most. None without
    /// [prompt expiry](Builder::with_prompt_expiry). For a timer, where hardly anything is inserted.
    pub fn expire(&self, most: usize) {
        for part in self.shards.iter() {
            let mut left = Left::new();
            self.shards.expire(part, most, &mut left);
            self.shards.tell(left);
        }
    }

    /// Removes every entry whose time is over. O(entries), a shard at a time.
    pub fn remove_expired(&self) {
        let now = self.shards.now();
        self.shards
            .take_where(Cause::Expired, |_, _, expires| expires <= now, false);
    }

    /// Sets another capacity. What no longer fits leaves before this returns, in the policy's order; the
    /// old capacity counts until then. If more than half of it would be pinned, nothing is pinned any more.
    pub fn resize(&self, capacity: u64) {
        self.shards.resize(capacity);
    }

    /// How many entries there are, some of which may have expired unnoticed.
    #[must_use]
    pub fn len(&self) -> usize {
        let lens = self
            .shards
            .iter()
            .map(|part| part.shard.read().engine.len());
        lens.sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights and of what is just being put in; never above the capacity.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.shards.weight()
    }

    /// The capacity.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shards.capacity.load(Ordering::Relaxed)
    }

    /// What share of the requests would be missed with half and with twice the capacity: what more
    /// memory would buy. Nothing for policies that do not simulate it; [`Adaptive`]
    /// does.
    #[must_use]
    pub fn outlook(&self) -> Option<Outlook> {
        let outlooks = self
            .shards
            .iter()
            .map(|part| part.shard.read().engine.outlook());
        let mut sum = Outlook::default();
        let mut outlooks = outlooks.flatten().peekable();
        outlooks.peek()?;
        for outlook in outlooks {
            sum.half += outlook.half * outlook.sampled;
            sum.present += outlook.present * outlook.sampled;
            sum.double += outlook.double * outlook.sampled;
            sum.sampled += outlook.sampled;
        }
        let sampled = sum.sampled.max(1.0);
        sum.half /= sampled;
        sum.present /= sampled;
        sum.double /= sampled;
        Some(sum)
    }

    /// Bytes that the cache keeps: entries, index, policy and shards, whatever is in use or kept in
    /// reserve, without what keys and values own themselves.
    #[must_use]
    pub fn memory_used(&self) -> usize {
        self.shards.memory()
    }

    /// Checks what must hold between any two calls, shard by shard: for tests. O(entries).
    ///
    /// # Panics
    ///
    /// If something does not.
    #[doc(hidden)]
    pub fn validate(&self) {
        let mut held = 0;
        for part in self.shards.iter() {
            let shard = part.shard.read();
            shard.engine.validate();
            held += shard.engine.stats.weight;
        }
        let (reserved, capacity) = (self.weight(), self.capacity());
        assert!(held <= reserved, "{held} held, {reserved} reserved");
        assert!(reserved <= capacity, "{reserved} of {capacity} reserved");
    }

    /// What happened so far, summed over the shards one after the other.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shards.stats()
    }
}
