//! Multi-probe hashing: one point a node, and several looks at the ring for every key.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::check_size;
use crate::mix::{self, GOLDEN, mix};
use crate::placement::Visited;
use crate::{BuildError, Members, NodeIx, Placement};

/// Multi-probe consistent hashing (Appleton and O'Reilly, 2015, arXiv:1505.00062).
///
/// Every member has one point on the ring. A key looks at the ring in several places, and belongs to the
/// point that is nearest after one of them. With 21 probes the busiest of 100 members has about 1.1 times
/// the mean load, for which a [`Ring`](crate::Ring) needs some 1 000 points a member; the least loaded may
/// have very little. A member that goes gives up its keys only. Weights are not looked at.
///
/// *Costs*: 24 to 40 bytes a member; a look-up is one read of an index and one or two of points for each
/// probe. A walk beyond the owner goes along the ring from all probes at once.
///
/// ```
/// use stackbeam_consistent_hash::{KeyHash, Members, MultiProbe, Placement, Xxh3};
///
/// let members = Members::from_names(["a", "b", "c"])?;
/// let placement = MultiProbe::new(&members)?;
/// println!("{}", members[placement.owner(Xxh3::new().hash(b"user:42"))].name());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultiProbe {
    members: Members,
    probes: u32,
    count: usize,
    /// Sorted; the upper 44 bits of the position, and the node in the 20 bits below. After the last point
    /// come [`GUARDS`] that no position is above.
    points: Box<[u64]>,
    /// For each equal part of the circle, the first point at or after its start.
    index: Box<[u32]>,
    shift: u32,
}

/// Points that are compared without a branch.
const GUARDS: usize = 2;
const NODE_BITS: u32 = 20;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

impl MultiProbe {
    /// The function and its version, as two processes would compare it. What it gives never changes under this
    /// name: `tests/golden` holds it in place.
    pub const NAME: &'static str = "stackbeam-multi-probe/1";

    /// Probes for each key unless told otherwise: those of the paper for a peak of 1.05 in the limit.
    pub const PROBES: u32 = 21;
    /// Most probes for each key.
    pub const PROBES_MAX: u32 = 256;

    /// With [`PROBES`](Self::PROBES) probes, over the members that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if there is none.
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        Self::with_probes(members, Self::PROBES)
    }

    /// With a number of probes. Placements agree only if their probes do.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`BuildError::Size`] unless there are 1 to [`PROBES_MAX`](Self::PROBES_MAX)
    /// probes.
    pub fn with_probes(members: &Members, probes: u32) -> Result<Self, BuildError> {
        check_size("probes", u64::from(probes), 1, u64::from(Self::PROBES_MAX))?;
        let mut points: Vec<u64> = members
            .owning()?
            .iter()
            .map(|member| mix::rehash(mix(member.id), 0) & !NODE_MASK | u64::from(member.node))
            .collect();
        // Equal positions are told apart by the node: both stay.
        points.sort_unstable();
        let count = points.len();
        // At least four parts a point, so that hardly any look goes past the second point.
        let parts = (4 * count).next_power_of_two();
        let shift = 64 - parts.trailing_zeros();
        let mut index = Vec::with_capacity(parts);
        let mut point = 0;
        for part in 0..parts {
            while points
                .get(point)
                .is_some_and(|point| *point < (part as u64) << shift)
            {
                point += 1;
            }
            index.push(mix::to_u32(point));
        }
        points.extend([u64::MAX; GUARDS]);
        Ok(Self {
            members: members.clone(),
            probes,
            count,
            points: points.into(),
            index: index.into(),
            shift,
        })
    }

    /// The members that the placement was built from.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Probes for each key.
    #[must_use]
    pub const fn probes(&self) -> u32 {
        self.probes
    }

    /// Bytes on the heap, without the members.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.points) + size_of_val(&*self.index)
    }

    /// The positions that a key looks at: from one hash in steps of another (Kirsch and Mitzenmacher, 2006).
    #[inline]
    fn looks(&self, hash: u64) -> impl Iterator<Item = u64> {
        let step = mix(hash.wrapping_add(GOLDEN)) | 1;
        let mut position = mix(hash ^ GOLDEN);
        (0..self.probes).map(move |_| {
            position = position.wrapping_add(step);
            position & !NODE_MASK
        })
    }

    /// The first point at or after a position.
    #[inline]
    fn point(&self, position: u64) -> usize {
        let mut at = self.index[mix::ix(position >> self.shift)] as usize;
        loop {
            let next = &self.points[at..at + GUARDS];
            let before: usize = next
                .iter()
                .map(|point| usize::from(*point < position))
                .sum();
            at += before;
            if before < GUARDS {
                return if at < self.count { at } else { 0 };
            }
        }
    }
}

impl Placement for MultiProbe {
    fn node_count(&self) -> usize {
        self.members.len()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        // The distance in the upper bits, and the node that it is to in the lower.
        let nearest = self
            .looks(hash)
            .map(|look| self.points[self.point(look)].wrapping_sub(look))
            .fold(u64::MAX, u64::min);
        NodeIx::new(mix::low32(nearest & NODE_MASK))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        // Whoever would own the key without those before: the next point after any of the looks.
        let mut cursors: Vec<(u64, u64, usize)> = self
            .looks(hash)
            .map(|look| {
                let at = self.point(look);
                (self.points[at].wrapping_sub(look), look, at)
            })
            .collect();
        let mut visited = Visited::new(self.members.len());
        while let Some(cursor) = cursors.iter_mut().min() {
            let (distance, look, at) = *cursor;
            let node = mix::low32(distance & NODE_MASK);
            if visited.insert(node)
                && (visit(NodeIx::new(node)).is_break() || visited.count() == self.count)
            {
                return;
            }
            let at = if at + 1 < self.count { at + 1 } else { 0 };
            *cursor = (self.points[at].wrapping_sub(look), look, at);
        }
    }
}
