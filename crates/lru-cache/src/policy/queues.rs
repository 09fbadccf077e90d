//! The queues that S3-FIFO, Clock2Q+ and the adaptive policy share; they differ in settings.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use super::ghost::{Bucket, Ghost};
use crate::list::{Ends, Links, NONE, reserve_exact, set};

/// The low bits of an entry's byte count its reads, up to this and no further.
const COUNT: u8 = 3;
/// It is in the main queue.
const MAIN: u8 = 4;
/// It came in so lately that reads do not count.
const FRESH: u8 = 8;
/// The high bits are how often it was asked for before it came in this time.
const PAST: u32 = 4;
const PAST_HALVED: u8 = 0x70;
/// Counts of the past are halved after so many additions for each slot.
const HALVE_AFTER: usize = 10;

/// How the main queue finds who leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    /// The oldest; one that was read goes to the end instead.
    Clock,
    /// The next under a hand that goes from the oldest to the newest; one that was read stays where it is.
    Sieve,
}

/// What one may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// Thousandths of the entries that are in the small queue when room is needed.
    pub(super) small: u16,
    /// Thousandths of the small queue, the youngest, whose reads do not count.
    pub(super) window: u16,
    /// Reads that lead from the small queue to the main one.
    pub(super) reads: u8,
    pub(super) main: Main,
    /// How many departures are remembered, in thousandths of the entries.
    pub(super) ghost: u16,
    /// Whether the main queue takes only who was asked for more often than the one who would leave it.
    pub(super) admit: bool,
}

fn thousandths(of: usize, share: u16) -> usize {
    (of as u64 * u64::from(share) / 1000) as usize
}

#[derive(Debug)]
pub(super) struct Queues<B> {
    pub(super) settings: Settings,
    links: Links,
    bytes: Vec<AtomicU8>,
    small: Ends,
    small_len: usize,
    main: Ends,
    main_len: usize,
    /// Where SIEVE goes on.
    hand: u32,
    /// The oldest of those whose reads do not count: from here on, the small queue is fresh.
    fresh: u32,
    fresh_len: usize,
    ghost: Ghost<B>,
    ghost_room: usize,
    /// Additions to the counts of the past since these were halved.
    added: usize,
}

impl<B: Bucket> Queues<B> {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            links: Links::default(),
            bytes: Vec::new(),
            small: Ends::default(),
            small_len: 0,
            main: Ends::default(),
            main_len: 0,
            hand: NONE,
            fresh: NONE,
            fresh_len: 0,
            ghost: Ghost::default(),
            ghost_room: 0,
            added: 0,
        }
    }

    /// Makes room for so many slots, and for `ghosts` departures.
    pub(super) fn reserve(&mut self, slots: usize, ghosts: usize) {
        self.links.reserve(slots);
        reserve_exact(&mut self.bytes, slots);
        if self.ghost_room != ghosts {
            self.ghost_room = ghosts;
            self.ghost.resize(ghosts);
        }
    }

    pub(super) const fn memory(&self) -> usize {
        self.links.memory() + self.bytes.capacity() + self.ghost.memory()
    }

    #[inline]
    pub(super) fn insert(&mut self, slot: u32, hash: u64) {
        let limit =
            thousandths(self.small_len + self.main_len, self.settings.ghost).min(self.ghost_room);
        let away = self.ghost.recall(hash);
        // Who left without a second request is known by its departure alone.
        let past = self.ghost.count(hash).max(away.is_some().into()) << PAST;
        let returned = away.is_some_and(|away| away < limit);
        if returned {
            set(&mut self.bytes, slot, AtomicU8::new(past | MAIN));
            self.join_main(slot);
            return;
        }
        set(&mut self.bytes, slot, AtomicU8::new(past | FRESH));
        self.links.push_back(&mut self.small, slot);
        self.small_len += 1;
        if self.fresh == NONE {
            self.fresh = slot;
        }
        self.fresh_len += 1;
        let window = thousandths(self.small_len, self.settings.window);
        while self.fresh_len > window {
            let oldest = self.fresh;
            *self.bytes[oldest as usize].get_mut() &= !FRESH;
            self.pass_fresh(oldest);
        }
    }

    /// The oldest fresh one is that no more.
    fn pass_fresh(&mut self, slot: u32) {
        self.fresh_len -= 1;
        if self.fresh == slot {
            self.fresh = self.links.next(slot).unwrap_or(NONE);
        }
    }

    fn join_main(&mut self, slot: u32) {
        self.links.push_back(&mut self.main, slot);
        self.main_len += 1;
    }

    #[inline]
    pub(super) fn hit(&self, slot: u32) {
        let cell = &self.bytes[slot as usize];
        let byte = cell.load(Ordering::Relaxed);
        // Between the two another reader's count may be lost, and nothing else: all other bits change
        // with exclusive access only.
        if byte & FRESH == 0 && byte & COUNT < COUNT {
            cell.store(byte + 1, Ordering::Relaxed);
        }
    }

    /// Takes a slot out of its queue.
    fn leave(&mut self, slot: u32, byte: u8) {
        if byte & MAIN != 0 {
            if self.hand == slot {
                self.hand = self.links.next(slot).unwrap_or(NONE);
            }
            self.links.remove(&mut self.main, slot);
            self.main_len -= 1;
        } else {
            if byte & FRESH != 0 {
                self.pass_fresh(slot);
            }
            self.links.remove(&mut self.small, slot);
            self.small_len -= 1;
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: u32, hash: u64, evicted: bool) {
        let byte = *self.bytes[slot as usize].get_mut();
        self.leave(slot, byte);
        if evicted {
            let times = (byte & COUNT) + u8::from(byte >> PAST != 0);
            self.ghost.add(hash, times);
            if byte & MAIN == 0 {
                self.ghost.remember(hash);
            }
            self.added += usize::from(times);
            if self.added >= HALVE_AFTER * self.bytes.len() {
                self.added = 0;
                self.halve();
            }
        }
    }

    /// Halves all counts of the past at once: of two that are compared, neither must be ahead. O(entries).
    #[cold]
    fn halve(&mut self) {
        for byte in &mut self.bytes {
            let byte = byte.get_mut();
            *byte = *byte & !(15 << PAST) | *byte >> 1 & PAST_HALVED;
        }
        self.ghost.halve();
    }

    pub(super) fn moved(&mut self, from: u32, to: u32) {
        let byte = *self.bytes[from as usize].get_mut();
        let ends = if byte & MAIN == 0 {
            &mut self.small
        } else {
            &mut self.main
        };
        self.links.moved(ends, from, to);
        self.bytes.swap(from as usize, to as usize);
        if self.hand == from {
            self.hand = to;
        }
        if self.fresh == from {
            self.fresh = to;
        }
    }

    #[inline]
    pub(super) fn victim(&mut self) -> Option<u32> {
        // Ends: each turn moves an entry to the main queue for good or takes reads from it.
        loop {
            let share = thousandths(self.small_len + self.main_len, self.settings.small).max(1);
            match self.small.first() {
                Some(slot) if self.small_len >= share || self.main_len == 0 => {
                    let byte = *self.bytes[slot as usize].get_mut();
                    let (read, past) = (byte & COUNT, byte >> PAST);
                    if !self.settings.admit {
                        if read < self.settings.reads {
                            return Some(slot);
                        }
                    } else if self.small_len > share {
                        if read + past == 0 {
                            return Some(slot);
                        }
                    } else {
                        let Some(rival) = self.main_victim() else {
                            return Some(slot);
                        };
                        if read + past <= *self.bytes[rival as usize].get_mut() >> PAST {
                            return Some(slot);
                        }
                        self.promote(slot, byte);
                        return Some(rival);
                    }
                    self.promote(slot, byte);
                }
                _ => return self.main_victim(),
            }
        }
    }

    /// From the small queue to the main one.
    fn promote(&mut self, slot: u32, byte: u8) {
        self.leave(slot, byte);
        *self.bytes[slot as usize].get_mut() = byte >> PAST << PAST | MAIN;
        self.join_main(slot);
    }

    /// Without looking at shares: newcomers leave much more often than others.
    #[inline]
    pub(super) fn likely_victim(&self) -> Option<u32> {
        self.small.first()
    }

    pub(super) fn order(&self) -> Vec<u32> {
        let small = self.links.iter(&self.small);
        small.chain(self.links.iter(&self.main)).collect()
    }

    fn main_victim(&mut self) -> Option<u32> {
        match self.settings.main {
            Main::Clock => loop {
                let oldest = self.main.first()?;
                let byte = self.bytes[oldest as usize].get_mut();
                if *byte & COUNT == 0 {
                    return Some(oldest);
                }
                *byte -= 1;
                if self.hand == oldest {
                    self.hand = self.links.next(oldest).unwrap_or(NONE);
                }
                self.links.move_back(&mut self.main, oldest);
            },
            Main::Sieve => {
                if self.hand == NONE {
                    self.hand = self.main.first()?;
                }
                loop {
                    let byte = self.bytes[self.hand as usize].get_mut();
                    if *byte & COUNT == 0 {
                        return Some(self.hand);
                    }
                    *byte -= 1;
                    self.hand = match self.links.next(self.hand) {
                        Some(next) => next,
                        None => self.main.first()?,
                    };
                }
            }
        }
    }
}

/// Writes `Policy` for a type whose field `queues` does all of it, with that share of ghosts.
macro_rules! delegate {
    ($policy:ty, $ghost:expr) => {
        impl Policy for $policy {
            #[inline]
            fn insert(&mut self, slot: u32, hash: u64, _weight: u64) {
                self.queues.insert(slot, hash);
            }

            #[inline]
            fn hit(&mut self, slot: u32, _hash: u64) {
                self.queues.hit(slot);
            }

            #[inline]
            fn replaced(&mut self, slot: u32, _hash: u64, _weight: u64) {
                self.queues.hit(slot);
            }

            #[inline]
            fn remove(&mut self, slot: u32, hash: u64, evicted: bool) {
                self.queues.remove(slot, hash, evicted);
            }

            #[inline]
            fn moved(&mut self, from: u32, to: u32) {
                self.queues.moved(from, to);
            }

            #[inline]
            fn victim(&mut self, _newcomer: Option<u64>) -> Option<u32> {
                self.queues.victim()
            }

            const SHARES_HITS: bool = true;

            #[inline]
            fn hit_shared(&self, slot: u32, _hash: u64) -> bool {
                self.queues.hit(slot);
                true
            }

            #[inline]
            fn likely_victim(&self) -> Option<u32> {
                self.queues.likely_victim()
            }

            fn order(&self) -> alloc::vec::Vec<u32> {
                self.queues.order()
            }

            fn reserve(&mut self, slots: usize) {
                self.queues.reserve(slots, slots * $ghost / 1000);
            }

            fn memory(&self) -> usize {
                self.queues.memory()
            }
        }
    };
}
pub(super) use delegate;
