//! One consumer group: what is ready, leased, delayed or held behind its key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::task::Waker;

use crate::log::format::micros;
use crate::options::GroupOptions;

use super::Item;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In `ready`.
    Ready,
    /// In `parked`, behind a message of the same key.
    Parked,
    /// With a consumer until the deadline.
    Leased { deadline: u64, token: u64 },
    /// Its outcome is staged; it goes when that is committed.
    Settling,
    /// Not before this time.
    Delayed { until: u64 },
}

/// A message that was touched: delivered before, delayed or parked. Fresh ready ones have none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) attempts: u32,
    pub(crate) stage: Stage,
    pub(crate) priority: u8,
    pub(crate) key: u64,
}

#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) token: u64,
    pub(crate) deadline: u64,
}

#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) id: u32,
    pub(crate) topic: u32,
    pub(crate) name: String,
    pub(crate) options: GroupOptions,
    /// (7 - priority, sequence), so that the first is the next.
    pub(crate) ready: BTreeSet<(u8, u64)>,
    pub(crate) entries: HashMap<u64, Entry>,
    timers: BTreeSet<(u64, u64)>,
    busy: HashMap<u64, u64>,
    parked: BTreeMap<(u64, u8, u64), ()>,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    pub(crate) published: u64,
    pub(crate) acked: u64,
    pub(crate) dead: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) expired: u64,
    pub(crate) last_take: u64,
    pub(crate) dropping: bool,
    pub(crate) wakers: Vec<Waker>,
}

impl GroupState {
    pub(crate) fn new(id: u32, topic: u32, name: String, options: GroupOptions, now: u64) -> Self {
        Self {
            id,
            topic,
            name,
            options,
            ready: BTreeSet::new(),
            entries: HashMap::new(),
            timers: BTreeSet::new(),
            busy: HashMap::new(),
            parked: BTreeMap::new(),
            leased: 0,
            delayed: 0,
            published: 0,
            acked: 0,
            dead: 0,
            delivered: 0,
            redelivered: 0,
            expired: 0,
            last_take: now,
            dropping: false,
            wakers: Vec::new(),
        }
    }

    /// Messages that are not settled.
    pub(crate) fn outstanding(&self) -> u64 {
        self.published - self.acked - self.dead
    }

    /// Messages that could be delivered now, held back ones of busy keys included.
    pub(crate) fn ready_len(&self) -> u64 {
        (self.ready.len() + self.parked.len()) as u64
    }

    pub(crate) fn all_outstanding(&self) -> BTreeSet<u64> {
        let mut all: BTreeSet<u64> = self.entries.keys().copied().collect();
        all.extend(self.ready.iter().map(|(_, s)| *s));
        all
    }

    /// A message of the topic becomes this group's business.
    pub(crate) fn admit(&mut self, seq: u64, item: &Item, now: u64) {
        self.published += 1;
        self.place(seq, item.priority, item.key, item.not_before, 0, now);
    }

    /// Puts a message where it belongs: delayed or ready.
    pub(crate) fn place(
        &mut self,
        seq: u64,
        priority: u8,
        key: u64,
        until: u64,
        attempts: u32,
        now: u64,
    ) {
        let key = if self.options.ordered_keys { key } else { 0 };
        if until > now {
            self.entries.insert(
                seq,
                Entry {
                    attempts,
                    stage: Stage::Delayed { until },
                    priority,
                    key,
                },
            );
            self.timers.insert((until, seq));
            self.delayed += 1;
        } else {
            if attempts > 0 || key != 0 {
                self.entries.insert(
                    seq,
                    Entry {
                        attempts,
                        stage: Stage::Ready,
                        priority,
                        key,
                    },
                );
            } else {
                self.entries.remove(&seq);
            }
            self.ready.insert((7 - priority.min(7), seq));
        }
        if attempts > 0 && key != 0 {
            // A message that was delivered keeps its successors back until it is settled.
            self.busy.entry(key).or_insert(seq);
        }
    }

    /// Takes it out of whatever index it is in.
    fn unplace(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.entries.remove(&seq);
        match entry {
            Some(e) => match e.stage {
                Stage::Ready => {
                    self.ready.remove(&(7 - e.priority.min(7), seq));
                }
                Stage::Parked => {
                    self.parked.remove(&(e.key, 7 - e.priority.min(7), seq));
                }
                Stage::Leased { deadline, .. } => {
                    self.timers.remove(&(deadline, seq));
                    self.leased -= 1;
                }
                Stage::Settling => self.leased -= 1,
                Stage::Delayed { until } => {
                    self.timers.remove(&(until, seq));
                    self.delayed -= 1;
                }
            },
            None => {
                // Fresh: priority unknown, one of eight places.
                let class = (0..8).find(|p| self.ready.contains(&(*p, seq)))?;
                self.ready.remove(&(class, seq));
                return Some(Entry {
                    attempts: 0,
                    stage: Stage::Ready,
                    priority: 7 - class,
                    key: 0,
                });
            }
        }
        entry
    }

    /// Leases up to `max` messages.
    pub(crate) fn take(&mut self, max: usize, now: u64, next_token: &mut u64) -> Vec<Picked> {
        self.last_take = now;
        let mut out = Vec::new();
        let room =
            usize::try_from(u64::from(self.options.in_flight_max).saturating_sub(self.leased))
                .unwrap_or(0);
        let deadline = now.saturating_add(micros(self.options.lease));
        while out.len() < max.min(room) {
            let Some(&(class, seq)) = self.ready.first() else {
                break;
            };
            let entry = self.entries.get(&seq).copied();
            let (attempts, key) = entry.map_or((0, 0), |e| (e.attempts, e.key));
            let attempt = attempts + 1;
            if key != 0 && self.busy.get(&key).is_some_and(|holder| *holder != seq) {
                self.ready.remove(&(class, seq));
                self.parked.insert((key, class, seq), ());
                if let Some(e) = self.entries.get_mut(&seq) {
                    e.stage = Stage::Parked;
                }
                continue;
            }
            // The last delivery is made alone, so that a poison message takes no neighbour with it.
            let last = self.options.deliveries_max > 1 && attempt == self.options.deliveries_max;
            if last && !out.is_empty() {
                break;
            }
            self.ready.remove(&(class, seq));
            let token = *next_token;
            *next_token += 1;
            let stage = Stage::Leased { deadline, token };
            self.entries.insert(
                seq,
                Entry {
                    attempts: attempt,
                    stage,
                    priority: 7 - class,
                    key,
                },
            );
            self.timers.insert((deadline, seq));
            self.leased += 1;
            self.delivered += 1;
            self.redelivered += u64::from(attempt > 1);
            if key != 0 {
                self.busy.insert(key, seq);
            }
            out.push(Picked {
                seq,
                attempt,
                token,
                deadline,
            });
            if last {
                break;
            }
        }
        out
    }

    /// Whether this lease still holds; if so the message waits for its outcome to be committed.
    pub(crate) fn begin_settle(&mut self, seq: u64, token: u64) -> Option<u32> {
        let entry = self.entries.get_mut(&seq)?;
        match entry.stage {
            Stage::Leased { deadline, token: t } if t == token => {
                entry.stage = Stage::Settling;
                self.timers.remove(&(deadline, seq));
                Some(entry.attempts)
            }
            _ => None,
        }
    }

    /// Moves the end of a lease.
    pub(crate) fn extend(&mut self, seq: u64, token: u64, until: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&seq) else {
            return false;
        };
        match entry.stage {
            Stage::Leased { deadline, token: t } if t == token => {
                self.timers.remove(&(deadline, seq));
                self.timers.insert((until, seq));
                entry.stage = Stage::Leased {
                    deadline: until,
                    token,
                };
                true
            }
            _ => false,
        }
    }

    /// Undoes a delivery that nobody saw: no attempt is counted.
    pub(crate) fn undo(&mut self, seq: u64, token: u64, now: u64) {
        let held = matches!(self.entries.get(&seq), Some(Entry { stage: Stage::Leased { token: t, .. }, .. }) if *t == token);
        if held && let Some(e) = self.unplace(seq) {
            if e.attempts == 1 && e.key != 0 && self.busy.get(&e.key) == Some(&seq) {
                self.busy.remove(&e.key);
                self.unpark(e.key);
            }
            self.place(seq, e.priority, e.key, 0, e.attempts.saturating_sub(1), now);
        }
    }

    /// Replay of a logged attempt.
    pub(crate) fn attempted(&mut self, seq: u64, n: u32) {
        if let Some(e) = self.entries.get_mut(&seq) {
            e.attempts = e.attempts.max(n);
            if matches!(e.stage, Stage::Ready) && e.key != 0 {
                self.busy.entry(e.key).or_insert(seq);
            }
        } else if let Some(class) = (0..8).find(|p| self.ready.contains(&(*p, seq))) {
            self.entries.insert(
                seq,
                Entry {
                    attempts: n,
                    stage: Stage::Ready,
                    priority: 7 - class,
                    key: 0,
                },
            );
        }
    }

    /// A nack (or the end of a lease) is in effect.
    pub(crate) fn returned(
        &mut self,
        seq: u64,
        item: &Item,
        until: u64,
        attempts: u32,
        now: u64,
        dying: &mut VecDeque<(u32, u64, String)>,
    ) {
        let Some(e) = self.unplace(seq) else { return };
        let attempts = attempts.min(e.attempts.max(attempts));
        self.place(seq, item.priority, item.key, until, attempts, now);
        self.bury_if_spent(seq, attempts, dying);
    }

    /// A message with no delivery left goes to the dead letters.
    pub(crate) fn bury_if_spent(
        &mut self,
        seq: u64,
        attempts: u32,
        dying: &mut VecDeque<(u32, u64, String)>,
    ) {
        let max = self.options.deliveries_max;
        if max == 0 || attempts < max {
            return;
        }
        if let Some(e) = self.unplace(seq) {
            self.entries.insert(
                seq,
                Entry {
                    stage: Stage::Settling,
                    ..e
                },
            );
            self.leased += 1;
            dying.push_back((
                self.id,
                seq,
                format!("{attempts} deliveries without success"),
            ));
        }
    }

    /// A message is done for this group. False when it was done before.
    pub(crate) fn settled(&mut self, seq: u64, dead: bool) -> bool {
        let Some(e) = self.unplace(seq) else {
            return false;
        };
        if dead {
            self.dead += 1;
        } else {
            self.acked += 1;
        }
        if e.key != 0 && self.busy.get(&e.key) == Some(&seq) {
            self.busy.remove(&e.key);
            self.unpark(e.key);
        }
        true
    }

    fn unpark(&mut self, key: u64) {
        let held: Vec<_> = self
            .parked
            .range((key, 0, 0)..=(key, u8::MAX, u64::MAX))
            .map(|(k, ())| *k)
            .collect();
        for (key, class, seq) in held {
            self.parked.remove(&(key, class, seq));
            self.ready.insert((class, seq));
            if let Some(e) = self.entries.get_mut(&seq) {
                e.stage = Stage::Ready;
            }
        }
    }

    /// Whether anything became ready.
    pub(crate) fn tick(
        &mut self,
        now: u64,
        items: &BTreeMap<u64, Item>,
        dying: &mut VecDeque<(u32, u64, String)>,
    ) -> bool {
        let mut any = false;
        while let Some(&(at, seq)) = self.timers.first() {
            if at > now {
                break;
            }
            any = true;
            let leased = matches!(
                self.entries.get(&seq),
                Some(Entry {
                    stage: Stage::Leased { .. },
                    ..
                })
            );
            self.expired += u64::from(leased);
            let Some(e) = self.unplace(seq) else {
                self.timers.remove(&(at, seq));
                continue;
            };
            let key = items.get(&seq).map_or(e.key, |i| i.key);
            self.place(seq, e.priority, key, 0, e.attempts, now);
            if leased {
                self.bury_if_spent(seq, e.attempts, dying);
            }
        }
        any
    }

    /// After recovery: messages whose last delivery was cut off by the crash.
    pub(crate) fn bury_spent(&mut self, dying: &mut VecDeque<(u32, u64, String)>) {
        let mut spent: Vec<(u64, u32)> =
            self.entries.iter().map(|(s, e)| (*s, e.attempts)).collect();
        spent.sort_unstable();
        for (seq, attempts) in spent {
            self.bury_if_spent(seq, attempts, dying);
        }
    }

    pub(crate) fn idle_deadline(&self) -> Option<u64> {
        let idle = micros(self.options.idle_max);
        // A consumer that waits is not idle.
        (idle > 0 && self.wakers.is_empty()).then(|| self.last_take.saturating_add(idle))
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let idle = self.idle_deadline().filter(|_| !self.dropping);
        timer.into_iter().chain(idle).min()
    }

    /// Whether every index agrees with every other; else the first that does not.
    #[cfg(feature = "torture")]
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let count = |f: fn(&Stage) -> bool| self.entries.values().filter(|e| f(&e.stage)).count();
        let leased = count(|s| matches!(s, Stage::Settling | Stage::Leased { .. }));
        let delayed = count(|s| matches!(s, Stage::Delayed { .. }));
        let parked = count(|s| matches!(s, Stage::Parked));
        let sum = self.ready_len() + self.leased + self.delayed;
        [
            (self.leased == leased as u64, "leased"),
            (self.delayed == delayed as u64, "delayed"),
            (self.parked.len() == parked, "parked"),
            (self.outstanding() == sum, "identity"),
            (
                self.all_outstanding().len() as u64 == self.outstanding(),
                "outstanding",
            ),
        ]
        .iter()
        .find(|(fits, _)| !fits)
        .map_or(Ok(()), |(_, what)| Err(*what))
    }
}
