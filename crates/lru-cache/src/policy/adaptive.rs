//! The default: S3-FIFO's queues with a correlation window, their settings chosen by simulation.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::ghost::Counted;
use super::queues::{Main, Queues, Settings};
use super::shadow::Shadow;
use super::{Outlook, Policy};

/// Entries of a cache in miniature, at least, if the cache itself has so many.
const SHADOW_MIN: usize = 128;
/// A cache in miniature has so many times fewer entries than the cache, at most.
const SHADOW_SCALE: usize = 512;
/// Requests between two choices, for each entry of the capacity.
const CHOOSE_AFTER: u64 = 2;
/// How much a period's misses still count in the next one.
const MEMORY: f64 = 0.98;
/// Other settings must have had so many of the present ones' misses, or fewer.
const WORTH_IT: f64 = 0.99;

/// Ghosts that the greatest share needs, in thousandths of the slots.
const GHOSTS: usize = 1700;

const fn queues(small: u16, window: u16, ghost: u16) -> Settings {
    Settings {
        small,
        window,
        reads: 1,
        main: Main::Clock,
        ghost,
        admit: false,
    }
}

const fn admitting(small: u16, main: Main) -> Settings {
    Settings {
        small,
        window: 0,
        reads: 1,
        main,
        ghost: 0,
        admit: true,
    }
}

/// Wide and narrow small queues, windows and memories, with and without admission by frequency: of those
/// that were tried on traces, the ones that were best somewhere.
const SETTINGS: [Settings; 9] = [
    queues(100, 300, 1000),
    queues(200, 300, 1700),
    queues(700, 0, 1700),
    queues(10, 0, 1000),
    queues(300, 300, 1000),
    Settings {
        main: Main::Sieve,
        ..queues(400, 300, 1000)
    },
    admitting(10, Main::Clock),
    admitting(10, Main::Sieve),
    admitting(200, Main::Clock),
];

/// The default: S3-FIFO's queues with the correlation window of [`TwoQ`](super::TwoQ), whose settings
/// follow the traffic.
///
/// Nine settings (how large the small queue is, how much of it is the window, how the main queue finds who
/// leaves, how many departures are remembered, and whether the main queue takes only who was asked for more
/// often than the one who would leave it, as in TinyLFU) each run a cache in miniature over the hashes of a sample
/// of the keys, in the manner of miniature simulation (Waldspurger and others, USENIX ATC 2017). After two
/// requests for each entry, the one with the fewest misses is taken. A change moves no entry.
///
/// A hit writes one byte, but for a key of the sample (one in 512, more in caches below 65 536 entries: one
/// in 4 at 1000 entries, every one below 256) it runs nine small caches. Takes 16 bytes a slot.
#[derive(Debug)]
pub struct Adaptive {
    queues: Queues<Counted>,
    /// Which settings are in force.
    present: usize,
    /// Which settings the simulation has chosen last, for all shards.
    chosen: Arc<AtomicUsize>,
    /// How many shards follow our simulation, with us; 0 if we follow another's.
    shards: usize,
    shadows: Vec<Shadow>,
    /// The present settings with half, all and twice the capacity.
    others: Vec<Shadow>,
    /// Requests of the sample, of which older ones count as their misses do.
    sampled: f64,
    /// A key is in the sample if these bits of its hash are as `sample` says.
    mask: u64,
    sample: u64,
    asked: u64,
    period: u64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self::new(1, Arc::default())
    }
}

impl Adaptive {
    fn new(shards: usize, chosen: Arc<AtomicUsize>) -> Self {
        Self {
            queues: Queues::new(SETTINGS[0]),
            present: 0,
            chosen,
            shards,
            shadows: Vec::new(),
            others: Vec::new(),
            sampled: 0.0,
            mask: 0,
            // With a mask of 0, no hash is like 1: who has no simulation has no sample.
            sample: 1,
            asked: 0,
            period: u64::MAX,
        }
    }

    #[inline]
    fn sampled(&self, hash: u64) -> bool {
        hash >> 42 & self.mask == self.sample
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
        let fewest = self
            .shadows
            .iter()
            .enumerate()
            .min_by(|(_, one), (_, other)| one.misses.total_cmp(&other.misses));
        if let Some((at, best)) = fewest
            && best.misses < self.shadows[self.present].misses * WORTH_IT
        {
            self.chosen.store(at, Ordering::Relaxed);
            self.follow();
            let settings = SETTINGS[at];
            self.others.iter_mut().for_each(|other| other.set(settings));
        }
        for shadow in self.shadows.iter_mut().chain(&mut self.others) {
            shadow.misses *= MEMORY;
        }
        self.sampled *= MEMORY;
    }

    /// Puts in force what was chosen.
    #[inline]
    fn follow(&mut self) {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if self.present != chosen {
            self.present = chosen;
            self.queues.settings = SETTINGS[chosen];
        }
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
        self.follow();
        self.queues.victim()
    }

    /// The first shard's keys are a sample of all keys: the simulation of it is that of all shards.
    fn shards(shards: usize) -> Vec<Self> {
        let chosen = Arc::default();
        (0..shards)
            .map(|shard| Self::new(if shard == 0 { shards } else { 0 }, Arc::clone(&chosen)))
            .collect()
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
        if self.shards == 0 {
            return;
        }
        let whole = slots * self.shards;
        // Our keys are one in so many of all already.
        let mut scale = self.shards;
        while scale < SHADOW_SCALE && whole / (scale * 2) >= SHADOW_MIN {
            scale *= 2;
        }
        let capacity = (whole / scale).max(1);
        self.mask = (scale / self.shards) as u64 - 1;
        self.sample = 0;
        self.period = CHOOSE_AFTER * capacity as u64;
        self.asked = 0;
        let present = self.queues.settings;
        self.others = [capacity.div_ceil(2), capacity, capacity * 2]
            .map(|capacity| Shadow::new(present, capacity, GHOSTS))
            .into();
        self.sampled = 0.0;
        self.shadows = SETTINGS
            .into_iter()
            .map(|settings| Shadow::new(settings, capacity, GHOSTS))
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
