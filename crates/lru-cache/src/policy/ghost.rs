//! Who was let go lately: 2 bytes for each, and no queue. Beside it, how often keys were asked for.

use alloc::boxed::Box;

/// Cells of one bucket: the one that left longest ago gives way.
const WAYS: usize = 4;
/// Bits of a cell that are the time; the others are the hash's.
const TIME_BITS: u32 = 6;
const TIME: u16 = (1 << TIME_BITS) - 1;
/// Of the times there are, so many are remembered. A quarter: a cell of a bucket that nobody came to is
/// not taken for a young one before its age is four times the greatest limit.
const UNITS: u16 = 16;
/// The low three bits of each of a word's sixteen counts.
const HALVED: u64 = 0x7777_7777_7777_7777;
/// The highest count.
const COUNT_MAX: u8 = 15;

/// What is kept of the keys whose hashes lead to the same place.
pub(super) trait Bucket: Clone + Default {
    /// The departed, 0 where there is none.
    fn cells(&mut self) -> &mut [u16; WAYS];
    /// Sixteen counts of 4 bits, if counts are kept.
    fn counts(&mut self) -> Option<&mut u64>;
}

/// Departures alone.
pub(super) type Plain = [u16; WAYS];

impl Bucket for Plain {
    #[inline]
    fn cells(&mut self) -> &mut [u16; WAYS] {
        self
    }

    #[inline]
    fn counts(&mut self) -> Option<&mut u64> {
        None
    }
}

/// Departures and counts, together in one cache line.
#[derive(Debug, Clone, Default)]
#[repr(align(16))]
pub(super) struct Counted {
    cells: [u16; WAYS],
    counts: u64,
}

impl Bucket for Counted {
    #[inline]
    fn cells(&mut self) -> &mut [u16; WAYS] {
        &mut self.cells
    }

    #[inline]
    fn counts(&mut self) -> Option<&mut u64> {
        Some(&mut self.counts)
    }
}

/// Hashes of the last departures, with an age instead of a place in a queue: a cell has 10 bits of the
/// hash and 6 bits of the time, counted in departures.
#[derive(Debug, Clone)]
pub(super) struct Ghost<B> {
    buckets: Box<[B]>,
    /// Departures that are one unit of time.
    unit: usize,
    /// Departures in the present unit.
    departed: usize,
    now: u16,
}

impl<B> Default for Ghost<B> {
    fn default() -> Self {
        Self {
            buckets: Box::default(),
            unit: 0,
            departed: 0,
            now: 0,
        }
    }
}

impl<B: Bucket> Ghost<B> {
    /// Forgets everybody, and has room for so many from now on.
    pub(super) fn resize(&mut self, entries: usize) {
        let buckets = entries.div_ceil(WAYS).max(1);
        *self = Self {
            buckets: alloc::vec![B::default(); buckets].into(),
            unit: entries.div_ceil(usize::from(UNITS)).max(1),
            departed: 0,
            now: 0,
        };
    }

    pub(super) const fn memory(&self) -> usize {
        self.buckets.len() * size_of::<B>()
    }

    /// The hash's part of a cell, never 0: that is an empty cell's.
    #[inline]
    fn tag(hash: u64) -> u16 {
        // Not the bits that say the bucket, nor those by which a sample of the keys is taken.
        ((hash >> 16 & 0x3FF) as u16).max(1) << TIME_BITS
    }

    #[inline]
    fn bucket(&mut self, hash: u64) -> Option<&mut B> {
        let bits = hash >> 32;
        let at = (bits * self.buckets.len() as u64) >> 32;
        self.buckets.get_mut(at as usize)
    }

    /// Somebody was let go.
    #[inline]
    pub(super) fn remember(&mut self, hash: u64) {
        let now = self.now;
        let Some(bucket) = self.bucket(hash) else {
            return;
        };
        let cells = bucket.cells();
        let age = |cell: u16| match cell {
            0 => u16::MAX,
            _ => now.wrapping_sub(cell) & TIME,
        };
        let mut oldest = 0;
        for way in 1..WAYS {
            if age(cells[way]) > age(cells[oldest]) {
                oldest = way;
            }
        }
        cells[oldest] = Self::tag(hash) | now;
        self.departed += 1;
        if self.departed == self.unit {
            self.departed = 0;
            self.now = (now + 1) & TIME;
        }
    }

    /// How many departures there were at least since somebody was let go, if that was not too long ago. It
    /// is forgotten.
    #[inline]
    pub(super) fn recall(&mut self, hash: u64) -> Option<usize> {
        let (now, tag) = (self.now, Self::tag(hash));
        for cell in self.bucket(hash)?.cells() {
            if *cell & !TIME == tag {
                let units = now.wrapping_sub(*cell) & TIME;
                *cell = 0;
                let full = usize::from(units.saturating_sub(1));
                return (units <= UNITS).then_some(full * self.unit);
            }
        }
        None
    }

    /// Where in a word the counts of a key are: one of its lower eight, one of its upper.
    #[inline]
    const fn shifts(hash: u64) -> [u32; 2] {
        [
            (hash >> 26 & 7) as u32 * 4,
            (hash >> 29 & 7) as u32 * 4 + 32,
        ]
    }

    /// How often a key was asked for before it left, as far as that is known: at most [`COUNT_MAX`], and
    /// more than it was if others share both of its counts.
    #[inline]
    pub(super) fn count(&mut self, hash: u64) -> u8 {
        let Some(word) = self.bucket(hash).and_then(B::counts) else {
            return 0;
        };
        let [one, other] = Self::shifts(hash).map(|shift| (*word >> shift & 15) as u8);
        one.min(other)
    }

    /// Somebody who was asked for `times` times has left. Only what is too low is raised (conservative update:
    /// Estan and Varghese, SIGCOMM 2002), so that others are overrated less.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, times: u8) {
        let Some(word) = self.bucket(hash).and_then(B::counts) else {
            return;
        };
        let [one, other] = Self::shifts(hash);
        let least = (*word >> one & 15).min(*word >> other & 15);
        let new = (least + u64::from(times)).min(COUNT_MAX.into());
        for shift in [one, other] {
            if *word >> shift & 15 < new {
                *word = *word & !(15 << shift) | new << shift;
            }
        }
    }

    /// Halves all counts. O(entries).
    pub(super) fn halve(&mut self) {
        for word in self.buckets.iter_mut().filter_map(B::counts) {
            *word = *word >> 1 & HALVED;
        }
    }
}
