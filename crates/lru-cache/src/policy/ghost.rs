//! Who was let go lately: 2 bytes for each, and no queue.

use alloc::boxed::Box;

/// Cells of one bucket: the one that left longest ago gives way.
const WAYS: usize = 4;
/// Bits of a cell that are the time; the others are the hash's.
const TIME_BITS: u32 = 6;
const TIME: u16 = (1 << TIME_BITS) - 1;
/// Of the times there are, so many are remembered. A quarter: a cell of a bucket that nobody came to is
/// not taken for a young one before its age is four times the greatest limit.
const UNITS: u16 = 16;

/// Hashes of the last departures, with an age instead of a place in a queue: a cell has 10 bits of the
/// hash and 6 bits of the time, counted in departures.
#[derive(Debug, Clone, Default)]
pub(super) struct Ghost {
    buckets: Box<[[u16; WAYS]]>,
    /// Departures that are one unit of time.
    unit: usize,
    /// Departures in the present unit.
    departed: usize,
    now: u16,
}

impl Ghost {
    /// Forgets everybody, and has room for so many from now on.
    pub(super) fn resize(&mut self, entries: usize) {
        let buckets = entries.div_ceil(WAYS).max(1);
        *self = Self {
            buckets: alloc::vec![[0; WAYS]; buckets].into(),
            unit: entries.div_ceil(usize::from(UNITS)).max(1),
            departed: 0,
            now: 0,
        };
    }

    pub(super) const fn memory(&self) -> usize {
        self.buckets.len() * size_of::<[u16; WAYS]>()
    }

    /// The hash's part of a cell, never 0: that is an empty cell's.
    #[inline]
    fn tag(hash: u64) -> u16 {
        // Not the bits that say the bucket, nor those by which a sample of the keys is taken.
        ((hash >> 16 & 0x3FF) as u16).max(1) << TIME_BITS
    }

    #[inline]
    fn bucket(&mut self, hash: u64) -> Option<&mut [u16; WAYS]> {
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
        let age = |cell: u16| match cell {
            0 => u16::MAX,
            _ => now.wrapping_sub(cell) & TIME,
        };
        let mut oldest = 0;
        for way in 1..WAYS {
            if age(bucket[way]) > age(bucket[oldest]) {
                oldest = way;
            }
        }
        bucket[oldest] = Self::tag(hash) | now;
        self.departed += 1;
        if self.departed == self.unit {
            self.departed = 0;
            self.now = (now + 1) & TIME;
        }
    }

    /// Whether somebody was among the last `limit` to be let go. It is forgotten.
    #[inline]
    pub(super) fn recall(&mut self, hash: u64, limit: usize) -> bool {
        if self.unit == 0 {
            return false;
        }
        let (now, tag) = (self.now, Self::tag(hash));
        let units =
            u16::try_from(limit.div_ceil(self.unit)).map_or(UNITS, |units| units.min(UNITS));
        let Some(bucket) = self.bucket(hash) else {
            return false;
        };
        for cell in bucket {
            if *cell & !TIME == tag {
                let young = now.wrapping_sub(*cell) & TIME <= units;
                *cell = 0;
                return young;
            }
        }
        false
    }
}
