//! The score of a node for a key: sixteen bits at a time, so that vectors hold many.

use crate::mix::{GOLDEN, bits16, high32, low32, mix};

/// Nodes side by side in a block.
pub(super) const LANES: usize = 16;

/// What sixteen nodes bring to their scores: one line of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Block {
    pub(super) a: [u16; LANES],
    pub(super) b: [u16; LANES],
}

impl Block {
    /// Of one to sixteen nodes; lanes left over repeat the first.
    pub(super) fn new(seeds: &[u64]) -> Self {
        let seed = |lane| {
            seeds
                .get(lane)
                .or_else(|| seeds.first())
                .copied()
                .unwrap_or(0)
        };
        Self {
            a: core::array::from_fn(|lane| bits16(seed(lane), 0)),
            b: core::array::from_fn(|lane| bits16(seed(lane), 16)),
        }
    }
}

/// What a node brings: 64 bits of its id. The upper half tells nodes apart that the lower does not.
#[inline]
pub(super) const fn node_seed(id: u64) -> u64 {
    mix(id ^ GOLDEN)
}

/// The hash of a key, as it enters every score: four numbers of sixteen bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(pub(super) u64);

impl Key {
    #[inline(always)]
    pub(super) const fn xor_a(self) -> u16 {
        bits16(self.0, 0)
    }

    #[inline(always)]
    pub(super) const fn times_a(self) -> u16 {
        bits16(self.0, 16) | 1
    }

    #[inline(always)]
    pub(super) const fn xor_b(self) -> u16 {
        bits16(self.0, 32)
    }

    #[inline(always)]
    pub(super) const fn times_b(self) -> u16 {
        bits16(self.0, 48) | 1
    }

    /// The score by which nodes are ranked first. For one node it is uniform over the keys, because each
    /// step is a bijection.
    #[inline(always)]
    pub(super) const fn score(self, seed: u64) -> u16 {
        let (a, b) = (bits16(seed, 0), bits16(seed, 16));
        let mut x = (a ^ self.xor_a()).wrapping_mul(self.times_a());
        x = (x ^ (x >> 7)).wrapping_add(b ^ self.xor_b());
        x = x.wrapping_mul(self.times_b());
        x ^ (x >> 8)
    }

    /// Ranks nodes whose scores are equal, and gives a logarithm 16 bits more to tell nodes apart by.
    /// It hangs on the 32 bits of the seed that the score does not look at.
    #[inline(always)]
    pub(super) const fn second(self, seed: u64) -> u16 {
        bits16((self.0 ^ seed).wrapping_mul(GOLDEN), 48)
    }

    #[inline(always)]
    pub(super) const fn rank(self, seed: u64, at: u32) -> Rank {
        Rank::new(self.score(seed), self.second(seed), at)
    }
}

/// A node's place in the order of one weight: the larger the earlier. Score, second score, and at last
/// the position, of which the lower is the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u64);

impl Rank {
    pub(super) const LAST: Self = Self(0);

    #[inline]
    pub(super) const fn new(score: u16, second: u16, at: u32) -> Self {
        Self((score as u64) << 48 | (second as u64) << 32 | !at as u64)
    }

    #[inline]
    pub(super) const fn score(self) -> u16 {
        bits16(self.0, 48)
    }

    /// Both scores, as the 32 bits that a logarithm is taken of.
    #[inline]
    pub(super) const fn scores(self) -> u32 {
        high32(self.0)
    }

    #[inline]
    pub(super) const fn at(self) -> u32 {
        !low32(self.0)
    }
}
