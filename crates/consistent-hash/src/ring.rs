//! The ring: every node has many points on a circle of hashes, and owns what lies before them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::{BuildError, check_size};
use crate::member::Owning;
use crate::mix::{self, GOLDEN, mix};
use crate::placement::Visited;
use crate::{MemberId, Members, NodeIx, Placement};

/// Consistent hashing on a ring (Karger and others, 1997), with a bucket index over packed points.
///
/// A key belongs to the first point at or after its hash. A node that leaves gives its keys to the
/// nodes whose points come next; no other key moves. Point k of a member is a function of its id and
/// k alone, so more weight adds points and moves only the share that is gained.
///
/// With 100 points a node the busiest node has about 1.3 times the mean load at ten nodes, and the
/// excess shrinks with the square root of the number of points; where that matters use a
/// [`SlotTable`](crate::SlotTable), or [`Rendezvous`](crate::Rendezvous) if nodes are few.
///
/// [`with_tokens`](Self::with_tokens) takes points that something else chose.
///
/// *Costs*: 8 bytes a point and 3 to 6 for the index; 4 more for rings with 64-bit positions (tokens and
/// Envoy's). A look-up reads the index and a line of points, without a branch that depends on the key;
/// building sorts the points.
///
/// ```
/// use stackbeam_consistent_hash::{KeyHash, Members, Placement, Ring, Xxh3};
///
/// let members = Members::from_names(["a", "b", "c"])?;
/// let ring = Ring::with_points(&members, 200)?;
/// assert_eq!(ring.point_count(), 600);
/// println!("{}", members[ring.owner(Xxh3::new().hash(b"user:42"))].name());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    members: Members,
    owning: u32,
    /// Sorted; the upper 44 bits of the position, and the node in the 20 bits below. After the last point
    /// comes the first one again, [`GUARDS`] times, at the largest position: a search ends there.
    points: Box<[u64]>,
    /// The lower 20 bits of each position, where the ring tells positions apart by all 64.
    low: Box<[u32]>,
    /// For each equal part of the circle, the first point at or after its start.
    index: Box<[u32]>,
    /// The part of a hash is its high bits, shifted by this.
    shift: u32,
}

/// Points that are compared without a branch; see [`Ring::point`].
const GUARDS: usize = 4;
/// A node fits, because [`Members::COUNT_MAX`] is 2^20.
const NODE_BITS: u32 = 20;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

/// How the positions of a ring are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    /// By their upper 44 bits, which is more than enough to spread points by a hash.
    Upper44,
    /// To the last bit.
    All64,
}

impl Ring {
    /// The function and its version, as two processes would compare it. What it gives never changes under this
    /// name: `tests/golden` holds it in place.
    pub const NAME: &'static str = "stackbeam-ring/1";

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
    /// that may own keys. Positions are compared by their upper 44 bits.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys; [`BuildError::Size`] for no points, too many
    /// for each unit of weight, or too many in all.
    pub fn with_points(members: &Members, points: u32) -> Result<Self, BuildError> {
        check_size("points", u64::from(points), 1, u64::from(Self::POINTS_MAX))?;
        let owning = members.owning()?;
        let count = |member: &Owning| points_of(member.weight, points);
        check_total(owning.iter().map(count))?;
        let all = owning.iter().flat_map(|member| {
            let seed = mix(member.id ^ GOLDEN);
            (0..count(member)).map(move |k| (mix::rehash(seed, k), member.node))
        });
        Ok(Self::over(members, Positions::Upper44, all))
    }

    /// A ring of points that were chosen elsewhere, such as the tokens of a Cassandra or Scylla cluster
    /// (signed there: flip the sign bit to make a position). Positions are compared to the last bit; of two points at one place the member with the lower id has it. Weights
    /// are not looked at; a member that owns no keys has its tokens left out.
    ///
    /// # Errors
    ///
    /// [`BuildError::Unknown`] for a token of somebody who is no member; [`BuildError::NoOwner`] if no
    /// token belongs to a member that may own keys; [`BuildError::Size`] for too many points.
    pub fn with_tokens(
        members: &Members,
        tokens: impl IntoIterator<Item = (MemberId, u64)>,
    ) -> Result<Self, BuildError> {
        let mut all = Vec::new();
        for (id, position) in tokens {
            let node = members.find(id).ok_or(BuildError::Unknown { id })?;
            if members[node].owns_keys() {
                all.push((position, node.get()));
                check_total([all.len() as u64])?;
            }
        }
        if all.is_empty() {
            return Err(BuildError::NoOwner {
                members: members.len(),
            });
        }
        Ok(Self::over(members, Positions::All64, all))
    }

    /// `all` are positions with their nodes, at least one, in any order. Of two points at one place the one
    /// with the lower node stays.
    pub(crate) fn over(
        members: &Members,
        positions: Positions,
        all: impl IntoIterator<Item = (u64, u32)>,
    ) -> Self {
        let (mut points, low) = match positions {
            Positions::Upper44 => {
                let mut points: Vec<u64> = all
                    .into_iter()
                    .map(|(position, node)| position & !NODE_MASK | u64::from(node))
                    .collect();
                points.sort_unstable();
                points.dedup_by_key(|point| *point >> NODE_BITS);
                (points, Vec::new())
            }
            Positions::All64 => {
                let mut all: Vec<(u64, u32)> = all.into_iter().collect();
                all.sort_unstable();
                all.dedup_by_key(|point| point.0);
                all.into_iter()
                    .map(|(position, node)| {
                        (
                            position & !NODE_MASK | u64::from(node),
                            mix::low32(position & NODE_MASK),
                        )
                    })
                    .unzip()
            }
        };
        let count = points.len();
        let mut owners = Visited::new(members.len());
        for point in &points {
            owners.insert(mix::low32(point & NODE_MASK));
        }
        // The largest power of two that is at most 1.5 parts a point, so that the index has at most 6
        // bytes a point.
        let parts = 1_usize << (count + count / 2).max(1).ilog2();
        let shift = 64 - parts.trailing_zeros();
        let mut index = Vec::with_capacity(parts);
        let mut point = 0;
        for part in 0..parts {
            let start = (part as u64).checked_shl(shift).unwrap_or(0);
            while points.get(point).is_some_and(|point| *point < start) {
                point += 1;
            }
            index.push(mix::to_u32(point));
        }
        let guard = !NODE_MASK | points.first().map_or(0, |point| point & NODE_MASK);
        points.extend([guard; GUARDS]);
        let low = if low.is_empty() {
            Box::default()
        } else {
            let guards = core::iter::repeat_n(u32::MAX, GUARDS);
            low.into_iter().chain(guards).collect()
        };
        Self {
            members: members.clone(),
            owning: mix::to_u32(owners.count()),
            points: points.into(),
            low,
            index: index.into(),
            shift,
        }
    }

    /// The members that the ring was built from.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Points on the ring.
    #[must_use]
    pub fn point_count(&self) -> usize {
        self.points.len() - GUARDS
    }

    /// The points in order: the last hash that belongs to each, and the node.
    #[must_use]
    pub fn points(&self) -> impl ExactSizeIterator<Item = (u64, NodeIx)> + '_ {
        (0..self.point_count()).map(|at| (self.position(at), NodeIx::new(self.node(at))))
    }

    /// The points from the owner of a hash on, once around the circle: nodes come again and again.
    pub fn points_from(&self, hash: u64) -> impl Iterator<Item = (u64, NodeIx)> + '_ {
        let (start, count) = (self.point(hash), self.point_count());
        (start..count)
            .chain(0..start.min(count))
            .map(|at| (self.position(at), NodeIx::new(self.node(at))))
    }

    /// Whether positions are compared to the last bit; and the points as they are compared.
    pub(crate) fn raw(&self) -> (bool, impl Iterator<Item = (u64, u32)> + '_) {
        let exact = !self.low.is_empty();
        let points = (0..self.point_count()).map(move |at| {
            let position = self.position(at);
            let position = if exact {
                position
            } else {
                position & !NODE_MASK
            };
            (position, self.node(at))
        });
        (exact, points)
    }

    /// From points as they are compared, in order. `None` if there is none, or one has bits that are not
    /// compared.
    pub(crate) fn from_raw(
        members: &Members,
        exact: bool,
        points: Vec<(u64, u32)>,
    ) -> Option<Self> {
        let positions = if exact {
            Positions::All64
        } else {
            Positions::Upper44
        };
        let rounded = exact || points.iter().all(|(position, _)| position & NODE_MASK == 0);
        (rounded && !points.is_empty()).then(|| Self::over(members, positions, points))
    }

    /// Bytes on the heap, without the members.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.points) + size_of_val(&*self.low) + size_of_val(&*self.index)
    }

    #[inline]
    fn node(&self, at: usize) -> u32 {
        mix::low32(self.points[at] & NODE_MASK)
    }

    /// The last hash that belongs to the point. Where 44 bits are compared, all hashes that agree in them do.
    fn position(&self, at: usize) -> u64 {
        let upper = self.points[at] & !NODE_MASK;
        upper | self.low.get(at).map_or(NODE_MASK, |low| u64::from(*low))
    }

    /// The first point at or after a hash; after the last one comes a guard, which has the first one's node.
    #[inline]
    fn point(&self, hash: u64) -> usize {
        let key = hash & !NODE_MASK;
        let part = hash.checked_shr(self.shift).unwrap_or(0);
        let mut at = self.index[mix::ix(part)] as usize;
        // A part has about one point. Counting those of four that are before the key, instead of leaving a
        // loop at the first that is not, costs no mispredicted branch.
        loop {
            let four = &self.points[at..at + GUARDS];
            let before: usize = four.iter().map(|point| usize::from(*point < key)).sum();
            at += before;
            if before < GUARDS {
                break;
            }
        }
        if !self.low.is_empty() {
            let low = mix::low32(hash & NODE_MASK);
            while self.points[at] & !NODE_MASK == key && self.low[at] < low {
                at += 1;
            }
        }
        at
    }
}

/// Points of a member with a weight: rounded, and at least one.
fn points_of(weight: f64, points: u32) -> u64 {
    mix::round(weight * f64::from(points)).max(1)
}

/// Checks the number of points on the whole ring.
pub(crate) fn check_total(counts: impl IntoIterator<Item = u64>) -> Result<(), BuildError> {
    let total = counts.into_iter().fold(0_u64, u64::saturating_add);
    check_size("points in all", total, 1, Ring::POINTS_TOTAL_MAX)
}

impl Placement for Ring {
    fn node_count(&self) -> usize {
        self.members.len()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        NodeIx::new(self.node(self.point(hash)))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let mut visited = Visited::new(self.members.len());
        for (_, node) in self.points_from(hash) {
            if visited.insert(node.get())
                && (visit(node).is_break() || visited.count() == self.owning as usize)
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

    fn check(ring: &Ring, compared: u64) {
        let points: Vec<(u64, NodeIx)> = ring.points().collect();
        let naive = |hash: u64| {
            let at = points.partition_point(|(position, _)| position & compared < hash & compared);
            points.get(at).unwrap_or(&points[0]).1
        };
        let edges = points
            .iter()
            .flat_map(|(p, _)| [p.wrapping_sub(1), *p, p.wrapping_add(1), p ^ NODE_MASK]);
        let random = (0..2_000).map(|n| Xxh3::new().hash_u64(n));
        for hash in edges.chain(random).chain([0, u64::MAX]) {
            assert_eq!(ring.owner(hash), naive(hash), "{hash:x}");
            let mut first = [NodeIx::default()];
            ring.owners(hash, &mut first);
            assert_eq!(first[0], naive(hash), "{hash:x}");
        }
    }

    #[test]
    fn the_index_finds_what_a_search_finds() -> Result<(), BuildError> {
        for (names, points) in [(1, 1), (1, 2), (2, 1), (3, 5), (7, 100), (50, 40)] {
            let members =
                Members::from_names((0..names).map(|n| alloc::format!("n{n}"))).unwrap_or_default();
            check(&Ring::with_points(&members, points)?, !NODE_MASK);
        }
        Ok(())
    }

    #[test]
    fn tokens_are_told_apart_by_their_last_bit() -> Result<(), BuildError> {
        let members = Members::from_names(["a", "b", "c"]).unwrap_or_default();
        for spread in [0, 4, 18, 19, 20, 40, 60] {
            let tokens = (0..16_u64)
                .zip(members.iter().cycle())
                .map(|(n, member)| (member.id(), (n * 3) << spread));
            check(&Ring::with_tokens(&members, tokens)?, u64::MAX);
        }
        Ok(())
    }
}
