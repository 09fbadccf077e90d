//! How often a key was asked for lately, in 4 bits: a count-min sketch.

use alloc::boxed::Box;

/// Every count is halved after so many additions for each slot.
const AGE_AFTER: u64 = 10;
/// The low three bits of each of a word's sixteen counts.
const HALVED: u64 = 0x7777_7777_7777_7777;

/// Four counts a key, of 4 bits each; what it says is the least of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sketch {
    words: Box<[u64]>,
    additions: u64,
    age_after: u64,
}

impl Sketch {
    /// Forgets everything, and is meant for so many entries from now on. Takes 4 to 8 bytes for each.
    pub(super) fn resize(&mut self, slots: usize) {
        let words = (slots.next_power_of_two() / 2).max(4);
        self.words = alloc::vec![0; words].into();
        self.additions = 0;
        self.age_after = AGE_AFTER * slots.max(1) as u64;
    }

    pub(super) const fn memory(&self) -> usize {
        self.words.len() * 8
    }

    /// Words and shifts of a key's four counts.
    fn places(&self, hash: u64) -> [(usize, u32); 4] {
        [0_u8, 1, 2, 3].map(|row| {
            let salt = u64::from(row);
            let bits = (hash ^ salt << 60).wrapping_mul(0x9E37_79B9_7F4A_7C15 | salt << 1);
            let bits = bits ^ bits >> 32;
            // Each row has four of a word's sixteen counts.
            let shift = (u32::from(row) * 4 + (bits >> 62) as u32) * 4;
            (
                (bits & 0xFFFF_FFFF) as usize & (self.words.len() - 1),
                shift,
            )
        })
    }

    pub(super) fn add(&mut self, hash: u64) {
        if self.words.is_empty() {
            return;
        }
        for (word, shift) in self.places(hash) {
            let word = &mut self.words[word];
            if *word >> shift & 15 < 15 {
                *word += 1 << shift;
            }
        }
        self.additions += 1;
        if self.additions >= self.age_after {
            self.additions /= 2;
            for word in &mut self.words {
                *word = *word >> 1 & HALVED;
            }
        }
    }

    pub(super) fn count(&self, hash: u64) -> u8 {
        if self.words.is_empty() {
            return 0;
        }
        self.places(hash)
            .into_iter()
            .map(|(word, shift)| (self.words[word] >> shift & 15) as u8)
            .min()
            .unwrap_or(0)
    }
}
