//! A timer wheel: numbers that are due at a time, armed and fired in constant time.
//!
//! Four levels of 256 slots of 1.024 ms, 262 ms, 67 s and 4.8 h; what is due later than 51 days waits in a map.
//! After G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987.

use std::collections::BTreeMap;

const LEVELS: usize = 4;
const SLOTS: usize = 256;
/// Microseconds of a slot of the lowest level, as a power of two.
const TICK_BITS: u32 = 10;

/// Numbers, each due at a time in microseconds. Nothing is cancelled: who arms a number again, or no longer
/// wants it, passes over the old firing, and calls [`retain`](Self::retain) when too many of those wait.
///
/// ```
/// let mut wheel = stackbeam_mq::wheel::Wheel::new(0);
/// wheel.arm(5_000, 1);
/// wheel.arm(2_000, 2);
/// let mut fired = Vec::new();
/// wheel.fire(4_000, |at, n| fired.push((at, n)));
/// assert_eq!(fired, [(2_000, 2)]);
/// assert_eq!(wheel.len(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Wheel {
    /// `LEVELS` times `SLOTS`.
    slots: Vec<Vec<(u64, u64)>>,
    /// Which slots of a level hold something.
    full: [[u64; SLOTS / 64]; LEVELS],
    far: BTreeMap<(u64, u64), ()>,
    /// The tick up to which everything was fired.
    tick: u64,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Wheel {
    /// An empty wheel whose time begins at `now` microseconds.
    #[must_use]
    pub fn new(now: u64) -> Self {
        Self {
            slots: Vec::new(),
            full: [[0; SLOTS / 64]; LEVELS],
            far: BTreeMap::new(),
            tick: now >> TICK_BITS,
            len: 0,
        }
    }

    /// Numbers that wait, passed over ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes `n` due at `at` microseconds.
    pub fn arm(&mut self, at: u64, n: u64) {
        if self.len == 0 && self.far.is_empty() && self.slots.is_empty() {
            self.slots.resize_with(LEVELS * SLOTS, Vec::new);
        }
        self.len += 1;
        self.put(at, n);
    }

    fn put(&mut self, at: u64, n: u64) {
        let due = (at >> TICK_BITS).max(self.tick);
        // The highest digit in which it differs from now says the level.
        let apart = due ^ self.tick;
        let level = (64 - apart.leading_zeros()).saturating_sub(1) as usize / 8;
        if level >= LEVELS {
            self.far.insert((at, n), ());
            return;
        }
        let slot = slot_of(due, level);
        self.slots[level * SLOTS + slot].push((at, n));
        self.full[level][slot / 64] |= 1 << (slot % 64);
    }

    /// The first full slot of a level from `from` on.
    fn first_full(&self, level: usize, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.full[level][word] & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.full[level].get(word)?;
        }
    }

    /// When there is work next: not later than the next number is due. `None` when nothing waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.slots.is_empty() {
            return None;
        }
        let here = slot_of(self.tick, 0);
        if let Some(slot) = self.first_full(0, here) {
            return self.slots[slot].iter().map(|(at, _)| *at).min();
        }
        self.next_turn().map(|tick| tick << TICK_BITS)
    }

    /// The first tick at which a slot of a higher level must be spread.
    fn next_turn(&self) -> Option<u64> {
        for level in 1..LEVELS {
            let here = slot_of(self.tick, level);
            if let Some(slot) = self.first_full(level, here) {
                let base = self.tick >> (8 * (level + 1)) << (8 * (level + 1));
                return Some(base + ((slot as u64) << (8 * level)));
            }
        }
        let ((at, _), ()) = self.far.first_key_value()?;
        Some(at >> TICK_BITS >> (8 * LEVELS) << (8 * LEVELS))
    }

    /// Calls `f` with the time and number of everything that is due at `now`, ordered by slot.
    pub fn fire(&mut self, now: u64, mut f: impl FnMut(u64, u64)) {
        let end = now >> TICK_BITS;
        while self.len > 0 && self.tick <= end {
            let here = slot_of(self.tick, 0);
            match self.first_full(0, here) {
                Some(slot) => {
                    let tick = self.tick / SLOTS as u64 * SLOTS as u64 + slot as u64;
                    if tick > end {
                        break;
                    }
                    self.tick = tick;
                    self.fire_slot(slot, now, &mut f);
                    if tick == end {
                        return;
                    }
                    self.tick += 1;
                    if self.tick.is_multiple_of(SLOTS as u64) {
                        self.cascade();
                    }
                }
                None => {
                    let Some(turn) = self.next_turn().filter(|turn| *turn <= end) else {
                        break;
                    };
                    self.tick = turn;
                    self.cascade();
                }
            }
        }
        if self.tick < end {
            self.tick = end;
        }
    }

    fn fire_slot(&mut self, slot: usize, now: u64, f: &mut impl FnMut(u64, u64)) {
        let mut due = std::mem::take(&mut self.slots[slot]);
        let all = due.len();
        due.retain(|(at, n)| {
            if *at > now {
                return true;
            }
            f(*at, *n);
            false
        });
        self.len -= all - due.len();
        if due.is_empty() {
            self.full[0][slot / 64] &= !(1 << (slot % 64));
        }
        // The allocation stays with the slot.
        self.slots[slot] = due;
    }

    /// At the turn of a level's wheel the next slot of the level above is spread over it.
    fn cascade(&mut self) {
        for level in 1..LEVELS {
            let slot = slot_of(self.tick, level);
            let index = level * SLOTS + slot;
            self.full[level][slot / 64] &= !(1 << (slot % 64));
            for (at, n) in std::mem::take(&mut self.slots[index]) {
                self.put(at, n);
            }
            if slot != 0 {
                return;
            }
        }
        let end = (self.tick + (1 << (8 * LEVELS))) << TICK_BITS;
        while let Some(entry) = self.far.first_entry().filter(|e| e.key().0 < end) {
            let ((at, n), ()) = entry.remove_entry();
            self.put(at, n);
        }
    }

    /// Keeps only the numbers for which `f` is true.
    pub fn retain(&mut self, mut f: impl FnMut(u64, u64) -> bool) {
        self.far.retain(|(at, n), ()| f(*at, *n));
        let mut len = self.far.len();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            slot.retain(|(at, n)| f(*at, *n));
            len += slot.len();
            if slot.is_empty() {
                *slot = Vec::new();
                self.full[i / SLOTS][i % SLOTS / 64] &= !(1 << (i % 64));
            }
        }
        self.len = len;
    }
}

/// A slot of a level is a byte of the time.
fn slot_of(tick: u64, level: usize) -> usize {
    usize::from(tick.to_le_bytes()[level])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_fires_once_and_not_before_its_time() {
        for seed in 0..40 {
            let mut rng = seed;
            let mut r = || crate::sim::splitmix(&mut rng);
            let mut now = r() >> 20;
            let mut wheel = Wheel::new(now);
            let mut waiting = BTreeMap::new();
            for n in 0..3_000 {
                let far = [1 << 8, 1 << 12, 1 << 19, 1 << 27, 1 << 36, 1 << 44];
                let at = now + r() % far[(r() % 6) as usize];
                wheel.arm(at, n);
                waiting.insert((at, n), ());
                if r() % 3 == 0 {
                    let next = wheel.next_deadline();
                    let first = waiting.first_key_value().map(|((at, _), ())| *at);
                    assert!(
                        next <= first && next.is_some() == first.is_some(),
                        "seed {seed}"
                    );
                    now = if r() % 2 == 0 {
                        now + r() % far[(r() % 5) as usize]
                    } else {
                        next.unwrap_or(now).max(now)
                    };
                    wheel.fire(now, |at, n| {
                        assert!(at <= now, "seed {seed}: {n} fires before its time");
                        assert!(
                            waiting.remove(&(at, n)).is_some(),
                            "seed {seed}: {n} fires twice"
                        );
                    });
                    let late = waiting.first_key_value().filter(|((at, _), ())| *at <= now);
                    assert!(late.is_none(), "seed {seed}: {late:?} is late at {now}");
                    assert_eq!(wheel.len(), waiting.len());
                }
            }
        }
    }

    #[test]
    fn deadlines_lead_to_the_end_of_the_wheel() {
        let mut wheel = Wheel::new(3);
        for (n, at) in (0..).zip([1_u64 << 50, 1 << 43, 1 << 30, 77]) {
            wheel.arm(at, n);
        }
        let mut order = Vec::new();
        let mut steps = 0;
        while let Some(at) = wheel.next_deadline() {
            wheel.fire(at, |_, n| order.push(n));
            steps += 1;
            assert!(steps < 100);
        }
        assert_eq!(order, [3, 2, 1, 0]);
    }

    #[test]
    fn what_is_no_longer_wanted_goes() {
        let mut wheel = Wheel::new(0);
        (0..1000).for_each(|n| wheel.arm(n * 999_983, n));
        wheel.retain(|_, n| n % 100 == 7);
        let mut left = Vec::new();
        wheel.fire(u64::MAX >> 12, |_, n| left.push(n));
        assert_eq!(left, (0..10).map(|n| n * 100 + 7).collect::<Vec<_>>());
    }
}
