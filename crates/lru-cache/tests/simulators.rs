//! S3-FIFO against a simulator that works on keys alone, miss for miss, on a mix of a skewed working
//! set that drifts and scans that come once.

use std::collections::{HashSet, VecDeque};

use stackbeam_lru_cache::{Cache, Fifo, Lru, Policy, S3Fifo};

/// The algorithm as the paper tells it, with plain queues of (key, count).
#[derive(Default)]
struct Simulator {
    capacity: usize,
    probation: VecDeque<(u64, u8)>,
    main: VecDeque<(u64, u8)>,
    ghosts: VecDeque<u64>,
}

impl Simulator {
    /// Returns whether it was a hit.
    fn ask(&mut self, key: u64) -> bool {
        let mut entries = self.probation.iter_mut().chain(self.main.iter_mut());
        if let Some((_, count)) = entries.find(|(other, _)| *other == key) {
            *count = (*count + 1).min(3);
            return true;
        }
        if self.probation.len() + self.main.len() == self.capacity {
            self.evict();
        }
        let known = self.ghosts.iter().position(|ghost| *ghost == key);
        if let Some(at) = known {
            // Its place in the order stays taken, by a key that never comes.
            self.ghosts[at] = u64::MAX;
            self.main.push_back((key, 0));
        } else {
            self.probation.push_back((key, 0));
        }
        false
    }

    fn evict(&mut self) {
        loop {
            let full = self.probation.len() * 10 >= self.probation.len() + self.main.len();
            if !self.probation.is_empty() && (full || self.main.is_empty()) {
                let (key, count) = self.probation.pop_front().expect("not empty");
                if count > 1 {
                    self.main.push_back((key, 0));
                    continue;
                }
                self.ghosts.push_back(key);
                while self.ghosts.len() > self.main.len() {
                    self.ghosts.pop_front();
                }
                return;
            }
            let (key, count) = self.main.pop_front().expect("somebody is there");
            if count == 0 {
                return;
            }
            self.main.push_back((key, count - 1));
        }
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn trace(seed: u64, requests: u64) -> Vec<u64> {
    let mut state = seed;
    let mut scan = 1 << 40;
    (0..requests)
        .map(|at| {
            let draw = next(&mut state);
            if draw.is_multiple_of(4) {
                scan += 1;
                return scan;
            }
            // A product of two uniform draws favours small keys; the set drifts slowly.
            let (one, two) = ((draw >> 8) % 1_000, (draw >> 32) % 1_000);
            one * two / 1_000 + at / 200
        })
        .collect()
}

fn misses<P: Policy>(capacity: u64, trace: &[u64]) -> u64 {
    let mut cache: Cache<u64, u64, P> = Cache::new(capacity);
    for &key in trace {
        if cache.get(&key).is_none() {
            cache.insert(key, key);
        }
        assert!(cache.len() as u64 <= capacity);
    }
    cache.stats().misses
}

#[test]
fn s3_fifo_misses_exactly_where_the_simulator_does() {
    for seed in 0..3 {
        let trace = trace(seed, 20_000);
        for capacity in [1_u64, 2, 3, 10, 50, 200] {
            let mut cache: Cache<u64, u64, S3Fifo> = Cache::new(capacity);
            let mut simulator = Simulator {
                capacity: usize::try_from(capacity).expect("small"),
                ..Simulator::default()
            };
            for (at, &key) in trace.iter().enumerate() {
                let hit = cache.get(&key).is_some();
                if !hit {
                    cache.insert(key, key);
                }
                let wanted = simulator.ask(key);
                assert_eq!(
                    hit, wanted,
                    "seed {seed}, capacity {capacity}, request {at}"
                );
            }
        }
    }
}

#[test]
fn a_scan_does_not_flush_s3_fifo() {
    let trace = trace(7, 50_000);
    let distinct = trace.iter().collect::<HashSet<_>>().len();
    assert!(distinct > 10_000, "{distinct} distinct keys make it evict");
    let ours = misses::<S3Fifo>(200, &trace);
    let (lru, fifo) = (misses::<Lru>(200, &trace), misses::<Fifo>(200, &trace));
    assert!(
        ours < lru && lru < fifo,
        "S3-FIFO {ours}, LRU {lru}, FIFO {fifo}"
    );
}
