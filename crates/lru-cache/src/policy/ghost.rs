//! Who was let go lately: 4 bytes for each, and no queue.

use alloc::boxed::Box;

/// Cells of one bucket: the one that left longest ago gives way.
const WAYS: usize = 4;
/// Of so many cells, five sixths are meant to be in use.
const SPARE: usize = 5;
/// Ages are counted in units of which at most so many are remembered. A quarter of the range of 16
/// bits: an entry of a bucket that nobody came to is not taken for a young one before its age is four
/// times the limit.
const UNITS: u64 = 1 << 14;

/// Hashes of the last departures, with an age instead of a place in a queue: a cell has 16 bits of the
/// hash and 16 bits of the time, counted in departures.
#[derive(Debug, Clone, Default)]
pub(super) struct Ghost {
    buckets: Box<[[u32; WAYS]]>,
    departed: u64,
    /// A unit of time is two to this many departures.
    unit_bits: u32,
}

impl Ghost {
    /// Forgets everybody, and has room for so many from now on.
    pub(super) fn resize(&mut self, entries: usize) {
        let buckets = (entries + entries / SPARE).div_ceil(WAYS).max(1);
        self.buckets = alloc::vec![[0; WAYS]; buckets].into();
        self.unit_bits = (entries as u64 / UNITS + 1).ilog2();
    }

    pub(super) const fn memory(&self) -> usize {
        self.buckets.len() * WAYS * 4
    }

    fn tag(hash: u64) -> u32 {
        // Not the bits that say the bucket, nor those by which a sample of the keys is taken.
        ((hash >> 16 & 0xFFFF) as u32).max(1)
    }

    fn bucket(&mut self, hash: u64) -> Option<&mut [u32; WAYS]> {
        let bits = hash >> 32;
        let at = (bits * self.buckets.len() as u64) >> 32;
        self.buckets.get_mut(at as usize)
    }

    fn now(&self) -> u32 {
        (self.departed >> self.unit_bits & 0xFFFF) as u32
    }

    /// Somebody was let go.
    pub(super) fn remember(&mut self, hash: u64) {
        let now = self.now();
        self.departed += 1;
        let Some(bucket) = self.bucket(hash) else {
            return;
        };
        let age = |cell: u32| {
            if cell == 0 {
                u32::MAX
            } else {
                now.wrapping_sub(cell) & 0xFFFF
            }
        };
        let mut oldest = 0;
        for way in 1..WAYS {
            if age(bucket[way]) > age(bucket[oldest]) {
                oldest = way;
            }
        }
        bucket[oldest] = Self::tag(hash) << 16 | now;
    }

    /// Whether somebody was among the last `limit` to be let go. It is forgotten.
    pub(super) fn recall(&mut self, hash: u64, limit: u64) -> bool {
        let (now, tag) = (self.now(), Self::tag(hash));
        let units = (limit >> self.unit_bits & 0xFFFF) as u32;
        let Some(bucket) = self.bucket(hash) else {
            return false;
        };
        for cell in bucket {
            if *cell >> 16 == tag {
                let young = (now.wrapping_sub(*cell) & 0xFFFF) <= units;
                *cell = 0;
                return young;
            }
        }
        false
    }
}
