//! Where other products put a key: their hash functions and rules, bit for bit.
//!
//! | module | whose rule | a key becomes |
//! | --- | --- | --- |
//! | [`redis`] | Redis Cluster and Valkey | a slot of 16 384, by CRC16 of the key or of its hash tag |
//! | [`kafka`] | Kafka's Java client and those that follow it | a partition, by murmur2 |
//! | [`cassandra`] | Cassandra and Scylla | a signed 64-bit token, by Murmur3 |
//! | [`vitess`] | Vitess vindexes | a keyspace id of some bytes |
//! | [`postgres`] | PostgreSQL hash partitions; Citus by the 32-bit hash | a remainder |
//! | [`mongodb`] | MongoDB hashed indexes and shard keys | a signed 64-bit hash, by MD5 |
//! | [`elasticsearch`] | Elasticsearch and OpenSearch | a shard, by Murmur3 of UTF-16 |
//! | [`hashkit`] | libhashkit, the hashes of libmemcached | 32 bits |
//! | [`nginx`] | nginx's `hash` without `consistent` | a server, by CRC32 and weights |
//! | [`guava`] | Guava's `Hashing`; BigQuery's `FARM_FINGERPRINT` | 64 bits, or the 32 of CRC32C |
//! | [`mcrouter`] | mcrouter's CRC32 pool and weighted CH3 | the place of a server |
//! | [`murmur`] | the Murmur functions themselves | 32, 64 or 128 bits |
//!
//! Rings and tables of other products (ketama, Envoy, Maglev) are [`Ketama`](crate::Ketama) and
//! [`Maglev`](crate::Maglev).
//!
//! Each rule over bytes is also a [`KeyHash`](crate::KeyHash), with a name and a version that never changes:
//! [`Crc16Slot`](redis::Crc16Slot), [`Murmur2Kafka`](kafka::Murmur2Kafka),
//! [`Murmur3Cassandra`](cassandra::Murmur3Cassandra), [`XxhashVitess`](vitess::XxhashVitess),
//! [`DesVitess`](vitess::DesVitess), [`HashPostgres`](postgres::HashPostgres),
//! [`PartitionHashPostgres`](postgres::PartitionHashPostgres), [`Md5MongoDb`](mongodb::Md5MongoDb),
//! [`Murmur3Elasticsearch`](elasticsearch::Murmur3Elasticsearch), [`Crc32Mcrouter`](mcrouter::Crc32Mcrouter),
//! [`Crc32Nginx`](nginx::Crc32Nginx), and those of [`guava`], [`hashkit`] and [`murmur`]. What one returns is the
//! product's own number and often fewer than 64 bits: look it up where the product does, not in a placement
//! that wants 64 mixed bits.
//!
//! ```
//! use stackbeam_consistent_hash::interop::{kafka, postgres::PartitionKey, redis};
//!
//! assert_eq!(redis::slot(b"{user1000}.following"), redis::slot(b"{user1000}.followers"));
//! assert_eq!(kafka::partition(b"device:271422", 12), Some(9));
//! assert_eq!(PartitionKey::new().int8(1).remainder(8), Some(0));
//! ```

/// A [`KeyHash`](crate::KeyHash) without settings.
macro_rules! key_hash {
    ($(#[$doc:meta])* $name:ident = $text:literal, |$key:ident| $hash:expr
        $(, |$number:ident: u64| $hash_u64:expr)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $name;

        impl $name {
            /// The function; it has no settings.
            #[must_use]
            pub const fn new() -> Self {
                Self
            }
        }

        impl $crate::KeyHash for $name {
            const NAME: &'static str = $text;

            #[inline]
            fn hash(&self, $key: &[u8]) -> u64 {
                $hash
            }

            $(#[inline]
            fn hash_u64(&self, $number: u64) -> u64 {
                $hash_u64
            })?
        }
    };
}

pub mod cassandra;
pub mod elasticsearch;
pub mod guava;
pub mod hashkit;
pub mod kafka;
pub mod mcrouter;
pub mod mongodb;
pub mod murmur;
pub mod nginx;
pub mod postgres;
pub mod redis;
mod spooky;
pub mod vitess;

use md5::{Digest, Md5};

/// The sixteen bytes of an MD5.
pub(crate) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().into()
}

/// The `n`-th four bytes, little endian.
#[inline]
pub(crate) fn le32(bytes: &[u8], n: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[4 * n..4 * n + 4]);
    u32::from_le_bytes(word)
}

/// The `n`-th eight bytes, little endian.
#[inline]
pub(crate) fn le64(bytes: &[u8], n: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[8 * n..8 * n + 8]);
    u64::from_le_bytes(word)
}
