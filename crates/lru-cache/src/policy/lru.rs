//! Least recently used: the classic.

use alloc::vec::Vec;

use super::Policy;
use crate::list::{Ends, Links};

/// Least recently used. A read moves the entry to the end of the queue. Takes 8 bytes a slot.
#[derive(Debug, Clone, Default)]
pub struct Lru {
    links: Links,
    queue: Ends,
}

impl Policy for Lru {
    #[inline]
    fn insert(&mut self, slot: u32, _hash: u64, _weight: u64) {
        self.links.push_back(&mut self.queue, slot);
    }

    #[inline]
    fn hit(&mut self, slot: u32, _hash: u64) {
        self.links.move_back(&mut self.queue, slot);
    }

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
