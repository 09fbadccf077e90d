//! First in, first out: the cheapest, and the honest baseline.

use super::Policy;
use crate::list::{Ends, Links};

/// First in, first out. Reads change nothing.
#[derive(Debug, Clone, Default)]
pub struct Fifo {
    links: Links,
    queue: Ends,
}

impl Policy for Fifo {
    fn insert(&mut self, slot: u32, _hash: u64) {
        self.links.push_back(&mut self.queue, slot);
    }

    fn hit(&mut self, _slot: u32) {}

    fn remove(&mut self, slot: u32) {
        self.links.remove(&mut self.queue, slot);
    }

    fn victim(&mut self) -> Option<u32> {
        self.queue.first()
    }
}
