//! Kafka: the partition of a keyed message, as the Java client's default partitioner chooses it.

use super::murmur::murmur2_32;

/// Kafka's murmur2 of a key: 32 bits, signed in Java.
#[must_use]
pub fn murmur2(key: &[u8]) -> i32 {
    murmur2_32(key, 0x9747_b28c).cast_signed()
}

/// The partition of a key: murmur2 without its sign bit, modulo the partitions. `None` for no partitions.
///
/// Messages without a key are spread in other ways, which differ between versions of the client.
#[must_use]
pub fn partition(key: &[u8], partitions: u32) -> Option<u32> {
    (murmur2(key).cast_unsigned() & 0x7fff_ffff).checked_rem(partitions)
}

key_hash! {
    /// Murmur2 without its sign bit as a [`KeyHash`](crate::KeyHash): the partition is its remainder by the
    /// number of partitions, as [`Modulo`](crate::Modulo) gives it.
    Murmur2Kafka = "kafka-murmur2/1", |key| u64::from(murmur2(key).cast_unsigned() & 0x7fff_ffff)
}
