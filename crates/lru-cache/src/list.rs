//! A doubly linked list over slot numbers: links of 32 bits in a vector, no pointers.

use alloc::vec::Vec;

const NONE: u32 = u32::MAX;

/// Links of all slots; several [`Ends`] may share them, a slot being in at most one list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(Vec<(u32, u32)>);

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
    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }
}

impl Links {
    fn at(&mut self, slot: u32) -> &mut (u32, u32) {
        let index = slot as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, (NONE, NONE));
        }
        &mut self.0[index]
    }

    pub(crate) fn push_back(&mut self, ends: &mut Ends, slot: u32) {
        *self.at(slot) = (ends.last, NONE);
        if ends.last == NONE {
            ends.first = slot;
        } else {
            self.at(ends.last).1 = slot;
        }
        ends.last = slot;
    }

    pub(crate) fn remove(&mut self, ends: &mut Ends, slot: u32) {
        let (before, after) = *self.at(slot);
        if before == NONE {
            ends.first = after;
        } else {
            self.at(before).1 = after;
        }
        if after == NONE {
            ends.last = before;
        } else {
            self.at(after).0 = before;
        }
    }

    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        let (_, after) = *self.0.get(slot as usize)?;
        (after != NONE).then_some(after)
    }
}
