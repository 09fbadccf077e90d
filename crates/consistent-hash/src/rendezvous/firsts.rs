//! The first two or three of the order, with no branch that hangs on the scores.

use fearless_simd::{Simd, mask16x16, prelude::*, u16x16};

use super::scan::Nodes;
use super::score::{Block, Key, LANES};
use super::vector::Keys;
use crate::mix::bits16;

const LANE: [u16; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The places of the first K of at least so many nodes, in their order. `None` if equal scores leave the order
/// open, or if three of them are in one lane: some other way must be taken then.
#[inline(always)]
pub(super) fn firsts<S: Simd, const K: usize>(
    simd: S,
    key: Key,
    nodes: Nodes<'_>,
) -> Option<[u32; K]> {
    let keys = Keys::new(simd, key);
    let zero = u16x16::splat(simd, 0);
    let (last, blocks) = nodes.blocks.split_last()?;
    // The last block comes first: only there lanes are left over, and get no score.
    let in_last = bits16((nodes.seeds.len() - blocks.len() * LANES) as u64, 0);
    let lane = u16x16::simd_from(simd, LANE);
    let best = lane.simd_lt(in_last).select(keys.scores(simd, last), zero);
    if blocks.is_empty() {
        of_one(simd, best)
    } else {
        of_many(simd, keys, best, blocks)
    }
}

/// Of the scores of one block.
#[inline(always)]
fn of_one<S: Simd, const K: usize>(simd: S, scores: u16x16<S>) -> Option<[u32; K]> {
    let (mut left, mut least) = (scores, 0);
    let mut places = [0; K];
    for place in &mut places {
        let (score, lane, at) = highest(simd, left);
        (*place, least) = (lane, score);
        left = at.select(u16x16::splat(simd, 0), left);
    }
    // Equal scores are taken out together, so that more are found here.
    let found = scores.simd_ge(least).to_bitmask();
    (found.count_ones() as usize == K).then_some(places)
}

/// Of the scores of the last block, and of those before it.
#[inline(always)]
fn of_many<S: Simd, const K: usize>(
    simd: S,
    keys: Keys<S>,
    last: u16x16<S>,
    blocks: &[Block],
) -> Option<[u32; K]> {
    // In each lane the best and the second so far, the blocks of both, and the third score.
    let zero = u16x16::splat(simd, 0);
    let (mut best, mut second, mut third) = (last, zero, zero);
    // A block fits: the most members are sixteen times as many as sixteen bits count.
    let mut best_in = u16x16::splat(simd, bits16(blocks.len() as u64, 0));
    let (mut second_in, mut block) = (zero, zero);
    for next in blocks {
        let scores = keys.scores(simd, next);
        let (higher, below) = (best.max(scores), best.min(scores));
        let stays = higher.simd_eq(best);
        let below_in = stays.select(block, best_in);
        best_in = stays.select(best_in, block);
        best = higher;
        let (higher, below) = (second.max(below), second.min(below));
        second_in = higher.simd_eq(second).select(second_in, below_in);
        second = higher;
        third = third.max(below);
        block += 1;
    }
    let mut places = [0; K];
    let mut least = None;
    for place in &mut places {
        let (score, lane, at) = highest(simd, best);
        let bits = at.to_bitmask();
        if bits & bits.wrapping_sub(1) != 0 || least == Some(score) {
            return None;
        }
        least = Some(score);
        let in_block: [u16; LANES] = best_in.into();
        *place = u32::from(in_block[lane as usize]) << 4 | lane;
        // The lane's second comes forth, and then the third, of which it is not known where it is.
        best = at.select(second, best);
        best_in = at.select(second_in, best_in);
        second = at.select(third, second);
    }
    // A third that was taken is still there, and so is what is equal to the last one taken.
    let open = best.simd_eq(least?).any_true();
    (!open).then_some(places)
}

/// The highest score, its lane, as a number and as a mask. Of several the lane is the lowest, the mask all.
#[inline(always)]
fn highest<S: Simd>(simd: S, scores: u16x16<S>) -> (u16, u32, mask16x16<S>) {
    let highest = simd.reduce_max_u16x16(scores);
    let at = scores.simd_eq(highest);
    (highest, at.to_bitmask().trailing_zeros() % 16, at)
}
