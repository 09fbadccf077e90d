//! W-TinyLFU: a small LRU window, and a main part that only the more popular one enters.

use alloc::vec::Vec;

use super::Policy;
use super::sketch::Sketch;
use crate::list::{Ends, Links, reserve_exact, set};

/// One entry in so many is in the window.
const WINDOW_SHARE: usize = 100;
/// Of the main part, so many hundredths are protected at most.
const PROTECTED: usize = 80;

/// Which queue an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Window,
    Probation,
    Protected,
}

/// W-TinyLFU (Einziger, Friedman and Manes, ACM ToS 2017): newcomers pass through an LRU window of a
/// hundredth of the entries. Who falls out of it competes with the one that the main part, a segmented
/// LRU, would let go; the one that was asked for more often lately stays. Frequencies are kept in a
/// count-min sketch of 4 bits that is halved after ten requests for each entry, which takes O(entries).
///
/// Takes 17 bytes a slot and 4 to 8 for the sketch. Best where popularity is stable, bad for bursts.
#[derive(Debug, Clone, Default)]
pub struct WTinyLfu {
    links: Links,
    parts: Vec<Part>,
    /// For those that compete.
    hashes: Vec<u64>,
    window: Ends,
    probation: Ends,
    protected: Ends,
    window_len: usize,
    probation_len: usize,
    protected_len: usize,
    sketch: Sketch,
}

impl WTinyLfu {
    fn queue(&mut self, part: Part) -> (&mut Ends, &mut usize, &mut Links) {
        match part {
            Part::Window => (&mut self.window, &mut self.window_len, &mut self.links),
            Part::Probation => (
                &mut self.probation,
                &mut self.probation_len,
                &mut self.links,
            ),
            Part::Protected => (
                &mut self.protected,
                &mut self.protected_len,
                &mut self.links,
            ),
        }
    }

    fn leave(&mut self, slot: u32) {
        let (ends, len, links) = self.queue(self.parts[slot as usize]);
        links.remove(ends, slot);
        *len -= 1;
    }

    fn join(&mut self, slot: u32, part: Part) {
        self.parts[slot as usize] = part;
        let (ends, len, links) = self.queue(part);
        links.push_back(ends, slot);
        *len += 1;
    }

    const fn len(&self) -> usize {
        self.window_len + self.probation_len + self.protected_len
    }

    fn window_max(&self) -> usize {
        (self.len() / WINDOW_SHARE).max(1)
    }
}

impl Policy for WTinyLfu {
    #[inline]
    fn insert(&mut self, slot: u32, hash: u64, _weight: u64) {
        self.sketch.add(hash);
        set(&mut self.hashes, slot, hash);
        set(&mut self.parts, slot, Part::Window);
        self.join(slot, Part::Window);
        while self.window_len > self.window_max() {
            let Some(oldest) = self.window.first() else {
                break;
            };
            self.leave(oldest);
            self.join(oldest, Part::Probation);
        }
    }

    #[inline]
    fn hit(&mut self, slot: u32, hash: u64) {
        self.sketch.add(hash);
        let part = self.parts[slot as usize];
        self.leave(slot);
        if part == Part::Window {
            self.join(slot, Part::Window);
            return;
        }
        self.join(slot, Part::Protected);
        let most = (self.probation_len + self.protected_len) * PROTECTED / 100;
        if self.protected_len > most.max(1)
            && let Some(oldest) = self.protected.first()
        {
            self.leave(oldest);
            self.join(oldest, Part::Probation);
        }
    }

    #[inline]
    fn replaced(&mut self, slot: u32, hash: u64, _weight: u64) {
        self.hit(slot, hash);
    }

    #[inline]
    fn remove(&mut self, slot: u32, _hash: u64, _evicted: bool) {
        self.leave(slot);
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        let part = self.parts[from as usize];
        let (ends, _, links) = self.queue(part);
        links.moved(ends, from, to);
        self.parts[to as usize] = part;
        self.hashes[to as usize] = self.hashes[from as usize];
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        let settled = self.probation.first().or_else(|| self.protected.first());
        if self.window_len < self.window_max() {
            return settled.or_else(|| self.window.first());
        }
        let (Some(candidate), Some(settled)) = (self.window.first(), settled) else {
            return settled.or_else(|| self.window.first());
        };
        let count = |slot: u32| self.sketch.count(self.hashes[slot as usize]);
        if count(candidate) <= count(settled) {
            return Some(candidate);
        }
        self.leave(candidate);
        self.join(candidate, Part::Probation);
        Some(settled)
    }

    fn reserve(&mut self, slots: usize) {
        self.links.reserve(slots);
        reserve_exact(&mut self.parts, slots);
        reserve_exact(&mut self.hashes, slots);
        self.sketch.resize(slots);
    }

    fn memory(&self) -> usize {
        self.links.memory()
            + self.parts.capacity()
            + self.hashes.capacity() * 8
            + self.sketch.memory()
    }
}
