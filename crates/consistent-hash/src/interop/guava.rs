//! Guava's `Hashing`: FarmHash's fingerprint, which is also BigQuery's `FARM_FINGERPRINT`, and CRC32C.
//!
//! Its other functions are [`murmur`](super::murmur), [`Sip24`](crate::Sip24) and, for
//! `Hashing.consistentHash`, [`Jump`](crate::Jump).

use crc::{CRC_32_ISCSI, Crc, Table};

use super::{le32, le64};

static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// CRC32C (Castagnoli).
#[must_use]
pub fn crc32c(key: &[u8]) -> u32 {
    CRC32C.checksum(key)
}

key_hash! {
    /// [`crc32c`] as a [`KeyHash`](crate::KeyHash).
    Crc32c = "crc32c/1", |key| u64::from(crc32c(key))
}

key_hash! {
    /// [`farm_fingerprint64`] as a [`KeyHash`](crate::KeyHash).
    FarmFingerprint64 = "farm-fingerprint-64/1", |key| farm_fingerprint64(key)
}

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;

/// `farmHashFingerprint64` (Geoff Pike's `farmhashna`, which is promised never to change).
///
/// ```
/// assert_eq!(stackbeam_consistent_hash::interop::guava::farm_fingerprint64(b"hello"), 13009744463427800296);
/// ```
#[must_use]
pub fn farm_fingerprint64(key: &[u8]) -> u64 {
    let len = key.len() as u64;
    let factor = K2.wrapping_add(len.wrapping_mul(2));
    match key.len() {
        0 => K2,
        1..=3 => {
            let byte = |n: usize| u64::from(key[n]);
            let y = byte(0).wrapping_add(byte(key.len() / 2) << 8);
            let z = len.wrapping_add(byte(key.len() - 1) << 2);
            fold(y.wrapping_mul(K2) ^ z.wrapping_mul(K0)).wrapping_mul(K2)
        }
        4..=7 => {
            let (first, last) = (le32(key, 0), le32(&key[key.len() - 4..], 0));
            let first = len.wrapping_add(u64::from(first) << 3);
            pair(first, u64::from(last), factor)
        }
        8..=16 => {
            let a = le64(key, 0).wrapping_add(K2);
            let b = le64(&key[key.len() - 8..], 0);
            let c = b.rotate_right(37).wrapping_mul(factor).wrapping_add(a);
            let d = a.rotate_right(25).wrapping_add(b).wrapping_mul(factor);
            pair(c, d, factor)
        }
        17..=32 => {
            let back = &key[key.len() - 16..];
            let (x, y) = quad(le64(key, 0).wrapping_mul(K1), le64(key, 1), back, factor);
            pair(x, y, factor)
        }
        33..=64 => middle(key, factor),
        _ => long(key),
    }
}

fn fold(x: u64) -> u64 {
    x ^ (x >> 47)
}

/// Two words in one.
fn pair(u: u64, v: u64, factor: u64) -> u64 {
    let a = fold((u ^ v).wrapping_mul(factor));
    fold((v ^ a).wrapping_mul(factor)).wrapping_mul(factor)
}

/// The first two words, of which the first is multiplied already, and the last sixteen bytes.
fn quad(a: u64, b: u64, back: &[u8], factor: u64) -> (u64, u64) {
    let c = le64(back, 1).wrapping_mul(factor);
    let d = le64(back, 0).wrapping_mul(K2);
    let x = a.wrapping_add(b).rotate_right(43);
    let x = x.wrapping_add(c.rotate_right(30)).wrapping_add(d);
    let y = a.wrapping_add(b.wrapping_add(K2).rotate_right(18));
    (x, y.wrapping_add(c))
}

fn middle(key: &[u8], factor: u64) -> u64 {
    let back = &key[key.len() - 32..];
    let a = le64(key, 0).wrapping_mul(K2);
    let (y, z) = quad(a, le64(key, 1), &back[16..], factor);
    let z = pair(y, z, factor);
    let (e, f) = (le64(key, 2).wrapping_mul(factor), le64(key, 3));
    let g = y.wrapping_add(le64(back, 0)).wrapping_mul(factor);
    let h = z.wrapping_add(le64(back, 1)).wrapping_mul(factor);
    let u = e.wrapping_add(f).rotate_right(43);
    let v = e.wrapping_add(f.wrapping_add(a).rotate_right(18));
    pair(
        u.wrapping_add(g.rotate_right(30)).wrapping_add(h),
        v.wrapping_add(g),
        factor,
    )
}

/// What goes from one block of 64 bytes to the next.
struct State {
    x: u64,
    y: u64,
    z: u64,
    v: (u64, u64),
    w: (u64, u64),
}

impl State {
    /// One block. `weight` is 1, and 9 for the last one.
    fn add(&mut self, block: &[u8], factor: u64, weight: u64) {
        let at = |n: usize| le64(block, n);
        let x = self.x.wrapping_add(self.y).wrapping_add(self.v.0);
        let x = x.wrapping_add(at(1)).rotate_right(37);
        self.x = x.wrapping_mul(factor) ^ self.w.1.wrapping_mul(weight);
        let y = self.y.wrapping_add(self.v.1).wrapping_add(at(6));
        let y = y.rotate_right(42).wrapping_mul(factor);
        let y = y.wrapping_add(self.v.0.wrapping_mul(weight));
        self.y = y.wrapping_add(at(5));
        let z = self.z.wrapping_add(self.w.0).rotate_right(33);
        self.z = z.wrapping_mul(factor);
        let seeds = (self.v.1.wrapping_mul(factor), self.x.wrapping_add(self.w.0));
        self.v = weak(&block[..32], seeds);
        let seeds = (self.z.wrapping_add(self.w.1), self.y.wrapping_add(at(2)));
        self.w = weak(&block[32..], seeds);
        core::mem::swap(&mut self.x, &mut self.z);
    }
}

/// Two words of 32 bytes and two.
fn weak(bytes: &[u8], (a, b): (u64, u64)) -> (u64, u64) {
    let a = a.wrapping_add(le64(bytes, 0));
    let b = b
        .wrapping_add(a)
        .wrapping_add(le64(bytes, 3))
        .rotate_right(21);
    let sum = a.wrapping_add(le64(bytes, 1)).wrapping_add(le64(bytes, 2));
    let b = b.wrapping_add(sum.rotate_right(44));
    (sum.wrapping_add(le64(bytes, 3)), b.wrapping_add(a))
}

fn long(key: &[u8]) -> u64 {
    const SEED: u64 = 81;
    let y = SEED.wrapping_mul(K1).wrapping_add(113);
    let mut state = State {
        x: SEED.wrapping_mul(K2).wrapping_add(le64(key, 0)),
        y,
        z: fold(y.wrapping_mul(K2).wrapping_add(113)).wrapping_mul(K2),
        v: (0, 0),
        w: (0, 0),
    };
    // The last 64 bytes are hashed once more even where they are a whole block, but then not before.
    let rest = (key.len() - 1) % 64;
    for block in key[..key.len() - 1 - rest].chunks_exact(64) {
        state.add(block, K1, 1);
    }
    let factor = K1.wrapping_add((state.z & 0xff) << 1);
    state.w.0 = state.w.0.wrapping_add(rest as u64);
    state.v.0 = state.v.0.wrapping_add(state.w.0);
    state.w.0 = state.w.0.wrapping_add(state.v.0);
    state.add(&key[key.len() - 64..], factor, 9);
    let State { x, y, z, v, w } = state;
    let first = pair(v.0, w.0, factor);
    let first = first.wrapping_add(fold(y).wrapping_mul(K0)).wrapping_add(z);
    let second = pair(v.1, w.1, factor).wrapping_add(x);
    pair(first, second, factor)
}
