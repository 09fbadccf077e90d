//! Finding the best of many scores: with the CPU's vectors, and one by one.

use super::score::{Block, Key, LANES, Rank};

/// Nodes of one weight: whole blocks, of which the last has `last` nodes and then nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nodes<'a> {
    pub(super) blocks: &'a [Block],
    pub(super) last: usize,
    /// The seeds of the same nodes, in order.
    pub(super) seeds: &'a [u64],
}

impl Nodes<'_> {
    #[inline]
    fn rank(&self, key: Key, score: u16, at: usize) -> Rank {
        Rank::new(
            score,
            key.second(self.seeds[at]),
            crate::mix::to_u32(at),
        )
    }
}

/// Keeps the largest ranks, sorted from the largest down.
#[inline]
fn insert(top: &mut [Rank], rank: Rank) {
    let mut place = top.len();
    while place > 0 && top[place - 1] < rank {
        place -= 1;
    }
    if place < top.len() {
        top[place..].rotate_right(1);
        top[place] = rank;
    }
}

/// The place of the first in the order.
#[cfg(not(feature = "simd"))]
#[inline]
pub(super) fn first(key: Key, nodes: Nodes<'_>) -> usize {
    scalar::first(key, nodes)
}

/// Writes the first of the order to `top`, which is at most as long as there are nodes and holds
/// [`Rank::LAST`].
#[cfg(not(feature = "simd"))]
#[inline]
pub(super) fn top(key: Key, nodes: Nodes<'_>, top: &mut [Rank]) {
    scalar::top(key, nodes, top);
}

#[cfg(feature = "simd")]
pub(super) use vector::{first, top};

/// One by one: without the feature `simd`, and what the vectors are checked against.
#[cfg(any(not(feature = "simd"), test))]
pub(super) mod scalar {
    use super::{Key, LANES, Nodes, Rank, insert};

    fn scores<'a>(key: Key, nodes: Nodes<'a>) -> impl Iterator<Item = (u16, usize)> + 'a {
        nodes
            .blocks
            .iter()
            .flat_map(|block| block.a.iter().zip(&block.b))
            .map(move |(a, b)| key.score(*a, *b))
            .zip(0..(nodes.blocks.len() - 1) * LANES + nodes.last)
    }

    pub(in super::super) fn first(key: Key, nodes: Nodes<'_>) -> usize {
        let mut best = (0, usize::MAX);
        for (score, at) in scores(key, nodes) {
            if best.1 == usize::MAX
                || score > best.0
                || score == best.0
                    && key.second(nodes.seeds[at]) > key.second(nodes.seeds[best.1])
            {
                best = (score, at);
            }
        }
        best.1
    }

    pub(in super::super) fn top(key: Key, nodes: Nodes<'_>, top: &mut [Rank]) {
        let Some(last) = top.len().checked_sub(1) else { return };
        for (score, at) in scores(key, nodes) {
            if score >= top[last].score() {
                insert(top, nodes.rank(key, score, at));
            }
        }
    }
}

/// With vectors: the best set of instructions that the CPU has is found once and then known.
#[cfg(feature = "simd")]
mod vector {
    use fearless_simd::{Level, Simd, dispatch, prelude::*, u16x16};

    use super::{Block, Key, LANES, Nodes, Rank, insert};

    /// Blocks whose scores are kept until the best of them is known: 512 bytes.
    const CHUNK: usize = 16;

    #[inline]
    fn level() -> Level {
        #[cfg(feature = "std")]
        return Level::new();
        #[cfg(not(feature = "std"))]
        return Level::baseline();
    }

    #[inline]
    pub(in super::super) fn first(key: Key, nodes: Nodes<'_>) -> usize {
        dispatch!(level(), simd => first_in(simd, key, nodes))
    }

    #[inline]
    pub(in super::super) fn top(key: Key, nodes: Nodes<'_>, top: &mut [Rank]) {
        dispatch!(level(), simd => top_in(simd, key, nodes, top));
    }

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
                xor_a: u16x16::splat(simd, key.xor_a),
                times_a: u16x16::splat(simd, key.times_a),
                xor_b: u16x16::splat(simd, key.xor_b),
                times_b: u16x16::splat(simd, key.times_b),
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

    /// The lanes of a last block that hold nodes, as bits.
    #[inline(always)]
    const fn lanes(last: usize) -> u64 {
        (1 << last) - 1
    }

    /// The lanes that hold nodes, as a mask of whole lanes.
    #[inline(always)]
    fn mask<S: Simd>(simd: S, last: usize) -> u16x16<S> {
        const MASKS: [u16; 2 * LANES] = {
            let mut masks = [0; 2 * LANES];
            let mut i = 0;
            while i < LANES {
                masks[i] = u16::MAX;
                i += 1;
            }
            masks
        };
        u16x16::from_slice(simd, &MASKS[LANES - last..2 * LANES - last])
    }

    #[inline(always)]
    fn first_in<S: Simd>(simd: S, key: Key, nodes: Nodes<'_>) -> usize {
        let keys = Keys::new(simd, key);
        if let [block] = nodes.blocks {
            let scores = keys.scores(simd, block) & mask(simd, nodes.last);
            let best = simd.reduce_max_u16x16(scores);
            let bits = scores.simd_eq(best).to_bitmask() & lanes(nodes.last);
            return of_equals(key, nodes, bits);
        }
        let mut best = [Rank::LAST];
        top_in(simd, key, nodes, &mut best);
        best[0].at() as usize
    }

    /// Of the lanes of one block whose scores are equal, the one that ranks first.
    #[inline(always)]
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
    fn top_in<S: Simd>(simd: S, key: Key, nodes: Nodes<'_>, top: &mut [Rank]) {
        let Some(last) = top.len().checked_sub(1) else { return };
        let keys = Keys::new(simd, key);
        let zero = u16x16::splat(simd, 0);
        let mut kept = [zero; CHUNK];
        let end = nodes.blocks.len() - 1;
        for (chunk, blocks) in nodes.blocks.chunks(CHUNK).enumerate() {
            let start = chunk * CHUNK;
            let mut highest = zero;
            for (block, kept) in blocks.iter().zip(&mut kept) {
                let scores = keys.scores(simd, block);
                *kept = scores;
                highest = highest.max(scores);
            }
            if start + blocks.len() - 1 == end {
                // Lanes without a node have some score; take it away again.
                let at = blocks.len() - 1;
                kept[at] = kept[at] & mask(simd, nodes.last);
                highest = zero;
                for kept in &kept[..blocks.len()] {
                    highest = highest.max(*kept);
                }
            }
            // Of the highest of each lane, the k-th is at most the k-th of all: what is below is not asked for.
            for _ in 0..last.min(LANES) {
                let best = simd.reduce_max_u16x16(highest);
                highest = highest.simd_eq(best).select(zero, highest);
            }
            let least = simd.reduce_max_u16x16(highest).max(top[last].score());
            for (block, scores) in (start..).zip(&kept[..blocks.len()]) {
                let mut bits = scores.simd_ge(least).to_bitmask();
                if bits == 0 {
                    continue;
                }
                if block == end {
                    bits &= lanes(nodes.last);
                }
                let scores: [u16; LANES] = (*scores).into();
                while bits != 0 {
                    let lane = bits.trailing_zeros() as usize;
                    insert(top, nodes.rank(key, scores[lane], block * LANES + lane));
                    bits &= bits - 1;
                }
            }
        }
    }
}
