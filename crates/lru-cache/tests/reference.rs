//! Every policy against a simulator of it that works on keys alone, miss for miss, on real traces.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "capacities and sizes of the traces are small"
)]

mod simulators;

use simulators::Simulator;
use simulators::agreement::agree;
use stackbeam_lru_cache::Policy;

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

fn unweighed<P: Policy, T: Simulator>(simulator: impl Fn(usize) -> T) {
    simulators::agreement::unweighed::<P, T>(&traces(), capacities, simulator);
}

mod policies {
    use super::{agree, numbers, simulators, unweighed};
    use stackbeam_lru_cache as ours;

    #[test]
    fn fifo() {
        unweighed::<ours::Fifo, _>(simulators::fifo);
    }

    #[test]
    fn lru() {
        unweighed::<ours::Lru, _>(simulators::lru);
    }

    #[test]
    fn clock() {
        unweighed::<ours::Clock, _>(simulators::clock);
    }

    #[test]
    fn sieve() {
        unweighed::<ours::Sieve, _>(simulators::sieve);
    }

    #[test]
    fn lfu() {
        unweighed::<ours::Lfu, _>(simulators::lfu);
    }

    #[test]
    fn arc() {
        unweighed::<ours::Arc, _>(simulators::arc);
    }

    #[test]
    fn w_tiny_lfu() {
        unweighed::<ours::WTinyLfu, _>(simulators::WTinyLfu::new);
    }

    #[test]
    fn s3_fifo_and_its_memory_of_departures() {
        unweighed::<ours::S3Fifo, _>(simulators::s3_fifo);
    }

    #[test]
    fn clock_2q_plus() {
        unweighed::<ours::TwoQ, _>(simulators::two_q);
    }

    #[test]
    fn adaptive() {
        unweighed::<ours::Adaptive, _>(simulators::Adaptive::new);
    }

    #[test]
    fn gdsf_with_sizes() {
        let sized = numbers(include_bytes!("traces/p12x-sized.leb128"));
        let trace: Vec<(u64, u64)> = sized.chunks_exact(2).map(|two| (two[0], two[1])).collect();
        for capacity in [64, 1_000, 20_000, 200_000] {
            let mut simulator = simulators::gdsf(capacity);
            let misses = agree::<ours::Gdsf>(&trace, capacity as usize, &mut simulator);
            assert!(misses > 0 && misses < trace.len());
        }
    }
}
