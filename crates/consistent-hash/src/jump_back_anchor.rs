//! JumpBack and Anchor together: any node can go, and no capacity is fixed.

use core::ops::ControlFlow;

use crate::jump_back::{SplitMix64, jump_back};
use crate::mix::low32;
use crate::placement::{all, walk_by_rehash};
use crate::{Anchor, AnchorError, NodeIx, Placement};

/// JumpBackAnchorHash over numbered nodes (Ertl, hash4j): as [`Anchor`], but a key's first place is that of
/// [`JumpBack`](crate::JumpBack), so that growth costs nothing and leaves nothing behind.
///
/// Any node can be removed, and exactly its keys move, evenly to all others. A node that is added takes the
/// number that was removed last, else the next new one. The last number of all, removed while none other is,
/// is forgotten. There are no weights.
///
/// **History matters**, as for `Anchor`: carry [`capacity`](Self::capacity) and [`removed`](Self::removed) to
/// another process, and [`restore`](Self::restore) them there.
///
/// Bit for bit hash4j's `jumpBackAnchorHash` with the SplitMix64 generator. `Anchor` is faster where its
/// capacity is known.
///
/// *Costs*: 8 bytes a number and 4 a removed one; a look-up is O(1 + ln²(capacity / nodes)) expected.
///
/// ```
/// use stackbeam_consistent_hash::{JumpBackAnchor, NodeIx, Placement};
///
/// let mut nodes = JumpBackAnchor::new(10)?;
/// assert_eq!(nodes.owner(0).get(), 7);
/// nodes.remove(NodeIx::new(3))?;
/// assert_eq!(nodes.owner(0).get(), 7);
/// assert_eq!(nodes.add()?.get(), 3);
/// # Ok::<(), stackbeam_consistent_hash::AnchorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpBackAnchor {
    anchor: Anchor,
}

impl JumpBackAnchor {
    /// The function and its version, as two processes would compare it.
    pub const NAME: &'static str = "hash4j-jump-back-anchor-splitmix64/1";

    /// Most numbers, working and removed.
    pub const NODES_MAX: u32 = Anchor::NODES_MAX;

    /// Nodes `0..nodes`.
    ///
    /// # Errors
    ///
    /// [`AnchorError::Size`] for zero nodes or more than [`NODES_MAX`](Self::NODES_MAX).
    pub fn new(nodes: u32) -> Result<Self, AnchorError> {
        let anchor = Anchor::with_capacity(nodes, nodes)?;
        Ok(Self { anchor })
    }

    /// The placement of which [`capacity`](Self::capacity) and [`removed`](Self::removed) are given: hash4j's
    /// state, which is both as numbers of 32 bits, little endian.
    ///
    /// # Errors
    ///
    /// As [`Anchor::restore`].
    pub fn restore(
        capacity: u32,
        removed: impl IntoIterator<Item = u32>,
    ) -> Result<Self, AnchorError> {
        let anchor = Anchor::restore(capacity, capacity, removed)?;
        Ok(Self { anchor })
    }

    /// Takes a node out. Its keys go to all others, evenly; no other key moves.
    ///
    /// # Errors
    ///
    /// [`AnchorError::NotWorking`] if it does not work, [`AnchorError::Last`] if it is the only one.
    pub fn remove(&mut self, node: NodeIx) -> Result<(), AnchorError> {
        let last = node.get().checked_add(1) == Some(self.capacity());
        if last && self.removed().is_empty() && self.capacity() > 1 {
            self.anchor.forget_last();
            return Ok(());
        }
        self.anchor.remove(node)
    }

    /// Adds a node: the one that was removed last, or the next new number. Returns its number.
    ///
    /// # Errors
    ///
    /// [`AnchorError::Size`] at [`NODES_MAX`](Self::NODES_MAX).
    pub fn add(&mut self) -> Result<NodeIx, AnchorError> {
        let node = self.anchor.add()?;
        self.anchor.forget_base();
        Ok(node)
    }

    /// Nodes that work.
    #[must_use]
    pub fn working(&self) -> usize {
        self.anchor.working()
    }

    /// Whether a node works.
    #[must_use]
    pub fn is_working(&self, node: NodeIx) -> bool {
        self.anchor.is_working(node)
    }

    /// Numbers, working and removed.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.anchor.capacity()
    }

    /// The numbers that are removed, in the order in which they were.
    #[must_use]
    pub fn removed(&self) -> &[u32] {
        self.anchor.removed()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.anchor.heap_bytes()
    }
}

/// A number below a bound, each as likely as the other (Lemire, 2019).
#[inline]
fn below(random: &mut SplitMix64, bound: u32) -> u32 {
    let mut draw = || u64::from(low32(random.next())) * u64::from(bound);
    let mut product = draw();
    if low32(product) < bound {
        let unfair = bound.wrapping_neg() % bound;
        while low32(product) < unfair {
            product = draw();
        }
    }
    crate::mix::high32(product)
}

impl Placement for JumpBackAnchor {
    fn node_count(&self) -> usize {
        self.anchor.node_count()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let mut random = SplitMix64(hash);
        let first = jump_back(self.capacity(), || random.next());
        self.anchor.descend(first, |left| below(&mut random, left))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let working = all(self.capacity()).filter(|node| self.is_working(*node));
        walk_by_rehash(self, working, hash, visit);
    }
}
