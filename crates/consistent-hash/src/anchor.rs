//! Anchor: any node can go and come back, at the cost of remembering in which order.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::{BuildError, check_size};
use crate::mix::{self, GOLDEN, high32, low32, mix, reduce};
use crate::placement::{all, walk_by_rehash};
use crate::{NodeIx, Placement};

/// AnchorHash over numbered nodes (Mendelson, Vargaftik, Barabash, Lorenz, Keslassy and Orda, 2020,
/// arXiv:1812.09674), packed and growable.
///
/// Any node can be removed, and exactly its keys move, evenly to all others. A node that is added takes
/// the number that was removed last, with the keys that it had; when none is removed, the next new
/// number, with an even share from every other. There are no weights.
///
/// **History matters**: two placements agree only if nodes were removed in the same order. Carry
/// [`removed`](Self::removed) from one process to the other, and [`restore`](Self::restore) it there.
///
/// *Costs*: 8 bytes a number and 4 a removed one; a look-up is O(1 + ln²(capacity / nodes)) expected, one
/// read if nothing is removed. Growth past the capacity given at first costs one more step with a
/// division; [`Anchor::with_capacity`] leaves room.
///
/// ```
/// use stackbeam_consistent_hash::{Anchor, NodeIx, Placement};
///
/// let mut anchor = Anchor::with_capacity(3, 10)?;
/// let before = anchor.owner(42);
/// let other = NodeIx::new((before.get() + 1) % 3);
/// anchor.remove(other)?;
/// assert_eq!(anchor.owner(42), before);
/// assert_eq!(anchor.add()?, other);
/// # Ok::<(), stackbeam_consistent_hash::AnchorError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// For each number: in the lower half how many nodes were left when it was removed, 0 while it works;
    /// in the upper half who took its place then.
    buckets: Vec<u64>,
    /// Numbers that were removed, the last at the end.
    removed: Vec<u32>,
    /// Capacity at first: numbers from here on were added by growth.
    base: u32,
}

/// Why a node could not be removed from an [`Anchor`], or added. It stays as it was.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// The sizes are out of bounds.
    #[error(transparent)]
    Size(#[from] BuildError),
    /// No such node works: it was removed before, or never there.
    #[error("node {node} is not among the {working} that work")]
    #[non_exhaustive]
    NotWorking {
        /// The number that was given.
        node: u32,
        /// Nodes that work.
        working: usize,
    },
    /// The last node cannot go: a placement has at least one.
    #[error("node {node} is the only one that works")]
    #[non_exhaustive]
    Last {
        /// Its number.
        node: u32,
    },
}

impl Anchor {
    /// The function and its version, as two processes would compare it. What it gives never changes under this
    /// name: `tests/golden` holds it in place.
    pub const NAME: &'static str = "stackbeam-anchor/1";

    /// Most numbers, working and removed.
    pub const NODES_MAX: u32 = 1 << 27;

    /// Nodes `0..nodes`, with room for a tenth more (at least one) before growth costs a step.
    ///
    /// # Errors
    ///
    /// As [`with_capacity`](Self::with_capacity).
    pub fn new(nodes: u32) -> Result<Self, AnchorError> {
        let capacity = nodes.saturating_add((nodes / 10).max(1));
        Self::with_capacity(nodes, capacity.min(Self::NODES_MAX).max(nodes))
    }

    /// Nodes `0..nodes`, and numbers up to `capacity` that are removed from the start, the highest first.
    /// Placements agree only if their capacities do.
    ///
    /// # Errors
    ///
    /// [`AnchorError::Size`] for zero nodes, or a capacity below `nodes` or above
    /// [`NODES_MAX`](Self::NODES_MAX).
    pub fn with_capacity(nodes: u32, capacity: u32) -> Result<Self, AnchorError> {
        check_size("nodes", u64::from(nodes), 1, u64::from(Self::NODES_MAX))?;
        let (least, most) = (u64::from(nodes), u64::from(Self::NODES_MAX));
        check_size("capacity", u64::from(capacity), least, most)?;
        let mut anchor = Self {
            buckets: alloc::vec![0; capacity as usize],
            removed: Vec::new(),
            base: capacity,
        };
        for node in (nodes..capacity).rev() {
            anchor.take_out(node);
        }
        Ok(anchor)
    }

    /// The placement of which [`capacity`](Self::capacity), [`base`](Self::base) and
    /// [`removed`](Self::removed) are given.
    ///
    /// # Errors
    ///
    /// [`AnchorError::Size`] for bad sizes; [`AnchorError::NotWorking`] for a number that is out of range or
    /// listed twice; [`AnchorError::Last`] if no node is left.
    pub fn restore(
        capacity: u32,
        base: u32,
        removed: impl IntoIterator<Item = u32>,
    ) -> Result<Self, AnchorError> {
        let mut anchor = Self::with_capacity(capacity, capacity)?;
        check_size("base", u64::from(base), 1, u64::from(capacity))?;
        anchor.base = base;
        for node in removed {
            anchor.remove(NodeIx::new(node))?;
        }
        Ok(anchor)
    }

    /// Takes a node out. Its keys go to all others, evenly; no other key moves.
    ///
    /// # Errors
    ///
    /// [`AnchorError::NotWorking`] if it does not work, [`AnchorError::Last`] if it is the only one.
    pub fn remove(&mut self, node: NodeIx) -> Result<(), AnchorError> {
        let working = self.working();
        if self.is_working(node) && working > 1 {
            self.take_out(node.get());
            return Ok(());
        }
        let node = node.get();
        Err(if working == 1 && self.is_working(NodeIx::new(node)) {
            AnchorError::Last { node }
        } else {
            AnchorError::NotWorking { node, working }
        })
    }

    fn take_out(&mut self, node: u32) {
        self.removed.push(node);
        let left = mix::to_u32(self.working());
        let successor = self.at_size(left, left + 1);
        self.buckets[node as usize] = u64::from(successor) << 32 | u64::from(left);
    }

    /// Adds a node: the one that was removed last, or the next new number. Returns its number.
    ///
    /// # Errors
    ///
    /// [`AnchorError::Size`] at [`NODES_MAX`](Self::NODES_MAX).
    pub fn add(&mut self) -> Result<NodeIx, AnchorError> {
        if let Some(node) = self.removed.pop() {
            self.buckets[node as usize] = 0;
            return Ok(NodeIx::new(node));
        }
        let node = self.capacity();
        let most = u64::from(Self::NODES_MAX);
        check_size("nodes", u64::from(node) + 1, 1, most)?;
        self.buckets.push(0);
        Ok(NodeIx::new(node))
    }

    /// Takes the last number back, as if it had never been; none may be removed.
    pub(crate) fn forget_last(&mut self) {
        debug_assert!(self.removed.is_empty());
        self.buckets.pop();
        self.forget_base();
    }

    /// As if all numbers had been there from the start.
    pub(crate) fn forget_base(&mut self) {
        self.base = self.capacity();
    }

    /// Nodes that work.
    #[must_use]
    pub fn working(&self) -> usize {
        self.buckets.len() - self.removed.len()
    }

    /// Whether a node works.
    #[must_use]
    pub fn is_working(&self, node: NodeIx) -> bool {
        self.buckets
            .get(node.index())
            .is_some_and(|bucket| *bucket == 0)
    }

    /// Numbers, working and removed.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        mix::to_u32(self.buckets.len())
    }

    /// The capacity at first.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// The numbers that are removed, in the order in which they were.
    #[must_use]
    pub fn removed(&self) -> &[u32] {
        &self.removed
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u64>() + self.removed.capacity() * size_of::<u32>()
    }

    /// Who stood at a place when so many nodes worked.
    #[inline]
    fn at_size(&self, mut node: u32, size: u32) -> u32 {
        loop {
            let bucket = self.buckets[node as usize];
            if low32(bucket) < size {
                return node;
            }
            node = high32(bucket);
        }
    }

    /// The owner by another family of hashes: `draw` is given a bound and returns a number below it, each
    /// time from the next hash of the key. It is first given the capacity. For placements that must agree
    /// with other software's; [`owner`](Placement::owner) is the one that is fast and grows.
    ///
    /// # Panics
    ///
    /// If `draw` returns a number that is not below its bound.
    #[inline]
    pub fn owner_by(&self, mut draw: impl FnMut(u32) -> u32) -> NodeIx {
        let first = draw(self.capacity());
        self.descend(first, draw)
    }

    /// From a number to the node that has its keys; `draw` as for [`owner_by`](Self::owner_by).
    #[inline]
    pub(crate) fn descend(&self, mut node: u32, mut draw: impl FnMut(u32) -> u32) -> NodeIx {
        loop {
            let left = low32(self.buckets[node as usize]);
            if left == 0 {
                return NodeIx::new(node);
            }
            node = self.at_size(draw(left), left);
        }
    }

    /// Where a key starts: evenly over the capacity, and moving only to numbers that growth added.
    #[inline]
    fn first(&self, hash: u64) -> u32 {
        let first = reduce(hash, self.base);
        if self.capacity() == self.base {
            return first;
        }
        grown(hash, first, self.base, self.capacity())
    }
}

/// From `base` to `capacity` as jump consistent hash goes: of m numbers, the next that a key moves to is
/// at or after x with probability m / x.
#[cold]
fn grown(hash: u64, mut node: u32, base: u32, capacity: u32) -> u32 {
    let mut size = u64::from(base);
    let mut random = mix(hash ^ GOLDEN);
    loop {
        random = mix(random.wrapping_add(GOLDEN));
        // size / u with u even in (0, 1], rounded down.
        let next = (size << 32) / (u64::from(high32(random)) + 1);
        if next >= u64::from(capacity) {
            return node;
        }
        node = low32(next);
        size = next + 1;
    }
}

impl Placement for Anchor {
    fn node_count(&self) -> usize {
        self.buckets.len()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let mut random = hash;
        self.descend(self.first(hash), |left| {
            random = mix(random.wrapping_add(GOLDEN));
            reduce(random, left)
        })
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let working = all(self.capacity()).filter(|node| self.is_working(*node));
        walk_by_rehash(self, working, hash, visit);
    }
}
