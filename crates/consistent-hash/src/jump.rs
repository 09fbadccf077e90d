//! Jump consistent hash: shards that are only ever appended, in no memory at all.

use core::ops::ControlFlow;

use crate::error::check_size;
use crate::placement::{all, walk_by_rehash};
use crate::{BuildError, NodeIx, Placement};

/// Jump consistent hash over nodes `0..n` (Lamping and Veach, 2014, arXiv:1406.2294).
///
/// Going from n to n + 1 nodes moves one key in n + 1, all to the new node. Only the last node can go;
/// to remove any other use [`Rendezvous`](crate::Rendezvous) or [`Ring`](crate::Ring).
/// Weights and zones are not known to it.
///
/// Bit for bit the published function, hence Guava's, ClickHouse's and go-jump's.
///
/// *Costs*: 4 bytes; O(log n) divisions a lookup.
///
/// ```
/// use stackbeam_consistent_hash::{Jump, Placement};
///
/// let jump = Jump::new(57)?;
/// assert_eq!(jump.owner(42).get(), 43);
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    nodes: u32,
}

impl Jump {
    /// Most nodes: the published function counts in a signed 32-bit number.
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
}

/// The published function.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the published function is defined with these conversions, and j stays below nodes"
)]
fn jump(mut key: u64, nodes: u32) -> u32 {
    let (mut b, mut j) = (0u64, 0u64);
    while j < u64::from(nodes) {
        b = j;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        j = ((b + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    b as u32
}

impl Placement for Jump {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        NodeIx::new(jump(hash, self.nodes))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}
