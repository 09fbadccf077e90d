//! Finding the best of many scores: with the CPU's vectors, and one by one.

#[cfg(feature = "simd")]
use super::score::{Block, LANES};
use super::score::{Key, Rank};

/// Nodes of one weight: their seeds, in order, and in whole blocks. Lanes of the last block that are left
/// over repeat its first node, so that no score is in the way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodes<'a> {
    #[cfg(feature = "simd")]
    pub(super) blocks: &'a [Block],
    pub(super) seeds: &'a [u64],
}

#[cfg(feature = "simd")]
impl Nodes<'_> {
    /// The rank of the node at a place; `None` if it is a lane left over.
    #[inline(always)]
    fn rank(&self, key: Key, at: usize) -> Option<Rank> {
        let seed = *self.seeds.get(at)?;
        Some(key.rank(seed, crate::mix::to_u32(at)))
    }
}

/// The largest ranks, from the largest down, and [`Rank::LAST`] where there are no more nodes.
pub(super) type Top<const K: usize> = [Rank; K];

/// Keeps the largest ranks, without a branch, because none could be foretold.
#[inline(always)]
fn insert<const K: usize>(top: &mut Top<K>, mut rank: Rank) {
    for kept in top {
        let larger = (*kept).max(rank);
        rank = (*kept).min(rank);
        *kept = larger;
    }
}

/// What finds the best: with the feature `simd` the widest vectors of this CPU, chosen once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanner {
    #[cfg(feature = "simd")]
    level: fearless_simd::Level,
}

/// Which vectors a machine has is no part of a placement.
impl PartialEq for Scanner {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(not(feature = "simd"))]
impl Scanner {
    pub(super) const fn detect() -> Self {
        Self {}
    }

    /// The place of the first in the order.
    #[inline]
    pub(super) fn first(self, key: Key, nodes: Nodes<'_>) -> usize {
        scalar::first(key, nodes)
    }

    /// The first K of the order.
    #[inline]
    pub(super) fn top<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        scalar::top(key, nodes)
    }
}

#[cfg(feature = "simd")]
impl Scanner {
    pub(super) fn detect() -> Self {
        #[cfg(feature = "std")]
        let level = fearless_simd::Level::new();
        #[cfg(not(feature = "std"))]
        let level = fearless_simd::Level::baseline();
        Self { level }
    }

    /// The place of the first in the order.
    #[inline]
    pub(super) fn first(self, key: Key, nodes: Nodes<'_>) -> usize {
        if let [block] = nodes.blocks {
            // So few that the call into code for other vectors costs more than it gains.
            let level = fearless_simd::Level::baseline();
            fearless_simd::dispatch!(level, simd => vector::first_of_block(simd, key, block, nodes))
        } else {
            fearless_simd::dispatch!(self.level, simd => vector::first(simd, key, nodes))
        }
    }

    /// The first K of the order.
    #[inline]
    pub(super) fn top<const K: usize>(self, key: Key, nodes: Nodes<'_>) -> Top<K> {
        fearless_simd::dispatch!(self.level, simd => vector::top(simd, key, nodes))
    }
}

/// One by one: without the feature `simd`, and what the vectors are checked against.
#[cfg(any(not(feature = "simd"), test))]
pub(super) mod scalar {
    use super::{Key, Nodes, Rank, Top, insert};

    pub(in super::super) fn first(key: Key, nodes: Nodes<'_>) -> usize {
        let [best] = top(key, nodes);
        best.at() as usize
    }

    pub(in super::super) fn top<const K: usize>(key: Key, nodes: Nodes<'_>) -> Top<K> {
        let mut top = [Rank::LAST; K];
        for (at, seed) in nodes.seeds.iter().enumerate() {
            if key.score(*seed) >= top[K - 1].score() {
                insert(&mut top, key.rank(*seed, crate::mix::to_u32(at)));
            }
        }
        top
    }
}

/// With vectors.
#[cfg(feature = "simd")]
mod vector {
    use fearless_simd::{Simd, prelude::*, u16x16};

    use super::{Block, Key, LANES, Nodes, Rank, Top, insert};

    /// Blocks whose scores are kept while the best are looked for.
    const FEW: usize = 8;
    /// Blocks whose lanes that may be among the first are the bits of one word.
    const CHUNK: usize = 4;
    /// Chunks that are looked at before the best of them are looked for.
    const GROUP: usize = 16;

    /// A key in every lane.
    #[derive(Clone, Copy)]
    struct Keys<S: Simd> {
        xor_a: u16x16<S>,
        times_a: u16x16<S>,
        xor_b: u16x16<S>,
        times_b: u16x16<S>,
    }

    impl<S: Simd> Keys<S> {
        #[inline(always)]
        fn new(simd: S, key: Key) -> Self {
            Self {
                xor_a: u16x16::splat(simd, key.xor_a()),
                times_a: u16x16::splat(simd, key.times_a()),
                xor_b: u16x16::splat(simd, key.xor_b()),
                times_b: u16x16::splat(simd, key.times_b()),
            }
        }

        /// [`Key::score`] in every lane.
        #[inline(always)]
        fn scores(&self, simd: S, block: &Block) -> u16x16<S> {
            let (a, b) = (
                u16x16::simd_from(simd, block.a),
                u16x16::simd_from(simd, block.b),
            );
            let x = (a ^ self.xor_a) * self.times_a;
            let x = ((x >> 7) ^ x) + (b ^ self.xor_b);
            let x = x * self.times_b;
            (x >> 8) ^ x
        }
    }

    /// The lanes of a single block that hold nodes, as bits.
    #[inline(always)]
    const fn lanes(nodes: usize) -> u64 {
        (1 << nodes) - 1
    }

    #[inline(always)]
    pub(super) fn first_of_block<S: Simd>(
        simd: S,
        key: Key,
        block: &Block,
        nodes: Nodes<'_>,
    ) -> usize {
        let scores = Keys::new(simd, key).scores(simd, block);
        let highest = simd.reduce_max_u16x16(scores);
        let bits = scores.simd_eq(highest).to_bitmask() & lanes(nodes.seeds.len());
        if bits & bits.wrapping_sub(1) == 0 {
            return bits.trailing_zeros() as usize % LANES;
        }
        of_equals(key, nodes, bits)
    }

    #[inline(always)]
    pub(super) fn first<S: Simd>(simd: S, key: Key, nodes: Nodes<'_>) -> usize {
        let keys = Keys::new(simd, key);
        let Some((last, blocks)) = nodes.blocks.split_last() else {
            return 0;
        };
        let zero = u16x16::splat(simd, 0);
        // The last one first, because it may repeat a node: what wins then is told from a tie below.
        let mut best = keys.scores(simd, last);
        // In each lane the best so far, its block, and whether another block came to the same score.
        // A block fits: the most members are sixteen times as many as sixteen bits count.
        let one = u16x16::splat(simd, 1);
        let mut at = u16x16::splat(simd, crate::mix::bits16(blocks.len() as u64, 0));
        let mut tied = zero;
        let mut block = zero;
        for next in blocks {
            let scores = keys.scores(simd, next);
            let higher = best.max(scores);
            let stays = higher.simd_eq(best);
            tied = scores.simd_eq(best).select(one, stays.select(tied, zero));
            at = stays.select(at, block);
            block += one;
            best = higher;
        }
        let highest = simd.reduce_max_u16x16(best);
        let bits = best.simd_eq(highest).to_bitmask();
        let lane = bits.trailing_zeros() as usize % LANES;
        let (at, tied): ([u16; LANES], [u16; LANES]) = (at.into(), tied.into());
        if bits & bits.wrapping_sub(1) == 0 && tied[lane] == 0 {
            return usize::from(at[lane]) * LANES + lane;
        }
        let [best] = top(simd, key, nodes);
        best.at() as usize
    }

    /// Of the lanes of one block whose scores are equal, the one that ranks first.
    #[cold]
    #[inline(never)]
    fn of_equals(key: Key, nodes: Nodes<'_>, mut bits: u64) -> usize {
        let mut best = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        while bits != 0 {
            let at = bits.trailing_zeros() as usize;
            if key.second(nodes.seeds[at]) > key.second(nodes.seeds[best]) {
                best = at;
            }
            bits &= bits - 1;
        }
        best
    }

    #[inline(always)]
    pub(super) fn top<S: Simd, const K: usize>(simd: S, key: Key, nodes: Nodes<'_>) -> Top<K> {
        let mut top = [Rank::LAST; K];
        if nodes.blocks.len() <= FEW {
            top_of_few(simd, key, nodes, &mut top);
        } else {
            for start in (0..nodes.blocks.len()).step_by(CHUNK * GROUP) {
                top_of_group(simd, key, nodes, start, &mut top);
            }
        }
        top
    }

    /// At most the K-th highest score, given the highest of each lane: the K-th of those. (A lane that
    /// repeats a node has its score, and is taken out with it.)
    #[inline(always)]
    fn kth<S: Simd, const K: usize>(simd: S, mut highest: u16x16<S>) -> u16 {
        for _ in 1..K {
            let best = simd.reduce_max_u16x16(highest);
            let zero = u16x16::splat(simd, 0);
            highest = highest.simd_eq(best).select(zero, highest);
        }
        simd.reduce_max_u16x16(highest)
    }

    /// The nodes at the set bits, of which the lowest is at `first`.
    #[inline(always)]
    fn insert_all<const K: usize>(
        key: Key,
        nodes: Nodes<'_>,
        first: usize,
        mut bits: u64,
        top: &mut Top<K>,
    ) {
        while bits != 0 {
            if let Some(rank) = nodes.rank(key, first + bits.trailing_zeros() as usize) {
                insert(top, rank);
            }
            bits &= bits - 1;
        }
    }

    /// So few blocks that their scores are kept.
    #[inline(always)]
    fn top_of_few<S: Simd, const K: usize>(simd: S, key: Key, nodes: Nodes<'_>, top: &mut Top<K>) {
        let keys = Keys::new(simd, key);
        let mut kept = [u16x16::splat(simd, 0); FEW];
        let mut highest = kept[0];
        for (block, kept) in nodes.blocks.iter().zip(&mut kept) {
            *kept = keys.scores(simd, block);
            highest = highest.max(*kept);
        }
        let least = kth::<S, K>(simd, highest);
        // Blocks that are not there have no score above zero; should that be enough, they have no node.
        let [a, b, c, d, e, f, g, h] = kept.map(|scores| scores.simd_ge(least).to_bitmask());
        insert_all(key, nodes, 0, a | b << 16 | c << 32 | d << 48, top);
        insert_all(
            key,
            nodes,
            CHUNK * LANES,
            e | f << 16 | g << 32 | h << 48,
            top,
        );
    }

    /// The blocks from `start` on, at most a group of them.
    #[inline(always)]
    fn top_of_group<S: Simd, const K: usize>(
        simd: S,
        key: Key,
        nodes: Nodes<'_>,
        start: usize,
        top: &mut Top<K>,
    ) {
        let keys = Keys::new(simd, key);
        let zero = u16x16::splat(simd, 0);
        let end = nodes.blocks.len().min(start + CHUNK * GROUP);
        let blocks = &nodes.blocks[start..end];
        // The highest of each lane, of each chunk and of all.
        let mut chunks = [zero; GROUP];
        let mut highest = zero;
        for (blocks, chunk) in blocks.chunks(CHUNK).zip(&mut chunks) {
            for block in blocks {
                *chunk = chunk.max(keys.scores(simd, block));
            }
            highest = highest.max(*chunk);
        }
        let least = kth::<S, K>(simd, highest).max(top[K - 1].score());
        let mut first = start * LANES;
        for (blocks, chunk) in blocks.chunks(CHUNK).zip(&chunks) {
            // What is below is not looked at.
            if chunk.simd_ge(least).any_true() {
                let mut bits = 0;
                for (block, shift) in blocks.iter().zip([0, 16, 32, 48]) {
                    bits |= keys.scores(simd, block).simd_ge(least).to_bitmask() << shift;
                }
                insert_all(key, nodes, first, bits, top);
            }
            first += CHUNK * LANES;
        }
    }
}
