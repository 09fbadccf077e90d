//! SpookyHash V2 (Bob Jenkins, 2012, public domain), of which mcrouter's weighted CH3 takes 32 bits.

use super::{le32, le64};
use crate::mix::low32;

const FILL: u64 = 0xdead_beef_dead_beef;
/// Words in a block of a long message.
const WORDS: usize = 12;
const LONG: usize = 2 * WORDS * 8;

/// The lower 32 bits.
pub(super) fn hash32(key: &[u8], seed: u32) -> u32 {
    let seed = u64::from(seed);
    low32(if key.len() < LONG {
        short(key, seed)
    } else {
        long(key, seed)
    })
}

fn short(key: &[u8], seed: u64) -> u64 {
    let (mut a, mut b, mut c, mut d) = (seed, seed, FILL, FILL);
    let (blocks, mut tail) = key.split_at(key.len() / 32 * 32);
    for block in blocks.chunks_exact(32) {
        c = c.wrapping_add(le64(block, 0));
        d = d.wrapping_add(le64(block, 1));
        short_mix(&mut a, &mut b, &mut c, &mut d);
        a = a.wrapping_add(le64(block, 2));
        b = b.wrapping_add(le64(block, 3));
    }
    if tail.len() >= 16 {
        c = c.wrapping_add(le64(tail, 0));
        d = d.wrapping_add(le64(tail, 1));
        short_mix(&mut a, &mut b, &mut c, &mut d);
        tail = &tail[16..];
    }
    d = d.wrapping_add((key.len() as u64) << 56);
    let byte = |n: usize| u64::from(tail[n]);
    let bytes = |from: usize, to: usize, shift: usize| {
        (from..to).fold(0_u64, |sum, n| sum | byte(n) << (shift + 8 * (n - from)))
    };
    match tail.len() {
        0 => {
            c = c.wrapping_add(FILL);
            d = d.wrapping_add(FILL);
        }
        len @ 1..=3 => c = c.wrapping_add(bytes(0, len, 0)),
        len @ 4..=7 => {
            c = c.wrapping_add(u64::from(le32(tail, 0)));
            c = c.wrapping_add(bytes(4, len, 32));
        }
        len => {
            c = c.wrapping_add(le64(tail, 0));
            d = d.wrapping_add(bytes(8, len, 0));
        }
    }
    short_end(&mut a, &mut b, &mut c, &mut d);
    a
}

fn short_mix(a: &mut u64, b: &mut u64, c: &mut u64, d: &mut u64) {
    for [p, q, r, s] in [[50, 52, 30, 41], [54, 48, 38, 37], [62, 34, 5, 36]] {
        *c = c.rotate_left(p).wrapping_add(*d);
        *a ^= *c;
        *d = d.rotate_left(q).wrapping_add(*a);
        *b ^= *d;
        *a = a.rotate_left(r).wrapping_add(*b);
        *c ^= *a;
        *b = b.rotate_left(s).wrapping_add(*c);
        *d ^= *b;
    }
}

fn short_end(a: &mut u64, b: &mut u64, c: &mut u64, d: &mut u64) {
    let step = |x: &mut u64, y: &mut u64, by: u32| {
        *x ^= *y;
        *y = y.rotate_left(by);
        *x = x.wrapping_add(*y);
    };
    step(d, c, 15);
    step(a, d, 52);
    step(b, a, 26);
    step(c, b, 51);
    step(d, c, 28);
    step(a, d, 9);
    step(b, a, 47);
    step(c, b, 54);
    step(d, c, 32);
    step(a, d, 25);
    step(b, a, 63);
}

fn long(key: &[u8], seed: u64) -> u64 {
    const ROTATE: [u32; WORDS] = [11, 32, 43, 31, 17, 28, 39, 57, 55, 54, 22, 46];
    const ROTATE_END: [u32; WORDS] = [44, 15, 34, 21, 38, 33, 10, 13, 38, 53, 42, 54];
    let mut s: [u64; WORDS] = core::array::from_fn(|n| if n % 3 == 2 { FILL } else { seed });
    let (blocks, tail) = key.split_at(key.len() / (8 * WORDS) * (8 * WORDS));
    for block in blocks.chunks_exact(8 * WORDS) {
        for n in 0..WORDS {
            s[n] = s[n].wrapping_add(le64(block, n));
            s[(n + 2) % WORDS] ^= s[(n + 10) % WORDS];
            s[(n + 11) % WORDS] ^= s[n];
            s[n] = s[n].rotate_left(ROTATE[n]);
            s[(n + 11) % WORDS] = s[(n + 11) % WORDS].wrapping_add(s[(n + 1) % WORDS]);
        }
    }
    let mut last = [0; 8 * WORDS];
    last[..tail.len()].copy_from_slice(tail);
    last[8 * WORDS - 1] = tail.len().to_le_bytes()[0];
    for (n, word) in s.iter_mut().enumerate() {
        *word = word.wrapping_add(le64(&last, n));
    }
    for _ in 0..3 {
        for n in 0..WORDS {
            s[(n + 11) % WORDS] = s[(n + 11) % WORDS].wrapping_add(s[(n + 1) % WORDS]);
            s[(n + 2) % WORDS] ^= s[(n + 11) % WORDS];
            s[(n + 1) % WORDS] = s[(n + 1) % WORDS].rotate_left(ROTATE_END[n]);
        }
    }
    s[0]
}
