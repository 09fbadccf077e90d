//! A cache in miniature: keys alone, a sample of them, to see what other settings would have done.

use alloc::vec::Vec;

use super::ghost::Counted;
use super::queues::{Queues, Settings};
use crate::index::Index;
use crate::list::slot_at;

/// One cache in miniature.
#[derive(Debug)]
pub(super) struct Shadow {
    index: Index,
    hashes: Vec<u64>,
    queues: Queues<Counted>,
    capacity: usize,
    /// Misses, of which older ones count less and less.
    pub(super) misses: f64,
}

impl Shadow {
    /// With room for so many thousandths of ghosts, as the cache has.
    pub(super) fn new(settings: Settings, capacity: usize, ghosts: usize) -> Self {
        let mut queues = Queues::new(settings);
        queues.reserve(capacity, capacity * ghosts / 1000);
        Self {
            index: Index::new(capacity),
            hashes: Vec::with_capacity(capacity),
            queues,
            capacity,
            misses: 0.0,
        }
    }

    /// Goes on with other settings, with what it has.
    pub(super) const fn set(&mut self, settings: Settings) {
        self.queues.settings = settings;
    }

    pub(super) const fn memory(&self) -> usize {
        self.index.memory() + self.hashes.capacity() * 8 + self.queues.memory()
    }

    /// A key is asked for, and put in if it is not there.
    pub(super) fn ask(&mut self, hash: u64) {
        let is = |slot: u32| self.hashes.get(slot as usize) == Some(&hash);
        if let Some(slot) = self.index.find(hash, is) {
            self.queues.hit(slot);
            return;
        }
        self.misses += 1.0;
        let slot = if self.hashes.len() < self.capacity {
            self.hashes.push(hash);
            slot_at(self.hashes.len() - 1)
        } else {
            let Some(slot) = self.queues.victim() else {
                return;
            };
            let before = core::mem::replace(&mut self.hashes[slot as usize], hash);
            self.queues.remove(slot, before, true);
            self.index.remove(before, slot);
            slot
        };
        self.index.insert(hash, slot);
        self.queues.insert(slot, hash);
    }
}
