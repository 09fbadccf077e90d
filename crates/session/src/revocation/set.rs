//! The sessions that have ended: an exact set of 64-bit hashes that readers look into without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::filter::Filter;
use crate::time::Timestamp;

/// Open addressing with linear probing. A hash is written once, after its end, and never taken out: sweeping
/// makes a new table. Zero is no hash.
struct Slots {
    hashes: Box<[AtomicU64]>,
    /// Seconds since the epoch, until 2106.
    ends: Box<[AtomicU32]>,
}

/// Twelve bytes a slot, between a quarter and five eighths of the slots in use, and a filter before them.
pub(super) struct Set {
    filter: Filter,
    slots: ArcSwap<Slots>,
    len: AtomicUsize,
}

const SLOTS_MIN: usize = 16;

impl Slots {
    fn new(slots: usize) -> Self {
        Self {
            hashes: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            ends: (0..slots).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Where the hash is, or the free slot where it would be.
    fn find(&self, hash: u64) -> (usize, bool) {
        let mask = self.hashes.len() - 1;
        // The hash is keyed: nobody outside can aim at one slot.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low bits choose the slot"
        )]
        let mut at = hash as usize & mask;
        loop {
            match self.hashes[at].load(Ordering::Acquire) {
                0 => return (at, false),
                held if held == hash => return (at, true),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn put(&self, hash: u64, end: u32) -> bool {
        let (at, known) = self.find(hash);
        self.ends[at].fetch_max(end, Ordering::Release);
        self.hashes[at].store(hash, Ordering::Release);
        !known
    }

    fn entries(&self) -> impl Iterator<Item = (u64, u32)> {
        let ends = self.ends.iter().map(|end| end.load(Ordering::Acquire));
        (self.hashes.iter().map(|hash| hash.load(Ordering::Acquire)))
            .zip(ends)
            .filter(|(hash, _)| *hash != 0)
    }
}

fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn some(hash: u64) -> u64 {
    hash.max(1)
}

impl Set {
    pub(super) fn new() -> Self {
        Self {
            filter: Filter::new(),
            slots: ArcSwap::from_pointee(Slots::new(SLOTS_MIN)),
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(super) fn has(&self, hash: u64) -> bool {
        self.slots.load().find(some(hash)).1
    }

    /// Whether the hash is held and counts longer than `now`.
    #[inline]
    pub(super) fn counts(&self, hash: u64, now: Timestamp) -> bool {
        let hash = some(hash);
        self.filter.may_hold(hash) && self.counts_in_table(hash, now)
    }

    #[cold]
    fn counts_in_table(&self, hash: u64, now: Timestamp) -> bool {
        let slots = self.slots.load();
        let (at, known) = slots.find(hash);
        known && slots.ends[at].load(Ordering::Acquire) > seconds(now)
    }

    /// Keeps a hash until `end` at least. One writer at a time.
    pub(super) fn put(&self, hash: u64, end: Timestamp) {
        let (slots, hash) = (self.slots.load(), some(hash));
        if slots.put(hash, seconds(end)) {
            let len = self.len.fetch_add(1, Ordering::Relaxed) + 1;
            if len * 8 > slots.hashes.len() * 5 {
                self.rebuild(slots.hashes.len() * 2, |_| true);
            }
            if !self.filter.put(hash) {
                self.refill();
            }
        }
    }

    /// Forgets what ended at `now` or before. One writer at a time.
    pub(super) fn sweep(&self, now: Timestamp) {
        let keep = |end: u32| end > seconds(now);
        let left = self
            .slots
            .load()
            .entries()
            .filter(|(_, end)| keep(*end))
            .count();
        self.rebuild((left * 2).next_power_of_two().max(SLOTS_MIN), keep);
        self.refill();
    }

    fn refill(&self) {
        let slots = self.slots.load();
        self.filter
            .refill(self.len(), slots.entries().map(|(hash, _)| hash));
    }

    fn rebuild(&self, slots: usize, keep: impl Fn(u32) -> bool) {
        let new = Slots::new(slots);
        let mut len = 0;
        for (hash, end) in self.slots.load().entries().filter(|(_, end)| keep(*end)) {
            new.put(hash, end);
            len += 1;
        }
        self.slots.store(Arc::new(new));
        self.len.store(len, Ordering::Relaxed);
    }

    /// Hash and end of each.
    pub(super) fn entries(&self) -> Vec<(u64, Timestamp)> {
        let slots = self.slots.load();
        let entries = slots.entries();
        entries
            .map(|(hash, end)| (hash, Timestamp::from_secs(end.into())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_set_is_as_a_map_while_it_grows_is_swept_and_meets_collisions() {
        let (set, mut model) = (Set::new(), HashMap::<u64, u64>::new());
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Few low bits, so that many hashes want the same slots.
            let hash = ((state >> 40) << 10 | (state >> 20) & 3).max(1);
            let end = 1_000 + step / 10 + (state >> 50);
            set.put(hash, Timestamp::from_secs(end));
            let held = model.entry(hash).or_default();
            *held = end.max(*held);
            if step % 5_000 == 4_999 {
                let now = 1_000 + step / 10;
                set.sweep(Timestamp::from_secs(now));
                model.retain(|_, end| *end > now);
            }
            assert_eq!(set.len(), model.len());
        }
        for (hash, end) in &model {
            assert!(set.counts(*hash, Timestamp::from_secs(end - 1)));
            assert!(!set.counts(*hash, Timestamp::from_secs(*end)));
            assert_eq!(set.has(hash + 4), model.contains_key(&(hash + 4)));
        }
        let mut entries: Vec<_> = set.entries();
        entries.sort_unstable();
        let mut expected: Vec<_> = (model.into_iter())
            .map(|(hash, end)| (hash, Timestamp::from_secs(end)))
            .collect();
        expected.sort_unstable();
        assert_eq!(entries, expected);
    }

    #[test]
    fn readers_see_every_hash_that_was_put_before_while_the_table_grows() {
        let set = Set::new();
        let put = AtomicUsize::new(0);
        let hash = |number: usize| (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let now = Timestamp::from_secs(1);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < 20_000 {
                        seen = put.load(Ordering::Acquire);
                        for number in (0..seen).step_by(97) {
                            assert!(set.counts(hash(number), now), "{number} of {seen}");
                        }
                    }
                });
            }
            for number in 0..20_000 {
                set.put(hash(number), Timestamp::from_secs(9));
                put.store(number + 1, Ordering::Release);
            }
        });
    }
}
