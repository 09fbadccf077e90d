//! What other products' own software computed for keys, and this crate must.

use crate::support::{
    CASSANDRA, Case, ELASTIC, KAFKA, MCROUTER, MONGODB, POSTGRES, REDIS, VITESS, cases, hex,
    number, signed, small, whole_group,
};
use serde_json::Value as Json;
use stackbeam_consistent_hash::interop::{
    cassandra, elasticsearch, kafka, mcrouter, mongodb, postgres, redis, vitess,
};
use stackbeam_consistent_hash::{Ch3, KeyHash, Placement};

pub(crate) const CHECKS: &[fn()] = &[
    redis_slots_are_those_of_the_server,
    kafka_partitions_are_those_of_its_clients,
    cassandra_tokens_are_those_of_its_drivers,
    vitess_keyspace_ids_are_those_of_its_vindexes,
    postgres_hashes_are_those_of_the_server,
    mongodb_hashes_are_those_of_the_server,
    elasticsearch_shards_are_those_of_the_server,
    ch3_is_mcrouter,
];

#[test]
fn redis_slots_are_those_of_the_server() {
    for case in cases(REDIS, "crc16") {
        assert_eq!(
            u64::from(redis::crc16(&hex(&case["key_hex"]))),
            number(&case["crc16"])
        );
    }
    for case in cases(REDIS, "live_keyslot") {
        let key = hex(&case["key_hex"]);
        assert_eq!(
            u64::from(redis::slot(&key)),
            number(&case["slot"]),
            "{key:?}"
        );
        assert_eq!(redis::Crc16Slot::new().hash(&key), number(&case["slot"]));
    }
}

#[test]
fn kafka_partitions_are_those_of_its_clients() {
    for group in ["kafka_utils_test", "kafka_python_live"] {
        for case in cases(KAFKA, group) {
            let key = hex(&case["key_hex"]);
            assert_eq!(i64::from(kafka::murmur2(&key)), signed(&case["murmur2"]));
            for (partitions, partition) in case["partitions"].as_object().into_iter().flatten() {
                let partitions = partitions.parse().unwrap();
                assert_eq!(kafka::partition(&key, partitions), Some(small(partition)));
            }
        }
    }
    assert_eq!(kafka::partition(b"key", 0), None);
}

#[test]
fn cassandra_tokens_are_those_of_its_drivers() {
    for group in ["murmur3_partitioner", "murmur3_partitioner_high_bytes_live"] {
        for case in cases(CASSANDRA, group) {
            assert_eq!(
                cassandra::murmur3_token(&hex(&case["key_hex"])),
                signed(&case["token"])
            );
        }
    }
    for case in cases(CASSANDRA, "random_partitioner_md5") {
        let token = cassandra::random_token(&hex(&case["key_hex"]));
        assert_eq!(token.to_string(), case["token"].as_str().unwrap());
    }
    for case in cases(CASSANDRA, "scylla_cdc_partitioner") {
        assert_eq!(
            cassandra::cdc_token(&hex(&case["key_hex"])),
            signed(&case["token"])
        );
    }
    for case in cases(CASSANDRA, "scylla_shard_of") {
        let (shards, ignore) = (small(&case["shards"]), small(&case["msb_ignore"]));
        let shard = cassandra::shard_of(signed(&case["token"]), shards, ignore);
        assert_eq!(shard, Some(small(&case["shard"])));
    }
    assert_eq!(cassandra::shard_of(0, 0, 12), None);
    assert_eq!(cassandra::shard_of(0, 4, 64), None);
    assert_eq!(cassandra::cdc_token(b"short"), i64::MIN);
    assert!(cassandra::position(-1) < cassandra::position(0));
}

fn keyspace_id(case: &Case) -> Vec<u8> {
    hex(&case["keyspace_id"])
}

#[test]
fn vitess_keyspace_ids_are_those_of_its_vindexes() {
    for group in ["hash", "hash_more"] {
        for case in cases(VITESS, group) {
            let id = vitess::hash(number(&case["id"]));
            assert_eq!(id.to_vec(), keyspace_id(&case));
            assert_eq!(vitess::unhash(id), number(&case["id"]));
        }
    }
    for case in cases(VITESS, "xxhash") {
        let value = case["value"].as_str().unwrap();
        let id = match case["type"].as_str().unwrap() {
            "bytes" => vitess::xxhash(value.as_bytes()),
            "int" => vitess::xxhash_int(value.parse().unwrap()),
            "uint" => vitess::xxhash_uint(value.parse().unwrap()),
            other => panic!("{other}"),
        };
        assert_eq!(id.to_vec(), keyspace_id(&case), "{value}");
    }
    for case in cases(VITESS, "binary_md5") {
        let value = case["value"].as_str().unwrap();
        assert_eq!(
            vitess::binary_md5(value.as_bytes()).to_vec(),
            keyspace_id(&case)
        );
    }
    for case in cases(VITESS, "reverse_bits") {
        assert_eq!(
            vitess::reverse_bits(number(&case["id"])).to_vec(),
            keyspace_id(&case)
        );
    }
    let multicol = vitess::MultiCol::new(3).unwrap();
    for case in cases(VITESS, "multicol_hash_3_columns") {
        let ids = case["ids"].as_array().unwrap();
        let hashes: Vec<[u8; 8]> = ids.iter().map(|id| vitess::hash(number(id))).collect();
        let columns: Vec<&[u8]> = hashes.iter().map(<[u8; 8]>::as_slice).collect();
        if columns.len() == 3 {
            assert_eq!(multicol.keyspace_id(&columns).unwrap(), keyspace_id(&case));
            assert_eq!(multicol.range(&columns), None);
        } else {
            let range = &case["range"];
            let wanted = (hex(&range[0]), hex(&range[1]));
            assert_eq!(multicol.range(&columns).unwrap(), wanted);
            assert_eq!(multicol.keyspace_id(&columns), None);
        }
    }
    let top = vitess::MultiCol::with_bytes(&[1, 7]).unwrap();
    assert_eq!(top.range(&[&[255]]), Some((vec![255], vec![])));
    assert!(vitess::in_range(&[0x40], &[0x40], &[0x80]));
    assert!(!vitess::in_range(&[0x80, 1], &[0x40], &[0x80]));
    assert!(vitess::in_range(&[0xff], &[0x80], &[]));
}

fn uuid(value: &Json) -> [u8; 16] {
    let digits = value.as_str().unwrap().replace('-', "");
    hex(&Json::String(digits)).try_into().unwrap()
}

#[test]
fn postgres_hashes_are_those_of_the_server() {
    let seed = postgres::PARTITION_SEED;
    for ty in ["int4", "int8", "text", "uuid"] {
        for case in cases(POSTGRES, &format!("hash_{ty}")) {
            let v = &case["v"];
            let int4 = || i32::try_from(signed(v)).unwrap();
            let text = || v.as_str().unwrap();
            let (hash, extended): (i32, Box<dyn Fn(u64) -> u64>) = match ty {
                "int4" => (
                    postgres::hash_int4(int4()),
                    Box::new(|seed| postgres::hash_int4_extended(int4(), seed)),
                ),
                "int8" => (
                    postgres::hash_int8(signed(v)),
                    Box::new(|seed| postgres::hash_int8_extended(signed(v), seed)),
                ),
                "text" => (
                    postgres::hash_text(text()),
                    Box::new(|seed| postgres::hash_text_extended(text(), seed)),
                ),
                _ => (
                    postgres::hash_uuid(uuid(v)),
                    Box::new(|seed| postgres::hash_uuid_extended(uuid(v), seed)),
                ),
            };
            assert_eq!(i64::from(hash), signed(&case["hash"]), "{ty} {v}");
            assert_eq!(
                extended(0).cast_signed(),
                signed(&case["hash_ext_seed0"]),
                "{ty} {v}"
            );
            assert_eq!(
                extended(seed).cast_signed(),
                signed(&case["hash_ext_part_seed"])
            );
        }
        for case in cases(POSTGRES, &format!("partition_{ty}")) {
            let (key, v) = (postgres::PartitionKey::new(), &case["v"]);
            let key = match ty {
                "int4" => key.int4(i32::try_from(signed(v)).unwrap()),
                "int8" => key.int8(signed(v)),
                "text" => key.text(v.as_str().unwrap()),
                _ => key.uuid(uuid(v)),
            };
            check_remainders(key, &case);
        }
    }
    for case in cases(POSTGRES, "partition_multi_int8_text") {
        let key = postgres::PartitionKey::new().int8(signed(&case["v"][0]));
        let key = match case["v"][1].as_str() {
            Some(text) => key.text(text),
            None => key.null(),
        };
        check_remainders(key, &case);
    }
    assert_eq!(postgres::PartitionKey::new().remainder(0), None);
}

fn check_remainders(key: postgres::PartitionKey, case: &Case) {
    for (field, modulus) in [("mod_5", 5), ("mod_8", 8), ("mod_16", 16)] {
        assert_eq!(key.remainder(modulus), Some(small(&case[field])), "{case}");
    }
}

#[test]
fn mongodb_hashes_are_those_of_the_server() {
    use mongodb::Value;
    for case in cases(MONGODB, "hasher_test") {
        let text = case["value"].as_str();
        let (bytes, fields);
        let value = match case["type"].as_str().unwrap() {
            "int32" => Value::Int32(text.unwrap().parse().unwrap()),
            "int64" => Value::Int64(text.unwrap().parse().unwrap()),
            "double" => Value::Double(text.unwrap().parse().unwrap()),
            "string" => Value::String(text.unwrap()),
            "minKey" => Value::MinKey,
            "maxKey" => Value::MaxKey,
            "uuid4" => {
                bytes = hex(&case["value"]);
                Value::Binary {
                    subtype: 4,
                    bytes: &bytes,
                }
            }
            "objectId" => Value::ObjectId(hex(&case["value"]).try_into().unwrap()),
            "object" if text == Some("{}") => Value::Document(&[]),
            "object" => {
                assert_eq!(text, Some(r#"{"a":"abc","b":{"$numberLong":"123"}}"#));
                fields = [("a", Value::String("abc")), ("b", Value::Int64(123))];
                Value::Document(&fields)
            }
            other => panic!("{other}"),
        };
        assert_eq!(mongodb::hash(&value), signed(&case["hash"]), "{case}");
    }
    // The overflow that the server keeps.
    let (over, lowest) = (
        Value::Double(9_223_372_036_854_775_808.0),
        Value::Int64(i64::MIN),
    );
    assert_eq!(mongodb::hash(&over), mongodb::hash(&lowest));
}

#[test]
fn elasticsearch_shards_are_those_of_the_server() {
    for case in cases(ELASTIC, "murmur3") {
        let hash = elasticsearch::murmur3(case["value"].as_str().unwrap());
        assert_eq!(format!("{hash:08x}"), case["hash_hex"].as_str().unwrap());
    }
    for group in [
        "routing_8_shards",
        "mod_and_factor_modes",
        "partitioned_shrunk",
        "partitioned",
    ] {
        let whole = whole_group(ELASTIC, group);
        for case in cases(ELASTIC, group) {
            let setting = |name: &str| {
                if case[name].is_null() {
                    &whole[name]
                } else {
                    &case[name]
                }
            };
            let routing = case["routing"].as_str().unwrap();
            let hash = match setting("routing_partition_size") {
                Json::Null => elasticsearch::murmur3(routing),
                size => {
                    let id = case["id"].as_str().unwrap();
                    elasticsearch::partitioned(routing, id, small(size)).unwrap()
                }
            };
            let (shards, routing_shards) = (setting("shards"), setting("routing_num_shards"));
            let by_factor = || {
                let all = if routing_shards.is_null() {
                    shards
                } else {
                    routing_shards
                };
                elasticsearch::shard_by_factor(hash, small(shards), small(all))
            };
            let shard = match setting("mode").as_str() {
                Some("mod") => elasticsearch::shard(hash, small(shards)),
                _ => by_factor(),
            };
            assert_eq!(shard, Some(small(&case["shard"])), "{case}");
        }
    }
    assert_eq!(elasticsearch::shard(-5, 0), None);
    assert_eq!(elasticsearch::shard_by_factor(-5, 3, 8), None);
}

#[test]
fn ch3_is_mcrouter() {
    for case in cases(MCROUTER, "ch3") {
        let place = Ch3::new(small(&case["pool"]))
            .unwrap()
            .owner_of(&hex(&case["key_hex"]));
        assert_eq!(place.get(), small(&case["index"]));
    }
    for case in cases(MCROUTER, "ch3_live") {
        let key = hex(&case["key_hex"]);
        for (pool, place) in case["buckets"].as_object().unwrap() {
            let ch3 = Ch3::new(pool.parse().unwrap()).unwrap();
            assert_eq!(ch3.owner_of(&key).get(), small(place), "{key:?} of {pool}");
            if let Ok(key) = <[u8; 8]>::try_from(key.as_slice()) {
                assert_eq!(ch3.owner(u64::from_le_bytes(key)).get(), small(place));
            }
        }
    }
    for case in cases(MCROUTER, "ch3_counts") {
        let ch3 = Ch3::new(small(&case["pool"])).unwrap();
        check_counts(&case, |key| ch3.owner_of(key).get());
    }
    for case in cases(MCROUTER, "weighted_ch3_counts") {
        let weights = case["weights"].as_array().unwrap();
        let weights = weights.iter().map(|weight| weight.as_f64().unwrap());
        let pool = mcrouter::WeightedCh3::new(weights).unwrap();
        check_counts(&case, |key| pool.place(key));
    }
    for case in cases(MCROUTER, "crc32") {
        let place = mcrouter::crc32(&hex(&case["key_hex"]), small(&case["pool"]));
        assert_eq!(place, Some(small(&case["index"])));
    }
    assert!(Ch3::new(0).is_err());
    assert!(Ch3::new(Ch3::NODES_MAX + 1).is_err());
    assert!(mcrouter::WeightedCh3::new([]).is_err());
    assert!(mcrouter::WeightedCh3::new([f64::NAN]).is_err());
}

fn check_counts(case: &Case, place: impl Fn(&[u8]) -> u32) {
    let wanted: Vec<u64> = case["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(number)
        .collect();
    let mut counts = vec![0; wanted.len()];
    for n in 0..number(&case["keys"]) {
        counts[place(n.to_string().as_bytes()) as usize] += 1;
    }
    assert_eq!(counts, wanted);
}
