//! The engine under both faces: a dense slab of entries, an index of slot numbers, a policy.
//!
//! What most entries do not have (a weight of their own, a time to live) is in columns beside the slab,
//! which exist from the first entry on that has it.

mod leaving;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use core::mem;
use core::sync::atomic::AtomicU64;
use core::time::Duration;

use equivalent::Equivalent;

use crate::index::Index;
use crate::life::End;
use crate::list::{reserve_exact, slot_at};
use crate::policy::{Outlook, Policy};
use crate::saved::Saved;
use crate::stats::{Cause, Stats};
use crate::tag::Tags;
use crate::wheel::Wheel;

/// Room made at first, in entries.
const FIRST: usize = 8;

/// An entry that has left.
#[derive(Debug)]
pub(crate) struct Gone<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) weight: u64,
    /// When its time was to end; [`Duration::MAX`] means never.
    pub(crate) expires: Duration,
}

/// An entry that comes in.
#[derive(Debug)]
pub(crate) struct New<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) hash: u64,
    pub(crate) weight: u64,
    /// Nothing for an entry that lives as long as there is room.
    pub(crate) end: Option<End>,
}

/// What the time to idle of an entry needs, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// When it is over however often it is used.
    end: u64,
    /// How long it lives after its last use; [`NEVER`] for however long.
    idle: u64,
}

const NOT_IDLE: Idle = Idle {
    end: NEVER,
    idle: NEVER,
};

/// No time.
const NEVER: u64 = u64::MAX;

/// A time in nanoseconds; five centuries and more are never.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}

#[derive(Debug)]
pub(crate) struct Engine<K, V, P, S> {
    index: Index,
    entries: Vec<(K, V)>,
    /// No column below is in use: every entry weighs 1, none can expire.
    plain: bool,
    /// Empty while every entry weighs 1.
    weights: Vec<u64>,
    /// In nanoseconds. Empty while no entry can expire.
    ends: Vec<u64>,
    /// Empty while no entry has a time to idle.
    idles: Vec<Idle>,
    /// Empty while no entry has tags.
    tags: Vec<Tags>,
    /// Who may not be evicted. Empty while nobody is pinned.
    pins: Vec<bool>,
    /// The weight of all who are pinned, in all shards.
    pinned: Arc<AtomicU64>,
    /// Only if what has expired is to leave promptly.
    wheel: Option<Box<Wheel>>,
    policy: P,
    hasher: S,
    /// Entries that are expected at most: room grows step by step up to exactly this.
    expected: usize,
    pub(crate) stats: Stats,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Engine<K, V, P, S> {
    pub(crate) fn new(hasher: S, expected: u64, policy: P) -> Self {
        Self {
            index: Index::new(0),
            entries: Vec::new(),
            plain: true,
            weights: Vec::new(),
            ends: Vec::new(),
            idles: Vec::new(),
            tags: Vec::new(),
            pins: Vec::new(),
            pinned: Arc::default(),
            wheel: None,
            policy,
            hasher,
            expected: usize::try_from(expected).unwrap_or(usize::MAX),
            stats: Stats::default(),
        }
    }

    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(crate) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The slot of a key, whether or not its time is over.
    #[inline]
    pub(crate) fn find<Q: Equivalent<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<u32> {
        self.index.find(hash, |slot| {
            self.entries
                .get(slot as usize)
                .is_some_and(|(known, _)| key.equivalent(known))
        })
    }

    /// The key and the value at a slot.
    #[cfg(feature = "std")]
    pub(crate) fn entry(&self, slot: u32) -> (&K, &V) {
        let (key, value) = &self.entries[slot as usize];
        (key, value)
    }

    /// Copies of the entries in the policy's order, of which `left` tells how long they live still, if at all.
    pub(crate) fn saved(&self, left: impl Fn(Duration) -> Option<Duration>) -> Vec<Saved<K, V>>
    where
        K: Clone,
        V: Clone,
    {
        let mut order = self.policy.order();
        if order.len() != self.entries.len() {
            order = (0..slot_at(self.entries.len())).collect();
        }
        let untagged = |slot: &u32| self.tags.get(*slot as usize).is_none_or(Tags::is_empty);
        let saved = |slot: u32| {
            let (key, value) = &self.entries[slot as usize];
            let left = left(self.expires(slot))?;
            Some(Saved {
                key: key.clone(),
                value: value.clone(),
                left: (left != Duration::MAX).then_some(left),
            })
        };
        order
            .into_iter()
            .filter(untagged)
            .filter_map(saved)
            .collect()
    }

    /// What the policy foresees for other capacities.
    pub(crate) fn outlook(&self) -> Option<Outlook> {
        self.policy.outlook()
    }

    #[inline]
    pub(crate) fn value(&self, slot: u32) -> &V {
        &self.entries[slot as usize].1
    }

    #[inline]
    pub(crate) fn value_mut(&mut self, slot: u32) -> &mut V {
        &mut self.entries[slot as usize].1
    }

    #[inline]
    pub(crate) fn weight(&self, slot: u32) -> u64 {
        self.weights.get(slot as usize).copied().unwrap_or(1)
    }

    /// When an entry's time ends; [`Duration::MAX`] means never, and no clock need be read. If a tag of
    /// it was invalidated, it has ended at the beginning of time.
    #[inline]
    pub(crate) fn expires(&self, slot: u32) -> Duration {
        if self.plain {
            return Duration::MAX;
        }
        if let Some(tags) = self.tags.get(slot as usize)
            && !tags.are_current()
        {
            return Duration::ZERO;
        }
        match self.ends.get(slot as usize) {
            None | Some(&NEVER) => Duration::MAX,
            Some(&end) => Duration::from_nanos(end),
        }
    }

    #[cfg(feature = "std")]
    /// Whether a hit has to be noted with [`Engine::touch`].
    #[inline]
    pub(crate) fn is_idling(&self, slot: u32) -> bool {
        let idle = self.idles.get(slot as usize);
        idle.is_some_and(|idle| idle.idle != NEVER)
    }

    /// Prolongs the time of an entry that has a time to idle.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32, now: Duration) {
        if let Some(idle) = self.idles.get(slot as usize)
            && idle.idle != NEVER
        {
            self.ends[slot as usize] = nanos(now).saturating_add(idle.idle).min(idle.end);
        }
    }

    #[inline]
    pub(crate) fn hit(&mut self, slot: u32, hash: u64) {
        self.policy.hit(slot, hash);
    }

    #[cfg(feature = "std")]
    /// Notes a hit without exclusive access, if the policy can.
    #[inline]
    pub(crate) fn hit_shared(&self, slot: u32, hash: u64) -> bool {
        P::SHARES_HITS && self.policy.hit_shared(slot, hash)
    }

    /// Puts an entry in. The key must not be there, and there must be room.
    pub(crate) fn put(&mut self, new: New<K, V>) {
        if self.entries.len() == self.index.room() || self.entries.len() == self.entries.capacity()
        {
            self.grow();
        }
        let slot = slot_at(self.entries.len());
        self.stats.entries += 1;
        self.entries.push((new.key, new.value));
        self.note(slot, new.weight, new.end);
        self.index.insert(new.hash, slot);
        self.policy.insert(slot, new.hash, new.weight);
    }

    #[inline]
    fn note(&mut self, slot: u32, weight: u64, end: Option<End>) {
        self.stats.inserted += 1;
        // Who makes room for it is taken off after: in between the sum may pass 64 bits.
        self.stats.weight = self.stats.weight.wrapping_add(weight);
        if end.is_none() && weight == 1 && self.plain {
            return;
        }
        self.plain = false;
        self.note_all(slot, weight, end.unwrap_or_default());
    }

    fn note_all(&mut self, slot: u32, weight: u64, end: End) {
        let entries = self.entries.len();
        let ends = nanos(end.at);
        let idle = Idle {
            end: ends,
            idle: end.idle.map_or(NEVER, nanos),
        };
        let first = end
            .now
            .map_or(ends, |now| nanos(now).saturating_add(idle.idle).min(ends));
        if let Some(wheel) = &mut self.wheel {
            match first {
                NEVER => wheel.remove(slot),
                end => wheel.place(slot, end),
            }
        }
        set_or_leave_out(&mut self.weights, slot, weight, weight == 1, 1, entries);
        set_or_leave_out(&mut self.ends, slot, first, first == NEVER, NEVER, entries);
        let usual = idle.idle == NEVER;
        set_or_leave_out(&mut self.idles, slot, idle, usual, NOT_IDLE, entries);
        let usual = end.tags.is_empty();
        set_or_leave_out(
            &mut self.tags,
            slot,
            end.tags,
            usual,
            Tags::default(),
            entries,
        );
    }

    /// Puts an entry in the place of another one, which leaves and was perhaps foreseen.
    pub(crate) fn put_for(
        &mut self,
        slot: u32,
        new: New<K, V>,
        cause: Cause,
        foreseen: Option<(u32, u64)>,
    ) -> Gone<K, V> {
        let before = match foreseen {
            Some((foreseen, hash)) if foreseen == slot => hash,
            _ => self.hash(&self.entries[slot as usize].0),
        };
        self.policy
            .remove(slot, before, matches!(cause, Cause::Evicted));
        self.index.remove(before, slot);
        let gone = self.exchange(slot, new.key, new.value, cause);
        self.note(slot, new.weight, new.end);
        self.stats.weight = self.stats.weight.wrapping_sub(gone.weight);
        self.index.insert(new.hash, slot);
        self.policy.insert(slot, new.hash, new.weight);
        gone
    }

    /// Gives a key another value, where it is.
    pub(crate) fn replace(&mut self, slot: u32, new: New<K, V>) -> Gone<K, V> {
        let gone = self.exchange(slot, new.key, new.value, Cause::Replaced);
        self.note(slot, new.weight, new.end);
        self.stats.weight = self.stats.weight.wrapping_sub(gone.weight);
        self.policy.replaced(slot, new.hash, new.weight);
        gone
    }

    #[inline]
    fn exchange(&mut self, slot: u32, key: K, value: V, cause: Cause) -> Gone<K, V> {
        self.stats.left(cause);
        self.unpin(slot);
        let (weight, expires) = (self.weight(slot), self.expires(slot));
        let (key, value) = mem::replace(&mut self.entries[slot as usize], (key, value));
        Gone {
            key,
            value,
            weight,
            expires,
        }
    }

    /// Makes room: twice as much while that is less than what is expected, then an eighth more.
    fn grow(&mut self) {
        let now = self.entries.len();
        let room = if now < self.expected {
            (now * 2).max(FIRST).min(self.expected)
        } else {
            now + now / 8 + FIRST
        };
        reserve_exact(&mut self.entries, room);
        if !self.weights.is_empty() {
            reserve_exact(&mut self.weights, room);
        }
        if !self.ends.is_empty() {
            reserve_exact(&mut self.ends, room);
        }
        self.policy.reserve(room);
        if self.index.room() < room {
            self.index = Index::new(room);
            for (slot, (key, _)) in self.entries.iter().enumerate() {
                self.index.insert(self.hasher.hash_one(key), slot_at(slot));
            }
        }
    }

    /// Hashes the key of who is likely to leave next. Doing so before looking a newcomer up lets the
    /// processor fetch both at once.
    #[inline]
    pub(crate) fn foresee(&self) -> Option<(u32, u64)> {
        let slot = self.policy.likely_victim()?;
        let (key, _) = self.entries.get(slot as usize)?;
        Some((slot, self.hash(key)))
    }

    /// Takes an entry out; the last one takes its place.
    pub(crate) fn take(&mut self, slot: u32, cause: Cause) -> Gone<K, V> {
        let hash = self.hash(&self.entries[slot as usize].0);
        self.policy
            .remove(slot, hash, matches!(cause, Cause::Evicted));
        self.index.remove(hash, slot);
        let last = slot_at(self.entries.len() - 1);
        if slot != last {
            let hash = self.hash(&self.entries[last as usize].0);
            self.index.rename(hash, last, slot);
            self.policy.moved(last, slot);
        }
        let (weight, expires) = (self.weight(slot), self.expires(slot));
        if !self.plain {
            self.unpin(slot);
            self.take_columns(slot, last);
        }
        let (key, value) = self.entries.swap_remove(slot as usize);
        self.stats.entries -= 1;
        self.stats.weight -= weight;
        self.stats.left(cause);
        Gone {
            key,
            value,
            weight,
            expires,
        }
    }

    fn take_columns(&mut self, slot: u32, last: u32) {
        if let Some(wheel) = &mut self.wheel {
            wheel.remove(slot);
            if slot != last {
                wheel.moved(last, slot);
            }
        }
        swap_remove(&mut self.weights, slot, last);
        swap_remove(&mut self.ends, slot, last);
        swap_remove(&mut self.idles, slot, last);
        swap_remove(&mut self.tags, slot, last);
        swap_remove(&mut self.pins, slot, last);
    }

    /// Takes out every entry that `doomed` names, given the key, the value and when its time ends.
    pub(crate) fn take_where(
        &mut self,
        cause: Cause,
        mut doomed: impl FnMut(&K, &V, Duration) -> bool,
    ) -> Vec<Gone<K, V>> {
        let mut gone = Vec::new();
        // From the end: what takes the place of one that left has been looked at.
        for slot in (0..slot_at(self.entries.len())).rev() {
            let (key, value) = &self.entries[slot as usize];
            if doomed(key, value, self.expires(slot)) {
                gone.push(self.take(slot, cause));
            }
        }
        gone
    }

    /// Entries with when their time ends.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V, Duration)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(slot, (key, value))| (key, value, self.expires(slot_at(slot))))
    }

    /// Checks what must hold between any two calls. O(entries).
    ///
    /// # Panics
    ///
    /// If something does not.
    pub(crate) fn validate(&self) {
        let entries = self.entries.len();
        let mut weight = 0;
        for (slot, (key, _)) in self.entries.iter().enumerate() {
            let slot = slot_at(slot);
            let found = self.index.find(self.hash(key), |at| at == slot);
            assert_eq!(found, Some(slot), "the index leads to each entry");
            weight += self.weight(slot);
        }
        assert_eq!(self.stats.weight, weight, "the weights add up");
        assert_eq!(self.stats.entries, entries as u64, "and so do the entries");
        let columns = [
            self.weights.len(),
            self.ends.len(),
            self.idles.len(),
            self.tags.len(),
        ];
        assert!(columns.iter().all(|len| *len == 0 || *len == entries));
        assert!(!self.plain || columns == [0; 4], "no column is in use");
        let mut order = self.policy.order();
        order.sort_unstable();
        let all = order.iter().copied().eq(0..slot_at(entries));
        assert!(order.is_empty() || all, "the policy knows each slot once");
    }

    /// Bytes on the heap, without what keys and values own there.
    pub(crate) fn memory(&self) -> usize {
        self.index.memory()
            + self.entries.capacity() * size_of::<(K, V)>()
            + self.weights.capacity() * size_of::<u64>()
            + (self.ends.capacity() * size_of::<u64>())
            + self.idles.capacity() * size_of::<Idle>()
            + self.tags.capacity() * size_of::<Tags>()
            + self.pins.capacity()
            + self.wheel.as_ref().map_or(0, |wheel| wheel.memory())
            + self.policy.memory()
    }
}

/// Sets a cell of a column that is empty while all its cells have the usual value, and as long as the
/// slab otherwise.
fn set_or_leave_out<T: Clone>(
    column: &mut Vec<T>,
    slot: u32,
    value: T,
    is_usual: bool,
    usual: T,
    entries: usize,
) {
    if column.is_empty() && is_usual {
        return;
    }
    column.resize(entries, usual);
    column[slot as usize] = value;
}

/// Takes a cell out of such a column of which `last` is the last slot.
fn swap_remove<T>(column: &mut Vec<T>, slot: u32, last: u32) {
    if column.len() > last as usize {
        column.swap_remove(slot as usize);
    }
}
