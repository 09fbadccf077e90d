//! The remainder: what consistent hashing is measured against.

use core::ops::ControlFlow;

use crate::error::check_size;
use crate::placement::{all, walk_by_rehash};
use crate::{BuildError, NodeIx, Placement, mix};

/// `hash % n`: the honest baseline. Nothing is faster to write, and a change from n to n + 1 nodes moves
/// n keys of n + 1.
///
/// *Costs*: 4 bytes; one division a look-up.
///
/// ```
/// use stackbeam_consistent_hash::{Modulo, Placement};
///
/// assert_eq!(Modulo::new(4)?.owner(42).get(), 2);
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modulo {
    nodes: u32,
}

impl Modulo {
    /// Over `nodes` nodes.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] for zero nodes.
    pub fn new(nodes: u32) -> Result<Self, BuildError> {
        check_size("nodes", u64::from(nodes), 1, u64::from(u32::MAX))?;
        Ok(Self { nodes })
    }
}

impl Placement for Modulo {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        NodeIx::new(mix::low32(hash % u64::from(self.nodes)))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}
