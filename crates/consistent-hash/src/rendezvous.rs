//! Rendezvous hashing: every node scores the key, the highest score owns it.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::member::Owning;
use crate::mix::{self, GOLDEN, high32, low32, mix};
use crate::{BuildError, Members, NodeIx, Placement};

/// Rendezvous or highest-random-weight hashing (Thaler and Ravishankar 1996; weighted by
/// `-w / ln u`, Schindelhauer and Schomaker 2005).
///
/// Exact in everything: a node owns exactly the share of its weight, a change of weight from w to w'
/// moves exactly the share |w - w'|, a node that leaves gives its keys to all others in proportion, and
/// no other key moves. Replicas are the next scores. The price is a look at each node.
///
/// *Costs*: 12 bytes a node (20 with unequal weights); O(n) a lookup and a bit more for replicas; no
/// allocation up to eight replicas.
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
    node_count: usize,
    /// Position, in `Members`, of each owning node; ascending, so that a tie goes to the lower id.
    nodes: Vec<u32>,
    seed_a: Vec<u32>,
    seed_b: Vec<u32>,
    /// One over the weight; empty when all weights are equal.
    inverse: Vec<f64>,
}

/// Scores computed at a time: they stay in registers and the first cache level.
const BLOCK: usize = 64;

/// What a key brings to every score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeySeed {
    xor: u32,
    multiplier: u32,
}

impl KeySeed {
    #[inline]
    pub(crate) const fn new(hash: u64) -> Self {
        Self {
            xor: low32(hash),
            multiplier: high32(hash) | 1,
        }
    }
}

/// What a node brings: 64 bits of its id, so that two nodes are never the same by chance.
#[inline]
pub(crate) const fn node_seed(id: u64) -> (u32, u32) {
    let seed = mix(id ^ GOLDEN);
    (low32(seed), high32(seed))
}

/// The score of a node for a key: 32 bits, in operations that compilers turn into vector code.
#[inline(always)]
pub(crate) const fn score(key: KeySeed, a: u32, b: u32) -> u32 {
    let mut x = (key.xor ^ a).wrapping_mul(key.multiplier);
    x = (x ^ (x >> 15)).wrapping_add(b);
    x = x.wrapping_mul(0x2C1B_3C6D);
    x = (x ^ (x >> 12)).wrapping_mul(0x297A_2D39);
    x ^ (x >> 15)
}

/// A node and how far down the preference order it is: the smaller the earlier.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    /// `-ln u / w`, or with equal weights the complement of the score, which has the same order.
    key: f64,
    score: u32,
    at: u32,
}

impl Ranked {
    /// Before in the order of preference. Ties of the logarithm are broken by the score, ties of the
    /// score by position, that is by member id.
    #[inline]
    fn before(&self, other: &Self) -> bool {
        (self.key, !self.score, self.at) < (other.key, !other.score, other.at)
    }
}

impl Rendezvous {
    /// Over the members that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if there is none.
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        Ok(Self::over(members.len(), &members.owning()?))
    }

    pub(crate) fn over(node_count: usize, owning: &[Owning]) -> Self {
        let (seed_a, seed_b) = owning.iter().map(|member| node_seed(member.id)).unzip();
        let equal = owning
            .windows(2)
            .all(|pair| pair[0].weight == pair[1].weight);
        Self {
            node_count,
            nodes: owning.iter().map(|member| member.node).collect(),
            seed_a,
            seed_b,
            inverse: if equal {
                Vec::new()
            } else {
                owning.iter().map(|member| 1.0 / member.weight).collect()
            },
        }
    }

    #[inline]
    fn rank(&self, key: KeySeed, at: usize) -> Ranked {
        let score = score(key, self.seed_a[at], self.seed_b[at]);
        let order = match self.inverse.get(at) {
            Some(inverse) => mix::minus_ln_unit(score) * inverse,
            None => f64::from(!score),
        };
        Ranked {
            key: order,
            score,
            at: mix::to_u32(at),
        }
    }

    /// The place of the highest score, with equal weights.
    #[inline(always)]
    fn best_equal(&self, key: KeySeed) -> usize {
        let (mut best, mut best_block) = (0u32, 0usize);
        let mut scores = [0u32; BLOCK];
        for (block, (a, b)) in self
            .seed_a
            .chunks(BLOCK)
            .zip(self.seed_b.chunks(BLOCK))
            .enumerate()
        {
            let highest = fill_scores(key, a, b, &mut scores);
            // Strictly: an earlier block wins a tie.
            if highest > best || block == 0 {
                (best, best_block) = (highest, block);
            }
        }
        let start = best_block * BLOCK;
        let end = (start + BLOCK).min(self.nodes.len());
        (start..end)
            .find(|&at| score(key, self.seed_a[at], self.seed_b[at]) == best)
            .unwrap_or(start)
    }

    fn best_weighted(&self, key: KeySeed) -> usize {
        let mut best = self.rank(key, 0);
        for at in 1..self.nodes.len() {
            let next = self.rank(key, at);
            if next.before(&best) {
                best = next;
            }
        }
        best.at as usize
    }

    /// The first `top.len()` of the order; returns how many there are.
    fn top(&self, key: KeySeed, top: &mut [Ranked]) -> usize {
        let mut count = 0;
        for at in 0..self.nodes.len() {
            let next = self.rank(key, at);
            if count == top.len() {
                if !next.before(&top[count - 1]) {
                    continue;
                }
            } else {
                count += 1;
            }
            let mut place = count - 1;
            while place > 0 && next.before(&top[place - 1]) {
                top[place] = top[place - 1];
                place -= 1;
            }
            top[place] = next;
        }
        count
    }
}

/// Scores a block and returns the highest.
#[inline(always)]
fn fill_scores(key: KeySeed, a: &[u32], b: &[u32], scores: &mut [u32; BLOCK]) -> u32 {
    let mut highest = 0;
    for ((a, b), out) in a.iter().zip(b).zip(scores.iter_mut()) {
        let score = score(key, *a, *b);
        *out = score;
        highest = highest.max(score);
    }
    highest
}

const NONE: Ranked = Ranked {
    key: 0.0,
    score: 0,
    at: 0,
};

impl Placement for Rendezvous {
    fn node_count(&self) -> usize {
        self.node_count
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        let key = KeySeed::new(hash);
        let at = if self.inverse.is_empty() {
            self.best_equal(key)
        } else {
            self.best_weighted(key)
        };
        NodeIx::new(self.nodes[at])
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let key = KeySeed::new(hash);
        let mut first = [NONE; 8];
        let count = self.top(key, &mut first);
        for ranked in &first[..count] {
            if visit(NodeIx::new(self.nodes[ranked.at as usize])).is_break() {
                return;
            }
        }
        if count == self.nodes.len() {
            return;
        }
        // A walk this long is rare (most nodes are down): rank them all.
        let mut all: Vec<_> = (0..self.nodes.len()).map(|at| self.rank(key, at)).collect();
        all.sort_unstable_by(|x, y| {
            x.key
                .total_cmp(&y.key)
                .then(y.score.cmp(&x.score))
                .then(x.at.cmp(&y.at))
        });
        for ranked in &all[count..] {
            if visit(NodeIx::new(self.nodes[ranked.at as usize])).is_break() {
                return;
            }
        }
    }

    fn owners(&self, hash: u64, out: &mut [NodeIx]) -> usize {
        let key = KeySeed::new(hash);
        let mut inline = [NONE; 8];
        let mut heap;
        let wanted = out.len().min(self.nodes.len());
        let top = if wanted <= inline.len() {
            &mut inline[..wanted]
        } else {
            heap = alloc::vec![NONE; wanted];
            &mut heap[..]
        };
        if top.is_empty() {
            return 0;
        }
        let count = self.top(key, top);
        for (node, ranked) in out.iter_mut().zip(&top[..count]) {
            *node = NodeIx::new(self.nodes[ranked.at as usize]);
        }
        count
    }
}
