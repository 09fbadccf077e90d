//! Least frequently used, with ageing so that yesterday's favourites leave at last.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Policy;
use crate::list::{Ends, Links, reserve_exact, set};

/// Frequencies are counted up to this and no further.
const COUNT_MAX: u8 = 63;

/// All counts are halved after so many hits for each entry.
const AGE_AFTER: u64 = 10;

/// Least frequently used; of those, the one that has had its frequency longest.
///
/// Counts go to 63 and are halved whenever there were ten hits for each entry (the ageing of
/// TinyLFU's reset, Einziger, Friedman and Manes 2017), at an amortised O(1) a hit.
#[derive(Debug, Clone)]
pub struct Lfu {
    links: Links,
    /// One queue for each frequency.
    queues: Box<[Ends; COUNT_MAX as usize + 1]>,
    counts: Vec<u8>,
    /// A bit for each queue that is not empty.
    occupied: u64,
    entries: u64,
    hits: u64,
}

impl Default for Lfu {
    fn default() -> Self {
        Self {
            links: Links::default(),
            queues: Box::new([Ends::default(); COUNT_MAX as usize + 1]),
            counts: Vec::new(),
            occupied: 0,
            entries: 0,
            hits: 0,
        }
    }
}

impl Lfu {
    fn join(&mut self, slot: u32, count: u8) {
        self.counts[slot as usize] = count;
        self.links
            .push_back(&mut self.queues[usize::from(count)], slot);
        self.occupied |= 1 << count;
    }

    fn leave(&mut self, slot: u32) -> u8 {
        let count = self.counts[slot as usize];
        let queue = &mut self.queues[usize::from(count)];
        self.links.remove(queue, slot);
        if queue.first().is_none() {
            self.occupied &= !(1 << count);
        }
        count
    }

    /// Halves all counts, keeping the order within and between queues.
    fn age(&mut self) {
        self.hits = 0;
        for count in 1..=COUNT_MAX {
            while let Some(slot) = self.queues[usize::from(count)].first() {
                self.leave(slot);
                self.join(slot, count / 2);
            }
        }
    }
}

impl Policy for Lfu {
    #[inline]
    fn insert(&mut self, slot: u32, _hash: u64, _weight: u64) {
        set(&mut self.counts, slot, 0);
        self.entries += 1;
        self.join(slot, 0);
    }

    #[inline]
    fn hit(&mut self, slot: u32, _hash: u64) {
        let count = self.leave(slot);
        self.join(slot, count.saturating_add(1).min(COUNT_MAX));
        self.hits += 1;
        if self.hits >= AGE_AFTER * self.entries {
            self.age();
        }
    }

    #[inline]
    fn remove(&mut self, slot: u32, _hash: u64, _evicted: bool) {
        self.leave(slot);
        self.entries -= 1;
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        let count = self.counts[from as usize];
        self.counts[to as usize] = count;
        let queue = &mut self.queues[usize::from(count)];
        self.links.moved(queue, from, to);
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        let lowest = self.occupied.trailing_zeros() as usize;
        self.queues.get(lowest)?.first()
    }

    fn reserve(&mut self, slots: usize) {
        self.links.reserve(slots);
        reserve_exact(&mut self.counts, slots);
    }

    fn memory(&self) -> usize {
        self.links.memory() + self.counts.capacity() + size_of_val(&*self.queues)
    }
}
