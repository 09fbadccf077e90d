//! One consumer group: what is ready, leased, delayed or held behind its key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::task::Waker;

use crate::log::codec::micros;
use crate::options::GroupOptions;
use crate::wheel::Wheel;

use super::intervals::Intervals;
use super::topic::{Attr, Attrs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// In `ready`.
    Ready,
    /// In `parked`, behind a message of the same key.
    Parked,
    /// With a consumer until `at`.
    Leased,
    /// Its outcome is staged; it goes when that is committed.
    Settling,
    /// Not before `at`.
    Delayed,
}

/// A message that was touched: delivered before, delayed, urgent or keyed. Fresh plain ones have none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// End of the lease, or of the delay.
    pub(crate) at: u64,
    pub(crate) token: u64,
    pub(crate) attempts: u32,
    pub(crate) stage: Stage,
    pub(crate) priority: u8,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Picked {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) token: u64,
    pub(crate) deadline: u64,
}

/// Messages with no delivery left: group, message, reason.
pub(crate) type Dying = VecDeque<(u32, u64, String)>;

#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) id: u32,
    pub(crate) topic: u32,
    pub(crate) name: String,
    pub(crate) options: GroupOptions,
    /// Ready, never delivered, of priority 0 and without a key that matters.
    pub(crate) fresh: Intervals,
    /// Other ready ones by (7 - priority, sequence), so that the first is the next.
    pub(crate) ready: BTreeSet<(u8, u64)>,
    pub(crate) entries: HashMap<u64, Entry>,
    timers: Wheel,
    busy: HashMap<u64, u64>,
    parked: BTreeMap<(u64, u8, u64), ()>,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    pub(crate) published: u64,
    pub(crate) acked: u64,
    pub(crate) dead: u64,
    pub(crate) discarded: u64,
    pub(crate) delivered: u64,
    pub(crate) redelivered: u64,
    pub(crate) expired: u64,
    pub(crate) last_take: u64,
    pub(crate) dropping: bool,
    pub(crate) wakers: Vec<Waker>,
}

/// How a message leaves a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Acked,
    Dead,
    /// Nobody wants it any more: too old, superseded, or skipped by a seek.
    Discarded,
}

impl GroupState {
    pub(crate) fn new(id: u32, topic: u32, name: String, options: GroupOptions, now: u64) -> Self {
        Self {
            id,
            topic,
            name,
            options,
            fresh: Intervals::default(),
            ready: BTreeSet::new(),
            entries: HashMap::new(),
            timers: Wheel::new(now),
            busy: HashMap::new(),
            parked: BTreeMap::new(),
            leased: 0,
            delayed: 0,
            published: 0,
            acked: 0,
            dead: 0,
            discarded: 0,
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
        self.published - self.acked - self.dead - self.discarded
    }

    pub(crate) fn has(&self, seq: u64) -> bool {
        self.entries.contains_key(&seq) || self.fresh.contains(seq)
    }

    /// Messages that could be delivered now, held back ones of busy keys included.
    pub(crate) fn ready_len(&self) -> u64 {
        self.fresh.len() + (self.ready.len() + self.parked.len()) as u64
    }

    /// The next message: its class and number, and whether it is a fresh one.
    fn next_ready(&self) -> Option<(u8, u64, bool)> {
        let touched = self.ready.first().copied();
        let fresh = self.fresh.first().map(|seq| (7, seq));
        match (touched, fresh) {
            (Some(t), Some(f)) if t < f => Some((t.0, t.1, false)),
            (_, Some(f)) => Some((f.0, f.1, true)),
            (Some(t), None) => Some((t.0, t.1, false)),
            (None, None) => None,
        }
    }

    /// The oldest message that is ready.
    pub(crate) fn oldest_ready(&self) -> Option<u64> {
        let touched = self.ready.iter().map(|(_, seq)| *seq).min();
        touched.into_iter().chain(self.fresh.first()).min()
    }

    pub(crate) fn all_outstanding(&self) -> BTreeSet<u64> {
        self.entries
            .keys()
            .copied()
            .chain(self.fresh.iter())
            .collect()
    }

    /// A run of plain messages becomes this group's business.
    pub(crate) fn admit_run(&mut self, first: u64, last: u64) {
        if first <= last {
            self.published += last - first + 1;
            self.fresh.insert(first, last);
        }
    }

    /// A message with something special becomes this group's business.
    pub(crate) fn admit(&mut self, seq: u64, attr: Attr, now: u64) {
        self.published += 1;
        self.place(seq, attr, attr.not_before, 0, now);
    }

    fn key(&self, attr: Attr) -> u64 {
        if self.options.ordered_keys {
            attr.key
        } else {
            0
        }
    }

    /// Puts a message where it belongs: delayed or ready.
    pub(crate) fn place(&mut self, seq: u64, attr: Attr, until: u64, attempts: u32, now: u64) {
        let key = self.key(attr);
        let mut entry = Entry {
            at: until,
            token: 0,
            attempts,
            stage: Stage::Delayed,
            priority: attr.priority.min(7),
        };
        if until > now {
            self.entries.insert(seq, entry);
            self.arm(until, seq);
            self.delayed += 1;
        } else if attempts > 0 || key != 0 || entry.priority > 0 {
            entry.stage = Stage::Ready;
            self.entries.insert(seq, entry);
            self.ready.insert((7 - entry.priority, seq));
        } else {
            self.fresh.insert(seq, seq);
        }
        if attempts > 0 && key != 0 {
            // A message that was delivered keeps its successors back until it is settled.
            self.busy.entry(key).or_insert(seq);
        }
    }

    fn arm(&mut self, at: u64, seq: u64) {
        // Old timers of settled messages are passed over when they fire; here too many of them go.
        let wanted = self.leased + self.delayed;
        if self.timers.len() as u64 > 2 * wanted + 1024 {
            let entries = &self.entries;
            self.timers.retain(|at, seq| {
                entries.get(&seq).is_some_and(|e| {
                    e.at == at && matches!(e.stage, Stage::Leased | Stage::Delayed)
                })
            });
        }
        self.timers.arm(at, seq);
    }

    /// Takes it out of whatever index it is in.
    fn unplace(&mut self, seq: u64, attr: Attr) -> Option<Entry> {
        let Some(e) = self.entries.remove(&seq) else {
            return self.fresh.remove(seq).then_some(Entry {
                at: 0,
                token: 0,
                attempts: 0,
                stage: Stage::Ready,
                priority: 0,
            });
        };
        match e.stage {
            Stage::Ready => {
                self.ready.remove(&(7 - e.priority, seq));
            }
            Stage::Parked => {
                self.parked.remove(&(self.key(attr), 7 - e.priority, seq));
            }
            Stage::Leased | Stage::Settling => self.leased -= 1,
            Stage::Delayed => self.delayed -= 1,
        }
        Some(e)
    }

    /// Leases up to `max` messages.
    pub(crate) fn take(
        &mut self,
        max: usize,
        now: u64,
        next_token: &mut u64,
        attrs: &Attrs,
    ) -> Vec<Picked> {
        self.last_take = now;
        let mut out = Vec::new();
        let room =
            usize::try_from(u64::from(self.options.in_flight_max).saturating_sub(self.leased))
                .unwrap_or(0);
        let deadline = now.saturating_add(micros(self.options.lease));
        while out.len() < max.min(room) {
            let Some((class, seq, fresh)) = self.next_ready() else {
                break;
            };
            let attempts = self.entries.get(&seq).map_or(0, |e| e.attempts);
            let key = if self.options.ordered_keys {
                attrs.get(&seq).map_or(0, |a| a.key)
            } else {
                0
            };
            let attempt = attempts.saturating_add(1);
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
            if fresh {
                self.fresh.remove(seq);
            } else {
                self.ready.remove(&(class, seq));
            }
            let token = *next_token;
            *next_token += 1;
            self.entries.insert(
                seq,
                Entry {
                    at: deadline,
                    token,
                    attempts: attempt,
                    stage: Stage::Leased,
                    priority: 7 - class,
                },
            );
            self.leased += 1;
            self.arm(deadline, seq);
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
        let entry = self.leased_mut(seq, token)?;
        entry.stage = Stage::Settling;
        Some(entry.attempts)
    }

    /// The outcome could not be staged after all: the lease goes on. False when it is over.
    pub(crate) fn cancel_settle(&mut self, seq: u64, token: u64) -> bool {
        let settling = |e: &&mut Entry| e.stage == Stage::Settling && e.token == token;
        let Some(entry) = self.entries.get_mut(&seq).filter(settling) else {
            return false;
        };
        entry.stage = Stage::Leased;
        let at = entry.at;
        // Its timer may have fired meanwhile, and was passed over then.
        self.arm(at, seq);
        true
    }

    fn leased_mut(&mut self, seq: u64, token: u64) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&seq)?;
        (entry.stage == Stage::Leased && entry.token == token).then_some(entry)
    }

    /// Moves the end of a lease.
    pub(crate) fn extend(&mut self, seq: u64, token: u64, until: u64) -> bool {
        let Some(entry) = self.leased_mut(seq, token) else {
            return false;
        };
        entry.at = until;
        self.arm(until, seq);
        true
    }

    /// Undoes a delivery that nobody saw: no attempt is counted.
    pub(crate) fn undo(&mut self, seq: u64, token: u64, attr: Attr, now: u64) {
        if self.leased_mut(seq, token).is_none() {
            return;
        }
        if let Some(e) = self.unplace(seq, attr) {
            if e.attempts == 1 {
                self.let_go(seq, attr);
            }
            self.place(seq, attr, 0, e.attempts.saturating_sub(1), now);
        }
    }

    /// Replay of a logged attempt.
    pub(crate) fn attempted(&mut self, seq: u64, n: u32, attr: Attr) {
        let key = self.key(attr);
        if let Some(e) = self.entries.get_mut(&seq) {
            e.attempts = e.attempts.max(n);
            if e.stage == Stage::Ready && key != 0 {
                self.busy.entry(key).or_insert(seq);
            }
        } else if self.fresh.remove(seq) {
            self.place(seq, attr, 0, n, 0);
        }
    }

    /// A nack is in effect.
    pub(crate) fn returned(
        &mut self,
        seq: u64,
        attr: Attr,
        until: u64,
        attempts: u32,
        now: u64,
        dying: &mut Dying,
    ) {
        if self.unplace(seq, attr).is_none() {
            return;
        }
        if attempts == 0 {
            self.let_go(seq, attr);
        }
        self.place(seq, attr, until, attempts, now);
        self.bury_if_spent(seq, attempts, attr, dying);
    }

    /// A message with no delivery left goes to the dead letters.
    fn bury_if_spent(&mut self, seq: u64, attempts: u32, attr: Attr, dying: &mut Dying) {
        let max = self.options.deliveries_max;
        if max == 0 || attempts < max {
            return;
        }
        if let Some(e) = self.unplace(seq, attr) {
            let stage = Stage::Settling;
            self.entries.insert(seq, Entry { stage, ..e });
            self.leased += 1;
            dying.push_back((
                self.id,
                seq,
                format!("{attempts} deliveries without success"),
            ));
        }
    }

    /// A message is done for this group. False when it was done before.
    pub(crate) fn settled(&mut self, seq: u64, attr: Attr, how: Leave) -> bool {
        if self.unplace(seq, attr).is_none() {
            return false;
        }
        match how {
            Leave::Acked => self.acked += 1,
            Leave::Dead => self.dead += 1,
            Leave::Discarded => self.discarded += 1,
        }
        self.let_go(seq, attr);
        true
    }

    /// The key of a message is no longer busy with it: its successors are ready.
    fn let_go(&mut self, seq: u64, attr: Attr) {
        let key = self.key(attr);
        if key == 0 || self.busy.get(&key) != Some(&seq) {
            return;
        }
        self.busy.remove(&key);
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

    /// Ends leases and delays that are over. Returns whether anything became ready.
    pub(crate) fn tick(&mut self, now: u64, attrs: &Attrs, dying: &mut Dying) -> bool {
        let mut due = Vec::new();
        self.timers.fire(now, |at, seq| due.push((at, seq)));
        let mut any = false;
        for (at, seq) in due {
            let Some(e) = self.entries.get(&seq).filter(|e| e.at == at) else {
                continue;
            };
            let leased = e.stage == Stage::Leased;
            if !leased && e.stage != Stage::Delayed {
                continue;
            }
            any = true;
            self.expired += u64::from(leased);
            let attr = attrs.get(&seq).copied().unwrap_or_default();
            let Some(e) = self.unplace(seq, attr) else {
                continue;
            };
            self.place(seq, attr, 0, e.attempts, now);
            if leased {
                self.bury_if_spent(seq, e.attempts, attr, dying);
            }
        }
        any
    }

    /// After recovery: messages whose last delivery was cut off by the crash.
    pub(crate) fn bury_spent(&mut self, attrs: &Attrs, dying: &mut Dying) {
        let mut spent: Vec<(u64, u32)> =
            self.entries.iter().map(|(s, e)| (*s, e.attempts)).collect();
        spent.sort_unstable();
        for (seq, attempts) in spent {
            let attr = attrs.get(&seq).copied().unwrap_or_default();
            self.bury_if_spent(seq, attempts, attr, dying);
        }
    }

    pub(crate) fn idle_deadline(&self) -> Option<u64> {
        let idle = micros(self.options.idle_max);
        // A consumer that waits is not idle.
        (idle > 0 && self.wakers.is_empty()).then(|| self.last_take.saturating_add(idle))
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let timer = self.timers.next_deadline();
        let idle = self.idle_deadline().filter(|_| !self.dropping);
        timer.into_iter().chain(idle).min()
    }

    /// Whether every index agrees with every other; else the first that does not.
    #[cfg(feature = "torture")]
    pub(crate) fn validate(&self) -> Result<(), &'static str> {
        let count = |f: fn(&Stage) -> bool| self.entries.values().filter(|e| f(&e.stage)).count();
        let leased = count(|s| matches!(s, Stage::Settling | Stage::Leased));
        let sum = self.ready_len() + self.leased + self.delayed;
        [
            (self.leased == leased as u64, "leased"),
            (
                self.delayed == count(|s| *s == Stage::Delayed) as u64,
                "delayed",
            ),
            (
                self.parked.len() == count(|s| *s == Stage::Parked),
                "parked",
            ),
            (self.ready.len() == count(|s| *s == Stage::Ready), "ready"),
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
