//! The short form of the torture; `cargo xtask torture lru-cache` runs the long one.

#![expect(clippy::print_stdout, reason = "the long form says what it did")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "capacities and sizes of the traces are small"
)]

#[path = "torture/driver.rs"]
mod driver;
mod simulators;

use std::process::Command;

use driver::Report;
use simulators::agreement::{agree, unweighed};
use stackbeam_lru_cache::{self as ours, Adaptive, Lru, Policy, S3Fifo};

/// SplitMix64.
fn dice(mut seed: u64, operations: u64) -> impl FnMut(u64) -> Option<u64> {
    // An operation asks for two numbers at least.
    let mut left = operations * 4;
    move |bound| {
        left = left.checked_sub(1)?;
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Some((bits ^ (bits >> 31)) % bound.max(1))
    }
}

fn torture<P: Policy + Send + Sync + 'static>(seed: u64, shards: usize, operations: u64) {
    // Loaders that panic are meant to: nobody needs to read a hundred thousand times that they did.
    std::panic::set_hook(Box::new(|info| {
        if info.payload_as_str() != Some("a loader panics") {
            println!("{info}");
        }
    }));
    let report = driver::run::<P>(shards, dice(seed, operations));
    println!("seed {seed}, {shards} shards: {report:?}");
    let Report {
        hits,
        loaded,
        failed,
        panicked,
        dropped,
        left,
    } = report;
    let least = [hits, loaded, failed, panicked, dropped, left]
        .into_iter()
        .min();
    assert!(least > Some(operations / 2_000), "seed {seed}: {report:?}");
}

#[test]
fn no_value_is_lost_or_leaves_twice_or_is_stale_whatever_loaders_do() {
    torture::<Adaptive>(1, 1, 20_000);
    torture::<Adaptive>(2, 4, 20_000);
    torture::<S3Fifo>(3, 1, 10_000);
    torture::<Lru>(4, 2, 10_000);
}

#[test]
#[ignore = "long: cargo xtask torture lru-cache"]
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
#[ignore = "long: cargo xtask torture lru-cache"]
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
#[ignore = "long: cargo xtask torture lru-cache"]
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
