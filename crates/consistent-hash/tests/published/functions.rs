//! Functions over numbered nodes, as their authors publish them.

use std::num::NonZeroU64;

use crate::support::{cases, number};
use serde_json::Value;
use stackbeam_consistent_hash::{Anchor, Flip, JumpBack, NodeIx, Placement};

/// The table of answers of a case, by number of buckets.
fn by_buckets(case: &Value) -> Vec<(u64, u64)> {
    let table = case["buckets"].as_object().unwrap().iter();
    table
        .map(|(buckets, bucket)| (buckets.parse().unwrap(), number(bucket)))
        .collect()
}

#[test]
fn jump_back_is_hash4j() {
    for case in cases(include_str!("../vectors/jumpback.json"), "splitmix64_v1") {
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
    for case in cases(include_str!("../vectors/fliphash.json"), "live") {
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

/// What the CRC32C instruction makes of eight bytes, without the inversions of the checksum.
fn crc32c_step(seed: u64, data: u64) -> u64 {
    let mut register = seed & 0xFFFF_FFFF;
    for byte in data.to_le_bytes() {
        register ^= u64::from(byte);
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    register
}

#[test]
fn an_anchor_over_crc32c_is_the_reference() {
    for case in cases(include_str!("../vectors/anchorhash.json"), "reference_runs") {
        let size = |name: &str| u32::try_from(number(&case[name])).unwrap();
        let mut anchor =
            Anchor::with_capacity(size("initial_working"), size("anchor_size")).unwrap();
        for op in case["ops"].as_array().unwrap() {
            let node = NodeIx::new(u32::try_from(number(&op[1])).unwrap());
            match op[0].as_str().unwrap() {
                "remove" => anchor.remove(node).unwrap(),
                "add" => assert_eq!(anchor.add().unwrap(), node),
                other => panic!("{other}"),
            }
        }
        let lookups = case["lookups"].as_array().unwrap();
        assert!(!lookups.is_empty());
        for lookup in lookups {
            let (key1, key2) = (number(&lookup["key1"]), number(&lookup["key2"]));
            let mut last = 0;
            let owner = anchor.owner_by(|bound| {
                last = crc32c_step(key2.wrapping_add(last), key1.wrapping_sub(last));
                u32::try_from(last % u64::from(bound)).unwrap()
            });
            assert_eq!(u64::from(owner.get()), number(&lookup["bucket"]));
        }
    }
}
