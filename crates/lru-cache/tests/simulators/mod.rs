//! Policies as their papers tell them, over keys alone, the slow and plain way.

use std::collections::{BTreeMap, HashMap};

pub(crate) mod agreement;
mod classic;
mod queues;
mod weighed;

pub(crate) use classic::WTinyLfu;
use classic::{Arc, Clock, Fifo, Lfu, Lru, Sieve};
pub(crate) use queues::{Adaptive, s3_fifo, two_q};
use weighed::Gdsf;

/// A cache that says whether it had a key, and has it from then on.
pub(crate) trait Simulator {
    fn ask(&mut self, key: u64, weight: u64) -> bool;
}

/// What spreads the keys; the caches under test hash with it too.
pub(crate) const fn mix(key: u64) -> u64 {
    let mut bits = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// The room of a cache that grows: what a policy learned is lost each time.
pub(crate) fn grown(room: usize, capacity: usize) -> usize {
    (room * 2).max(8).min(capacity)
}

/// A queue from which one may take any key out.
#[derive(Default)]
pub(crate) struct Line {
    order: BTreeMap<u64, u64>,
    at: HashMap<u64, u64>,
    next: u64,
}

impl Line {
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    pub(crate) fn has(&self, key: u64) -> bool {
        self.at.contains_key(&key)
    }

    pub(crate) fn push(&mut self, key: u64) {
        self.next += 1;
        self.order.insert(self.next, key);
        self.at.insert(key, self.next);
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.order.values().next().copied()
    }

    pub(crate) fn after(&self, key: u64) -> Option<u64> {
        let place = self.at.get(&key)?;
        self.order.range(place + 1..).next().map(|(_, key)| *key)
    }

    pub(crate) fn take(&mut self, key: u64) -> bool {
        let place = self.at.remove(&key);
        place.is_some_and(|place| self.order.remove(&place).is_some())
    }

    pub(crate) fn pop(&mut self) -> Option<u64> {
        let key = self.first()?;
        self.take(key);
        Some(key)
    }
}

pub(crate) fn fifo(capacity: usize) -> impl Simulator {
    Fifo(capacity, Line::default())
}

pub(crate) fn lru(capacity: usize) -> impl Simulator {
    Lru(capacity, Line::default())
}

pub(crate) fn clock(capacity: usize) -> impl Simulator {
    Clock(capacity, Line::default(), Default::default())
}

pub(crate) fn sieve(capacity: usize) -> impl Simulator {
    Sieve {
        capacity,
        ..Sieve::default()
    }
}

pub(crate) fn lfu(capacity: usize) -> impl Simulator {
    Lfu {
        capacity,
        ..Lfu::default()
    }
}

pub(crate) fn arc(c: usize) -> impl Simulator {
    Arc {
        c,
        ..Arc::default()
    }
}

pub(crate) fn gdsf(capacity: u64) -> impl Simulator {
    Gdsf {
        capacity,
        ..Gdsf::default()
    }
}
