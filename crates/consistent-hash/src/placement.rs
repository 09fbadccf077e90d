//! The question every algorithm answers: which node owns this hash, and who comes next.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::mix;

/// The position of a node in the placement that returned it.
///
/// Positions are below [`Placement::node_count`]. Where a placement was built from
/// [`Members`](crate::Members), `members[ix]` is the member. A position means nothing in another
/// placement: what must survive a membership change is a [`MemberId`](crate::MemberId).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeIx(u32);

impl NodeIx {
    /// A position.
    #[inline]
    #[must_use]
    pub const fn new(ix: u32) -> Self {
        Self(ix)
    }

    /// The position, to index a slice with.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The position as a number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Which node owns a hash, and which come after it.
///
/// The hash must be well mixed in all 64 bits: hash the key with a [`KeyHash`](crate::KeyHash), do not
/// pass a row number as it is. Only the compatible profiles (ketama, Jump and the like) take what the
/// software that they follow takes.
///
/// # What an implementor must keep true
///
/// * A placement has at least one owning node, and answers the same for ever.
/// * `owner` is below `node_count`, and is the first node that `walk` visits.
/// * `walk` visits every owning node exactly once, unless it is stopped.
///
/// The provided methods may be overridden for speed, never with another answer.
pub trait Placement {
    /// How many positions there are: every [`NodeIx`] returned is below this. Nodes that own nothing count.
    fn node_count(&self) -> usize;

    /// The node that owns the hash.
    fn owner(&self, hash: u64) -> NodeIx;

    /// Visits the owning nodes in the order of preference for this hash, the owner first, each once,
    /// until all were visited or `visit` breaks.
    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>);

    /// Writes the first `out.len()` nodes of the walk to `out` and returns how many there were. They
    /// are distinct, and the first is the owner: the places of the replicas of a key.
    fn owners(&self, hash: u64, out: &mut [NodeIx]) -> usize {
        let mut count = 0;
        if out.is_empty() {
            return 0;
        }
        self.walk(hash, &mut |node| {
            out[count] = node;
            count += 1;
            if count == out.len() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        count
    }

    /// The first node of the walk that `accept` takes, asking at most `probes_max` of them: the owner
    /// if it is healthy, else where its keys go for now. `None` when none of those asked was accepted.
    fn owner_where(
        &self,
        hash: u64,
        probes_max: usize,
        accept: &mut dyn FnMut(NodeIx) -> bool,
    ) -> Option<NodeIx> {
        if probes_max == 0 {
            return None;
        }
        // Nearly always the owner is healthy, and then no walk is needed.
        let owner = self.owner(hash);
        if accept(owner) {
            return Some(owner);
        }
        let mut found = None;
        let mut probes = 1;
        let mut first = true;
        self.walk(hash, &mut |node| {
            if first {
                first = false;
                return ControlFlow::Continue(());
            }
            if probes == probes_max {
                return ControlFlow::Break(());
            }
            probes += 1;
            if accept(node) {
                found = Some(node);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Writes the owner of each hash to the same position of `out`. Stops at the end of the shorter
    /// slice and returns its length.
    fn owner_batch(&self, hashes: &[u64], out: &mut [NodeIx]) -> usize {
        for (hash, node) in hashes.iter().zip(out.iter_mut()) {
            *node = self.owner(*hash);
        }
        hashes.len().min(out.len())
    }
}

macro_rules! forward {
    ($($outer:ty),*) => {$(
        impl<P: Placement + ?Sized> Placement for $outer {
            fn node_count(&self) -> usize {
                (**self).node_count()
            }
            fn owner(&self, hash: u64) -> NodeIx {
                (**self).owner(hash)
            }
            fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
                (**self).walk(hash, visit);
            }
            fn owners(&self, hash: u64, out: &mut [NodeIx]) -> usize {
                (**self).owners(hash, out)
            }
            fn owner_where(&self, hash: u64, probes_max: usize, accept: &mut dyn FnMut(NodeIx) -> bool) -> Option<NodeIx> {
                (**self).owner_where(hash, probes_max, accept)
            }
            fn owner_batch(&self, hashes: &[u64], out: &mut [NodeIx]) -> usize {
                (**self).owner_batch(hashes, out)
            }
        }
    )*};
}
forward!(&P, Box<P>, Arc<P>);

/// The nodes that a walk has visited: a few in place, then a bit set.
#[derive(Debug)]
pub(crate) struct Visited {
    inline: [u32; Self::INLINE],
    count: usize,
    bits: Vec<u64>,
    nodes: usize,
}

impl Visited {
    /// A walk for three replicas over a ring passes some five nodes; eight need no allocation.
    const INLINE: usize = 8;

    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            inline: [0; Self::INLINE],
            count: 0,
            bits: Vec::new(),
            nodes,
        }
    }

    /// Adds a node; false if it was there.
    pub(crate) fn insert(&mut self, node: u32) -> bool {
        if self.bits.is_empty() {
            if self.inline[..self.count].contains(&node) {
                return false;
            }
            if self.count < Self::INLINE {
                self.inline[self.count] = node;
                self.count += 1;
                return true;
            }
            self.bits.resize(self.nodes.div_ceil(64), 0);
            for seen in self.inline {
                self.bits[seen as usize / 64] |= 1 << (seen % 64);
            }
        }
        let (word, bit) = (&mut self.bits[node as usize / 64], 1 << (node % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.count += usize::from(new);
        new
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }
}

/// Walks a placement that only knows `owner`, by asking for the owners of further hashes. `owning` are its
/// nodes that own keys.
///
/// Each further hash is a function of the first alone, so a change of membership moves a replica only when
/// it would move a key. After `4 * nodes + 64` hashes what is still missing is visited in the order of
/// position: with fair owners that is rare, and it bounds the walk with unfair ones.
pub(crate) fn walk_by_rehash(
    placement: &impl Placement,
    owning: impl Iterator<Item = NodeIx>,
    hash: u64,
    visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>,
) {
    let first = placement.owner(hash);
    if visit(first).is_break() {
        return;
    }
    let nodes = placement.node_count();
    let mut visited = Visited::new(nodes);
    visited.insert(first.0);
    for attempt in 0..4 * nodes as u64 + 64 {
        if nodes == 1 || visited.count() == nodes {
            return;
        }
        let node = placement.owner(mix::rehash(hash, attempt));
        if visited.insert(node.0) && visit(node).is_break() {
            return;
        }
    }
    for node in owning {
        if visited.insert(node.0) && visit(node).is_break() {
            return;
        }
    }
}

/// Every position.
pub(crate) fn all(nodes: u32) -> impl Iterator<Item = NodeIx> {
    (0..nodes).map(NodeIx)
}
