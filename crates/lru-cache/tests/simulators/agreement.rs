//! A policy and its simulator, asked for the same keys.

use std::hash::{BuildHasher, Hasher};

use stackbeam_lru_cache::{Builder, Cache, Policy};

use super::{Simulator, mix};

/// Hashes as the simulators do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mix(u64);

impl BuildHasher for Mix {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = mix(key);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Returns the misses.
pub(crate) fn agree<P: Policy>(
    trace: &[(u64, u64)],
    capacity: usize,
    simulator: &mut dyn Simulator,
) -> usize {
    let mut cache: Cache<u64, u64, P, Mix> = Builder::new(capacity as u64)
        .with_weigher(|_, weight| *weight)
        .with_hasher(Mix::default())
        .build();
    agree_with(&mut cache, trace.iter().copied(), simulator)
}

fn agree_with<P: Policy>(
    cache: &mut Cache<u64, u64, P, Mix>,
    trace: impl Iterator<Item = (u64, u64)>,
    simulator: &mut dyn Simulator,
) -> usize {
    let mut misses = 0;
    for (at, (key, weight)) in trace.enumerate() {
        let hit = cache.get(&key).is_some();
        if !hit {
            misses += 1;
            let _refused = cache.try_insert(key, weight);
        }
        let wanted = simulator.ask(key, weight);
        assert_eq!(hit, wanted, "capacity {}, request {at}", cache.capacity());
        assert!(cache.weight() <= cache.capacity());
    }
    cache.validate();
    misses
}

/// Over keys without weights.
pub(crate) fn unweighed<P: Policy, T: Simulator>(
    traces: &[Vec<u64>],
    capacities: impl Fn(&[u64]) -> Vec<usize>,
    simulator: impl Fn(usize) -> T,
) {
    for trace in traces {
        for capacity in capacities(trace) {
            let mut cache = Builder::new(capacity as u64)
                .with_hasher(Mix::default())
                .build::<P>();
            let weighed = trace.iter().map(|key| (*key, 1));
            let misses = agree_with(&mut cache, weighed, &mut simulator(capacity));
            assert!(misses > 0 && misses <= trace.len());
        }
    }
}
