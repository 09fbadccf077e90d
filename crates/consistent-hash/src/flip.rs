//! FlipHash: what Jump does, in constant time.

use core::num::NonZeroU64;
use core::ops::ControlFlow;

use crate::error::check_size;
use crate::placement::{all, walk_by_rehash};
use crate::{BuildError, NodeIx, Placement, mix};

/// FlipHash over nodes `0..n` (Masson and Lee, 2024, arXiv:2402.17549).
///
/// As [`Jump`](crate::Jump): going from n to n + 1 nodes moves one key in n + 1, all to the new node, and
/// only the last node can go.
///
/// Bit for bit `fliphash_64` of the crate `fliphash`, with seed 0.
///
/// *Costs*: 4 bytes; O(1) a look-up, even at worst.
///
/// ```
/// use stackbeam_consistent_hash::{Flip, Placement};
///
/// let (before, after) = (Flip::new(17)?, Flip::new(18)?);
/// let moved = (0..1_000).filter(|n| before.owner(*n) != after.owner(*n));
/// assert!(moved.clone().all(|n| after.owner(n).get() == 17));
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flip {
    nodes: u32,
}

impl Flip {
    /// Over `nodes` nodes.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] for zero nodes.
    pub fn new(nodes: u32) -> Result<Self, BuildError> {
        check_size("nodes", u64::from(nodes), 1, u64::from(u32::MAX))?;
        Ok(Self { nodes })
    }

    /// The function itself, for more buckets than there are nodes anywhere.
    #[must_use]
    pub const fn bucket(key: u64, buckets: NonZeroU64) -> u64 {
        flip(key, buckets.get() - 1)
    }
}

const fn hash(key: u64, bits: u32, draw: u64) -> u64 {
    let mut x = key.wrapping_mul(bits as u64 * 2 + 1);
    x = (x ^ (x >> 27)).wrapping_mul(0x3C79_AC49_2BA7_B653);
    x = x.wrapping_mul(draw * 2 + 1);
    x = (x ^ (x >> 33)).wrapping_mul(0x1C69_B3F7_4AC4_AE35);
    x ^ (x >> 27)
}

/// For a power of two of buckets, of which `mask` is the last.
const fn flip_power(key: u64, first: u64, mask: u64) -> u64 {
    let bucket = first & mask;
    if bucket == 0 {
        return 0;
    }
    let highest = bucket.ilog2();
    bucket ^ (hash(key, highest, 0) & ((1 << highest) - 1))
}

/// The published function, for buckets up to and with `last`.
const fn flip(key: u64, last: u64) -> u64 {
    /// Draws until one settles; half of them do.
    const DRAWS: u64 = 64;
    if last == 0 {
        return 0;
    }
    let mask = u64::MAX >> last.leading_zeros();
    let first = hash(key, 0, 0);
    let bucket = flip_power(key, first, mask);
    if bucket <= last {
        return bucket;
    }
    let mut draw = 1;
    while draw <= DRAWS {
        let bucket = hash(key, last.ilog2(), draw) & mask;
        if bucket <= mask >> 1 {
            break;
        }
        if bucket <= last {
            return bucket;
        }
        draw += 1;
    }
    flip_power(key, first, mask >> 1)
}

impl Placement for Flip {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        // Below the number of nodes, which has 32 bits.
        NodeIx::new(mix::low32(flip(hash, u64::from(self.nodes) - 1)))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}
