//! libhashkit: the 32-bit hashes that libmemcached and its clients offer.

use super::{le32, md5};
use crate::mix::low32;

/// Bob Jenkins' one-at-a-time, the default of libmemcached.
#[must_use]
pub fn one_at_a_time(key: &[u8]) -> u32 {
    let mut value = 0_u32;
    for byte in key {
        // The reference adds a signed `char` there.
        value = value.wrapping_add(i32::from(byte.cast_signed()).cast_unsigned());
        value = value.wrapping_add(value << 10);
        value ^= value >> 6;
    }
    value = value.wrapping_add(value << 3);
    value ^= value >> 11;
    value.wrapping_add(value << 15)
}

/// The first four bytes of the MD5, little endian: the hash of ketama.
#[must_use]
pub fn md5_32(key: &[u8]) -> u32 {
    le32(&md5(&[key]), 0)
}

/// Fifteen bits of the CRC32.
#[must_use]
pub fn crc(key: &[u8]) -> u32 {
    crc32fast::hash(key) >> 16 & 0x7fff
}

/// FNV-1 with 32 bits.
#[must_use]
pub fn fnv1_32(key: &[u8]) -> u32 {
    key.iter().fold(2_166_136_261, |hash: u32, byte| {
        hash.wrapping_mul(16_777_619) ^ i32::from(byte.cast_signed()).cast_unsigned()
    })
}

/// FNV-1a with 32 bits.
#[must_use]
pub fn fnv1a_32(key: &[u8]) -> u32 {
    key.iter().fold(2_166_136_261, |hash: u32, byte| {
        (hash ^ i32::from(byte.cast_signed()).cast_unsigned()).wrapping_mul(16_777_619)
    })
}

/// FNV-1 with 64 bits, of which libhashkit keeps the lower 32.
#[must_use]
pub fn fnv1_64(key: &[u8]) -> u32 {
    low32(key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ i64::from(byte.cast_signed()).cast_unsigned()
    }))
}

/// FNV-1a with 64 bits, of which libhashkit keeps the lower 32.
#[must_use]
pub fn fnv1a_64(key: &[u8]) -> u32 {
    low32(key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ i64::from(byte.cast_signed()).cast_unsigned()).wrapping_mul(0x0100_0000_01b3)
    }))
}

key_hash! {
    /// [`one_at_a_time`] as a [`KeyHash`](crate::KeyHash).
    OneAtATime = "libhashkit-one-at-a-time/1", |key| u64::from(one_at_a_time(key))
}

key_hash! {
    /// [`md5_32`] as a [`KeyHash`](crate::KeyHash).
    Md5x32 = "libhashkit-md5-32/1", |key| u64::from(md5_32(key))
}

key_hash! {
    /// [`crc()`] as a [`KeyHash`](crate::KeyHash).
    Crc15 = "libhashkit-crc-15/1", |key| u64::from(crc(key))
}

key_hash! {
    /// [`fnv1_64`] as a [`KeyHash`](crate::KeyHash).
    Fnv64 = "libhashkit-fnv1-64-low/1", |key| u64::from(fnv1_64(key))
}

key_hash! {
    /// [`fnv1a_64`] as a [`KeyHash`](crate::KeyHash).
    Fnv64a = "libhashkit-fnv1a-64-low/1", |key| u64::from(fnv1a_64(key))
}

key_hash! {
    /// [`fnv1_32`] as a [`KeyHash`](crate::KeyHash).
    Fnv32 = "libhashkit-fnv1-32/1", |key| u64::from(fnv1_32(key))
}

key_hash! {
    /// [`fnv1a_32`] as a [`KeyHash`](crate::KeyHash).
    Fnv32a = "libhashkit-fnv1a-32/1", |key| u64::from(fnv1a_32(key))
}
