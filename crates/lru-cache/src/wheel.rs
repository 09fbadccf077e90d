//! When which entry's time is over: a hierarchical timer wheel (Varghese and Lauck, SOSP 1987) of slot
//! numbers, of which each call does a bounded part.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::list::{Ends, Links, set};

/// Bits of nanoseconds that make a tick: about a millisecond.
const TICK_BITS: u32 = 20;
/// Bits of ticks that a level tells apart.
const BITS: u32 = 6;
const LEVELS: u32 = 6;
const BUCKETS: u64 = 1 << BITS;
/// What is further away, two years, waits in the last bucket and is looked at again.
const SPAN: u64 = (1 << (BITS * LEVELS)) - (1 << (BITS * (LEVELS - 1)));

#[derive(Debug)]
pub(crate) struct Wheel {
    links: Links,
    buckets: Box<[Ends]>,
    /// Which buckets of a level have somebody.
    occupied: [u64; LEVELS as usize],
    /// The bucket of each slot, from 1 on; 0 is none.
    places: Vec<u16>,
    /// Ticks up to which everything has been looked at.
    elapsed: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            links: Links::default(),
            buckets: (0..BUCKETS * u64::from(LEVELS))
                .map(|_| Ends::default())
                .collect(),
            occupied: [0; LEVELS as usize],
            places: Vec::new(),
            elapsed: 0,
        }
    }
}

impl Wheel {
    /// Notes when a slot's time ends, in nanoseconds, in place of what was noted of it.
    pub(crate) fn place(&mut self, slot: u32, end: u64) {
        self.remove(slot);
        // Rounded up: when the tick has come, the time is over.
        let tick = (end >> TICK_BITS) + u64::from(end & ((1 << TICK_BITS) - 1) != 0);
        let tick = tick.clamp(self.elapsed, self.elapsed + SPAN);
        let differs = (self.elapsed ^ tick) | (BUCKETS - 1);
        let level = ((u64::BITS - 1 - differs.leading_zeros()) / BITS).min(LEVELS - 1);
        let within = tick >> (BITS * level) & (BUCKETS - 1);
        self.occupied[level as usize] |= 1 << within;
        let bucket = u64::from(level) * BUCKETS + within;
        let bucket = u16::try_from(bucket).unwrap_or(0);
        self.links
            .push_back(&mut self.buckets[usize::from(bucket)], slot);
        set(&mut self.places, slot, bucket + 1);
    }

    /// Forgets a slot.
    pub(crate) fn remove(&mut self, slot: u32) {
        let place = self.places.get_mut(slot as usize).map(core::mem::take);
        let Some(bucket) = place.and_then(|place| place.checked_sub(1)) else {
            return;
        };
        let ends = &mut self.buckets[usize::from(bucket)];
        self.links.remove(ends, slot);
        if ends.first().is_none() {
            let (level, within) = (u64::from(bucket) / BUCKETS, u64::from(bucket) % BUCKETS);
            self.occupied[usize::try_from(level).unwrap_or(0)] &= !(1 << within);
        }
    }

    /// What was at `from`, if anything, is at `to` now, a lower slot of which nothing is noted.
    pub(crate) fn moved(&mut self, from: u32, to: u32) {
        let place = self.places.get_mut(from as usize).map(core::mem::take);
        if let Some(bucket) = place.and_then(|place| place.checked_sub(1)) {
            self.links
                .moved(&mut self.buckets[usize::from(bucket)], from, to);
            set(&mut self.places, to, bucket + 1);
        }
    }

    /// Takes out a slot whose time may be over at `now` (nanoseconds): if it is not, [place](Wheel::place) it
    /// again. Nothing if no such slot is left.
    pub(crate) fn next(&mut self, now: u64) -> Option<u32> {
        let now = now >> TICK_BITS;
        let due = |level: u32| {
            let shift = BITS * level;
            let at = self.elapsed >> shift;
            let cursor = u32::try_from(at & (BUCKETS - 1)).unwrap_or(0);
            let ahead = self.occupied[level as usize].rotate_right(cursor);
            let start = (at + u64::from(ahead.trailing_zeros())) << shift;
            (ahead != 0).then_some((start.max(self.elapsed), level))
        };
        let first = (0..LEVELS).filter_map(due).min();
        let Some((start, level)) = first.filter(|(start, _)| *start <= now) else {
            self.elapsed = self.elapsed.max(now);
            return None;
        };
        self.elapsed = start;
        let within = start >> (BITS * level) & (BUCKETS - 1);
        let bucket = usize::try_from(u64::from(level) * BUCKETS + within).unwrap_or(0);
        let slot = self.buckets[bucket].first()?;
        self.remove(slot);
        Some(slot)
    }

    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.links.memory()
            + size_of_val(&*self.buckets)
            + self.places.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Place(u32, u64),
        Remove(u32),
        Moved(u32, u32),
        /// Time goes on, and so many are looked at.
        Wait(u64, u32),
    }

    fn time() -> impl Strategy<Value = u64> {
        (0..60_u32, any::<u64>()).prop_map(|(bits, time)| time & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..20_u32, time()).prop_map(|(slot, end)| Step::Place(slot, end)),
            1 => (0..20_u32).prop_map(Step::Remove),
            1 => (0..20_u32, 0..20_u32).prop_map(|(from, to)| Step::Moved(from, to)),
            3 => (time(), 0..10_u32).prop_map(|(time, most)| Step::Wait(time, most)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn who_is_over_comes_out_and_nobody_before(steps in prop::collection::vec(step(), 0..200)) {
            let mut wheel = Wheel::default();
            let mut naive: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0_u64;
            for step in steps {
                match step {
                    Step::Place(slot, after) => {
                        let end = now.saturating_add(after);
                        wheel.place(slot, end);
                        naive.insert(slot, end);
                    }
                    Step::Remove(slot) => {
                        wheel.remove(slot);
                        naive.remove(&slot);
                    }
                    Step::Moved(from, to) if from > to => {
                        wheel.remove(to);
                        naive.remove(&to);
                        wheel.moved(from, to);
                        if let Some(end) = naive.remove(&from) {
                            naive.insert(to, end);
                        }
                    }
                    Step::Moved(..) => {}
                    Step::Wait(time, most) => {
                        now = now.saturating_add(time);
                        for _ in 0..most {
                            let Some(slot) = wheel.next(now) else {
                                break;
                            };
                            let end = naive[&slot];
                            if end <= now {
                                naive.remove(&slot);
                            } else {
                                wheel.place(slot, end);
                            }
                        }
                    }
                }
            }
            // All the rest, each looked at once a level at most, and once in two years.
            let spans = usize::try_from((now >> TICK_BITS) / SPAN).expect("it fits");
            let mut looks = naive.len() * (LEVELS as usize + 1 + spans);
            while let Some(slot) = wheel.next(now) {
                looks = looks.checked_sub(1).expect("it ends");
                let end = naive[&slot];
                if end <= now {
                    naive.remove(&slot);
                } else {
                    wheel.place(slot, end);
                }
            }
            let tick = 1 << TICK_BITS;
            prop_assert!(naive.values().all(|end| *end > now.saturating_sub(tick)));
        }
    }
}
