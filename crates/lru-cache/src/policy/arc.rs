//! ARC: recency and frequency share the cache, and what returns tells who should have more of it.

use alloc::vec::Vec;

use super::Policy;
use crate::index::Index;
use crate::list::{Ends, Links, reserve_exact, set, slot_at};

/// The adaptive replacement cache (Megiddo and Modha, FAST 2003): one LRU queue for entries asked for
/// once and one for those asked for again; for both the departures are remembered, together as many as
/// there are entries, and a return to the one side gives that side more of the cache.
///
/// A hit changes the order. Takes 9 bytes a slot and 23 for each departure remembered.
#[derive(Debug)]
pub struct Arc {
    links: Links,
    frequent: Vec<bool>,
    recency: Ends,
    recency_len: usize,
    frequency: Ends,
    frequency_len: usize,
    /// What the recency queue should have.
    target: usize,
    ghosts: Ghosts,
    /// The newcomer for whom the target was moved already.
    moved_for: Option<u64>,
}

impl Default for Arc {
    fn default() -> Self {
        Self {
            links: Links::default(),
            frequent: Vec::new(),
            recency: Ends::default(),
            recency_len: 0,
            frequency: Ends::default(),
            frequency_len: 0,
            target: 0,
            ghosts: Ghosts::new(),
            moved_for: None,
        }
    }
}

impl Arc {
    const fn len(&self) -> usize {
        self.recency_len + self.frequency_len
    }

    fn leave(&mut self, slot: u32) -> bool {
        let frequent = self.frequent[slot as usize];
        if frequent {
            self.links.remove(&mut self.frequency, slot);
            self.frequency_len -= 1;
        } else {
            self.links.remove(&mut self.recency, slot);
            self.recency_len -= 1;
        }
        frequent
    }

    fn join(&mut self, slot: u32, frequent: bool) {
        set(&mut self.frequent, slot, frequent);
        if frequent {
            self.links.push_back(&mut self.frequency, slot);
            self.frequency_len += 1;
        } else {
            self.links.push_back(&mut self.recency, slot);
            self.recency_len += 1;
        }
    }

    /// Moves the target for a newcomer that left before, once; says from which side it left.
    fn welcome(&mut self, hash: u64, capacity: usize) -> Option<bool> {
        let frequent = self.ghosts.side(hash)?;
        if self.moved_for.replace(hash) != Some(hash) {
            let [recent, often] = self.ghosts.lens;
            if frequent {
                self.target = self.target.saturating_sub((recent / often.max(1)).max(1));
            } else {
                let more = (often / recent.max(1)).max(1);
                self.target = (self.target + more).min(capacity);
            }
        }
        Some(frequent)
    }
}

impl Policy for Arc {
    #[inline]
    fn insert(&mut self, slot: u32, hash: u64, _weight: u64) {
        let capacity = self.len() + 1;
        let returned = self.welcome(hash, capacity).is_some();
        self.moved_for = None;
        if returned {
            self.ghosts.forget(hash);
        }
        self.join(slot, returned);
        if self.recency_len + self.ghosts.lens[0] > capacity {
            self.ghosts.forget_oldest(false);
        }
        if self.len() + self.ghosts.lens[0] + self.ghosts.lens[1] > 2 * capacity {
            self.ghosts.forget_oldest(true);
        }
    }

    #[inline]
    fn hit(&mut self, slot: u32, _hash: u64) {
        self.leave(slot);
        self.join(slot, true);
    }

    #[inline]
    fn replaced(&mut self, slot: u32, hash: u64, _weight: u64) {
        self.hit(slot, hash);
    }

    #[inline]
    fn remove(&mut self, slot: u32, hash: u64, evicted: bool) {
        let frequent = self.leave(slot);
        if evicted {
            self.ghosts.remember(hash, frequent);
        }
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        let frequent = self.frequent[from as usize];
        self.frequent[to as usize] = frequent;
        let ends = if frequent {
            &mut self.frequency
        } else {
            &mut self.recency
        };
        self.links.moved(ends, from, to);
    }

    #[inline]
    fn victim(&mut self, newcomer: Option<u64>) -> Option<u32> {
        let capacity = self.len();
        let returned = newcomer.and_then(|hash| self.welcome(hash, capacity));
        let recency_due = self.recency_len > self.target
            || returned == Some(true) && self.recency_len == self.target;
        match (self.recency.first(), self.frequency.first()) {
            (Some(oldest), _) if recency_due => Some(oldest),
            (recent, often) => often.or(recent),
        }
    }

    fn reserve(&mut self, slots: usize) {
        self.links.reserve(slots);
        reserve_exact(&mut self.frequent, slots);
        self.ghosts.reserve(slots);
    }

    fn memory(&self) -> usize {
        self.links.memory() + self.frequent.capacity() + self.ghosts.memory()
    }
}

/// Departures from both sides, exact, in a dense slab of their own.
#[derive(Debug)]
struct Ghosts {
    index: Index,
    /// The hash, and whether it left the frequency side.
    hashes: Vec<(u64, bool)>,
    links: Links,
    ends: [Ends; 2],
    lens: [usize; 2],
}

impl Ghosts {
    fn new() -> Self {
        Self {
            index: Index::new(0),
            hashes: Vec::new(),
            links: Links::default(),
            ends: [Ends::default(); 2],
            lens: [0; 2],
        }
    }

    fn find(&self, hash: u64) -> Option<u32> {
        let is = |at: u32| {
            self.hashes
                .get(at as usize)
                .is_some_and(|known| known.0 == hash)
        };
        self.index.find(hash, is)
    }

    fn side(&self, hash: u64) -> Option<bool> {
        Some(self.hashes[self.find(hash)? as usize].1)
    }

    fn remember(&mut self, hash: u64, frequent: bool) {
        if self.find(hash).is_some() {
            self.forget(hash);
        }
        if self.hashes.len() == self.index.room() {
            self.reserve(self.hashes.len() * 2);
        }
        let at = slot_at(self.hashes.len());
        self.hashes.push((hash, frequent));
        self.index.insert(hash, at);
        let side = usize::from(frequent);
        self.links.push_back(&mut self.ends[side], at);
        self.lens[side] += 1;
    }

    fn forget(&mut self, hash: u64) {
        let Some(at) = self.find(hash) else {
            return;
        };
        let side = usize::from(self.hashes[at as usize].1);
        self.links.remove(&mut self.ends[side], at);
        self.lens[side] -= 1;
        self.index.remove(hash, at);
        let last = slot_at(self.hashes.len() - 1);
        if at != last {
            let (other, frequent) = self.hashes[last as usize];
            self.index.rename(other, last, at);
            self.links
                .moved(&mut self.ends[usize::from(frequent)], last, at);
        }
        self.hashes.swap_remove(at as usize);
    }

    fn forget_oldest(&mut self, frequent: bool) {
        if let Some(oldest) = self.ends[usize::from(frequent)].first() {
            self.forget(self.hashes[oldest as usize].0);
        }
    }

    fn reserve(&mut self, ghosts: usize) {
        if self.index.room() < ghosts {
            self.index = Index::new(ghosts);
            for (at, (hash, _)) in self.hashes.iter().enumerate() {
                self.index.insert(*hash, slot_at(at));
            }
        }
        reserve_exact(&mut self.hashes, ghosts);
        self.links.reserve(ghosts);
    }

    const fn memory(&self) -> usize {
        self.index.memory()
            + self.hashes.capacity() * size_of::<(u64, bool)>()
            + self.links.memory()
    }
}
