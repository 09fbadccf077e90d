//! The shards of the shared cache, and the one budget of weight that they live on.

use crate::lock::{AtomicU64, Mutex, Ordering, RwLock};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::builder::{Builder, Clock, Invalidations, Listener};
use super::invalidation::Invalidation;
use super::lease::Leases;
use crate::builder::Weigher;
use crate::cache::{EXPIRED_BY_INSERTION, TooHeavy};
use crate::engine::{Engine, Gone, New};
use crate::life::{Life, Lives};
use crate::policy::Policy;
use crate::stats::{Cause, Stats};
use crate::tag::{Groups, Tag};

/// One shard and its counters, away from the neighbours' cache lines (the hardware fetches two at once).
#[repr(align(128))]
pub(super) struct Part<K, V, P, S> {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) shard: RwLock<Shard<K, V, P, S>>,
}

pub(super) struct Shard<K, V, P, S> {
    pub(super) engine: Engine<K, V, P, S>,
    pub(super) leases: Leases,
}

pub(super) struct Shards<K, V, P, S> {
    parts: Box<[Part<K, V, P, S>]>,
    /// What callers are told; during a resize still the greater of the two.
    pub(super) capacity: AtomicU64,
    /// What may be reserved.
    limit: AtomicU64,
    /// Weight of all entries and of what is about to be put in: never above the capacity.
    reserved: AtomicU64,
    refused: AtomicU64,
    invalidations: Option<Invalidations<K>>,
    lives: Lives<K, V>,
    groups: Mutex<Groups>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    clock: Clock,
    start: Instant,
    pub(super) hasher: S,
}

/// Why an entry was not put in.
pub(super) enum Refusal<K, V> {
    TooHeavy(TooHeavy<K, V>),
    /// Not newer than what is there, or its lease is outdated.
    Outdated {
        key: K,
        value: V,
    },
}

/// What left in one call; usually at most one entry, for which nothing is allocated.
pub(super) struct Left<K, V> {
    first: Option<(Gone<K, V>, Cause)>,
    more: Vec<(Gone<K, V>, Cause)>,
}

impl<K, V> Left<K, V> {
    pub(super) const fn new() -> Self {
        Self {
            first: None,
            more: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, gone: Gone<K, V>, cause: Cause) {
        if self.first.is_none() {
            self.first = Some((gone, cause));
        } else {
            self.more.push((gone, cause));
        }
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Shards<K, V, P, S> {
    pub(super) fn new(builder: Builder<K, V, S>) -> Self
    where
        S: Clone,
    {
        let start = (builder.face.clock)();
        let shards = builder.face.shards as u64;
        let expected = if builder.weigher.is_some() {
            0
        } else if shards == 1 {
            builder.capacity
        } else {
            // Four standard deviations above the mean, so that hardly a shard grows twice.
            let mean = builder.capacity / shards;
            mean + 4 * mean.isqrt()
        };
        let pinned = Arc::default();
        let part = |policy| {
            let mut engine = Engine::new(builder.hasher.clone(), expected, policy);
            engine.share_pinned(&pinned);
            if builder.lives.prompt {
                engine.expire_promptly();
            }
            let leases = Leases::default();
            Part {
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
                shard: RwLock::new(Shard { engine, leases }),
            }
        };
        Self {
            parts: P::shards(builder.face.shards)
                .into_iter()
                .map(part)
                .collect(),
            capacity: AtomicU64::new(builder.capacity),
            limit: AtomicU64::new(builder.capacity),
            reserved: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            invalidations: builder.face.invalidations,
            lives: builder.lives,
            groups: Mutex::new(Groups::default()),
            weigher: builder.weigher,
            listener: builder.face.listener,
            clock: builder.face.clock,
            start,
            hasher: builder.hasher,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part<K, V, P, S>> {
        self.parts.iter()
    }

    fn number(&self, hash: u64) -> usize {
        // The index inside uses the lowest and the highest bits, a sample of the keys bits from 42 on.
        (hash >> 32) as usize & (self.parts.len() - 1)
    }

    #[inline]
    pub(super) fn of(&self, hash: u64) -> &Part<K, V, P, S> {
        &self.parts[self.number(hash)]
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.start)
    }

    /// How long an entry lives still; [`Duration::MAX`] is for ever. The clock is read only if need be.
    #[inline]
    pub(super) fn left(&self, expires: Duration) -> Duration {
        match expires {
            Duration::MAX | Duration::ZERO => expires,
            _ => expires.saturating_sub(self.now()),
        }
    }

    #[inline]
    pub(super) fn is_over(&self, expires: Duration) -> bool {
        self.left(expires).is_zero()
    }

    pub(super) const fn len(&self) -> usize {
        self.parts.len()
    }

    /// Tells the listener of invalidations. No lock may be held.
    pub(super) fn announce(&self, invalidation: Invalidation<'_, K>) {
        if let Some(invalidations) = &self.invalidations {
            invalidations(invalidation);
        }
    }

    pub(super) fn tag(&self, name: &str) -> Tag {
        self.groups.lock().tag(name)
    }

    pub(super) fn invalidate(&self, name: &str) {
        self.groups.lock().invalidate(name);
    }

    /// Makes room for a weight and holds it, if there can be such room now.
    pub(super) fn hold(&self, weight: u64) -> bool {
        let (mut at, mut idle, mut credit) = (0, 0, 0);
        let mut left = Left::new();
        let held = loop {
            if credit >= weight || self.reserve(weight - credit) {
                self.release(credit.saturating_sub(weight));
                break true;
            }
            if idle == self.parts.len() || weight > self.limit() {
                self.release(credit);
                break false;
            }
            let gone = self.evict(&self.parts[at % self.parts.len()]);
            at += 1;
            idle += 1;
            if let Some((gone, cause)) = gone {
                idle = 0;
                credit += gone.weight;
                left.push(gone, cause);
            }
        };
        self.tell(left);
        held
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn weight(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Takes `weight` from what is left of the budget, or nothing.
    fn reserve(&self, weight: u64) -> bool {
        let limit = self.limit();
        self.reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
                reserved.checked_add(weight).filter(|sum| *sum <= limit)
            })
            .is_ok()
    }

    pub(super) fn release(&self, weight: u64) {
        if weight != 0 {
            self.reserved.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// Tells the listener what left. No lock may be held.
    pub(super) fn tell(&self, left: Left<K, V>) {
        if let Some(listener) = &self.listener {
            for (gone, cause) in left.first.into_iter().chain(left.more) {
                listener(gone.key, gone.value, cause);
            }
        }
    }

    /// Puts an entry in, under a lease if there is one.
    pub(super) fn place(
        &self,
        key: K,
        value: V,
        life: Life,
        lease: Option<u64>,
        gives_way: Option<&dyn Fn(&V) -> bool>,
    ) -> Result<(), Refusal<K, V>> {
        let weigh = |weigh: &Weigher<K, V>| weigh(&key, &value).max(1);
        let weight = self.weigher.as_ref().map_or(1, weigh);
        let hash = self.hasher.hash_one(&key);
        let end = self.lives.end(&key, &value, hash, life, || self.now());
        let new = New {
            key,
            value,
            hash,
            weight,
            end,
        };
        let mut left = Left::new();
        let result = self.settle(new, lease, gives_way, &mut left);
        self.tell(left);
        result
    }

    fn settle(
        &self,
        new: New<K, V>,
        lease: Option<u64>,
        gives_way: Option<&dyn Fn(&V) -> bool>,
        left: &mut Left<K, V>,
    ) -> Result<(), Refusal<K, V>> {
        let (hash, weight) = (new.hash, new.weight);
        if self.lives.prompt {
            self.expire(self.of(hash), EXPIRED_BY_INSERTION, left);
        }
        // Weight that those who left for us have given back and that is not released yet.
        let mut credit = 0;
        let mut elsewhere = 0;
        loop {
            let mut shard = self.of(hash).shard.write();
            if lease.is_some_and(|number| !shard.leases.is_current(hash, number)) {
                self.release(credit);
                let New { key, value, .. } = new;
                return Err(Refusal::Outdated { key, value });
            }
            if let Some(gives_way) = gives_way
                && let Some(slot) = shard.engine.find(hash, &new.key)
                && !self.is_over(shard.engine.expires(slot))
                && !gives_way(shard.engine.value(slot))
            {
                self.release(credit);
                let New { key, value, .. } = new;
                return Err(Refusal::Outdated { key, value });
            }
            if lease.is_none() {
                shard.leases.outdate(hash);
            }
            let capacity = self.limit();
            let full = credit == 0 && self.weight() >= capacity;
            let mut foreseen = if full { shard.engine.foresee() } else { None };
            let known = shard.engine.find(hash, &new.key);
            if let Some(slot) = known {
                shard.engine.unpin(slot);
            }
            let room = capacity.saturating_sub(shard.engine.pinned());
            if let Some(slot) = known {
                let before = shard.engine.weight(slot);
                let held = before + credit;
                if weight <= room && (held >= weight || self.reserve(weight - held)) {
                    left.push(shard.engine.replace(slot, new), Cause::Replaced);
                    self.release(held.saturating_sub(weight));
                    return Ok(());
                }
                left.push(shard.engine.take(slot, Cause::Replaced), Cause::Replaced);
                credit += before;
            }
            if weight > room {
                self.release(credit);
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::TooHeavy(TooHeavy {
                    key: new.key,
                    value: new.value,
                    weight,
                    capacity,
                }));
            }
            loop {
                if credit >= weight || self.reserve(weight - credit) {
                    shard.engine.put(new);
                    self.release(credit.saturating_sub(weight));
                    return Ok(());
                }
                let Some(victim) = self.own_victim(&mut shard.engine, capacity, elsewhere, hash)
                else {
                    break;
                };
                let cause = self.cause(&shard.engine, victim);
                let freed = shard.engine.weight(victim);
                if credit + freed >= weight {
                    left.push(shard.engine.put_for(victim, new, cause, foreseen), cause);
                    self.release(credit + freed - weight);
                    return Ok(());
                }
                left.push(shard.engine.take(victim, cause), cause);
                // Another entry may have taken that slot.
                foreseen = None;
                credit += freed;
            }
            drop(shard);
            // Take from the others, one lock at a time.
            elsewhere += 1;
            let other = &self.parts[(self.number(hash) + elsewhere) % self.parts.len()];
            if let Some((gone, cause)) = self.evict(other) {
                credit += gone.weight;
                left.push(gone, cause);
            } else if elsewhere.is_multiple_of(self.parts.len()) {
                // Others hold reservations that they are about to use or to give back.
                crate::lock::thread::yield_now();
            }
        }
    }

    /// Lets go what has expired of a part, if that is to be prompt, looking at `most` at most.
    pub(super) fn expire(&self, part: &Part<K, V, P, S>, most: usize, left: &mut Left<K, V>) {
        let now = self.now();
        let mut looks = most;
        let mut shard = part.shard.write();
        while let Some(slot) = shard.engine.overdue(now, &mut looks) {
            let gone = shard.engine.take(slot, Cause::Expired);
            self.release(gone.weight);
            left.push(gone, Cause::Expired);
        }
    }

    /// Whom our own shard would let go. Nobody, if it has less than half of its share and the others
    /// were not asked yet: they have more than theirs.
    fn own_victim(
        &self,
        engine: &mut Engine<K, V, P, S>,
        capacity: u64,
        elsewhere: usize,
        newcomer: u64,
    ) -> Option<u32> {
        let shards = self.parts.len();
        let poor = engine.stats.weight < capacity / shards as u64 / 2;
        if poor && elsewhere + 1 < shards {
            return None;
        }
        engine.victim(Some(newcomer))
    }

    /// Lets one entry of a part go. Its weight stays reserved for the caller.
    fn evict(&self, part: &Part<K, V, P, S>) -> Option<(Gone<K, V>, Cause)> {
        let mut shard = part.shard.write();
        let victim = shard.engine.victim(None)?;
        let cause = self.cause(&shard.engine, victim);
        Some((shard.engine.take(victim, cause), cause))
    }

    fn cause(&self, engine: &Engine<K, V, P, S>, slot: u32) -> Cause {
        if self.is_over(engine.expires(slot)) {
            Cause::Expired
        } else {
            Cause::Evicted
        }
    }

    /// Sets another capacity and lets go what no longer fits.
    pub(super) fn resize(&self, capacity: u64) {
        self.limit.store(capacity, Ordering::Relaxed);
        let pinned = |part: &Part<K, V, P, S>| part.shard.read().engine.pinned();
        if self.parts.first().map_or(0, pinned) > capacity / 2 {
            for part in self.iter() {
                part.shard.write().engine.unpin_all();
            }
        }
        self.capacity.fetch_max(capacity, Ordering::Relaxed);
        let mut at = 0;
        let mut idle = 0;
        while self.weight() > self.limit() && idle < self.parts.len() * 2 {
            let part = &self.parts[at % self.parts.len()];
            at += 1;
            let Some((gone, cause)) = self.evict(part) else {
                idle += 1;
                continue;
            };
            idle = 0;
            self.release(gone.weight);
            let mut left = Left::new();
            left.push(gone, cause);
            self.tell(left);
        }
        self.capacity.store(self.limit(), Ordering::Relaxed);
    }

    /// Takes out every entry that `doomed` names, part by part.
    pub(super) fn take_where(
        &self,
        cause: Cause,
        mut doomed: impl FnMut(&K, &V, Duration) -> bool,
        outdate: bool,
    ) {
        for part in self.iter() {
            let mut left = Left::new();
            let mut weight = 0;
            {
                let mut shard = part.shard.write();
                if outdate {
                    shard.leases.outdate_all();
                }
                for gone in shard.engine.take_where(cause, &mut doomed) {
                    weight += gone.weight;
                    left.push(gone, cause);
                }
                self.release(weight);
            }
            self.tell(left);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for part in self.iter() {
            sum = sum.plus(&part.shard.read().engine.stats);
            sum.hits += part.hits.load(Ordering::Relaxed);
            sum.misses += part.misses.load(Ordering::Relaxed);
        }
        sum.refused += self.refused.load(Ordering::Relaxed);
        sum
    }

    pub(super) fn memory(&self) -> usize {
        let parts = self.parts.len() * size_of::<Part<K, V, P, S>>();
        let heaps = self.iter().map(|part| part.shard.read().engine.memory());
        size_of::<Self>() + parts + heaps.sum::<usize>()
    }
}
