//! The short form of the torture; `cargo xtask torture lru-cache` runs the long one.

#![expect(clippy::print_stdout, reason = "the long form says what it did")]
#![cfg_attr(
    not(debug_assertions),
    expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "capacities and sizes of the traces are small"
    )
)]

#[path = "torture/driver.rs"]
mod driver;
/// Minutes in a release build, hours in any other, which therefore has no such tests.
#[cfg(not(debug_assertions))]
#[path = "torture/long.rs"]
mod long;
#[cfg(not(debug_assertions))]
mod simulators;

use driver::Report;
use stackbeam_lru_cache::{Adaptive, Lru, Policy, S3Fifo};

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
