//! Austin Appleby's Murmur functions (public domain), in the forms that other products use.

use super::{le32, le64};
use crate::mix::low32;

const M64: u64 = 0xc6a4_a793_5bd1_e995;

/// MurmurHash2 with 32 bits. Kafka hashes with the seed `0x9747b28c`.
#[must_use]
pub fn murmur2_32(key: &[u8], seed: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = seed ^ low32(key.len() as u64);
    let (words, tail) = key.split_at(key.len() / 4 * 4);
    for word in words.chunks_exact(4) {
        let mut k = le32(word, 0).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (n, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * n);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// MurmurHash64A: 64 bits for 64-bit machines. mcrouter's CH3 and Envoy's `MURMUR_HASH_2` use it.
#[must_use]
pub fn murmur2_64a(key: &[u8], seed: u64) -> u64 {
    let mut h = seed ^ (key.len() as u64).wrapping_mul(M64);
    let (words, tail) = key.split_at(key.len() / 8 * 8);
    for word in words.chunks_exact(8) {
        let k = le64(word, 0).wrapping_mul(M64);
        h = (h ^ (k ^ (k >> 47)).wrapping_mul(M64)).wrapping_mul(M64);
    }
    if !tail.is_empty() {
        for (n, byte) in tail.iter().enumerate() {
            h ^= u64::from(*byte) << (8 * n);
        }
        h = h.wrapping_mul(M64);
    }
    h = (h ^ (h >> 47)).wrapping_mul(M64);
    h ^ (h >> 47)
}

/// MurmurHash3 x86 with 32 bits.
#[must_use]
pub fn murmur3_32(key: &[u8], seed: u32) -> u32 {
    let scramble = |k: u32| {
        k.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut h = seed;
    let (words, tail) = key.split_at(key.len() / 4 * 4);
    for word in words.chunks_exact(4) {
        h ^= scramble(le32(word, 0));
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    h ^= scramble(u32::from_le_bytes(last));
    h ^= low32(key.len() as u64);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// MurmurHash3 x64 with 128 bits: the first and the second half.
#[must_use]
pub fn murmur3_128(key: &[u8], seed: u32) -> (u64, u64) {
    let (blocks, tail) = key.split_at(key.len() / 16 * 16);
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    murmur3_128_of(
        blocks,
        key.len(),
        (le64(&last, 0), le64(&last, 1)),
        u64::from(seed),
    )
}

/// As Cassandra computes it: the bytes of the tail are signed, which changes keys with bytes above 127.
pub(super) fn murmur3_128_signed(key: &[u8]) -> (u64, u64) {
    let (blocks, tail) = key.split_at(key.len() / 16 * 16);
    let half = |bytes: &[u8]| {
        bytes.iter().enumerate().fold(0, |half, (n, byte)| {
            half ^ i64::from(byte.cast_signed()).cast_unsigned() << (8 * n)
        })
    };
    let (first, second) = tail.split_at(tail.len().min(8));
    murmur3_128_of(blocks, key.len(), (half(first), half(second)), 0)
}

fn murmur3_128_of(blocks: &[u8], len: usize, tail: (u64, u64), seed: u64) -> (u64, u64) {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let first = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let second = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let finish = |mut k: u64| {
        k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        k ^ (k >> 33)
    };
    let (mut h1, mut h2) = (seed, seed);
    for block in blocks.chunks_exact(16) {
        h1 = (h1 ^ first(le64(block, 0)))
            .rotate_left(27)
            .wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ second(le64(block, 1)))
            .rotate_left(31)
            .wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    h1 ^= first(tail.0) ^ len as u64;
    h2 ^= second(tail.1) ^ len as u64;
    h1 = h1.wrapping_add(h2);
    h2 = finish(h2.wrapping_add(h1));
    h1 = finish(h1).wrapping_add(h2);
    (h1, h2.wrapping_add(h1))
}

/// A [`KeyHash`](crate::KeyHash) with a seed.
macro_rules! seeded {
    ($(#[$doc:meta])* $name:ident($seed:ty) = $text:literal, |$key:ident, $by:ident| $hash:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            seed: $seed,
        }

        impl $name {
            /// With seed 0.
            #[must_use]
            pub const fn new() -> Self {
                Self { seed: 0 }
            }

            /// With a seed of the caller's.
            #[must_use]
            pub const fn with_seed(seed: $seed) -> Self {
                Self { seed }
            }
        }

        impl $crate::KeyHash for $name {
            const NAME: &'static str = $text;

            #[inline]
            fn hash(&self, $key: &[u8]) -> u64 {
                let $by = self.seed;
                $hash
            }
        }
    };
}

seeded! {
    /// [`murmur2_32`] as a [`KeyHash`](crate::KeyHash).
    Murmur2x32(u32) = "murmur2-32/1", |key, seed| u64::from(murmur2_32(key, seed))
}

seeded! {
    /// [`murmur2_64a`] as a [`KeyHash`](crate::KeyHash).
    Murmur2x64a(u64) = "murmur2-64a/1", |key, seed| murmur2_64a(key, seed)
}

seeded! {
    /// [`murmur3_32`] as a [`KeyHash`](crate::KeyHash).
    Murmur3x32(u32) = "murmur3-x86-32/1", |key, seed| u64::from(murmur3_32(key, seed))
}

seeded! {
    /// The first half of [`murmur3_128`] as a [`KeyHash`](crate::KeyHash).
    Murmur3x128(u32) = "murmur3-x64-128-first/1", |key, seed| murmur3_128(key, seed).0
}
