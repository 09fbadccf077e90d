//! PostgreSQL: the hash functions of its types, and the partition that a row belongs to.
//!
//! The 32-bit functions are what Citus shards by; the 64-bit ones, which take a seed, choose the partition
//! of a table that is `PARTITION BY HASH`. The same since PostgreSQL 11.
//!
//! Text is hashed as it is, in UTF-8, which holds for every deterministic collation in a database with that
//! encoding.

use crate::mix::{high32, low32};

/// The seed of hash partitioning (`HASH_PARTITION_SEED`).
pub const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// `hashint4`.
#[must_use]
pub fn hash_int4(value: i32) -> i32 {
    low32(hash_word(value.cast_unsigned(), 0)).cast_signed()
}

/// `hashint4extended`.
#[must_use]
pub fn hash_int4_extended(value: i32, seed: u64) -> u64 {
    hash_word(value.cast_unsigned(), seed)
}

/// `hashint8`. Equal to [`hash_int4`] for what fits there.
#[must_use]
pub fn hash_int8(value: i64) -> i32 {
    low32(hash_word(fold(value), 0)).cast_signed()
}

/// `hashint8extended`.
#[must_use]
pub fn hash_int8_extended(value: i64, seed: u64) -> u64 {
    hash_word(fold(value), seed)
}

/// `hashtext`, which is also `hash_any` of bytes.
#[must_use]
pub fn hash_text(value: &str) -> i32 {
    hash_bytes(value.as_bytes())
}

/// `hashtextextended`.
#[must_use]
pub fn hash_text_extended(value: &str, seed: u64) -> u64 {
    hash_bytes_extended(value.as_bytes(), seed)
}

/// `uuid_hash`, of the sixteen bytes in the order in which they are written.
#[must_use]
pub fn hash_uuid(value: [u8; 16]) -> i32 {
    hash_bytes(&value)
}

/// `uuid_hash_extended`.
#[must_use]
pub fn hash_uuid_extended(value: [u8; 16], seed: u64) -> u64 {
    hash_bytes_extended(&value, seed)
}

/// `hash_bytes`: for `bytea` and other types that are hashed as they are stored.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> i32 {
    low32(hash_bytes_extended(bytes, 0)).cast_signed()
}

/// `hash_bytes_extended`.
#[must_use]
pub fn hash_bytes_extended(bytes: &[u8], seed: u64) -> u64 {
    let mut state = State::new(bytes.len(), seed);
    let (blocks, tail) = bytes.split_at(bytes.len() / 12 * 12);
    for block in blocks.chunks_exact(12) {
        state.add(block);
        state.mix();
    }
    // The lowest byte of the third word belongs to the length.
    let mut last = [0; 12];
    let (front, back) = tail.split_at(tail.len().min(8));
    last[..front.len()].copy_from_slice(front);
    last[9..9 + back.len()].copy_from_slice(back);
    state.add(&last);
    state.finish()
}

fn hash_word(word: u32, seed: u64) -> u64 {
    let mut state = State::new(4, seed);
    state.a = state.a.wrapping_add(word);
    state.finish()
}

/// So that a number hashes alike in all integer types.
const fn fold(value: i64) -> u32 {
    let (low, high) = (low32(value.cast_unsigned()), high32(value.cast_unsigned()));
    low ^ if value >= 0 { high } else { !high }
}

/// Three words, as in Bob Jenkins' lookup3 (2006), which PostgreSQL's function is made of.
struct State {
    a: u32,
    b: u32,
    c: u32,
}

impl State {
    fn new(len: usize, seed: u64) -> Self {
        let word = 0x9e37_79b9_u32
            .wrapping_add(low32(len as u64))
            .wrapping_add(3_923_095);
        let mut state = Self {
            a: word,
            b: word,
            c: word,
        };
        if seed != 0 {
            state.a = state.a.wrapping_add(high32(seed));
            state.b = state.b.wrapping_add(low32(seed));
            state.mix();
        }
        state
    }

    fn add(&mut self, block: &[u8]) {
        self.a = self.a.wrapping_add(super::le32(block, 0));
        self.b = self.b.wrapping_add(super::le32(block, 1));
        self.c = self.c.wrapping_add(super::le32(block, 2));
    }

    fn mix(&mut self) {
        let (mut a, mut b, mut c) = (self.a, self.b, self.c);
        for (first, second, third) in [(4, 6, 8), (16, 19, 4)] {
            a = a.wrapping_sub(c) ^ c.rotate_left(first);
            c = c.wrapping_add(b);
            b = b.wrapping_sub(a) ^ a.rotate_left(second);
            a = a.wrapping_add(c);
            c = c.wrapping_sub(b) ^ b.rotate_left(third);
            b = b.wrapping_add(a);
        }
        (self.a, self.b, self.c) = (a, b, c);
    }

    fn finish(self) -> u64 {
        let Self {
            mut a,
            mut b,
            mut c,
        } = self;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        c = (c ^ b).wrapping_sub(b.rotate_left(24));
        u64::from(b) << 32 | u64::from(c)
    }
}

/// The columns of a partition key, in the order of `PARTITION BY HASH (..)`.
///
/// ```
/// use stackbeam_consistent_hash::interop::postgres::PartitionKey;
///
/// let key = PartitionKey::new().int8(4_294_967_296).text("0123456789");
/// assert_eq!(key.remainder(8), Some(0)); // FOR VALUES WITH (MODULUS 8, REMAINDER 0)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionKey(u64);

impl PartitionKey {
    /// No column yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// An `int4` (or `int2`, which hashes alike).
    #[must_use]
    pub fn int4(self, value: i32) -> Self {
        self.hashed(hash_int4_extended(value, PARTITION_SEED))
    }

    /// An `int8`.
    #[must_use]
    pub fn int8(self, value: i64) -> Self {
        self.hashed(hash_int8_extended(value, PARTITION_SEED))
    }

    /// A `text` or `varchar`. A `char(n)` too, without its trailing spaces.
    #[must_use]
    pub fn text(self, value: &str) -> Self {
        self.hashed(hash_text_extended(value, PARTITION_SEED))
    }

    /// A `uuid`.
    #[must_use]
    pub fn uuid(self, value: [u8; 16]) -> Self {
        self.hashed(hash_uuid_extended(value, PARTITION_SEED))
    }

    /// A `bytea`.
    #[must_use]
    pub fn bytea(self, value: &[u8]) -> Self {
        self.hashed(hash_bytes_extended(value, PARTITION_SEED))
    }

    /// A null, which counts for nothing.
    #[must_use]
    pub const fn null(self) -> Self {
        self
    }

    /// A column of another type, of which the 64-bit hash with [`PARTITION_SEED`] is known.
    #[must_use]
    pub const fn hashed(self, hash: u64) -> Self {
        let a = self.0;
        let add = hash
            .wrapping_add(0x49a0_f4dd_15e5_a8e3)
            .wrapping_add(a << 54)
            .wrapping_add(a >> 7);
        Self(a ^ add)
    }

    /// The hash of the row.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.0
    }

    /// The remainder of the partition that takes the row, among partitions of one modulus. `None` for 0.
    #[must_use]
    pub const fn remainder(self, modulus: u32) -> Option<u32> {
        match self.0.checked_rem(modulus as u64) {
            None => None,
            Some(rest) => Some(low32(rest)),
        }
    }
}

key_hash! {
    /// The 32-bit hash as a [`KeyHash`](crate::KeyHash), of a key of bytes as `text` or `bytea`, of a number as
    /// `int8`: signed for Citus, whose shards are ranges of it (`hash as i32`).
    HashPostgres = "postgresql-hash/1",
    |key| u64::from(hash_bytes(key).cast_unsigned()),
    |number: u64| u64::from(hash_int8(number.cast_signed()).cast_unsigned())
}

key_hash! {
    /// The hash of a row whose [`PartitionKey`] is one column, as a [`KeyHash`](crate::KeyHash): of a key of bytes
    /// as `text` or `bytea`, of a number as `int8`. The remainder of the partition is what
    /// [`Modulo`](crate::Modulo) gives for it.
    PartitionHashPostgres = "postgresql-partition-hash/1",
    |key| PartitionKey::new().bytea(key).hash(),
    |number: u64| PartitionKey::new().int8(number.cast_signed()).hash()
}
