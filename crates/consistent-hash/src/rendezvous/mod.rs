//! Rendezvous hashing: every node scores the key, the highest score owns it.

#[cfg(feature = "simd")]
mod firsts;
mod scan;
mod score;
#[cfg(feature = "simd")]
mod vector;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::{ControlFlow, Range};

use crate::member::Owning;
use crate::mix;
use crate::{BuildError, Members, NodeIx, Placement};
use scan::{Nodes, Scanner};
use score::{Block, Key, LANES, Rank, node_seed};

/// Rendezvous or highest-random-weight hashing (Thaler and Ravishankar 1996; weighted by
/// `-w / ln u`, Schindelhauer and Schomaker 2005).
///
/// Exact in everything: a node owns exactly the share of its weight, a change of weight from w to w'
/// moves exactly the share |w - w'|, a node that leaves gives its keys to all others in proportion, and
/// no other key moves. Replicas are the next scores. The price is a look at each node, sixteen at a time
/// (feature `simd`).
///
/// *Costs*: 16 bytes a node, and up to 60 more for each distinct weight; O(n) a look-up, and from a third
/// more (1 000 nodes) to twice as much (10 nodes) for three replicas of equal weights; no allocation up to
/// eight replicas.
///
/// ```
/// use stackbeam_consistent_hash::{KeyHash, Members, Placement, Rendezvous, Xxh3};
///
/// let members = Members::from_names(["a", "b", "c"])?;
/// let placement = Rendezvous::new(&members)?;
/// let node = placement.owner(Xxh3::new().hash(b"user:42"));
/// assert!(["a", "b", "c"].contains(&members[node].name()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rendezvous {
    members: Members,
    /// Nodes of one weight are side by side: among them the order is that of the scores, and only the first
    /// of each weight needs a logarithm.
    classes: Box<[Class]>,
    blocks: Box<[Block]>,
    /// For each node, in the order of the blocks.
    seeds: Box<[u64]>,
    /// Their positions in `Members`; ascending within a class, so that a tie goes to the lower id.
    nodes: Box<[u32]>,
    scanner: Scanner,
}

#[derive(Debug, Clone, PartialEq)]
struct Class {
    /// One over the weight.
    inverse: f64,
    nodes: Range<usize>,
    blocks: Range<usize>,
}

/// A node and how far down the order of preference it is.
#[derive(Debug, Clone, Copy)]
struct Ranked {
    /// `-ln u / w`: the smaller the earlier. Zero where all weights are equal.
    key: f64,
    scores: u32,
    node: u32,
}

impl Ranked {
    const NONE: Self = Self {
        key: 0.0,
        scores: 0,
        node: 0,
    };

    /// Equal logarithms are told apart by the scores, equal scores by the position, that is the member id.
    fn order(&self, other: &Self) -> Ordering {
        self.key
            .total_cmp(&other.key)
            .then(other.scores.cmp(&self.scores))
            .then(self.node.cmp(&other.node))
    }
}

/// Replicas that are found without an allocation.
const INLINE: usize = 8;

impl Rendezvous {
    /// The function and its version, as two processes would compare it. What it gives never changes under this
    /// name: `tests/golden` holds it in place.
    pub const NAME: &'static str = "stackbeam-rendezvous/1";

    /// Over the members that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if there is none.
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        Ok(Self::over(members, members.owning()?))
    }

    pub(crate) fn over(members: &Members, mut owning: Vec<Owning>) -> Self {
        // Stable: within a weight the order stays that of the ids.
        owning.sort_by(|x, y| x.weight.total_cmp(&y.weight));
        let (mut classes, mut blocks, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for class in owning.chunk_by(|x, y| x.weight == y.weight) {
            let first = blocks.len();
            seeds.extend(class.iter().map(|node| node_seed(node.id)));
            blocks.extend(seeds[start..].chunks(LANES).map(Block::new));
            classes.push(Class {
                inverse: 1.0 / class[0].weight,
                nodes: start..start + class.len(),
                blocks: first..blocks.len(),
            });
            start += class.len();
        }
        Self {
            members: members.clone(),
            classes: classes.into(),
            blocks: blocks.into(),
            seeds: seeds.into(),
            nodes: owning.iter().map(|node| node.node).collect(),
            scanner: Scanner::detect(),
        }
    }

    /// The members that the placement was built from.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// Bytes on the heap, without the members.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.classes)
            + size_of_val(&*self.blocks)
            + size_of_val(&*self.seeds)
            + size_of_val(&*self.nodes)
    }

    #[inline]
    fn of(&self, class: &Class) -> Nodes<'_> {
        Nodes {
            #[cfg(feature = "simd")]
            blocks: &self.blocks[class.blocks.clone()],
            seeds: &self.seeds[class.nodes.clone()],
        }
    }

    /// A node of a class, in the order over all classes.
    #[inline]
    fn ranked(&self, class: &Class, rank: Rank) -> Ranked {
        Ranked {
            key: if self.classes.len() == 1 {
                0.0
            } else {
                mix::minus_ln_unit(rank.scores()) * class.inverse
            },
            scores: rank.scores(),
            node: self.nodes[class.nodes.start + rank.at() as usize],
        }
    }

    /// Writes the first of the order, at most [`INLINE`], to `top`; returns how many there are.
    fn top(&self, key: Key, top: &mut [Ranked]) -> usize {
        let mut count = 0;
        for class in &self.classes {
            let nodes = self.of(class);
            let mut ranks = [Rank::LAST; INLINE];
            let wanted = class.nodes.len().min(top.len());
            match wanted {
                0 | 1 => {
                    let at = self.scanner.first(key, nodes);
                    ranks[0] = key.rank(nodes.seeds[at], mix::to_u32(at));
                }
                2 => ranks[..2].copy_from_slice(&self.scanner.few::<2>(key, nodes)),
                3 => ranks[..3].copy_from_slice(&self.scanner.few::<3>(key, nodes)),
                _ => ranks = self.scanner.top(key, nodes),
            }
            for rank in ranks.into_iter().take(wanted) {
                let next = self.ranked(class, rank);
                let mut place = count;
                while place > 0 && next.order(&top[place - 1]).is_lt() {
                    place -= 1;
                }
                if place == top.len() {
                    break;
                }
                count = (count + 1).min(top.len());
                top[place..count].rotate_right(1);
                top[place] = next;
            }
        }
        count
    }

    /// Writes nodes of a class by their places.
    #[inline]
    fn write(&self, class: &Class, places: impl IntoIterator<Item = u32>, out: &mut [NodeIx]) {
        let nodes = &self.nodes[class.nodes.clone()];
        for (node, at) in out.iter_mut().zip(places) {
            *node = NodeIx::new(nodes[at as usize]);
        }
    }

    /// All nodes in order.
    fn all(&self, key: Key) -> Vec<Ranked> {
        let mut all: Vec<Ranked> = self
            .classes
            .iter()
            .flat_map(|class| {
                let ranks = self.of(class).seeds.iter().zip(0..);
                ranks.map(move |(seed, at)| self.ranked(class, key.rank(*seed, at)))
            })
            .collect();
        all.sort_unstable_by(Ranked::order);
        all
    }

    fn best_weighted(&self, key: Key) -> u32 {
        let mut best: Option<Ranked> = None;
        for class in &self.classes {
            let nodes = self.of(class);
            let at = self.scanner.first(key, nodes);
            let next = self.ranked(class, key.rank(nodes.seeds[at], mix::to_u32(at)));
            if best.is_none_or(|best| next.order(&best).is_lt()) {
                best = Some(next);
            }
        }
        best.unwrap_or(Ranked::NONE).node
    }
}

impl Placement for Rendezvous {
    fn node_count(&self) -> usize {
        self.members.len()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let key = Key(hash);
        NodeIx::new(match &*self.classes {
            [class] => self.nodes[self.scanner.first(key, self.of(class))],
            _ => self.best_weighted(key),
        })
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let key = Key(hash);
        let mut first = [Ranked::NONE; INLINE];
        let count = self.top(key, &mut first);
        for ranked in &first[..count] {
            if visit(NodeIx::new(ranked.node)).is_break() {
                return;
            }
        }
        if count == self.nodes.len() {
            return;
        }
        // A walk this long is rare (most nodes are down): rank them all.
        for ranked in &self.all(key)[count..] {
            if visit(NodeIx::new(ranked.node)).is_break() {
                return;
            }
        }
    }

    fn owners(&self, hash: u64, out: &mut [NodeIx]) -> usize {
        let key = Key(hash);
        let wanted = out.len().min(self.nodes.len());
        if let [class] = &*self.classes {
            match wanted {
                0 => {}
                1 => out[0] = self.owner(hash),
                // Two and three replicas are what is asked for most.
                2 => self.write(class, self.scanner.firsts::<2>(key, self.of(class)), out),
                3 => self.write(class, self.scanner.firsts::<3>(key, self.of(class)), out),
                4..=INLINE => {
                    let top: [Rank; INLINE] = self.scanner.top(key, self.of(class));
                    self.write(class, top.map(Rank::at), &mut out[..wanted]);
                }
                _ => {
                    for (node, ranked) in out.iter_mut().zip(self.all(key)) {
                        *node = NodeIx::new(ranked.node);
                    }
                }
            }
            return wanted;
        }
        let mut inline = [Ranked::NONE; INLINE];
        let all;
        let top = if wanted <= INLINE {
            let top = &mut inline[..wanted];
            self.top(key, top);
            &*top
        } else {
            all = self.all(key);
            &all[..wanted]
        };
        for (node, ranked) in out.iter_mut().zip(top) {
            *node = NodeIx::new(ranked.node);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyHash, Xxh3};

    fn placement(count: u32) -> Rendezvous {
        let members = Members::from_names((0..count).map(|n| alloc::format!("n{n}")));
        Rendezvous::new(&members.unwrap_or_default()).unwrap()
    }

    #[test]
    fn equal_scores_are_told_apart_by_the_second() {
        // Some 15 of 100 keys have a tie among 10 000 nodes; the order must be that of a full sort.
        let placement = placement(10_000);
        let mut ties = 0;
        for hash in (0..200).map(|n| Xxh3::new().hash_u64(n)) {
            let all = placement.all(Key(hash));
            ties += u32::from(all[0].scores >> 16 == all[1].scores >> 16);
            assert_eq!(placement.owner(hash).get(), all[0].node);
        }
        assert!(ties > 5, "{ties}");
    }

    #[test]
    fn few_of_several_weights_are_the_first_of_all() {
        for count in [1, 2, 3, 5, 40, 130] {
            let weight = |n: u32| [1.0, 2.5, 0.5, 1.0][n as usize % 4];
            let member = |n| crate::Member::new(alloc::format!("n{n}")).with_weight(weight(n));
            let members = Members::new((0..count).map(member)).unwrap();
            let placement = Rendezvous::new(&members).unwrap();
            for hash in (0..300).map(|n| Xxh3::new().hash_u64(n)) {
                let all = placement.all(Key(hash));
                for wanted in 0..10 {
                    let mut out = [NodeIx::default(); 10];
                    let found = placement.owners(hash, &mut out[..wanted]);
                    let nodes = all.iter().take(wanted).map(|ranked| ranked.node);
                    assert!(out[..found].iter().map(|node| node.get()).eq(nodes));
                }
                assert_eq!(placement.owner(hash).get(), all[0].node);
            }
        }
    }

    #[test]
    fn scores_are_even_over_keys_and_nodes() {
        // Chi-square over the owners of a million keys: with 9 degrees of freedom above 33.7 once in
        // 10 000 times.
        let placement = placement(10);
        let mut counts = [0_u32; 10];
        for n in 0..1_000_000 {
            counts[placement.owner(Xxh3::new().hash_u64(n)).index()] += 1;
        }
        let chi: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - 1e5).powi(2) / 1e5)
            .sum();
        assert!(chi < 33.7, "{chi} {counts:?}");
    }
}
