//! The long form of the torture: ten million operations, and whole traces.

use std::process::Command;

use stackbeam_lru_cache::{self as ours, Adaptive, Lru, S3Fifo};

use crate::simulators::agreement::{agree, unweighed};
use crate::{simulators, torture};

#[test]
#[ignore = "minutes: cargo xtask torture lru-cache"]
fn ten_million_operations() {
    for seed in 0..10 {
        torture::<Adaptive>(100 + seed, 1 << (seed % 3), 500_000);
        torture::<Lru>(200 + seed, 1 << (seed % 3), 250_000);
        torture::<S3Fifo>(300 + seed, 1 << (seed % 3), 250_000);
    }
}

/// What Debian's `zstd` unpacks from the traces that the benchmarks use.
fn unpacked(file: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/traces/");
    let output = Command::new("zstd")
        .args(["-dc", &format!("{path}{file}")])
        .output()
        .expect("the package zstd is installed");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn keys(trace: &str) -> Vec<u64> {
    let bytes = unpacked(&format!("{trace}.keys.zst"));
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect()
}

/// 0.1 %, 1 % and 10 % of the distinct keys.
fn capacities(trace: &[u64]) -> Vec<usize> {
    let distinct = trace.iter().max().map_or(0, |most| most + 1) as usize;
    [1000, 100, 10]
        .map(|share| ((distinct + share / 2) / share).max(1))
        .into()
}

#[test]
#[ignore = "minutes: cargo xtask torture lru-cache"]
fn every_policy_misses_on_whole_traces_what_its_simulator_does() {
    for trace in ["web12", "mooncake-conv", "p12x", "oltp", "orm-busy", "p3"] {
        let traces = [keys(trace)];
        macro_rules! whole {
            ($($policy:ident by $simulator:expr),* $(,)?) => {$(
                unweighed::<ours::$policy, _>(&traces, capacities, $simulator);
                println!("{trace}: {}", stringify!($policy));
            )*};
        }
        whole!(
            Fifo by simulators::fifo,
            Lru by simulators::lru,
            Clock by simulators::clock,
            Sieve by simulators::sieve,
            Lfu by simulators::lfu,
            Arc by simulators::arc,
            WTinyLfu by simulators::WTinyLfu::new,
            S3Fifo by simulators::s3_fifo,
            TwoQ by simulators::two_q,
            Adaptive by simulators::Adaptive::new,
        );
    }
}

#[test]
#[ignore = "minutes: cargo xtask torture lru-cache"]
fn gdsf_misses_on_a_whole_trace_with_sizes_what_its_simulator_does() {
    let bytes = unpacked("p12x.sizes.zst");
    let (sizes, _) = bytes.as_chunks::<4>();
    let sizes = sizes.iter().map(|bytes| u32::from_le_bytes(*bytes).into());
    let trace: Vec<(u64, u64)> = keys("p12x").into_iter().zip(sizes).collect();
    for capacity in [2_211_203, 22_112_031, 221_120_307] {
        let misses =
            agree::<ours::Gdsf>(&trace, capacity as usize, &mut simulators::gdsf(capacity));
        println!("p12x at {capacity} bytes: {misses} misses");
    }
}
