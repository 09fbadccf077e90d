//! Least recently used: good where the recent past foretells the near future.

use super::Policy;
use crate::list::{Ends, Links};

/// Least recently used. One scan over more keys than fit flushes it; see [`Sieve`](super::Sieve) or
/// [`Lfu`](super::Lfu) for that.
#[derive(Debug, Clone, Default)]
pub struct Lru {
    links: Links,
    queue: Ends,
}

impl Policy for Lru {
    fn insert(&mut self, slot: u32, _hash: u64) {
        self.links.push_back(&mut self.queue, slot);
    }

    fn hit(&mut self, slot: u32) {
        self.links.remove(&mut self.queue, slot);
        self.links.push_back(&mut self.queue, slot);
    }

    fn remove(&mut self, slot: u32) {
        self.links.remove(&mut self.queue, slot);
    }

    fn victim(&mut self) -> Option<u32> {
        self.queue.first()
    }
}
