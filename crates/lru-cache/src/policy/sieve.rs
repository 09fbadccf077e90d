//! SIEVE: a queue, a bit an entry, and a hand that spares whoever was read.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Policy;
use crate::list::{Ends, Links, reserve_exact, set};

/// SIEVE (Zhang and others, NSDI 2024): a hit only sets a bit; the hand goes from the oldest to the
/// newest, clears bits, and stops at the first entry that was not read. Good on skewed traffic, and not
/// resistant to scans. Takes 9 bytes a slot.
#[derive(Debug, Default)]
pub struct Sieve {
    links: Links,
    queue: Ends,
    read: Vec<AtomicBool>,
    hand: Option<u32>,
}

impl Policy for Sieve {
    #[inline]
    fn insert(&mut self, slot: u32, _hash: u64, _weight: u64) {
        set(&mut self.read, slot, AtomicBool::new(false));
        self.links.push_back(&mut self.queue, slot);
    }

    #[inline]
    fn hit(&mut self, slot: u32, _hash: u64) {
        *self.read[slot as usize].get_mut() = true;
    }

    #[inline]
    fn remove(&mut self, slot: u32, _hash: u64, _evicted: bool) {
        if self.hand == Some(slot) {
            self.hand = self.links.next(slot);
        }
        self.links.remove(&mut self.queue, slot);
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        self.links.moved(&mut self.queue, from, to);
        self.read.swap(from as usize, to as usize);
        if self.hand == Some(from) {
            self.hand = Some(to);
        }
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        let mut at = self.hand.or_else(|| self.queue.first())?;
        loop {
            let read = self.read[at as usize].get_mut();
            if !*read {
                break;
            }
            *read = false;
            at = self.links.next(at).or_else(|| self.queue.first())?;
        }
        self.hand = Some(at);
        Some(at)
    }

    const SHARES_HITS: bool = true;

    #[inline]
    fn hit_shared(&self, slot: u32, _hash: u64) -> bool {
        self.read[slot as usize].store(true, Ordering::Relaxed);
        true
    }

    #[inline]
    fn likely_victim(&self) -> Option<u32> {
        self.hand
    }

    fn order(&self) -> Vec<u32> {
        self.links.iter(&self.queue).collect()
    }

    fn reserve(&mut self, slots: usize) {
        self.links.reserve(slots);
        reserve_exact(&mut self.read, slots);
    }

    fn memory(&self) -> usize {
        self.links.memory() + self.read.capacity()
    }
}
