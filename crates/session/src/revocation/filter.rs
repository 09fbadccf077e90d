//! Whether a hash may be among those that are held: one word to look at, so that a check of a session that
//! has not ended, which nearly all are, does not leave the processor's cache.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Words of the smallest level.
const WORDS_MIN: usize = 16;
const LEVELS: usize = 24;
/// Hashes that a word takes on average before the filter grows: 8 bits a hash, and of strangers at most one in
/// thirty is looked for in the table. With 16 bits it is one in two hundred, and slower: the filter of a million
/// leaves the processor's second cache.
const HASHES_A_WORD: usize = 8;

/// A Bloom filter of one-word blocks, four bits a hash. Says "may be held" for all that is held, and seldom for
/// what is not: the table behind it decides.
///
/// One writer at a time. What is held is never taken out; [`refill`](Self::refill) begins anew, and readers
/// that meet it are told "may be held".
pub(super) struct Filter {
    /// Odd while a refill is under way.
    epoch: AtomicU64,
    level: AtomicUsize,
    len: AtomicUsize,
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
}

/// The word, and the bits in it. The table uses the low bits of a hash first, these are from the high ones.
fn place(hash: u64, words: usize) -> (usize, u64) {
    let bits = (0..4).fold(0, |bits, at| bits | 1 << (hash >> (6 * at) & 63));
    let word = (hash >> 24) as usize & (words - 1);
    (word, bits)
}

impl Filter {
    pub(super) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            level: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            levels: [const { OnceLock::new() }; LEVELS],
        }
    }

    fn words(&self) -> &[AtomicU64] {
        let level = self.level.load(Ordering::Relaxed);
        self.levels[level].get().map_or(&[], |words| &words[..])
    }

    /// False when the hash is certainly not held.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let before = self.epoch.load(Ordering::Acquire);
        let words = self.words();
        if words.is_empty() {
            return before & 1 == 1;
        }
        let (at, bits) = place(hash, words.len());
        let word = words[at].load(Ordering::Relaxed);
        // What was read before the fence is of the epoch, if the epoch is still the same after it.
        fence(Ordering::Acquire);
        let after = self.epoch.load(Ordering::Relaxed);
        word & bits == bits || before != after || before & 1 == 1
    }

    /// Adds a hash that is not held; false when there is no room, and the filter wants a
    /// [`refill`](Self::refill).
    pub(super) fn put(&self, hash: u64) -> bool {
        let words = self.words();
        let len = self.len.load(Ordering::Relaxed) + 1;
        if len > words.len() * HASHES_A_WORD && words.len() < WORDS_MIN << (LEVELS - 1) {
            return false;
        }
        let (at, bits) = place(hash, words.len());
        words[at].fetch_or(bits, Ordering::Release);
        self.len.store(len, Ordering::Relaxed);
        true
    }

    /// Begins anew with these `len` hashes and some room.
    pub(super) fn refill(&self, len: usize, hashes: impl Iterator<Item = u64>) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.epoch.store(epoch + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let wanted = (len + 1).next_power_of_two() / HASHES_A_WORD;
        let level = (wanted / WORDS_MIN).checked_ilog2().unwrap_or(0) as usize;
        let level = level.min(LEVELS - 1);
        let words = self.levels[level]
            .get_or_init(|| (0..WORDS_MIN << level).map(|_| AtomicU64::new(0)).collect());
        for word in words {
            word.store(0, Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Relaxed);
        for hash in hashes {
            let (at, bits) = place(hash, words.len());
            words[at].fetch_or(bits, Ordering::Relaxed);
        }
        self.level.store(level, Ordering::Relaxed);
        self.epoch.store(epoch + 2, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn put(filter: &Filter, number: u64) {
        if !filter.put(hash(number)) {
            let len = usize::try_from(number).unwrap() + 1;
            filter.refill(len, (0..=number).map(hash));
        }
    }

    #[test]
    fn all_that_is_held_may_be_held_and_few_strangers() {
        let filter = Filter::new();
        assert!(!filter.may_hold(hash(0)));
        for number in 0..100_000 {
            put(&filter, number);
            assert!(filter.may_hold(hash(number)));
            assert!(filter.may_hold(hash(number / 2)));
        }
        let strangers =
            (1 << 40..(1 << 40) + 100_000).filter(|&number| filter.may_hold(hash(number)));
        let wrong = strangers.count();
        assert!(wrong < 4_000, "{wrong} of 100 000");
        filter.refill(10, (0..10).map(hash));
        assert!((0..10).all(|number| filter.may_hold(hash(number))));
        let left = (10..1000).filter(|&number| filter.may_hold(hash(number)));
        assert!(left.count() < 40);
    }

    #[test]
    fn a_reader_is_never_told_that_what_is_held_is_not_while_the_filter_is_filled_anew() {
        let filter = Filter::new();
        filter.refill(100, (0..100).map(hash));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!((0..100).all(|number| filter.may_hold(hash(number))));
                }
            });
            for round in 0..2_000 {
                // Both the same level, and one up and down again.
                let len = 100 + round % 2 * 1000;
                filter.refill(len, (0..len as u64).map(hash));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
