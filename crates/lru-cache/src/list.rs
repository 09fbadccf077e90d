//! A doubly linked list over slot numbers: links of 32 bits in a vector, no pointers.

use alloc::vec::Vec;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Links of all slots; several [`Ends`] may share them, a slot being in at most one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Vec<[u32; 2]>);

/// The two ends of one list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
        }
    }
}

impl Ends {
    #[inline]
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }
}

/// The slot of a place in a slab.
#[inline]
pub(crate) fn slot_at(index: usize) -> u32 {
    // 2^32 entries of 16 bytes and more: the memory of today's machines ends first.
    u32::try_from(index).unwrap_or(NONE)
}

/// Makes a column exactly so long as told, if it is not yet, so that no half of it stays empty.
pub(crate) fn reserve_exact<T>(column: &mut Vec<T>, slots: usize) {
    column.reserve_exact(slots.saturating_sub(column.len()));
}

/// Sets a column's cell, making the column longer if the slot is new.
#[inline]
pub(crate) fn set<T: Default>(column: &mut Vec<T>, slot: u32, value: T) {
    let index = slot as usize;
    if let Some(cell) = column.get_mut(index) {
        *cell = value;
    } else {
        column.resize_with(index, T::default);
        column.push(value);
    }
}

impl Links {
    pub(crate) fn reserve(&mut self, slots: usize) {
        reserve_exact(&mut self.0, slots);
    }

    pub(crate) const fn memory(&self) -> usize {
        self.0.capacity() * size_of::<[u32; 2]>()
    }

    #[inline]
    pub(crate) fn push_back(&mut self, ends: &mut Ends, slot: u32) {
        set(&mut self.0, slot, [ends.last, NONE]);
        if ends.last == NONE {
            ends.first = slot;
        } else {
            self.0[ends.last as usize][1] = slot;
        }
        ends.last = slot;
    }

    #[inline]
    pub(crate) fn remove(&mut self, ends: &mut Ends, slot: u32) {
        let [before, after] = self.0[slot as usize];
        self.join(ends, before, after);
    }

    #[inline]
    fn join(&mut self, ends: &mut Ends, before: u32, after: u32) {
        if before == NONE {
            ends.first = after;
        } else {
            self.0[before as usize][1] = after;
        }
        if after == NONE {
            ends.last = before;
        } else {
            self.0[after as usize][0] = before;
        }
    }

    /// Moves a slot of the list to its end.
    #[inline]
    pub(crate) fn move_back(&mut self, ends: &mut Ends, slot: u32) {
        if ends.last != slot {
            self.remove(ends, slot);
            self.push_back(ends, slot);
        }
    }

    /// Puts `to` where `from` is.
    #[inline]
    pub(crate) fn moved(&mut self, ends: &mut Ends, from: u32, to: u32) {
        let [before, after] = self.0[from as usize];
        self.0[to as usize] = [before, after];
        if before == NONE {
            ends.first = to;
        } else {
            self.0[before as usize][1] = to;
        }
        if after == NONE {
            ends.last = to;
        } else {
            self.0[after as usize][0] = to;
        }
    }

    /// All slots of a list, the first at first.
    pub(crate) fn iter(&self, ends: &Ends) -> impl Iterator<Item = u32> + use<'_> {
        core::iter::successors(ends.first(), |slot| self.next(*slot))
    }

    #[inline]
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        let [_, after] = *self.0.get(slot as usize)?;
        (after != NONE).then_some(after)
    }
}
