//! JumpBack: what Jump does, in constant expected time and integers alone.

use core::ops::ControlFlow;

use crate::error::check_size;
use crate::mix::{GOLDEN, high32, low32, mix};
use crate::placement::{all, walk_by_rehash};
use crate::{BuildError, NodeIx, Placement};

/// JumpBackHash over nodes `0..n` (Ertl, 2024, arXiv:2403.18682).
///
/// As [`Jump`](crate::Jump): going from n to n + 1 nodes moves one key in n + 1, all to the new node, and
/// only the last node can go. It takes constant time in the mean, whatever n is.
///
/// Bit for bit hash4j's `jumpBackHash` with the SplitMix64 generator.
///
/// *Costs*: 4 bytes; O(1) expected a look-up.
///
/// ```
/// use stackbeam_consistent_hash::{JumpBack, Placement};
///
/// let shards = JumpBack::new(100)?;
/// assert_eq!(shards.owner(1).get(), 33);
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JumpBack {
    nodes: u32,
}

impl JumpBack {
    /// Most nodes, as in the published function.
    pub const NODES_MAX: u32 = i32::MAX as u32;

    /// Over `nodes` nodes.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] for zero nodes or more than [`NODES_MAX`](Self::NODES_MAX).
    pub fn new(nodes: u32) -> Result<Self, BuildError> {
        check_size("nodes", u64::from(nodes), 1, u64::from(Self::NODES_MAX))?;
        Ok(Self { nodes })
    }

    /// The owner by another sequence of random numbers: each call of `next` gives the next one of the key. For
    /// placements that must agree with other software's.
    ///
    /// The look-up ends only if every bit of `next` changes at some time; each generator that is one does that.
    #[inline]
    pub fn owner_by(&self, next: impl FnMut() -> u64) -> NodeIx {
        NodeIx::new(jump_back(self.nodes, next))
    }
}

/// A sequence of random numbers that starts from a hash.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    #[inline]
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
}

/// The published function, over any sequence of random numbers.
#[inline]
pub(crate) fn jump_back(nodes: u32, mut next: impl FnMut() -> u64) -> u32 {
    if nodes <= 1 {
        return 0;
    }
    let r = next();
    let mut jumps = low32(r ^ (r >> 32)) & (u32::MAX >> (nodes - 1).leading_zeros());
    while jumps != 0 {
        // From the last possible jump back: it lies between this power of two and the next.
        let least = 1 << jumps.ilog2();
        let half = r >> (jumps.count_ones() << 5 & 63);
        let mut node = least + (low32(half) & (least - 1));
        if node < nodes {
            return node;
        }
        let range = 2 * least - 1;
        'draws: loop {
            let r = next();
            for half in [low32(r), high32(r)] {
                node = half & range;
                if node < least {
                    break 'draws;
                }
                if node < nodes {
                    return node;
                }
            }
        }
        jumps ^= least;
    }
    0
}

impl Placement for JumpBack {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let mut random = SplitMix64(hash);
        NodeIx::new(jump_back(self.nodes, || random.next()))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}
