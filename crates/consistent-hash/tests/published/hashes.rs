//! The hash functions themselves.

use crate::support::{Case, HASHES, cases, hex, hex_number, number, small};
use stackbeam_consistent_hash::interop::{guava, hashkit, murmur};
use stackbeam_consistent_hash::{KeyHash, Sip13, Sip24, Xxh3, Xxh32, Xxh64};

pub(crate) const CHECKS: &[fn()] = &[
    xxhash_is_the_official_one,
    siphash_is_the_reference,
    murmur_is_guava_and_the_hashkit_is_libhashkit,
];

/// The buffer that xxHash tests itself with.
fn xxh_buffer(len: usize) -> Vec<u8> {
    let mut state = 2_654_435_761_u64;
    (0..len)
        .map(|_| {
            let byte = state.to_be_bytes()[0];
            state = state.wrapping_mul(11_400_714_785_074_694_797);
            byte
        })
        .collect()
}

#[test]
fn xxhash_is_the_official_one() {
    let message = |case: &Case| xxh_buffer(usize::try_from(number(&case["len"])).unwrap());
    let seed = |case: &Case| number(&case["seed"]);
    for case in cases(HASHES, "xxh32") {
        let got = Xxh32::with_seed(small(&case["seed"])).hash(&message(&case));
        assert_eq!(u128::from(got), hex_number(&case["hash_hex"]), "{case}");
    }
    for case in cases(HASHES, "xxh64") {
        let got = Xxh64::with_seed(seed(&case)).hash(&message(&case));
        assert_eq!(u128::from(got), hex_number(&case["hash_hex"]), "{case}");
    }
    for case in cases(HASHES, "xxh3_64_seeded") {
        let got = Xxh3::with_seed(seed(&case)).hash(&message(&case));
        assert_eq!(u128::from(got), hex_number(&case["hash_hex"]), "{case}");
    }
    for case in cases(HASHES, "xxh3_128_seeded") {
        let got = Xxh3::with_seed(seed(&case)).hash_128(&message(&case));
        let (high, low) = (hex_number(&case["high_hex"]), hex_number(&case["low_hex"]));
        assert_eq!(got, high << 64 | low, "{case}");
    }
    for case in cases(HASHES, "xxh_live_lengths") {
        let (seed, message) = (seed(&case), message(&case));
        let got = Xxh64::with_seed(seed).hash(&message);
        assert_eq!(u128::from(got), hex_number(&case["xxh64"]), "{case}");
        let got = Xxh3::with_seed(seed).hash(&message);
        assert_eq!(u128::from(got), hex_number(&case["xxh3_64"]), "{case}");
    }
}

#[test]
fn siphash_is_the_reference() {
    let key: [u8; 16] = core::array::from_fn(|n| u8::try_from(n).unwrap());
    let message = |case: &Case| -> Vec<u8> {
        (0..number(&case["len"]))
            .map(|n| u8::try_from(n % 256).unwrap())
            .collect()
    };
    for case in cases(HASHES, "siphash_2_4_64") {
        let hash = Sip24::with_key(key).hash(&message(&case));
        assert_eq!(hash.to_le_bytes().to_vec(), hex(&case["bytes_hex"]));
    }
    for case in cases(HASHES, "siphash_2_4_128") {
        let hash = Sip24::with_key(key).hash_128(&message(&case));
        assert_eq!(hash.to_vec(), hex(&case["bytes_hex"]), "{case}");
    }
    for case in cases(HASHES, "siphash_1_3_64_live") {
        let hash = Sip13::with_key(key).hash(&message(&case));
        assert_eq!(format!("{hash:016x}"), case["hash_hex"].as_str().unwrap());
    }
}

#[test]
fn murmur_is_guava_and_the_hashkit_is_libhashkit() {
    for case in cases(HASHES, "guava") {
        let key = hex(&case["key_hex"]);
        assert_eq!(
            u64::from(murmur::murmur3_32(&key, 0)),
            number(&case["murmur3_32"])
        );
        let (h1, h2) = murmur::murmur3_128(&key, 0);
        let bytes = [h1.to_le_bytes(), h2.to_le_bytes()].concat();
        assert_eq!(bytes, hex(&case["murmur3_128_le_hex"]));
        let secret: [u8; 16] = core::array::from_fn(|n| u8::try_from(n).unwrap());
        assert_eq!(
            Sip24::with_key(secret).hash(&key),
            number(&case["siphash24"])
        );
        assert_eq!(guava::farm_fingerprint64(&key), number(&case["farmfp64"]));
        assert_eq!(u64::from(guava::crc32c(&key)), number(&case["crc32c"]));
    }
    for case in cases(HASHES, "libhashkit") {
        let key = case["key"].as_str().unwrap().as_bytes();
        for (name, function) in [
            ("one_at_a_time", hashkit::one_at_a_time as fn(&[u8]) -> u32),
            ("md5", hashkit::md5_32),
            ("crc", hashkit::crc),
            ("fnv1_64", hashkit::fnv1_64),
            ("fnv1a_64", hashkit::fnv1a_64),
            ("fnv1_32", hashkit::fnv1_32),
            ("fnv1a_32", hashkit::fnv1a_32),
        ] {
            assert_eq!(function(key), small(&case[name]), "{name} {case}");
        }
    }
}

#[test]
fn farm_fingerprints_of_all_lengths_are_farmhashs() {
    // What Google's C++ FarmHash (through the Python package cityhash 0.4.10) gives for so many bytes. Guava's rows
    // are of nine bytes at most, and the function has five branches by length.
    for (len, wanted) in [
        (0, 11160318154034397263),
        (3, 8914538031014994716),
        (7, 12422232941472335743),
        (16, 1085310771717607439),
        (17, 8422506436535827149),
        (32, 12770157921439293347),
        (33, 6440660896033392947),
        (64, 2777282559205400664),
        (65, 9792357706171707813),
        (128, 520571107234296716),
        (129, 4433735375685010465),
        (700, 898651456994834964),
    ] {
        assert_eq!(guava::farm_fingerprint64(&xxh_buffer(len)), wanted, "{len}");
    }
}

#[test]
fn each_rule_over_bytes_has_a_name_of_its_own_and_is_the_function_it_stands_for() {
    use stackbeam_consistent_hash::interop::{
        cassandra, elasticsearch, kafka, mcrouter, mongodb, nginx, postgres, redis, vitess,
    };
    type Row = (&'static str, u64, u64);
    fn row<H: KeyHash>(hasher: &H, wanted: impl Into<u64>) -> Row {
        (H::NAME, hasher.hash(b"user:42"), wanted.into())
    }
    let (key, text) = (b"user:42".as_slice(), "user:42");
    let rows = [
        row(&redis::Crc16Slot::new(), redis::slot(key)),
        row(
            &kafka::Murmur2Kafka::new(),
            kafka::murmur2(key).cast_unsigned() & 0x7fff_ffff,
        ),
        row(
            &cassandra::Murmur3Cassandra::new(),
            cassandra::position(cassandra::murmur3_token(key)),
        ),
        row(
            &vitess::XxhashVitess::new(),
            u64::from_be_bytes(vitess::xxhash(key)),
        ),
        row(
            &vitess::DesVitess::new(),
            u64::from_be_bytes(vitess::hash(u64::from_be_bytes(*b"\0user:42"))),
        ),
        row(
            &postgres::HashPostgres::new(),
            postgres::hash_text(text).cast_unsigned(),
        ),
        row(
            &postgres::PartitionHashPostgres::new(),
            postgres::PartitionKey::new().text(text).hash(),
        ),
        row(
            &mongodb::Md5MongoDb::new(),
            mongodb::position(mongodb::hash(&mongodb::Value::String(text))),
        ),
        row(
            &elasticsearch::Murmur3Elasticsearch::new(),
            elasticsearch::murmur3(text).cast_unsigned(),
        ),
        row(&mcrouter::Crc32Mcrouter::new(), 0x7fff_ffff & crc32(key)),
        row(&nginx::Crc32Nginx::new(), nginx::hash(key)),
        row(&hashkit::OneAtATime::new(), hashkit::one_at_a_time(key)),
        row(&hashkit::Md5x32::new(), hashkit::md5_32(key)),
        row(&hashkit::Crc15::new(), crc32(key) >> 16 & 0x7fff),
        row(&hashkit::Fnv32::new(), hashkit::fnv1_32(key)),
        row(&hashkit::Fnv32a::new(), hashkit::fnv1a_32(key)),
        row(&hashkit::Fnv64::new(), hashkit::fnv1_64(key)),
        row(&hashkit::Fnv64a::new(), hashkit::fnv1a_64(key)),
        row(&guava::Crc32c::new(), guava::crc32c(key)),
        row(
            &guava::FarmFingerprint64::new(),
            guava::farm_fingerprint64(key),
        ),
        row(
            &murmur::Murmur2x32::with_seed(9),
            murmur::murmur2_32(key, 9),
        ),
        row(
            &murmur::Murmur2x64a::with_seed(9),
            murmur::murmur2_64a(key, 9),
        ),
        row(
            &murmur::Murmur3x32::with_seed(9),
            murmur::murmur3_32(key, 9),
        ),
        row(
            &murmur::Murmur3x128::with_seed(9),
            murmur::murmur3_128(key, 9).0,
        ),
    ];
    let mut names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    names.extend([
        Xxh3::NAME,
        Xxh64::NAME,
        Xxh32::NAME,
        Sip13::NAME,
        Sip24::NAME,
    ]);
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.iter().all(|name| name.ends_with("/1")));
    for (name, got, wanted) in rows {
        assert_eq!(got, wanted, "{name}");
    }
    // A number is the number of the product, not the bytes of it.
    let n = 1_u64 << 33;
    let int8 = postgres::PartitionKey::new().int8(n.cast_signed());
    assert_eq!(
        postgres::PartitionHashPostgres::new().hash_u64(n),
        int8.hash()
    );
    let hash = postgres::hash_int8(n.cast_signed()).cast_unsigned();
    assert_eq!(postgres::HashPostgres::new().hash_u64(n), u64::from(hash));
    let hash = mongodb::hash(&mongodb::Value::Int64(n.cast_signed()));
    assert_eq!(
        mongodb::Md5MongoDb::new().hash_u64(n),
        mongodb::position(hash)
    );
}

/// The CRC-32 of zip and Ethernet, bit by bit.
fn crc32(key: &[u8]) -> u32 {
    !key.iter().fold(u32::MAX, |mut register, byte| {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = register >> 1 ^ if register & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
        register
    })
}
