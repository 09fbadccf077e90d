//! Cassandra and Scylla: the token of a partition key, and Scylla's shard of a token.
//!
//! A key is the serialised partition key: the bytes of a single column, or of several with their lengths
//! around them as the protocol writes a composite.

use super::md5;
use super::murmur::murmur3_128_signed;

/// The token of `Murmur3Partitioner`, the default. Its lowest value is never returned: it stands for the
/// start of the ring, and the highest takes its place.
///
/// Drivers give an empty key the token 0, as here; the server refuses empty partition keys.
#[must_use]
pub fn murmur3_token(key: &[u8]) -> i64 {
    match murmur3_128_signed(key).0.cast_signed() {
        i64::MIN => i64::MAX,
        token => token,
    }
}

/// The token of the old `RandomPartitioner`: the absolute value of the signed MD5, up to 2^127.
#[must_use]
pub fn random_token(key: &[u8]) -> u128 {
    i128::from_be_bytes(md5(&[key])).unsigned_abs()
}

/// The token of Scylla's `CDCPartitioner`: the first eight bytes of a stream id. The lowest token if there are
/// fewer.
#[must_use]
pub fn cdc_token(key: &[u8]) -> i64 {
    key.first_chunk()
        .map_or(i64::MIN, |bytes| i64::from_be_bytes(*bytes))
}

/// The shard (the CPU core) of a Scylla node that holds a token. The node tells its number of shards and how
/// many of the most significant bits to ignore. `None` for no shards or more than 63 bits.
#[must_use]
pub fn shard_of(token: i64, shards: u32, msb_ignore: u32) -> Option<u32> {
    if shards == 0 {
        return None;
    }
    let unsigned = position(token);
    let shifted = if msb_ignore < 64 {
        unsigned << msb_ignore
    } else {
        return None;
    };
    Some(crate::mix::reduce(shifted, shards))
}

/// The place of a token on a [`Ring`](crate::Ring), whose positions are unsigned: in the same order.
///
/// ```
/// use stackbeam_consistent_hash::interop::cassandra::{murmur3_token, position};
/// use stackbeam_consistent_hash::{MemberId, Members, Placement, Ring};
///
/// let members = Members::from_names(["n1", "n2"])?;
/// let tokens = [("n1", -3_000_000_000_000_000_000), ("n2", 4_000_000_000_000_000_000)];
/// let tokens = tokens.map(|(name, token)| (MemberId::of_name(name), position(token)));
/// let ring = Ring::with_tokens(&members, tokens)?;
/// let owner = ring.owner(position(murmur3_token(b"hello, world")));
/// assert_eq!(members[owner].name(), "n2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub const fn position(token: i64) -> u64 {
    token.cast_unsigned() ^ 1 << 63
}

key_hash! {
    /// [`murmur3_token`] as a [`KeyHash`](crate::KeyHash), moved to where a [`Ring`](crate::Ring) of tokens
    /// looks: see [`position`].
    Murmur3Cassandra = "cassandra-murmur3-position/1", |key| position(murmur3_token(key))
}
