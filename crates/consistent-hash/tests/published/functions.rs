//! Functions over numbered nodes, as their authors publish them.

use std::num::NonZeroU64;

use crate::support::{ANCHOR, Case, FLIP, JUMP, JUMP_BACK, cases, groups, hex, number, small};
use stackbeam_consistent_hash::{Anchor, Flip, Jump, JumpBack, JumpBackAnchor, NodeIx, Placement};

pub(crate) const CHECKS: &[fn()] = &[
    jump_is_the_published_function,
    jump_back_is_hash4j,
    jump_back_over_another_generator_is_hash4j,
    a_jump_back_anchor_is_hash4j,
    flip_is_fliphash,
    an_anchor_over_crc32c_is_the_reference,
];

/// The table of answers of a case, by number of buckets.
fn by_buckets(case: &Case) -> Vec<(u64, u64)> {
    let table = case["buckets"].as_object().unwrap().iter();
    table
        .map(|(buckets, bucket)| (buckets.parse().unwrap(), number(bucket)))
        .collect()
}

#[test]
fn jump_back_is_hash4j() {
    for case in cases(JUMP_BACK, "splitmix64_v1") {
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
fn jump_back_over_another_generator_is_hash4j() {
    for case in cases(JUMP_BACK, "xorshift_l7r9") {
        let key = number(&case["key"]);
        for (buckets, bucket) in by_buckets(&case) {
            let placement = JumpBack::new(u32::try_from(buckets).unwrap()).unwrap();
            let (mut state, mut first) = (key, true);
            let owner = placement.owner_by(|| {
                if !std::mem::take(&mut first) {
                    state ^= state << 7;
                    state ^= state >> 9;
                }
                state
            });
            assert_eq!(u64::from(owner.get()), bucket, "{key} of {buckets}");
        }
    }
}

#[test]
fn a_jump_back_anchor_is_hash4j() {
    for case in cases(JUMP_BACK, "jumpback_anchor_splitmix64") {
        let mut placement = None;
        for op in case["ops"].as_array().unwrap() {
            let count = small(&op[1]);
            let node = NodeIx::new(count);
            match op[0].as_str().unwrap() {
                "add_n" => placement = JumpBackAnchor::new(count).ok(),
                "remove" => {
                    let removed = placement.as_mut().unwrap().remove(node);
                    assert_eq!(removed.is_ok(), op[2].as_bool().unwrap());
                }
                "add" => assert_eq!(placement.as_mut().unwrap().add().unwrap(), node),
                other => panic!("{other}"),
            }
        }
        let placement = placement.unwrap();
        let state: Vec<u8> = [placement.capacity()]
            .iter()
            .chain(placement.removed())
            .flat_map(|number| number.to_le_bytes())
            .collect();
        assert_eq!(state, hex(&case["state_hex"]));
        let removed = placement.removed().iter().copied();
        let again = JumpBackAnchor::restore(placement.capacity(), removed).unwrap();
        assert_eq!(again, placement);
        for (key, bucket) in case["lookups"].as_object().unwrap() {
            let owner = again.owner(key.parse().unwrap());
            assert_eq!(owner.get(), small(bucket), "{key}");
        }
    }
}

#[test]
fn jump_is_the_published_function() {
    let mut checked = 0;
    for group in groups(JUMP) {
        for case in cases(JUMP, group["group"].as_str().unwrap()) {
            let key = number(&case["key"]);
            // A row has one number of buckets, or a table of several.
            let rows = match case["buckets"].as_object() {
                None => vec![(number(&case["buckets"]), number(&case["bucket"]))],
                Some(_) => by_buckets(&case),
            };
            for (buckets, bucket) in rows {
                let jump = Jump::new(u32::try_from(buckets).unwrap()).unwrap();
                assert_eq!(
                    u64::from(jump.owner(key).get()),
                    bucket,
                    "{key} of {buckets}"
                );
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 73 + 30 * 30);
}

#[test]
fn flip_is_fliphash() {
    for case in cases(FLIP, "live") {
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
    for case in cases(ANCHOR, "reference_runs") {
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
