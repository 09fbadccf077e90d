//! The ring: every node has many points on a circle of hashes, and owns what lies before them.

mod lines;
mod parts;

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::error::{BuildError, check_size};
use crate::member::Owning;
use crate::mix::{self, GOLDEN, mix};
use crate::placement::Visited;
use crate::{MemberId, Members, NodeIx, Placement};
use lines::{Lines, Place};
use parts::Parts;

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
/// *Costs*: 8 bytes a point and 3 to 6 for an index; 4 more for rings with 64-bit positions (tokens and
/// Envoy's). A look-up reads the index and a line of points, without a branch that depends on the key. From
/// 131 072 points of at most 65 536 members on, 11.6 bytes a point, and a look-up reads one line of the cache and
/// seldom a second one. Building sorts the points.
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
    layout: Layout,
}

/// How points are laid out: for few of them an index that fits into the CPU's caches costs less.
#[derive(Debug, Clone, PartialEq)]
enum Layout {
    Parts(Parts),
    Lines(Lines),
}

/// Points from which on they are in lines.
const LINES_FROM: usize = 1 << 17;
/// A node fits, because [`Members::COUNT_MAX`] is 2^20.
const NODE_BITS: u32 = 20;
pub(crate) const NODE_MASK: u64 = (1 << NODE_BITS) - 1;

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
        Self::laid_out(members, positions, all, LINES_FROM)
    }

    fn laid_out(
        members: &Members,
        positions: Positions,
        all: impl IntoIterator<Item = (u64, u32)>,
        lines_from: usize,
    ) -> Self {
        let (points, low) = match positions {
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
        let mut owners = Visited::new(members.len());
        for point in &points {
            owners.insert(mix::low32(point & NODE_MASK));
        }
        let in_lines = points.len() >= lines_from.max(Lines::POINTS_MIN)
            && members.len() <= Lines::NODES_MAX
            && low.is_empty();
        Self {
            members: members.clone(),
            owning: mix::to_u32(owners.count()),
            layout: if in_lines {
                Layout::Lines(Lines::new(&points))
            } else {
                Layout::Parts(Parts::new(points, low))
            },
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
        match &self.layout {
            Layout::Parts(parts) => parts.count(),
            Layout::Lines(lines) => lines.count(),
        }
    }

    /// The points in order: the last hash that belongs to each, and the node.
    #[must_use]
    pub fn points(&self) -> impl ExactSizeIterator<Item = (u64, NodeIx)> + '_ {
        self.points_from(0)
    }

    /// The points from the owner of a hash on, once around the circle: nodes come again and again.
    #[must_use]
    pub fn points_from(&self, hash: u64) -> impl ExactSizeIterator<Item = (u64, NodeIx)> + '_ {
        self.from(hash)
    }

    #[inline]
    fn from(&self, hash: u64) -> Points<'_> {
        Points {
            left: self.point_count(),
            at: match &self.layout {
                Layout::Parts(parts) => At::Parts(parts, parts.point(hash)),
                Layout::Lines(lines) => At::Lines(lines, lines.place(hash)),
            },
        }
    }

    /// Whether positions are compared to the last bit; and the points as they are compared.
    pub(crate) fn raw(&self) -> (bool, impl Iterator<Item = (u64, u32)> + '_) {
        let exact = matches!(&self.layout, Layout::Parts(parts) if parts.is_exact());
        let compared = if exact { u64::MAX } else { !NODE_MASK };
        let points = self.points();
        let points = points.map(move |(position, node)| (position & compared, node.get()));
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
        match &self.layout {
            Layout::Parts(parts) => parts.heap_bytes(),
            Layout::Lines(lines) => lines.heap_bytes(),
        }
    }
}

/// The points from one on.
struct Points<'a> {
    at: At<'a>,
    left: usize,
}

/// Where the next point is.
enum At<'a> {
    Parts(&'a Parts, usize),
    Lines(&'a Lines, Place),
}

impl Points<'_> {
    /// The next point, of which only what is asked for is worked out.
    #[inline]
    fn advance<T>(
        &mut self,
        of_part: impl FnOnce(&Parts, usize) -> T,
        of_line: impl FnOnce(&Lines, Place) -> T,
    ) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        Some(match &mut self.at {
            At::Parts(parts, at) => {
                // After the last one comes the first, as which guards count.
                *at = if *at < parts.count() { *at } else { 0 };
                *at += 1;
                of_part(parts, *at - 1)
            }
            At::Lines(lines, place) => {
                let here = lines.settle(*place);
                *place = here.after();
                of_line(lines, here)
            }
        })
    }

    #[inline]
    fn next_node(&mut self) -> Option<u32> {
        self.advance(Parts::node, Lines::node)
    }
}

impl Iterator for Points<'_> {
    type Item = (u64, NodeIx);

    #[inline]
    fn next(&mut self) -> Option<(u64, NodeIx)> {
        let (position, node) = self.advance(Parts::get, Lines::get)?;
        Some((position, NodeIx::new(node)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Points<'_> {}

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
        NodeIx::new(match &self.layout {
            Layout::Parts(parts) => parts.node(parts.point(hash)),
            Layout::Lines(lines) => lines.owner(hash),
        })
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let mut visited = Visited::new(self.members.len());
        let mut points = self.from(hash);
        while let Some(node) = points.next_node() {
            if visited.insert(node)
                && (visit(NodeIx::new(node)).is_break() || visited.count() == self.owning as usize)
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
        assert!(points.is_sorted());
        assert_eq!(points.len(), ring.point_count());
        let naive = |hash: u64| {
            let at = points.partition_point(|(position, _)| position & compared < hash & compared);
            at % points.len()
        };
        let edges = points
            .iter()
            .step_by(points.len() / 2_000 + 1)
            .flat_map(|(p, _)| [p.wrapping_sub(1), *p, p.wrapping_add(1), p ^ NODE_MASK]);
        let random = (0..2_000).map(|n| Xxh3::new().hash_u64(n));
        for hash in edges.chain(random).chain([0, u64::MAX]) {
            let at = naive(hash);
            assert_eq!(ring.owner(hash), points[at].1, "{hash:x}");
            let mut first = [NodeIx::default()];
            ring.owners(hash, &mut first);
            assert_eq!(first[0], points[at].1, "{hash:x}");
            let next = points[at..].iter().chain(&points[..at]).take(30);
            assert!(
                ring.points_from(hash).take(30).eq(next.copied()),
                "{hash:x}"
            );
        }
        let around = ring.points_from(points[0].0.wrapping_add(1));
        assert_eq!(around.len(), points.len());
        assert!(around.eq(points[1..].iter().chain(&points[..1]).copied()));
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
    fn lines_find_what_a_search_finds() {
        let members = Members::from_names((0..50).map(|n| alloc::format!("n{n}"))).unwrap();
        let random = |n: u64| (mix::rehash(5, n), mix::low32(n % 50));
        let spread: Vec<(u64, u32)> = (0..30_000).map(random).collect();
        // Crowded at three places, so that buckets have none, few and hundreds.
        let crowds = [0, 1 << 63, u64::MAX - (700 << NODE_BITS)];
        let crowd = crowds.into_iter().flat_map(|start| {
            let place = move |n| start + (n << NODE_BITS);
            (0..700).map(move |n| (place(n), mix::low32(n % 7)))
        });
        let crowded: Vec<(u64, u32)> = crowd.chain(spread.iter().copied().take(24_000)).collect();
        for points in [spread, crowded] {
            let ring = |lines_from| {
                Ring::laid_out(
                    &members,
                    Positions::Upper44,
                    points.iter().copied(),
                    lines_from,
                )
            };
            let (lines, parts) = (ring(0), ring(usize::MAX));
            assert!(matches!(lines.layout, Layout::Lines(_)));
            check(&lines, !NODE_MASK);
            assert!(lines.points().eq(parts.points()));
            assert!(lines.raw().1.eq(parts.raw().1));
        }
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
