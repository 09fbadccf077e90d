//! Finding the best of many scores with the CPU's vectors.

use fearless_simd::{Simd, prelude::*, u16x16};

use super::scan::{Nodes, Top, insert};
use super::score::{Block, Key, LANES, Rank};

/// Blocks whose scores are kept while the best are looked for.
const FEW: usize = 8;
/// Blocks whose lanes that may be among the first are the bits of one word.
const CHUNK: usize = 4;
/// Chunks that are looked at before the best of them are looked for.
const GROUP: usize = 16;

/// A key in every lane.
#[derive(Clone, Copy)]
pub(super) struct Keys<S: Simd> {
    xor_a: u16x16<S>,
    times_a: u16x16<S>,
    xor_b: u16x16<S>,
    times_b: u16x16<S>,
}

impl<S: Simd> Keys<S> {
    #[inline(always)]
    pub(super) fn new(simd: S, key: Key) -> Self {
        Self {
            xor_a: u16x16::splat(simd, key.xor_a()),
            times_a: u16x16::splat(simd, key.times_a()),
            xor_b: u16x16::splat(simd, key.xor_b()),
            times_b: u16x16::splat(simd, key.times_b()),
        }
    }

    /// [`Key::score`] in every lane.
    #[inline(always)]
    pub(super) fn scores(&self, simd: S, block: &Block) -> u16x16<S> {
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
pub(super) fn first_of_block<S: Simd>(simd: S, key: Key, block: &Block, nodes: Nodes<'_>) -> usize {
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
