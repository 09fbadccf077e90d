//! S3-FIFO: a queue on probation, a main queue, and the memory of who was let go too early.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Policy;
use crate::list::{Ends, Links};

/// Reads are counted up to this and no further.
const COUNT_MAX: u8 = 3;

/// One entry in so many is on probation, at least, when room is needed.
const PROBATION_SHARE: usize = 10;

/// S3-FIFO (Yang and others, SOSP 2023): newcomers are on probation in a small queue (a tenth of the
/// entries). Who was read twice there goes on to the main queue; the others leave, and for as many of
/// them as the main queue has entries the hash is remembered, so that a quick return leads straight into the
/// main queue. A hit writes one byte. Resists scans; the best static choice of the policies here on mixed traffic.
///
/// Takes 18 bytes a slot and about 45 for each remembered hash.
#[derive(Debug, Clone, Default)]
pub struct S3Fifo {
    links: Links,
    probation: Ends,
    main: Ends,
    probation_len: usize,
    main_len: usize,
    cells: Vec<Cell>,
    /// The slot named last; if that is the next to leave, it was evicted.
    named: Option<u32>,
    /// Remembered hashes, the oldest first, with the number of their departure.
    departures: VecDeque<(u64, u64)>,
    /// The last departure of each remembered hash.
    remembered: HashMap<u64, u64, FixedState>,
    departed: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    hash: u64,
    count: u8,
    in_main: bool,
}

impl S3Fifo {
    fn join(&mut self, slot: u32, in_main: bool) {
        self.cells[slot as usize].in_main = in_main;
        if in_main {
            self.links.push_back(&mut self.main, slot);
            self.main_len += 1;
        } else {
            self.links.push_back(&mut self.probation, slot);
            self.probation_len += 1;
        }
    }

    fn leave(&mut self, slot: u32) {
        if self.cells[slot as usize].in_main {
            self.links.remove(&mut self.main, slot);
            self.main_len -= 1;
        } else {
            self.links.remove(&mut self.probation, slot);
            self.probation_len -= 1;
        }
    }

    fn remember(&mut self, hash: u64) {
        self.departed += 1;
        self.remembered.insert(hash, self.departed);
        self.departures.push_back((hash, self.departed));
        // Departures bound the hashes too: each remembered hash has its last departure here.
        while self.departures.len() > self.main_len {
            let Some((hash, departure)) = self.departures.pop_front() else {
                break;
            };
            if self.remembered.get(&hash) == Some(&departure) {
                self.remembered.remove(&hash);
            }
        }
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: u32, hash: u64) {
        self.named = None;
        if slot as usize >= self.cells.len() {
            self.cells.resize(slot as usize + 1, Cell::default());
        }
        self.cells[slot as usize] = Cell {
            hash,
            ..Cell::default()
        };
        let returned = self.remembered.remove(&hash).is_some();
        self.join(slot, returned);
    }

    fn hit(&mut self, slot: u32) {
        let count = &mut self.cells[slot as usize].count;
        *count = (*count + 1).min(COUNT_MAX);
    }

    fn remove(&mut self, slot: u32) {
        let cell = self.cells[slot as usize];
        self.leave(slot);
        if self.named.take() == Some(slot) && !cell.in_main {
            self.remember(cell.hash);
        }
    }

    fn victim(&mut self) -> Option<u32> {
        // Ends: each turn moves an entry to the main queue for good or takes one from a count.
        loop {
            let probation_due =
                self.probation_len * PROBATION_SHARE >= self.probation_len + self.main_len;
            let candidate = match (self.probation.first(), self.main.first()) {
                (Some(slot), None) => slot,
                (Some(slot), Some(_)) if probation_due => slot,
                (_, main) => main?,
            };
            let cell = self.cells[candidate as usize];
            let stays = cell.count > u8::from(!cell.in_main);
            if !stays {
                self.named = Some(candidate);
                return Some(candidate);
            }
            self.leave(candidate);
            self.cells[candidate as usize].count = if cell.in_main { cell.count - 1 } else { 0 };
            self.join(candidate, true);
        }
    }
}
