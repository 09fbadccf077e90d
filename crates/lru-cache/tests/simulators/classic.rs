//! FIFO, LRU, LFU, CLOCK, SIEVE, ARC, W-TinyLFU.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Line, Simulator, grown, mix};

pub(crate) struct Fifo(pub(crate) usize, pub(crate) Line);

impl Simulator for Fifo {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if self.1.has(key) {
            return true;
        }
        if self.1.len() == self.0 {
            self.1.pop();
        }
        self.1.push(key);
        false
    }
}

pub(crate) struct Lru(pub(crate) usize, pub(crate) Line);

impl Simulator for Lru {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        let had = self.1.take(key);
        if self.1.len() == self.0 {
            self.1.pop();
        }
        self.1.push(key);
        had
    }
}

pub(crate) struct Clock(pub(crate) usize, pub(crate) Line, pub(crate) HashSet<u64>);

impl Simulator for Clock {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if self.1.has(key) {
            self.2.insert(key);
            return true;
        }
        while self.1.len() == self.0 {
            let oldest = self.1.pop().expect("full");
            if self.2.remove(&oldest) {
                self.1.push(oldest);
            }
        }
        self.1.push(key);
        false
    }
}

#[derive(Default)]
pub(crate) struct Sieve {
    pub(crate) capacity: usize,
    pub(crate) line: Line,
    pub(crate) read: HashSet<u64>,
    pub(crate) hand: Option<u64>,
}

impl Simulator for Sieve {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if self.line.has(key) {
            self.read.insert(key);
            return true;
        }
        if self.line.len() == self.capacity {
            let mut at = self.hand.or_else(|| self.line.first()).expect("full");
            while self.read.remove(&at) {
                at = self
                    .line
                    .after(at)
                    .or_else(|| self.line.first())
                    .expect("full");
            }
            self.hand = self.line.after(at);
            self.line.take(at);
        }
        self.line.push(key);
        false
    }
}

/// Counts to 63; all are halved after ten hits an entry. Of equals, who has had the count longest goes.
#[derive(Default)]
pub(crate) struct Lfu {
    pub(crate) capacity: usize,
    pub(crate) counts: HashMap<u64, (u8, u64)>,
    pub(crate) order: BTreeMap<(u8, u64), u64>,
    pub(crate) turn: u64,
    pub(crate) hits: usize,
}

impl Lfu {
    fn set(&mut self, key: u64, count: u8) {
        self.turn += 1;
        if let Some(before) = self.counts.insert(key, (count, self.turn)) {
            self.order.remove(&before);
        }
        self.order.insert((count, self.turn), key);
    }
}

impl Simulator for Lfu {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if let Some((count, _)) = self.counts.get(&key).copied() {
            self.set(key, (count + 1).min(63));
            self.hits += 1;
            if self.hits >= 10 * self.counts.len() {
                self.hits = 0;
                let aged: Vec<(u64, u8)> = self
                    .order
                    .iter()
                    .map(|(at, key)| (*key, at.0 / 2))
                    .collect();
                for (key, count) in aged {
                    self.set(key, count);
                }
            }
            return true;
        }
        if self.counts.len() == self.capacity {
            let (_, victim) = self.order.pop_first().expect("full");
            self.counts.remove(&victim);
        }
        self.set(key, 0);
        false
    }
}

/// As in the paper, figure 4.
#[derive(Default)]
pub(crate) struct Arc {
    pub(crate) c: usize,
    pub(crate) p: usize,
    pub(crate) t1: Line,
    pub(crate) t2: Line,
    pub(crate) b1: Line,
    pub(crate) b2: Line,
}

impl Arc {
    fn replace(&mut self, in_b2: bool) {
        let t1 = self.t1.len();
        if t1 >= 1 && (in_b2 && t1 == self.p || t1 > self.p) {
            let key = self.t1.pop().expect("not empty");
            self.b1.push(key);
        } else {
            let key = self.t2.pop().or_else(|| self.t1.pop()).expect("full");
            self.b2.push(key);
        }
    }
}

impl Simulator for Arc {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if self.t1.take(key) || self.t2.take(key) {
            self.t2.push(key);
            return true;
        }
        if self.b1.has(key) {
            let more = (self.b2.len() / self.b1.len()).max(1);
            self.p = (self.p + more).min(self.c);
            self.replace(false);
            self.b1.take(key);
            self.t2.push(key);
        } else if self.b2.has(key) {
            let less = (self.b1.len() / self.b2.len()).max(1);
            self.p = self.p.saturating_sub(less);
            self.replace(true);
            self.b2.take(key);
            self.t2.push(key);
        } else {
            let all = self.t1.len() + self.t2.len() + self.b1.len() + self.b2.len();
            if self.t1.len() + self.b1.len() == self.c {
                if self.t1.len() < self.c {
                    self.b1.pop();
                    self.replace(false);
                } else {
                    self.t1.pop();
                }
            } else if all >= self.c {
                if all == 2 * self.c {
                    self.b2.pop();
                }
                if self.t1.len() + self.t2.len() == self.c {
                    self.replace(false);
                }
            }
            self.t1.push(key);
        }
        false
    }
}

/// Four rows of 4-bit counts, halved after ten requests an entry; window 1 %, protected 80 %.
pub(crate) struct WTinyLfu {
    capacity: usize,
    window: Line,
    probation: Line,
    protected: Line,
    counts: HashMap<(usize, u64), u8>,
    words: u64,
    added: u64,
    room: usize,
}

impl WTinyLfu {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            window: Line::default(),
            probation: Line::default(),
            protected: Line::default(),
            counts: HashMap::new(),
            words: 0,
            added: 0,
            room: 0,
        }
    }

    /// Makes room, and forgets all counts.
    fn grow(&mut self) {
        self.room = grown(self.room, self.capacity);
        self.words = (self.room.next_power_of_two() as u64 / 2).max(4);
        self.counts.clear();
        self.added = 0;
    }

    fn cells(&self, key: u64) -> [(usize, u64); 4] {
        std::array::from_fn(|row| {
            let salt = row as u64;
            let bits = (mix(key) ^ salt << 60).wrapping_mul(0x9E37_79B9_7F4A_7C15 | salt << 1);
            let bits = bits ^ bits >> 32;
            (row, bits % self.words * 4 + (bits >> 62))
        })
    }

    fn add(&mut self, key: u64) {
        for cell in self.cells(key) {
            let count = self.counts.entry(cell).or_default();
            *count = (*count + 1).min(15);
        }
        self.added += 1;
        if self.added >= 10 * self.room as u64 {
            self.added /= 2;
            self.counts.values_mut().for_each(|count| *count /= 2);
        }
    }

    fn count(&self, key: u64) -> u8 {
        let counts = self
            .cells(key)
            .map(|cell| self.counts.get(&cell).copied().unwrap_or(0));
        counts.into_iter().min().expect("four")
    }

    fn window_max(&self) -> usize {
        let len = self.window.len() + self.probation.len() + self.protected.len();
        (len / 100).max(1)
    }
}

impl Simulator for WTinyLfu {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if self.window.take(key) {
            self.add(key);
            self.window.push(key);
            return true;
        }
        if self.probation.take(key) || self.protected.take(key) {
            self.add(key);
            self.protected.push(key);
            let most = (self.probation.len() + self.protected.len()) * 80 / 100;
            if self.protected.len() > most.max(1) {
                let oldest = self.protected.pop().expect("more than one");
                self.probation.push(oldest);
            }
            return true;
        }
        if self.window.len() + self.probation.len() + self.protected.len() == self.capacity {
            let settled = self.probation.first().or_else(|| self.protected.first());
            let candidate = self
                .window
                .first()
                .filter(|_| self.window.len() >= self.window_max());
            match (candidate, settled) {
                (Some(candidate), Some(settled)) if self.count(candidate) > self.count(settled) => {
                    self.window.take(candidate);
                    self.probation.push(candidate);
                    let _ = self.probation.take(settled) || self.protected.take(settled);
                }
                (Some(candidate), _) => {
                    self.window.take(candidate);
                }
                (None, _) => {
                    let _ = self.probation.pop().or_else(|| self.protected.pop());
                }
            }
        }
        if self.window.len() + self.probation.len() + self.protected.len() == self.room {
            self.grow();
        }
        self.add(key);
        self.window.push(key);
        while self.window.len() > self.window_max() {
            let oldest = self.window.pop().expect("more than one");
            self.probation.push(oldest);
        }
        false
    }
}
