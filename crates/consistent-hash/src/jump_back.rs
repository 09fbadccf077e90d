//! JumpBack: what Jump does, in constant expected time and integers alone.

use core::hint::select_unpredictable;
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

/// Whether the number of bits is odd, as a number. (CPUs have it where they have no count.)
#[inline]
const fn odd(bits: u32) -> u32 {
    bits.count_ones() & 1
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
        let half = r >> (32 * odd(jumps));
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

/// The largest power of two below the number of nodes, and at least 1.
#[inline]
const fn top(nodes: u32) -> u32 {
    1 << ((nodes - 1) | 1).ilog2()
}

/// What [`jump_back`] gives, with no branch that hangs on the key unless numbers are drawn a second time.
#[inline]
fn jump_back_at_once(nodes: u32, top: u32, random: &mut SplitMix64) -> u32 {
    let range = 2 * top - 1;
    let r = random.next();
    let jumps = low32(r ^ (r >> 32)) & range;
    // All jumps below the top are to nodes that are there: the last of them counts.
    let lower = jumps & (top - 1);
    let least = low32((1_u64 << (u32::BITS - lower.leading_zeros())) >> 1);
    // One half of r places the last of an odd number of jumps, the other one that of an even number.
    let halves = r.rotate_right(32 * odd(lower));
    let below = least + (low32(halves) & least.saturating_sub(1));
    // A jump at the top may be to a node that is not there, and is then drawn again.
    let first = top + (high32(halves) & (top - 1));
    let drawn = random.next();
    let (a, b) = (low32(drawn) & range, high32(drawn) & range);
    let again = select_unpredictable(a < nodes, a, b);
    let again = select_unpredictable(again < top, below, again);
    let at_top = select_unpredictable(first < nodes, first, again);
    let node = select_unpredictable(jumps & top == 0, below, at_top);
    // Where it is none, both numbers drawn were none: one time in eight at most.
    if node < nodes {
        node
    } else {
        draw_on(nodes, top, below, random)
    }
}

/// Draws until a number is a node, or below the top.
#[cold]
fn draw_on(nodes: u32, top: u32, below: u32, random: &mut SplitMix64) -> u32 {
    loop {
        let r = random.next();
        for half in [low32(r), high32(r)] {
            let node = half & (2 * top - 1);
            if node < top {
                return below;
            }
            if node < nodes {
                return node;
            }
        }
    }
}

impl Placement for JumpBack {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let mut random = SplitMix64(hash);
        let top = top(self.nodes);
        // Where hardly any number is drawn again, the branches of the published form are foretold.
        let foretold = self.nodes != 2 && 2 * top - self.nodes <= top / 8;
        NodeIx::new(if foretold || self.nodes == 1 {
            jump_back(self.nodes, || random.next())
        } else {
            jump_back_at_once(self.nodes, top, &mut random)
        })
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::rehash;

    #[test]
    fn without_branches_it_is_the_published_function() {
        let sizes = (2..70).chain([100, 127, 129, 1_025, 65_537, 1 << 20, JumpBack::NODES_MAX]);
        for nodes in sizes {
            for hash in (0..2_000).map(|n| rehash(3, n)) {
                let (mut one, mut two) = (SplitMix64(hash), SplitMix64(hash));
                let got = jump_back_at_once(nodes, top(nodes), &mut one);
                assert_eq!(got, jump_back(nodes, || two.next()), "{hash} of {nodes}");
                assert_eq!(got, JumpBack { nodes }.owner(hash).get());
            }
        }
    }
}
