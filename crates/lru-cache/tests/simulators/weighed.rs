//! GDSF.

use std::collections::{BTreeMap, HashMap};

use super::Simulator;

/// Priority: the age plus reads over weight; of equals, the one that was rated first goes.
#[derive(Default)]
pub(crate) struct Gdsf {
    pub(crate) capacity: u64,
    pub(crate) held: u64,
    pub(crate) age: f64,
    pub(crate) turn: u64,
    /// Reads, weight, place.
    pub(crate) entries: HashMap<u64, (u32, u64, (u64, u64))>,
    /// By the bits of the priority, which order as it does, all being positive.
    pub(crate) order: BTreeMap<(u64, u64), u64>,
}

impl Gdsf {
    fn rate(&mut self, key: u64, reads: u32, weight: u64) {
        self.turn += 1;
        let priority = self.age + f64::from(reads) / weight as f64;
        let place = (priority.to_bits(), self.turn);
        if let Some((_, _, before)) = self.entries.insert(key, (reads, weight, place)) {
            self.order.remove(&before);
        }
        self.order.insert(place, key);
    }
}

impl Simulator for Gdsf {
    fn ask(&mut self, key: u64, weight: u64) -> bool {
        if let Some((reads, weight, _)) = self.entries.get(&key).copied() {
            self.rate(key, reads + 1, weight);
            return true;
        }
        if weight > self.capacity {
            return false;
        }
        while self.held + weight > self.capacity {
            let ((priority, _), victim) = self.order.pop_first().expect("something is held");
            self.age = self.age.max(f64::from_bits(priority));
            let (_, freed, _) = self.entries.remove(&victim).expect("known");
            self.held -= freed;
        }
        self.held += weight;
        self.rate(key, 1, weight);
        false
    }
}
