//! The default: S3-FIFO's queues with a correlation window, their settings chosen by simulation.

use alloc::vec::Vec;

use super::queues::{Main, Queues, Settings};
use super::shadow::Shadow;
use super::{Outlook, Policy};

/// Entries of a cache in miniature, at least, if the cache itself has so many.
const SHADOW_MIN: usize = 64;
/// A cache in miniature has so many times fewer entries than the cache, at most.
const SHADOW_SCALE: usize = 256;
/// Requests between two choices, for each entry of the capacity.
const CHOOSE_AFTER: u64 = 2;
/// How much a period's misses still count in the next one.
const MEMORY: f64 = 0.9;
/// Other settings must have had so many of the present ones' misses, or fewer.
const WORTH_IT: f64 = 0.995;

/// Ghosts that the greatest share needs, in thousandths of the slots.
const GHOSTS: usize = 3000;

const fn setting(small: u16, window: u16, main: Main, ghost: u16) -> Settings {
    Settings {
        small,
        window,
        reads: 1,
        main,
        ghost,
    }
}

/// Wide and narrow small queues, windows and memories: of those that were tried on traces, the ones that
/// were best somewhere.
const SETTINGS: [Settings; 9] = [
    setting(100, 300, Main::Clock, 1000),
    setting(10, 0, Main::Clock, 1000),
    setting(300, 300, Main::Clock, 1000),
    setting(700, 0, Main::Clock, 1000),
    setting(20, 0, Main::Sieve, 1000),
    setting(100, 300, Main::Clock, 3000),
    setting(300, 900, Main::Clock, 2000),
    setting(400, 900, Main::Clock, 1000),
    setting(500, 100, Main::Clock, 1000),
];

/// The default: S3-FIFO's queues with the correlation window of [`TwoQ`](super::TwoQ), whose settings
/// follow the traffic.
///
/// Nine settings (how large the small queue is, how much of it is the window, how the main queue finds who
/// leaves, how many departures are remembered) each run a cache in miniature over the hashes of a sample
/// of the keys, in the manner of miniature simulation (Waldspurger and others, USENIX ATC 2017). After two
/// requests for each entry, the one with the fewest misses is taken. A change moves no entry.
///
/// A hit writes one byte, but for a key of the sample (one in 256, more in caches below 16 384 entries: one
/// in 16 at 1000 entries, every one below 128) it runs nine small caches. Takes 16 bytes a slot.
#[derive(Debug)]
pub struct Adaptive {
    queues: Queues,
    shadows: Vec<Shadow>,
    /// The present settings with half, all and twice the capacity.
    others: Vec<Shadow>,
    /// Requests of the sample, of which older ones count as their misses do.
    sampled: f64,
    /// A key is in the sample if these bits of its hash are 0.
    mask: u64,
    asked: u64,
    period: u64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            queues: Queues::new(SETTINGS[0]),
            shadows: Vec::new(),
            others: Vec::new(),
            sampled: 0.0,
            mask: 0,
            asked: 0,
            period: u64::MAX,
        }
    }
}

impl Adaptive {
    #[inline]
    fn sampled(&self, hash: u64) -> bool {
        hash >> 42 & self.mask == 0
    }

    fn ask(&mut self, hash: u64) {
        for shadow in self.shadows.iter_mut().chain(&mut self.others) {
            shadow.ask(hash);
        }
        self.sampled += 1.0;
        self.asked += 1;
        if self.asked >= self.period {
            self.asked = 0;
            self.choose();
        }
    }

    fn choose(&mut self) {
        let misses = |settings: Settings| {
            self.shadows
                .iter()
                .find(|shadow| shadow.settings() == settings)
                .map_or(f64::MAX, |shadow| shadow.misses)
        };
        let present = misses(self.queues.settings);
        if let Some(best) = self
            .shadows
            .iter()
            .min_by(|one, other| one.misses.total_cmp(&other.misses))
            && best.misses < present * WORTH_IT
        {
            let settings = best.settings();
            self.queues.settings = settings;
            self.others.iter_mut().for_each(|other| other.set(settings));
        }
        for shadow in self.shadows.iter_mut().chain(&mut self.others) {
            shadow.misses *= MEMORY;
        }
        self.sampled *= MEMORY;
    }
}

impl Policy for Adaptive {
    #[inline]
    fn insert(&mut self, slot: u32, hash: u64, _weight: u64) {
        if self.sampled(hash) {
            self.ask(hash);
        }
        self.queues.insert(slot, hash);
    }

    #[inline]
    fn hit(&mut self, slot: u32, hash: u64) {
        if self.sampled(hash) {
            self.ask(hash);
        }
        self.queues.hit(slot);
    }

    #[inline]
    fn replaced(&mut self, slot: u32, hash: u64, _weight: u64) {
        self.hit(slot, hash);
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
    fn hit_shared(&self, slot: u32, hash: u64) -> bool {
        let shared = !self.sampled(hash);
        if shared {
            self.queues.hit(slot);
        }
        shared
    }

    #[inline]
    fn likely_victim(&self) -> Option<u32> {
        self.queues.likely_victim()
    }

    fn reserve(&mut self, slots: usize) {
        self.queues.reserve(slots, slots * GHOSTS / 1000);
        let mut scale = 1;
        while scale < SHADOW_SCALE && slots / (scale * 2) >= SHADOW_MIN {
            scale *= 2;
        }
        let capacity = (slots / scale).max(1);
        self.mask = scale as u64 - 1;
        self.period = CHOOSE_AFTER * capacity as u64;
        self.asked = 0;
        let present = self.queues.settings;
        self.others = [capacity.div_ceil(2), capacity, capacity * 2]
            .map(|capacity| Shadow::with_ghosts(present, capacity, GHOSTS))
            .into();
        self.sampled = 0.0;
        self.shadows = SETTINGS
            .into_iter()
            .map(|settings| Shadow::new(settings, capacity))
            .collect();
    }

    fn order(&self) -> Vec<u32> {
        self.queues.order()
    }

    fn outlook(&self) -> Option<Outlook> {
        let [half, present, double] = self.others.as_slice() else {
            return None;
        };
        let share = |shadow: &Shadow| shadow.misses / self.sampled.max(1.0);
        Some(Outlook {
            half: share(half),
            present: share(present),
            double: share(double),
            sampled: self.sampled,
        })
    }

    fn memory(&self) -> usize {
        let shadows = self.shadows.iter().chain(&self.others);
        self.queues.memory() + shadows.map(Shadow::memory).sum::<usize>()
    }
}
