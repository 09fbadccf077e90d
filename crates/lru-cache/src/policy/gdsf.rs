//! GDSF: keeps what is asked for often for its size.

use alloc::vec::Vec;

use super::Policy;
use crate::list::{reserve_exact, set, slot_at};

/// Greedy-Dual-Size-Frequency (Cherkasova, HP Labs report 98-69R1, 1998): an entry's priority is its
/// reads over its weight, plus the *age*, the priority of the last one that left; the lowest leaves, of
/// equals the one whose priority was set first. Fewest misses, counted in objects, where weights
/// differ widely; it misses more bytes than the others for that.
///
/// O(log entries) for a hit, an insertion and an eviction. Takes 40 bytes a slot.
#[derive(Debug, Clone, Default)]
pub struct Gdsf {
    cells: Vec<Cell>,
    /// Slots, the one that is to leave first.
    heap: Vec<u32>,
    age: f64,
    turns: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    priority: f64,
    turn: u64,
    weight: f64,
    reads: u32,
    /// Where in the heap it is.
    at: u32,
}

impl Gdsf {
    fn before(&self, one: u32, other: u32) -> bool {
        let (one, other) = (&self.cells[one as usize], &self.cells[other as usize]);
        one.priority
            .total_cmp(&other.priority)
            .then(one.turn.cmp(&other.turn))
            .is_lt()
    }

    fn put(&mut self, at: usize, slot: u32) {
        self.heap[at] = slot;
        self.cells[slot as usize].at = slot_at(at);
    }

    fn rise(&mut self, mut at: usize) {
        let slot = self.heap[at];
        while at > 0 {
            let above = (at - 1) / 2;
            if !self.before(slot, self.heap[above]) {
                break;
            }
            self.put(at, self.heap[above]);
            at = above;
        }
        self.put(at, slot);
    }

    fn sink(&mut self, mut at: usize) {
        let slot = self.heap[at];
        loop {
            let mut below = 2 * at + 1;
            if below >= self.heap.len() {
                break;
            }
            if below + 1 < self.heap.len() && self.before(self.heap[below + 1], self.heap[below]) {
                below += 1;
            }
            if !self.before(self.heap[below], slot) {
                break;
            }
            self.put(at, self.heap[below]);
            at = below;
        }
        self.put(at, slot);
    }

    fn rate(&mut self, slot: u32) {
        self.turns += 1;
        let cell = &mut self.cells[slot as usize];
        cell.priority = self.age + f64::from(cell.reads) / cell.weight;
        cell.turn = self.turns;
    }
}

impl Policy for Gdsf {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a weight above 2^53 is rated to within one part in 2^53"
    )]
    #[inline]
    fn insert(&mut self, slot: u32, _hash: u64, weight: u64) {
        let at = self.heap.len();
        let cell = Cell {
            weight: weight.max(1) as f64,
            reads: 1,
            ..Cell::default()
        };
        set(&mut self.cells, slot, cell);
        self.rate(slot);
        self.heap.push(slot);
        self.rise(at);
    }

    #[inline]
    fn hit(&mut self, slot: u32, _hash: u64) {
        let cell = &mut self.cells[slot as usize];
        cell.reads = cell.reads.saturating_add(1);
        let at = cell.at as usize;
        self.rate(slot);
        self.sink(at);
    }

    #[inline]
    fn remove(&mut self, slot: u32, _hash: u64, evicted: bool) {
        let cell = self.cells[slot as usize];
        if evicted {
            self.age = self.age.max(cell.priority);
        }
        let at = cell.at as usize;
        self.heap.swap_remove(at);
        if let Some(&other) = self.heap.get(at) {
            self.cells[other as usize].at = slot_at(at);
            self.rise(at);
            self.sink(self.cells[other as usize].at as usize);
        }
    }

    #[inline]
    fn moved(&mut self, from: u32, to: u32) {
        let cell = self.cells[from as usize];
        self.cells[to as usize] = cell;
        self.heap[cell.at as usize] = to;
    }

    #[inline]
    fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
        self.heap.first().copied()
    }

    fn reserve(&mut self, slots: usize) {
        reserve_exact(&mut self.cells, slots);
        reserve_exact(&mut self.heap, slots);
    }

    fn memory(&self) -> usize {
        self.cells.capacity() * size_of::<Cell>() + self.heap.capacity() * 4
    }
}
