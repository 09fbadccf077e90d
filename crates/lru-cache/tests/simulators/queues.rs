//! S3-FIFO, Clock2Q+ and the adaptive policy, over lines of keys.

use std::collections::HashMap;

use super::{Line, Simulator, grown, mix};

#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    small: usize,
    window: usize,
    reads: u8,
    sieve: bool,
    ghost: usize,
}

/// Departures in buckets of four, of which the one that left longest ago gives way: 10 bits of the hash
/// and a time of 64 units, so that a wrong one is recalled now and then.
struct Ghost {
    buckets: Vec<[Option<(u64, usize)>; 4]>,
    departed: usize,
    unit: usize,
}

impl Ghost {
    fn new(entries: usize) -> Self {
        Self {
            buckets: vec![[None; 4]; entries.div_ceil(4).max(1)],
            departed: 0,
            unit: entries.div_ceil(16).max(1),
        }
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let at = u128::from(hash >> 32) * self.buckets.len() as u128 / (1 << 32);
        (at as usize, ((hash >> 16) % 1024).max(1))
    }

    /// Units since then, as far as 64 of them can tell.
    fn age(&self, then: usize) -> usize {
        (self.departed / self.unit - then) % 64
    }

    fn remember(&mut self, hash: u64) {
        let (at, tag) = self.place(hash);
        let ages = self.buckets[at].map(|cell| cell.map_or(usize::MAX, |(_, then)| self.age(then)));
        let oldest = ages.iter().max().expect("four");
        let way = ages.iter().position(|age| age == oldest).expect("one");
        self.buckets[at][way] = Some((tag, self.departed / self.unit));
        self.departed += 1;
    }

    fn recall(&mut self, hash: u64, limit: usize) -> bool {
        let (at, tag) = self.place(hash);
        for way in 0..4 {
            if let Some((known, then)) = self.buckets[at][way]
                && known == tag
            {
                self.buckets[at][way] = None;
                return self.age(then) <= limit.div_ceil(self.unit).min(16);
            }
        }
        false
    }
}

pub(crate) struct Queues {
    capacity: usize,
    settings: Settings,
    small: Line,
    main: Line,
    counts: HashMap<u64, u8>,
    fresh: Line,
    hand: Option<u64>,
    ghost: Ghost,
    ghosts: usize,
}

impl Queues {
    fn new(capacity: usize, settings: Settings, ghosts: usize) -> Self {
        Self {
            capacity,
            settings,
            small: Line::default(),
            main: Line::default(),
            counts: HashMap::new(),
            fresh: Line::default(),
            hand: None,
            ghost: Ghost::new(ghosts),
            ghosts,
        }
    }

    fn evict(&mut self) {
        loop {
            let share = self.capacity * self.settings.small / 1000;
            if !self.small.is_empty() && (self.small.len() >= share.max(1) || self.main.is_empty())
            {
                let key = self.small.pop().expect("not empty");
                self.fresh.take(key);
                if self.counts[&key] < self.settings.reads {
                    self.counts.remove(&key);
                    self.ghost.remember(mix(key));
                    return;
                }
                self.counts.insert(key, 0);
                self.main.push(key);
                continue;
            }
            let at = match self.hand {
                Some(key) if self.settings.sieve => key,
                _ => self.main.first().expect("somebody is there"),
            };
            let after = self.main.after(at);
            let count = self.counts.get_mut(&at).expect("it is there");
            if *count == 0 {
                if self.settings.sieve || self.hand == Some(at) {
                    self.hand = after;
                }
                self.counts.remove(&at);
                self.main.take(at);
                return;
            }
            *count -= 1;
            if self.settings.sieve {
                self.hand = after.or_else(|| self.main.first());
            } else {
                if after.is_some() {
                    self.main.take(at);
                    self.main.push(at);
                }
                if self.hand == Some(at) {
                    self.hand = after;
                }
            }
        }
    }
}

impl Simulator for Queues {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        if let Some(count) = self.counts.get_mut(&key) {
            if !self.fresh.has(key) {
                *count = (*count + 1).min(3);
            }
            return true;
        }
        if self.counts.len() == self.capacity {
            self.evict();
        }
        let held = self.small.len() + self.main.len();
        let limit = (held * self.settings.ghost / 1000).min(self.ghosts);
        self.counts.insert(key, 0);
        if self.ghost.recall(mix(key), limit) {
            self.main.push(key);
            return false;
        }
        self.small.push(key);
        let window = self.small.len() * self.settings.window / 1000;
        self.fresh.push(key);
        while self.fresh.len() > window {
            self.fresh.pop();
        }
        false
    }
}

const fn settings(small: usize, window: usize, reads: u8, sieve: bool, ghost: usize) -> Settings {
    Settings {
        small,
        window,
        reads,
        sieve,
        ghost,
    }
}

const SETTINGS: [Settings; 9] = [
    settings(100, 300, 1, false, 1000),
    settings(10, 0, 1, false, 1000),
    settings(300, 300, 1, false, 1000),
    settings(700, 0, 1, false, 1000),
    settings(20, 0, 1, true, 1000),
    settings(100, 300, 1, false, 3000),
    settings(300, 900, 1, false, 2000),
    settings(400, 900, 1, false, 1000),
    settings(500, 100, 1, false, 1000),
];

pub(crate) fn s3_fifo(capacity: usize) -> Queues {
    Queues::new(capacity, settings(100, 0, 2, false, 1000), capacity)
}

pub(crate) fn two_q(capacity: usize) -> Queues {
    Queues::new(capacity, settings(200, 300, 1, false, 1000), capacity)
}

/// The queues, with settings chosen from what caches in miniature over a sample of the keys would have
/// missed.
pub(crate) struct Adaptive {
    queues: Queues,
    shadows: Vec<(Queues, f64)>,
    scale: u64,
    period: usize,
    asked: usize,
    room: usize,
}

impl Adaptive {
    pub(crate) fn new(capacity: usize) -> Self {
        let most = SETTINGS
            .iter()
            .map(|settings| ghosts(settings, capacity))
            .max();
        Self {
            queues: Queues::new(capacity, SETTINGS[0], most.expect("some")),
            shadows: Vec::new(),
            scale: 1,
            period: 0,
            asked: 0,
            room: 0,
        }
    }

    /// Makes room, and begins all simulations anew.
    fn grow(&mut self) {
        self.room = grown(self.room, self.queues.capacity);
        let mut scale = 1;
        while scale < 256 && self.room / (scale * 2) >= 64 {
            scale *= 2;
        }
        let shadow = (self.room / scale).max(1);
        let fresh = |settings| {
            (
                Queues::new(shadow, settings, ghosts(&settings, shadow)),
                0.0,
            )
        };
        self.shadows = SETTINGS.into_iter().map(fresh).collect();
        (self.scale, self.period, self.asked) = (scale as u64, 2 * shadow, 0);
    }
}

fn ghosts(settings: &Settings, capacity: usize) -> usize {
    capacity * settings.ghost / 1000
}

impl Simulator for Adaptive {
    fn ask(&mut self, key: u64, _: u64) -> bool {
        let had = self.queues.counts.contains_key(&key);
        if !had && self.queues.counts.len() == self.queues.capacity {
            // Room is made before the newcomer is looked at.
            self.queues.evict();
        } else if !had && self.queues.counts.len() == self.room {
            self.grow();
        }
        if (mix(key) >> 42).is_multiple_of(self.scale) {
            for (shadow, misses) in &mut self.shadows {
                if !shadow.ask(key, 1) {
                    *misses += 1.0;
                }
            }
            self.asked += 1;
            if self.asked >= self.period {
                self.asked = 0;
                let mine = self.queues.settings;
                let of =
                    |(shadow, misses): &(Queues, f64)| (shadow.settings == mine).then_some(*misses);
                let present = self.shadows.iter().find_map(of).expect("one of them");
                let mut best = &self.shadows[0];
                for other in &self.shadows {
                    if other.1 < best.1 {
                        best = other;
                    }
                }
                if best.1 < present * 0.995 {
                    self.queues.settings = best.0.settings;
                }
                for (_, misses) in &mut self.shadows {
                    *misses *= 0.9;
                }
            }
        }
        self.queues.ask(key, 1);
        had
    }
}
