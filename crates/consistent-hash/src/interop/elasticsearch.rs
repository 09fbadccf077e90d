//! Elasticsearch and OpenSearch: the shard of a document.

use alloc::string::String;
use alloc::vec::Vec;

use super::murmur::murmur3_32;

/// Murmur3 of a routing value: of its UTF-16 form, little endian, seed 0.
#[must_use]
pub fn murmur3(routing: &str) -> i32 {
    let bytes: Vec<u8> = routing.encode_utf16().flat_map(u16::to_le_bytes).collect();
    murmur3_32(&bytes, 0).cast_signed()
}

key_hash! {
    /// [`murmur3`] as a [`KeyHash`](crate::KeyHash) of routing values in UTF-8; bytes that are not UTF-8 count as
    /// U+FFFD. Its 32 bits are signed for [`shard`]: `shard(hash as i32, shards)`.
    Murmur3Elasticsearch = "elasticsearch-murmur3/1",
    |key| u64::from(murmur3(&String::from_utf8_lossy(key)).cast_unsigned())
}

/// The hash of a document's routing value (its id, unless one was given) in an index with a
/// `routing_partition_size`: the id moves it by less than that.
///
/// `None` for a partition size of zero.
#[must_use]
pub fn partitioned(routing: &str, id: &str, partition_size: u32) -> Option<i32> {
    let offset = floor_mod(murmur3(id), partition_size)?;
    Some(murmur3(routing).wrapping_add(offset.cast_signed()))
}

/// The shard in indices of current versions: the hash modulo the shards. `None` for no shards.
#[must_use]
pub fn shard(hash: i32, shards: u32) -> Option<u32> {
    floor_mod(hash, shards)
}

/// The shard in indices that were made with a number of routing shards: the hash modulo these, divided by
/// the routing factor. `None` unless `routing_shards` is a multiple of `shards`, and both are above zero.
#[must_use]
pub fn shard_by_factor(hash: i32, shards: u32, routing_shards: u32) -> Option<u32> {
    let factor = routing_shards.checked_div(shards)?;
    if factor.checked_mul(shards)? != routing_shards {
        return None;
    }
    floor_mod(hash, routing_shards)?.checked_div(factor)
}

/// The remainder that is never negative.
fn floor_mod(hash: i32, n: u32) -> Option<u32> {
    let rest = i64::from(hash).checked_rem_euclid(i64::from(n))?;
    u32::try_from(rest).ok()
}
