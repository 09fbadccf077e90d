//! Redis Cluster and Valkey: the slot of a key.
//!
//! Source: the [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use crc::{CRC_16_XMODEM, Crc, Table};

/// Slots of every cluster.
pub const SLOTS: u16 = 16_384;

static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_XMODEM);

/// CRC16-XMODEM of some bytes.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    CRC16.checksum(bytes)
}

/// What of a key is hashed: the bytes between the first `{` and the first `}` after it if there are any,
/// else the whole key.
#[must_use]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(end) => &rest[..end],
    }
}

/// The slot of a key, as `CLUSTER KEYSLOT` tells it.
///
/// ```
/// # use stackbeam_consistent_hash::interop::redis;
/// assert_eq!(redis::slot(b"bar"), 5061);
/// assert_eq!(redis::slot(b"foo{bar}{zap}"), 5061);
/// ```
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

key_hash! {
    /// [`slot`] as a [`KeyHash`](crate::KeyHash): look the number up with
    /// [`SlotTable::owner_of_slot`](crate::SlotTable::owner_of_slot) in a table of [`SLOTS`].
    Crc16Slot = "redis-crc16-slot/1", |key| u64::from(slot(key))
}
