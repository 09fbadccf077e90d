//! Points in lines of the cache: a look-up reads one.

use alloc::boxed::Box;

use super::NODE_MASK;
use crate::mix;

/// Points in a line.
const ENTRIES: usize = 10;
/// Points in a line in the mean: one bucket in twenty needs a second line.
const MEAN: usize = 6;

/// Buckets that are equal parts of the circle, each a line; what does not fit there is in further lines.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lines {
    lines: Box<[Line]>,
    buckets: usize,
    count: usize,
}

/// The points of a bucket, sorted. After them comes the next point of the circle at the end of the bucket, as
/// often as there is room; where there is none, a further line follows.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
struct Line {
    /// The place in the bucket, in 2^32 steps.
    at: [u32; ENTRIES],
    nodes: [u16; ENTRIES],
    /// In the upper four bits how many points are here, below the number of the line that follows, or 0.
    tail: u32,
}

const NEXT: u32 = (1 << 28) - 1;

impl Line {
    const fn next(&self) -> usize {
        (self.tail & NEXT) as usize
    }

    const fn len(&self) -> usize {
        (self.tail >> 28) as usize
    }
}

/// A point, or the place after the last one of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    bucket: usize,
    line: usize,
    entry: usize,
}

impl Place {
    /// The next entry of the line, or the place after its last one.
    #[inline]
    pub(super) const fn after(self) -> Self {
        Self {
            entry: self.entry + 1,
            ..self
        }
    }
}

impl Lines {
    /// Fewest points: with so many buckets, positions that differ in 44 bits differ in the 32 that are kept.
    pub(super) const POINTS_MIN: usize = MEAN << 12;
    /// Most nodes.
    pub(super) const NODES_MAX: usize = 1 << 16;

    /// Over sorted points, with the node in the lower bits of each.
    pub(super) fn new(points: &[u64]) -> Self {
        let buckets = points.len() / MEAN;
        let none = Line {
            at: [u32::MAX; ENTRIES],
            nodes: [0; ENTRIES],
            tail: 0,
        };
        let mut lines = alloc::vec![none; buckets];
        let mut end = points.len();
        let mut after = points.first().map_or(0, |point| node_of(*point));
        // From the last bucket back, so that the point that comes next is known.
        for bucket in (0..buckets).rev() {
            let inside = |point: &&u64| split(**point, buckets).0 == bucket;
            let count = points[..end].iter().rev().take_while(inside).count();
            let here = &points[end - count..end];
            end -= count;
            let mut next = 0;
            for part in (0..count / ENTRIES + 1).rev() {
                let part_of = &here[part * ENTRIES..count.min((part + 1) * ENTRIES)];
                let mut line = Line {
                    nodes: [after; ENTRIES],
                    tail: mix::to_u32(part_of.len()) << 28 | next,
                    ..none
                };
                for (entry, point) in part_of.iter().enumerate() {
                    line.at[entry] = split(*point, buckets).1;
                    line.nodes[entry] = node_of(*point);
                }
                if part == 0 {
                    lines[bucket] = line;
                } else {
                    next = mix::to_u32(lines.len());
                    lines.push(line);
                }
            }
            after = here.first().map_or(after, |point| node_of(*point));
        }
        Self {
            lines: lines.into(),
            buckets,
            count: points.len(),
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    #[inline]
    pub(super) fn owner(&self, hash: u64) -> u32 {
        self.node(self.place(hash))
    }

    /// The node of a point; after the last one of a line that of the next point.
    #[inline]
    pub(super) fn node(&self, place: Place) -> u32 {
        u32::from(self.lines[place.line].nodes[place.entry])
    }

    /// The first point at or after a hash, in the bucket of the hash or just after its last one.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Place {
        let (bucket, key) = split(hash, self.buckets);
        let mut line = bucket;
        loop {
            let at = &self.lines[line].at;
            let entry: usize = at.iter().map(|at| usize::from(*at < key)).sum();
            if entry < ENTRIES {
                return Place {
                    bucket,
                    line,
                    entry,
                };
            }
            line = self.lines[line].next();
        }
    }

    /// From the place after the last point of a line to the point that follows.
    #[inline]
    pub(super) fn settle(&self, mut place: Place) -> Place {
        loop {
            let line = &self.lines[place.line];
            if place.entry < line.len() {
                return place;
            }
            place.entry = 0;
            place.line = line.next();
            if place.line == 0 {
                place.bucket = if place.bucket + 1 < self.buckets {
                    place.bucket + 1
                } else {
                    0
                };
                place.line = place.bucket;
            }
        }
    }

    /// The last hash that belongs to a point, and its node.
    #[inline]
    pub(super) fn get(&self, place: Place) -> (u64, u32) {
        let at = self.lines[place.line].at[place.entry];
        let bits = (place.bucket as u128) << 64 | u128::from(at) << 32;
        // The only multiple of 2^20 that is split so, and the last hash that agrees with it in 44 bits.
        let position = mix::low64(bits.div_ceil(self.buckets as u128)).saturating_add(NODE_MASK);
        (position | NODE_MASK, self.node(place))
    }
}

/// The bucket of a position, and the place in it. Only the upper 44 bits count.
#[inline]
fn split(position: u64, buckets: usize) -> (usize, u32) {
    let product = u128::from(position & !NODE_MASK) * buckets as u128;
    let bucket = mix::ix(mix::low64(product >> 64));
    (bucket, mix::high32(mix::low64(product)))
}

#[inline]
const fn node_of(point: u64) -> u16 {
    mix::bits16(point & NODE_MASK, 0)
}
