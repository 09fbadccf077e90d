//! What the parts around the placements do: caps, zones, bytes, differences, snapshots.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod bounded;
mod bytes;
mod diff;
mod golden;
mod multi_probe;
#[cfg(feature = "serde")]
mod serde;
#[cfg(all(feature = "sync", not(shuttle)))]
mod shared;
mod spread;

use stackbeam_consistent_hash::{KeyHash, Members, Xxh3};

fn hash(n: u64) -> u64 {
    Xxh3::new().hash_u64(n)
}

fn names(count: u32) -> Members {
    Members::from_names((0..count).map(|n| format!("node-{n}"))).unwrap()
}
