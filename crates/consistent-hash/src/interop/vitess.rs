//! Vitess: the keyspace id of a column, by its vindex.
//!
//! A keyspace id is bytes; the shards of a keyspace are ranges of them, compared from the first byte on
//! ([`in_range`]). The functions are named as the vindexes are.
//!
//! Not here: the sort keys of `unicode_loose_md5` and `unicode_loose_xxhash`. Vitess takes off spaces at the end
//! and asks Go's `golang.org/x/text/collate` for the key (English, loose), whose weights are those of its own table of
//! Unicode 6.2; no collation crate gives the same numbers. [`binary_md5`] and [`xxhash`] of such a key are the
//! keyspace ids.

use alloc::vec::Vec;

use des::Des;
use des::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use xxhash_rust::xxh64::xxh64;

fn des() -> Des {
    Des::new(&[0; 8].into())
}

/// `hash`: DES of the number, big endian, under the key of zeros. Signed numbers are cast.
#[must_use]
pub fn hash(id: u64) -> [u8; 8] {
    let mut block = id.to_be_bytes().into();
    des().encrypt_block(&mut block);
    block.into()
}

/// The number of which [`hash`] is the keyspace id.
#[must_use]
pub fn unhash(keyspace_id: [u8; 8]) -> u64 {
    let mut block = keyspace_id.into();
    des().decrypt_block(&mut block);
    u64::from_be_bytes(block.into())
}

/// `xxhash`: XXH64 of the bytes, little endian. A number is hashed in its text form ([`xxhash_int`],
/// [`xxhash_uint`]), null as no bytes.
#[must_use]
pub fn xxhash(value: &[u8]) -> [u8; 8] {
    xxh64(value, 0).to_le_bytes()
}

/// `xxhash` of a signed number.
#[must_use]
pub fn xxhash_int(id: i64) -> [u8; 8] {
    xxhash(alloc::format!("{id}").as_bytes())
}

/// `xxhash` of an unsigned number.
#[must_use]
pub fn xxhash_uint(id: u64) -> [u8; 8] {
    xxhash(alloc::format!("{id}").as_bytes())
}

/// `numeric`: the number, big endian.
#[must_use]
pub const fn numeric(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

/// `reverse_bits`: the bits of the number in reverse, big endian.
#[must_use]
pub const fn reverse_bits(id: u64) -> [u8; 8] {
    id.reverse_bits().to_be_bytes()
}

/// `binary_md5`: the MD5 of the bytes.
#[must_use]
pub fn binary_md5(value: &[u8]) -> [u8; 16] {
    super::md5(&[value])
}

/// `binary`: the bytes themselves.
#[must_use]
pub fn binary(value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

/// `null`: one byte of zero for everything.
#[must_use]
pub const fn null() -> [u8; 1] {
    [0]
}

/// `region_experimental`: the region in one or two bytes (big endian), then the [`hash`] of the number.
/// `None` if `region_bytes` is neither.
#[must_use]
pub fn region_experimental(region: u16, region_bytes: u8, id: u64) -> Option<Vec<u8>> {
    let region = region.to_be_bytes();
    let prefix = match region_bytes {
        1 => &region[1..],
        2 => &region[..],
        _ => return None,
    };
    Some([prefix, &hash(id)].concat())
}

/// Whether a keyspace id is in a shard: at or after `start`, and before `end` unless that is empty. The shard
/// `40-80` has the start `[0x40]` and the end `[0x80]`.
#[must_use]
pub fn in_range(keyspace_id: &[u8], start: &[u8], end: &[u8]) -> bool {
    keyspace_id >= start && (end.is_empty() || keyspace_id < end)
}

/// `multicol`: some bytes of the keyspace id of each column, one after the other.
///
/// ```
/// use stackbeam_consistent_hash::interop::vitess::{MultiCol, hash};
///
/// let three = MultiCol::new(3).unwrap();
/// let columns = [hash(1), hash(1), hash(1)];
/// let id = three.keyspace_id(&[&columns[0], &columns[1], &columns[2]]);
/// assert_eq!(id.unwrap(), [0x16, 0x6b, 0x40, 0x16, 0x6b, 0x40, 0x16, 0x6b]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiCol {
    bytes: Vec<usize>,
}

impl MultiCol {
    /// The default shares of the eight bytes: equal, and one more for the first columns if they do not
    /// come out even. `None` unless there are one to eight columns.
    #[must_use]
    pub fn new(columns: usize) -> Option<Self> {
        if !(1..=8).contains(&columns) {
            return None;
        }
        let (each, more) = (8 / columns, 8 % columns);
        Some(Self {
            bytes: (0..columns).map(|n| each + usize::from(n < more)).collect(),
        })
    }

    /// The `column_bytes` of the vindex: how many bytes each column gives. `None` unless there are one to
    /// eight columns of at least one byte and eight bytes in all.
    #[must_use]
    pub fn with_bytes(bytes: &[usize]) -> Option<Self> {
        let sum = bytes.iter().fold(0_usize, |sum, n| sum.saturating_add(*n));
        if bytes.contains(&0) || sum != 8 {
            return None;
        }
        Some(Self {
            bytes: bytes.to_vec(),
        })
    }

    /// The keyspace id of all columns, given the keyspace id of each by its own vindex. `None` unless there
    /// is one for every column, with enough bytes.
    #[must_use]
    pub fn keyspace_id(&self, columns: &[&[u8]]) -> Option<Vec<u8>> {
        if columns.len() == self.bytes.len() {
            self.prefix(columns)
        } else {
            None
        }
    }

    /// The range of keyspace ids of which only the first columns are known: from the first to before the
    /// second. An empty second means the end of the key space. `None` unless at least one column is given,
    /// and fewer than there are.
    #[must_use]
    pub fn range(&self, columns: &[&[u8]]) -> Option<(Vec<u8>, Vec<u8>)> {
        if columns.is_empty() || columns.len() >= self.bytes.len() {
            return None;
        }
        let start = self.prefix(columns)?;
        let mut end = start.clone();
        // One more, with the carry; bytes of 255 fall away.
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                // As wide as the start.
                end.resize(start.len(), 0);
                break;
            }
        }
        Some((start, end))
    }

    fn prefix(&self, columns: &[&[u8]]) -> Option<Vec<u8>> {
        let mut id = Vec::with_capacity(8);
        for (column, bytes) in columns.iter().zip(&self.bytes) {
            id.extend_from_slice(column.get(..*bytes)?);
        }
        Some(id)
    }
}

key_hash! {
    /// [`xxhash`] as a [`KeyHash`](crate::KeyHash): the keyspace id as a number, so that comparing numbers is
    /// comparing keyspace ids, and a shard's range is a range of hashes.
    XxhashVitess = "vitess-xxhash/1", |key| u64::from_be_bytes(xxhash(key))
}

key_hash! {
    /// [`hash()`] as a [`KeyHash`](crate::KeyHash) of numbers: the keyspace id as a number. `hash_u64` takes the
    /// number; a key of bytes is taken as a number of up to eight bytes, big endian, and of more than eight the
    /// first eight count.
    DesVitess = "vitess-hash/1",
    |key| {
        let bytes = key.iter().take(8);
        u64::from_be_bytes(hash(bytes.fold(0, |id, byte| id << 8 | u64::from(*byte))))
    },
    |number: u64| u64::from_be_bytes(hash(number))
}
