//! Filling a slot table: weighted rendezvous with a cap on what each member may take.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::member::Owning;
use crate::mix::{self, GOLDEN, high32, low32, mix};

/// Arrivals a slot (at least) before what is left is matched pair by pair.
const ARRIVALS: f64 = 8.0;
const NOBODY: u32 = u32::MAX;

/// The place in `owning` of the owner of each slot.
///
/// Scoring every member for every slot costs n * m. Instead each member emits an endless sequence of
/// (time, slot) pairs, at a rate in proportion to its weight: the j-th at time (j + random) / weight, at
/// a random slot. The first arrival at a slot is then an exponential race, which is weighted
/// rendezvous; taking all pairs in the order of time, and skipping members that are full, is the greedy
/// stable matching. About m * ln m pairs decide the table, whatever n is.
///
/// Caps leave some slots that only full members came to. They are matched with the members that
/// have room by one hash for each pair, again stably: slots propose from their best score down, a member keeps
/// the best it has room for.
///
/// Neither the order of members nor the way to this set of them is looked at.
pub(crate) fn capped_rendezvous(owning: &[Owning], slots: u32, slack: f64) -> Vec<u32> {
    let mut owners = alloc::vec![NOBODY; slots as usize];
    let total: f64 = owning.iter().map(|member| member.weight).sum();
    let m = f64::from(slots);
    let mut room: Vec<u64> = owning
        .iter()
        .map(|member| mix::ceil((1.0 + slack) * m * member.weight / total).min(u64::from(slots)))
        .collect();
    let mut left = slots as usize;

    // The end depends on the total weight only by powers of two, so that it stays where it is in nearly
    // every change; and the windows are only a way to bound memory, they decide nothing.
    let rounded = f64::from_bits(total.to_bits() & !0x000F_FFFF_FFFF_FFFF);
    let end = ARRIVALS * m / rounded;
    let window = 0.25 * m / total;
    let mut next = alloc::vec![0u64; owning.len()];
    let mut arrivals: Vec<(u64, u32, u32)> = Vec::new();
    let mut start = 0.0;
    while left > 0 && start < end {
        let stop = f64::min(start + window, end);
        arrivals.clear();
        for (at, member) in owning.iter().enumerate() {
            if room[at] == 0 {
                continue;
            }
            loop {
                let j = next[at];
                let x = mix(mix(member.id).wrapping_add(j.wrapping_add(1).wrapping_mul(GOLDEN)));
                let time = (mix::to_f64(j) + f64::from(low32(x)) / 4_294_967_296.0) / member.weight;
                if time >= stop {
                    break;
                }
                next[at] += 1;
                let slot = mix::reduce(u64::from(high32(x)) << 32, slots);
                if owners[slot as usize] == NOBODY {
                    // Positive floats are in the order of their bits.
                    arrivals.push((time.to_bits(), mix::to_u32(at), slot));
                }
            }
        }
        arrivals.sort_unstable();
        for &(_, at, slot) in &arrivals {
            let (owner, room) = (&mut owners[slot as usize], &mut room[at as usize]);
            if *owner == NOBODY && *room > 0 {
                *owner = at;
                *room -= 1;
                left -= 1;
            }
        }
        start = stop;
    }
    if left > 0 {
        match_rest(owning, &mut owners, &room);
    }
    owners
}

/// Matches the slots that have no owner with the members that have room.
fn match_rest(owning: &[Owning], owners: &mut [u32], room: &[u64]) {
    let open: Vec<(u32, u64, u64)> = room
        .iter()
        .enumerate()
        .filter(|(_, room)| **room > 0)
        .map(|(at, room)| (mix::to_u32(at), mix(owning[at].id ^ GOLDEN), *room))
        .collect();
    // The caps are rounded up, so the room always suffices.
    let mut kept: Vec<BinaryHeap<Reverse<(u64, u32)>>> =
        open.iter().map(|_| BinaryHeap::new()).collect();
    // A slot and the score below which it may still propose.
    let mut free: Vec<(u32, u64)> = (0..mix::to_u32(owners.len()))
        .filter(|slot| owners[*slot as usize] == NOBODY)
        .map(|slot| (slot, u64::MAX))
        .collect();
    while let Some((slot, below)) = free.pop() {
        let seed = mix(u64::from(slot).wrapping_add(1).wrapping_mul(GOLDEN));
        let best = open
            .iter()
            .enumerate()
            .map(|(i, (_, id, _))| (mix(seed ^ id), i))
            .filter(|(score, _)| *score < below)
            .max_by_key(|(score, i)| (*score, Reverse(*i)));
        let Some((score, i)) = best else { continue };
        kept[i].push(Reverse((score, slot)));
        if kept[i].len() as u64 > open[i].2
            && let Some(Reverse((score, slot))) = kept[i].pop()
        {
            free.push((slot, score));
        }
    }
    for ((at, _, _), kept) in open.iter().zip(kept) {
        for Reverse((_, slot)) in kept {
            owners[slot as usize] = *at;
        }
    }
    // Unreachable unless two 64-bit scores of one slot are equal; then any member with room will do.
    let spare = open.first().map_or(0, |open| open.0);
    for owner in owners.iter_mut().filter(|owner| **owner == NOBODY) {
        *owner = spare;
    }
}
