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
//! | [`mcrouter`] | mcrouter's CRC32 pool and weighted CH3 | the place of a server |
//! | [`murmur`] | the Murmur functions themselves | 32, 64 or 128 bits |
//!
//! Rings and tables of other products (ketama, Envoy, Maglev) are [`Ketama`](crate::Ketama) and
//! [`Maglev`](crate::Maglev).
//!
//! A rule that takes bytes is also a [`KeyHash`](crate::KeyHash), with a name and a version that never
//! changes. What it returns is the product's own number and often fewer than 64 bits: look it up where the
//! product does, not in a placement that wants 64 mixed bits.
//!
//! ```
//! use stackbeam_consistent_hash::interop::{kafka, postgres::PartitionKey, redis};
//!
//! assert_eq!(redis::slot(b"{user1000}.following"), redis::slot(b"{user1000}.followers"));
//! assert_eq!(kafka::partition(b"device:271422", 12), Some(9));
//! assert_eq!(PartitionKey::new().int8(1).remainder(8), Some(0));
//! ```

pub mod cassandra;
pub mod elasticsearch;
pub mod hashkit;
pub mod kafka;
pub mod mcrouter;
pub mod mongodb;
pub mod murmur;
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
