//! From a hash to a slot number: groups of twelve cells, a cache line each, sized to the entry.
//!
//! As in F14 (Bronson and Shi, "Open-sourcing F14", 2019): a group has a byte of the hash for each cell
//! and counts the entries that would have been in it and went on to the next. So a removal leaves no
//! grave, and the number of groups need not be a power of two.

use alloc::vec::Vec;

/// Cells in a group: twelve tags, a count and twelve slots are 64 bytes.
const CELLS: usize = 12;
/// Of so many cells in a group, the average one has [`ROOM`] in use; more, and too many go on.
const ROOM: usize = 48;
const ROOM_OF: usize = 5;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
/// Tags of the second word; its upper half is the count.
const SECOND: u64 = 0xFFFF_FFFF;

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Group {
    /// Eight tags, then four tags and how many went on from here. A tag of 0 is an empty cell.
    words: [u64; 2],
    slots: [u32; CELLS],
}

/// Marks the bytes that are 0. Bytes above one that is may be marked too.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The cell that the lowest mark of [`Group::like`] means.
#[inline]
const fn cell_at(marks: u64) -> usize {
    let bit = marks.trailing_zeros() as usize;
    bit / 8 + (bit & 1) * 8
}

impl Group {
    /// Marks the cells whose tag is that of the pattern, all twelve in one word so that which half it is
    /// in needs no branch: bits 0, 8, 16, ... for the first eight, 1, 9, ... for the others.
    #[inline]
    const fn like(&self, pattern: u64) -> u64 {
        let first = zero_bytes(self.words[0] ^ pattern) >> 7;
        let second = (zero_bytes(self.words[1] ^ pattern) & SECOND) >> 6;
        first | second
    }

    #[inline]
    const fn went_on(&self) -> u32 {
        (self.words[1] >> 32) as u32
    }

    #[inline]
    fn count_on(&mut self, change: i64) {
        let count = i64::from(self.went_on()).saturating_add(change);
        let count = u64::from(u32::try_from(count).unwrap_or(0));
        self.words[1] = (self.words[1] & SECOND) | (count << 32);
    }

    #[inline]
    fn set_tag(&mut self, cell: usize, tag: u8) {
        let (word, shift) = (cell / 8, cell % 8 * 8);
        self.words[word] = (self.words[word] & !(0xFF << shift)) | (u64::from(tag) << shift);
    }

    #[inline]
    fn empty_cell(&self) -> Option<usize> {
        let first = zero_bytes(self.words[0]);
        if first != 0 {
            return Some(first.trailing_zeros() as usize / 8);
        }
        let second = zero_bytes(self.words[1]) & SECOND;
        (second != 0).then(|| 8 + second.trailing_zeros() as usize / 8)
    }

    #[inline]
    const fn has_tag(&self, cell: usize) -> bool {
        self.words[cell / 8] >> (cell % 8 * 8) & 0xFF != 0
    }

    fn cell_of(&self, slot: u32) -> Option<usize> {
        (0..CELLS).find(|cell| self.slots[*cell] == slot && self.has_tag(*cell))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Index {
    groups: Vec<Group>,
}

impl Index {
    /// An empty one with room for `entries`.
    pub(crate) fn new(entries: usize) -> Self {
        let groups = entries.saturating_mul(ROOM_OF).div_ceil(ROOM).max(1);
        Self {
            groups: alloc::vec![Group::default(); groups],
        }
    }

    /// How many entries may be in.
    pub(crate) const fn room(&self) -> usize {
        self.groups.len() * ROOM / ROOM_OF
    }

    /// Bytes on the heap.
    pub(crate) const fn memory(&self) -> usize {
        self.groups.capacity() * size_of::<Group>()
    }

    #[inline]
    const fn home(&self, hash: u64) -> usize {
        (((hash & SECOND) * self.groups.len() as u64) >> 32) as usize
    }

    #[inline]
    const fn after(&self, group: usize) -> usize {
        if group + 1 == self.groups.len() {
            0
        } else {
            group + 1
        }
    }

    #[inline]
    const fn tag(hash: u64) -> u8 {
        let tag = (hash >> 56) as u8;
        if tag == 0 { 1 } else { tag }
    }

    /// The slot with this hash of which `is` says yes. It may be asked of a number that is no slot.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let pattern = u64::from(Self::tag(hash)) * LOW;
        let mut at = self.home(hash);
        for _ in 0..self.groups.len() {
            let group = &self.groups[at];
            let mut same = group.like(pattern);
            while same != 0 {
                let slot = group.slots[cell_at(same) % CELLS];
                if is(slot) {
                    return Some(slot);
                }
                same &= same - 1;
            }
            if group.went_on() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds a slot. There must be room.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        loop {
            let group = &mut self.groups[at];
            if let Some(cell) = group.empty_cell() {
                group.slots[cell] = slot;
                group.set_tag(cell, Self::tag(hash));
                return;
            }
            group.count_on(1);
            at = self.after(at);
        }
    }

    /// Where the slot with this hash is.
    #[inline]
    fn locate(&self, hash: u64, slot: u32) -> Option<(usize, usize)> {
        let pattern = u64::from(Self::tag(hash)) * LOW;
        let mut at = self.home(hash);
        for _ in 0..self.groups.len() {
            let group = &self.groups[at];
            let mut same = group.like(pattern);
            while same != 0 {
                let cell = cell_at(same) % CELLS;
                if group.slots[cell] == slot && group.has_tag(cell) {
                    return Some((at, cell));
                }
                same &= same - 1;
            }
            if group.went_on() == 0 {
                break;
            }
            at = self.after(at);
        }
        None
    }

    /// Takes a slot out.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        if let Some((at, cell)) = self.locate(hash, slot) {
            self.groups[at].set_tag(cell, 0);
            let mut passed = self.home(hash);
            while passed != at {
                self.groups[passed].count_on(-1);
                passed = self.after(passed);
            }
        } else if let Some((at, cell)) = self.search(slot) {
            // The key hashes to something else than when it came in. Counts that stay too high only
            // make look-ups longer.
            self.groups[at].set_tag(cell, 0);
        }
    }

    /// Gives an entry another slot number.
    #[inline]
    pub(crate) fn rename(&mut self, hash: u64, from: u32, to: u32) {
        let place = self.locate(hash, from).or_else(|| self.search(from));
        if let Some((at, cell)) = place {
            self.groups[at].slots[cell] = to;
        }
    }

    #[cold]
    fn search(&self, slot: u32) -> Option<(usize, usize)> {
        let found = |(at, group): (usize, &Group)| Some((at, group.cell_of(slot)?));
        self.groups.iter().enumerate().find_map(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn mix(seed: u64) -> u64 {
        let bits = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB)
    }

    #[test]
    fn it_agrees_with_a_map_also_when_full_and_after_removals() {
        let mut index = Index::new(200);
        let mut twin: BTreeMap<u32, u64> = BTreeMap::new();
        let mut seed = 1_u64;
        for step in 0..50_000_u64 {
            seed = mix(seed.wrapping_add(step));
            let slot = (seed % 250) as u32;
            // Few different hashes, so that groups overflow.
            let hash = mix((seed >> 20) % 97);
            if let Some(known) = twin.get(&slot).copied() {
                if seed & 1 << 40 == 0 {
                    index.remove(known, slot);
                    twin.remove(&slot);
                } else if !twin.contains_key(&(slot + 1000)) {
                    index.rename(known, slot, slot + 1000);
                    twin.remove(&slot);
                    twin.insert(slot + 1000, known);
                }
            } else if twin.len() < index.room() {
                index.insert(hash, slot);
                twin.insert(slot, hash);
            } else if let Some((slot, hash)) = twin.pop_last() {
                index.remove(hash, slot);
            }
            if step % 64 == 0 {
                for (slot, hash) in &twin {
                    assert_eq!(index.find(*hash, |at| at == *slot), Some(*slot));
                }
            }
        }
        while let Some((slot, hash)) = twin.pop_last() {
            index.remove(hash, slot);
        }
        assert!(index.groups.iter().all(|group| group.words == [0, 0]));
    }

    #[test]
    fn a_slot_whose_hash_has_changed_is_found_by_searching() {
        let mut index = Index::new(100);
        for slot in 0..100 {
            index.insert(mix(slot.into()), slot);
        }
        for slot in 0..100 {
            index.remove(mix(u64::from(slot) + 1_000), slot);
        }
        assert!((0..100_u64).all(|key| index.find(mix(key), |_| true).is_none()));
    }
}
