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
    admit: bool,
}

/// Departures in buckets of four, of which the one that left longest ago gives way: 10 bits of the hash
/// and a time of 64 units, so that a wrong one is recalled now and then. Beside them sixteen counts, of
/// which each key has two.
struct Ghost {
    buckets: Vec<[Option<(u64, usize)>; 4]>,
    counts: Vec<[u8; 16]>,
    departed: usize,
    unit: usize,
}

impl Ghost {
    fn new(entries: usize) -> Self {
        let buckets = entries.div_ceil(4).max(1);
        Self {
            buckets: vec![[None; 4]; buckets],
            counts: vec![[0; 16]; buckets],
            departed: 0,
            unit: entries.div_ceil(16).max(1),
        }
    }

    fn place(&self, hash: u64) -> (usize, u64) {
        let at = u128::from(hash >> 32) * self.buckets.len() as u128 / (1 << 32);
        (at as usize, ((hash >> 16) % 1024).max(1))
    }

    fn counts(&mut self, hash: u64) -> [&mut u8; 2] {
        let (at, _) = self.place(hash);
        let (lower, upper) = self.counts[at].split_at_mut(8);
        let of = |shift: u32| (hash >> shift) as usize % 8;
        [&mut lower[of(26)], &mut upper[of(29)]]
    }

    fn count(&mut self, hash: u64) -> u8 {
        let [one, other] = self.counts(hash);
        *one.min(other)
    }

    fn add(&mut self, hash: u64, times: u8) {
        let new = (self.count(hash) + times).min(15);
        for count in self.counts(hash) {
            *count = new.max(*count);
        }
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

    /// Units since it left.
    fn recall(&mut self, hash: u64) -> Option<usize> {
        let (at, tag) = self.place(hash);
        for way in 0..4 {
            if let Some((known, then)) = self.buckets[at][way]
                && known == tag
            {
                self.buckets[at][way] = None;
                return Some(self.age(then)).filter(|age| *age <= 16);
            }
        }
        None
    }
}

pub(crate) struct Queues {
    capacity: usize,
    settings: Settings,
    small: Line,
    main: Line,
    counts: HashMap<u64, u8>,
    /// How often it was asked for before it came in.
    past: HashMap<u64, u8>,
    added: usize,
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
            past: HashMap::new(),
            added: 0,
            fresh: Line::default(),
            hand: None,
            ghost: Ghost::new(ghosts),
            ghosts,
        }
    }

    fn evict(&mut self) {
        loop {
            let share = (self.capacity * self.settings.small / 1000).max(1);
            if self.small.is_empty() || (self.small.len() < share && !self.main.is_empty()) {
                let oldest = self.main_victim();
                return self.let_go(oldest);
            }
            let key = self.small.first().expect("not empty");
            let count = self.counts[&key];
            if !self.settings.admit {
                if count < self.settings.reads {
                    return self.let_go(key);
                }
                self.promote(key);
                continue;
            }
            let asked = count + self.past[&key];
            if self.small.len() > share {
                if asked == 0 {
                    return self.let_go(key);
                }
                self.promote(key);
                continue;
            }
            if self.main.is_empty() {
                return self.let_go(key);
            }
            let rival = self.main_victim();
            if asked <= self.past[&rival] {
                return self.let_go(key);
            }
            self.promote(key);
            return self.let_go(rival);
        }
    }

    fn promote(&mut self, key: u64) {
        self.small.take(key);
        self.fresh.take(key);
        self.counts.insert(key, 0);
        self.main.push(key);
    }

    fn let_go(&mut self, key: u64) {
        let count = self.counts.remove(&key).expect("it is there");
        let past = self.past.remove(&key).expect("it is there");
        if self.small.take(key) {
            self.fresh.take(key);
            self.ghost.remember(mix(key));
        } else {
            if self.hand == Some(key) {
                self.hand = self.main.after(key);
            }
            self.main.take(key);
        }
        let times = count + u8::from(past > 0);
        self.ghost.add(mix(key), times);
        self.added += usize::from(times);
        if self.added >= 10 * self.capacity {
            self.added = 0;
            let counts = self.ghost.counts.as_flattened_mut().iter_mut();
            counts
                .chain(self.past.values_mut())
                .for_each(|count| *count /= 2);
        }
    }

    /// Who would leave the main queue; it stays there.
    fn main_victim(&mut self) -> u64 {
        loop {
            let at = match self.hand {
                Some(key) if self.settings.sieve => key,
                _ => self.main.first().expect("somebody is there"),
            };
            if self.settings.sieve {
                self.hand = Some(at);
            }
            let count = self.counts.get_mut(&at).expect("it is there");
            if *count == 0 {
                return at;
            }
            *count -= 1;
            let after = self.main.after(at);
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
        let away = self.ghost.recall(mix(key));
        let past = self.ghost.count(mix(key)).max(away.is_some().into());
        self.counts.insert(key, 0);
        self.past.insert(key, past);
        if away.is_some_and(|away| away <= limit.div_ceil(self.ghost.unit) && limit > 0) {
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
        admit: false,
    }
}

const fn admitting(small: usize, sieve: bool) -> Settings {
    Settings {
        admit: true,
        ..settings(small, 0, 1, sieve, 0)
    }
}

/// Departures that the adaptive policy remembers, in thousandths of the capacity.
const GHOSTS: usize = 1700;

const SETTINGS: [Settings; 9] = [
    settings(100, 300, 1, false, 1000),
    settings(200, 300, 1, false, 1700),
    settings(700, 0, 1, false, 1700),
    settings(10, 0, 1, false, 1000),
    settings(300, 300, 1, false, 1000),
    settings(400, 300, 1, true, 1000),
    admitting(10, false),
    admitting(10, true),
    admitting(200, false),
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
        Self {
            queues: Queues::new(capacity, SETTINGS[0], capacity * GHOSTS / 1000),
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
        while scale < 512 && self.room / (scale * 2) >= 128 {
            scale *= 2;
        }
        let shadow = (self.room / scale).max(1);
        let fresh = |settings| (Queues::new(shadow, settings, shadow * GHOSTS / 1000), 0.0);
        self.shadows = SETTINGS.into_iter().map(fresh).collect();
        (self.scale, self.period, self.asked) = (scale as u64, 2 * shadow, 0);
    }
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
                if best.1 < present * 0.99 {
                    self.queues.settings = best.0.settings;
                }
                for (_, misses) in &mut self.shadows {
                    *misses *= 0.98;
                }
            }
        }
        self.queues.ask(key, 1);
        had
    }
}
