//! Every policy against a simulator of it that works on keys alone, miss for miss, on real traces.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "capacities and sizes of the traces are small"
)]

mod simulators;

use std::hash::{BuildHasher, Hasher};

use simulators::{Simulator, mix};
use stackbeam_lru_cache::{Builder, Cache, Policy};

/// Hashes as the simulators do.
#[derive(Debug, Clone, Copy, Default)]
struct Mix(u64);

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

/// Numbers in LEB128.
fn numbers(mut bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let (mut number, mut shift) = (0, 0);
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            number |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        numbers.push(number);
    }
    numbers
}

fn traces() -> [Vec<u64>; 3] {
    [
        numbers(include_bytes!("traces/web12.leb128")),
        numbers(include_bytes!("traces/oltp.leb128")),
        numbers(include_bytes!("traces/mooncake-conv.leb128")),
    ]
}

/// 0.1 %, 1 % and 10 % of the distinct keys, and the smallest caches there are.
fn capacities(trace: &[u64]) -> Vec<usize> {
    let distinct = trace.iter().max().map_or(0, |most| most + 1) as usize;
    vec![1, distinct / 1000, distinct / 50]
}

/// Returns the misses.
fn agree<P: Policy>(trace: &[(u64, u64)], capacity: usize, simulator: &mut dyn Simulator) -> usize {
    let mut cache: Cache<u64, u64, P, Mix> = Builder::new(capacity as u64)
        .with_weigher(|_, weight| *weight)
        .with_hasher(Mix::default())
        .build();
    agree_with(&mut cache, trace, simulator)
}

fn agree_with<P: Policy>(
    cache: &mut Cache<u64, u64, P, Mix>,
    trace: &[(u64, u64)],
    simulator: &mut dyn Simulator,
) -> usize {
    let mut misses = 0;
    for (at, &(key, weight)) in trace.iter().enumerate() {
        let hit = cache.get(&key).is_some();
        if !hit {
            misses += 1;
            let _refused = cache.try_insert(key, weight);
        }
        let wanted = simulator.ask(key, weight);
        assert_eq!(hit, wanted, "capacity {}, request {at}", cache.capacity());
        assert!(cache.weight() <= cache.capacity());
    }
    misses
}

fn unweighed<P: Policy, T: Simulator>(simulator: impl Fn(usize) -> T) {
    for trace in traces() {
        let trace: Vec<(u64, u64)> = trace.into_iter().map(|key| (key, 1)).collect();
        let keys: Vec<u64> = trace.iter().map(|(key, _)| *key).collect();
        for capacity in capacities(&keys) {
            let mut cache = Builder::new(capacity as u64)
                .with_hasher(Mix::default())
                .build::<P>();
            let misses = agree_with(&mut cache, &trace, &mut simulator(capacity));
            assert!(misses > 0 && misses <= trace.len());
        }
    }
}

mod policies {
    use super::simulators::{Adaptive, Arc, Clock, Fifo, Gdsf, Lfu, Line, Lru, Sieve, WTinyLfu};
    use super::simulators::{s3_fifo, two_q};
    use super::{agree, numbers, unweighed};
    use stackbeam_lru_cache as ours;

    #[test]
    fn fifo() {
        unweighed::<ours::Fifo, _>(|capacity| Fifo(capacity, Line::default()));
    }

    #[test]
    fn lru() {
        unweighed::<ours::Lru, _>(|capacity| Lru(capacity, Line::default()));
    }

    #[test]
    fn clock() {
        unweighed::<ours::Clock, _>(|capacity| {
            Clock(capacity, Line::default(), Default::default())
        });
    }

    #[test]
    fn sieve() {
        unweighed::<ours::Sieve, _>(|capacity| Sieve {
            capacity,
            ..Sieve::default()
        });
    }

    #[test]
    fn lfu() {
        unweighed::<ours::Lfu, _>(|capacity| Lfu {
            capacity,
            ..Lfu::default()
        });
    }

    #[test]
    fn arc() {
        unweighed::<ours::Arc, _>(|c| Arc {
            c,
            ..Arc::default()
        });
    }

    #[test]
    fn w_tiny_lfu() {
        unweighed::<ours::WTinyLfu, _>(WTinyLfu::new);
    }

    #[test]
    fn s3_fifo_and_its_memory_of_departures() {
        unweighed::<ours::S3Fifo, _>(s3_fifo);
    }

    #[test]
    fn clock_2q_plus() {
        unweighed::<ours::TwoQ, _>(two_q);
    }

    #[test]
    fn adaptive() {
        unweighed::<ours::Adaptive, _>(Adaptive::new);
    }

    #[test]
    fn gdsf_with_sizes() {
        let sized = numbers(include_bytes!("traces/p12x-sized.leb128"));
        let trace: Vec<(u64, u64)> = sized.chunks_exact(2).map(|two| (two[0], two[1])).collect();
        for capacity in [64, 1_000, 20_000, 200_000] {
            let mut simulator = Gdsf {
                capacity,
                ..Gdsf::default()
            };
            let misses = agree::<ours::Gdsf>(&trace, capacity as usize, &mut simulator);
            assert!(misses > 0 && misses < trace.len());
        }
    }
}
