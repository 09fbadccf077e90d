//! The ring: every node has many points on a circle of hashes, and owns what lies before them.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::{BuildError, check_size};
use crate::member::Owning;
use crate::mix::{self, GOLDEN, mix};
use crate::placement::Visited;
use crate::{Members, NodeIx, Placement};

/// Consistent hashing on a ring (Karger and others, 1997), with a bucket index over sorted points.
///
/// A key belongs to the first point at or after its hash. A node that leaves gives its keys to the
/// nodes whose points come next; no other key moves. Point k of a member is a function of its id and
/// k alone, so more weight adds points and moves only the share that is gained.
///
/// With 100 points a node the busiest node has about 1.3 times the mean load at ten nodes, and the
/// excess shrinks with the square root of the number of points; where that matters and nodes are few,
/// [`Rendezvous`](crate::Rendezvous) is exact.
///
/// *Costs*: 12 bytes a point and about 4 more for the index; a look-up is one index read and a scan of
/// one point on average; building sorts the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    node_count: usize,
    owning: usize,
    /// Sorted positions, and beside them their nodes.
    positions: Vec<u64>,
    nodes: Vec<u32>,
    /// For each equal part of the circle, the first point at or after its start.
    index: Vec<u32>,
    /// The part of a hash is its high bits, shifted by this.
    shift: u32,
}

impl Ring {
    /// Points for each unit of weight unless told otherwise.
    pub const POINTS: u32 = 100;
    /// Most points for each unit of weight.
    pub const POINTS_MAX: u32 = 1 << 16;
    /// Most points on the whole ring.
    pub const POINTS_TOTAL_MAX: u64 = 1 << 27;

    /// A ring with [`Ring::POINTS`] points for each unit of weight.
    ///
    /// # Errors
    ///
    /// As [`Ring::with_points`].
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        Self::with_points(members, Self::POINTS)
    }

    /// A ring with so many points for each unit of weight, rounded, and at least one for each member
    /// that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys; [`BuildError::Size`] for no points, too many
    /// for each unit of weight, or too many in all.
    pub fn with_points(members: &Members, points: u32) -> Result<Self, BuildError> {
        check_size("points", u64::from(points), 1, u64::from(Self::POINTS_MAX))?;
        let owning = members.owning()?;
        let count = |member: &Owning| mix::round(member.weight * f64::from(points)).max(1);
        let total = owning.iter().map(count).fold(0_u64, u64::saturating_add);
        check_size("points in all", total, 1, Self::POINTS_TOTAL_MAX)?;
        let mut all: Vec<(u64, u64, u32)> = Vec::new();
        for member in &owning {
            let seed = mix(member.id ^ GOLDEN);
            all.extend((0..count(member)).map(|k| (mix::rehash(seed, k), member.id, member.node)));
        }
        // Two points at one place: the lower id wins, whatever the order of listing.
        all.sort_unstable();
        all.dedup_by_key(|point| point.0);
        let positions: Vec<u64> = all.iter().map(|point| point.0).collect();
        let parts = all.len().next_power_of_two();
        // 64 minus the bits that number the parts; with one part every hash is in part 0.
        let shift = 64 - parts.trailing_zeros();
        let mut index = Vec::with_capacity(parts);
        let mut point = 0;
        for part in 0..parts {
            let start = (part as u64).checked_shl(shift).unwrap_or(0);
            while positions
                .get(point)
                .is_some_and(|position| *position < start)
            {
                point += 1;
            }
            index.push(mix::to_u32(point));
        }
        Ok(Self {
            node_count: members.len(),
            owning: owning.len(),
            nodes: all.iter().map(|point| point.2).collect(),
            positions,
            index,
            shift,
        })
    }

    /// Points on the ring.
    #[must_use]
    pub fn point_count(&self) -> usize {
        self.positions.len()
    }

    /// The first point at or after a hash; after the last one comes the first.
    #[inline]
    fn point(&self, hash: u64) -> usize {
        let part = hash.checked_shr(self.shift).unwrap_or(0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a part is below the length of the index"
        )]
        let mut point = self.index[part as usize] as usize;
        while let Some(position) = self.positions.get(point) {
            if *position >= hash {
                return point;
            }
            point += 1;
        }
        0
    }
}

impl Placement for Ring {
    fn node_count(&self) -> usize {
        self.node_count
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        NodeIx::new(self.nodes[self.point(hash)])
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let start = self.point(hash);
        let mut visited = Visited::new(self.node_count);
        let (before, after) = self.nodes.split_at(start);
        for node in after.iter().chain(before) {
            if visited.insert(*node)
                && (visit(NodeIx::new(*node)).is_break() || visited.count() == self.owning)
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyHash, Xxh3};

    #[test]
    fn the_index_finds_what_a_search_finds() {
        for (names, points) in [(1, 1), (1, 2), (2, 1), (3, 5), (7, 100), (50, 40)] {
            let names = (0..names).map(|n| alloc::format!("n{n}"));
            let ring = Members::from_names(names)
                .ok()
                .and_then(|members| Ring::with_points(&members, points).ok())
                .unwrap();
            let naive = |hash: u64| {
                let at = ring.positions.partition_point(|position| *position < hash);
                if at == ring.positions.len() { 0 } else { at }
            };
            let edges = ring
                .positions
                .iter()
                .flat_map(|p| [p.wrapping_sub(1), *p, p.wrapping_add(1)]);
            let random = (0..2_000).map(|n| Xxh3::new().hash_u64(n));
            for hash in edges.chain(random).chain([0, u64::MAX]) {
                assert_eq!(ring.point(hash), naive(hash), "{hash:x}");
            }
        }
    }
}
