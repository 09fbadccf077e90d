//! What other people's software computed, and this crate must.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::num::NonZeroU64;

use serde_json::Value;
use stackbeam_consistent_hash::{Flip, JumpBack, Placement};

/// The cases of one group of a file of vectors, at least one.
fn cases(file: &str, group: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let group = groups.iter().find(|found| found["group"] == group).unwrap();
    let cases = group["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

/// A number, or the text of one.
fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// The table of answers of a case, by number of buckets.
fn by_buckets(case: &Value) -> Vec<(u64, u64)> {
    let table = case["buckets"].as_object().unwrap().iter();
    table
        .map(|(buckets, bucket)| (buckets.parse().unwrap(), number(bucket)))
        .collect()
}

#[test]
fn jump_back_is_hash4j() {
    for case in cases(include_str!("vectors/jumpback.json"), "splitmix64_v1") {
        let key = number(&case["key"]);
        for (buckets, bucket) in by_buckets(&case) {
            let placement = JumpBack::new(u32::try_from(buckets).unwrap()).unwrap();
            assert_eq!(
                u64::from(placement.owner(key).get()),
                bucket,
                "{key} of {buckets}"
            );
        }
    }
}

#[test]
fn flip_is_fliphash() {
    for case in cases(include_str!("vectors/fliphash.json"), "live") {
        let key = number(&case["key"]);
        for (buckets, bucket) in by_buckets(&case) {
            let count = NonZeroU64::new(buckets).unwrap();
            assert_eq!(Flip::bucket(key, count), bucket, "{key} of {buckets}");
            if let Ok(nodes) = u32::try_from(buckets) {
                let owner = Flip::new(nodes).unwrap().owner(key);
                assert_eq!(u64::from(owner.get()), bucket);
            }
        }
    }
}
