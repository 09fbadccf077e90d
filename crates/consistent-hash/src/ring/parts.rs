//! Points in order, and an index that says where each part of the circle begins.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::NODE_MASK;
use crate::mix;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parts {
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

/// Points that are compared without a branch; see [`Parts::point`].
const GUARDS: usize = 4;

impl Parts {
    /// Over sorted points with their nodes, and the lower bits of each if those count.
    pub(super) fn new(mut points: Vec<u64>, low: Vec<u32>) -> Self {
        let count = points.len();
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
            points: points.into(),
            low,
            index: index.into(),
            shift,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.points.len() - GUARDS
    }

    /// Whether all bits of positions count.
    pub(super) const fn is_exact(&self) -> bool {
        !self.low.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.points) + size_of_val(&*self.low) + size_of_val(&*self.index)
    }

    #[inline]
    pub(super) fn node(&self, at: usize) -> u32 {
        mix::low32(self.points[at] & NODE_MASK)
    }

    /// The last hash that belongs to a point, and its node. Where 44 bits are compared, all hashes that agree in
    /// them belong to the point.
    #[inline]
    pub(super) fn get(&self, at: usize) -> (u64, u32) {
        let upper = self.points[at] & !NODE_MASK;
        let position = upper | self.low.get(at).map_or(NODE_MASK, |low| u64::from(*low));
        (position, self.node(at))
    }

    /// The first point at or after a hash; after the last one comes a guard, which has the first one's node.
    #[inline]
    pub(super) fn point(&self, hash: u64) -> usize {
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
