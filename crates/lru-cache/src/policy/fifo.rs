//! First in, first out: the cheapest, and the honest baseline.

use alloc::vec::Vec;

use super::Policy;
use crate::list::{Ends, Links};

/// First in, first out. Reads change nothing. Takes 8 bytes a slot.
#[derive(Debug, Clone, Default)]
pub struct Fifo {
    links: Links,
    queue: Ends,
}

impl Policy for Fifo {
    #[inline]
    fn insert(&mut self, slot: u32, _hash: u64, _weight: u64) {
        self.links.push_back(&mut self.queue, slot);
    }

    #[inline]
    fn hit(&mut self, _slot: u32, _hash: u64) {}

    #[inline]
    fn remove(&mut self, slot: u32, _hash: u64, _evicted: bool) {
        self.links.remove(&mut self.queue, slot);
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        self.links.moved(&mut self.queue, from, to);
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        self.queue.first()
    }

    const SHARES_HITS: bool = true;

    #[inline]
    fn hit_shared(&self, _slot: u32, _hash: u64) -> bool {
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
    }

    fn memory(&self) -> usize {
        self.links.memory()
    }
}
