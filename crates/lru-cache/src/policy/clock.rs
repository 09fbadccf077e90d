//! CLOCK: first in, first out with a second chance for whoever was read.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Policy;
use crate::list::{Ends, Links, reserve_exact, set};

/// CLOCK (Corbató, "A paging experiment with the Multics system", 1968): a read only sets a bit; the
/// oldest entry leaves, but one whose bit is set is put at the end instead, its bit cleared. Nearly as
/// good as LRU, with reads that change no order. Takes 9 bytes a slot.
#[derive(Debug, Default)]
pub struct Clock {
    links: Links,
    queue: Ends,
    read: Vec<AtomicBool>,
}

impl Policy for Clock {
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
        self.links.remove(&mut self.queue, slot);
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        self.links.moved(&mut self.queue, from, to);
        self.read.swap(from as usize, to as usize);
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        loop {
            let oldest = self.queue.first()?;
            let read = self.read[oldest as usize].get_mut();
            if !*read {
                return Some(oldest);
            }
            *read = false;
            self.links.move_back(&mut self.queue, oldest);
        }
    }

    const SHARES_HITS: bool = true;

    #[inline]
    fn hit_shared(&self, slot: u32, _hash: u64) -> bool {
        self.read[slot as usize].store(true, Ordering::Relaxed);
        true
    }

    #[inline]
    fn likely_victim(&self) -> Option<u32> {
        self.queue.first()
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
