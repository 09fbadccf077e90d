//! SIEVE: a queue, a bit an entry, and a hand that spares whoever was read.

use alloc::vec::Vec;

use super::Policy;
use crate::list::{Ends, Links};

/// SIEVE (Zhang and others, NSDI 2024): a hit only sets a bit; the hand goes from the oldest to the
/// newest, clears bits, and stops at the first entry that was not read. Resists scans better than LRU.
#[derive(Debug, Clone, Default)]
pub struct Sieve {
    links: Links,
    queue: Ends,
    read: Vec<bool>,
    hand: Option<u32>,
}

impl Policy for Sieve {
    fn insert(&mut self, slot: u32, _hash: u64) {
        if slot as usize >= self.read.len() {
            self.read.resize(slot as usize + 1, false);
        }
        self.read[slot as usize] = false;
        self.links.push_back(&mut self.queue, slot);
    }

    fn hit(&mut self, slot: u32) {
        self.read[slot as usize] = true;
    }

    fn remove(&mut self, slot: u32) {
        if self.hand == Some(slot) {
            self.hand = self.links.next(slot);
        }
        self.links.remove(&mut self.queue, slot);
    }

    fn victim(&mut self) -> Option<u32> {
        let mut at = self.hand.or_else(|| self.queue.first())?;
        while self.read[at as usize] {
            self.read[at as usize] = false;
            at = self.links.next(at).or_else(|| self.queue.first())?;
        }
        self.hand = Some(at);
        Some(at)
    }
}
