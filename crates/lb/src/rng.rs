//! A small random generator that many threads share: SplitMix64 (Steele, Lea and Flood 2014).

use crate::sync::{AtomicU64, Ordering};

/// One relaxed add a number; the sequence of a seed is fixed, its division among threads is not.
#[derive(Debug)]
pub(crate) struct Rng(AtomicU64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn next(&self) -> u64 {
        let mut z = self
            .0
            .fetch_add(GOLDEN, Ordering::Relaxed)
            .wrapping_add(GOLDEN);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, by Lemire's multiplication; 0 for a bound of 0.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the high half of a product with a usize fits a usize"
    )]
    pub(crate) fn below(&self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 random bits are enough")]
    pub(crate) fn unit(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
