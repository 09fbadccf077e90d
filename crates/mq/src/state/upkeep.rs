//! What happens by itself: leases and delays end, idle groups and old messages go, sparse segments are emptied.

use crate::log::codec::micros;
use crate::log::format::Pos;
use crate::log::record::Record;
use crate::options::Durability;

use super::State;
use super::extents::TIME_MAX;
use super::group::GroupState;

/// Old messages are looked for this often, in microseconds.
const RETENTION_EVERY: u64 = 1_000_000;
/// A segment is emptied when fewer than one in this many of its messages still live.
const SPARSE: u64 = 4;

impl State {
    /// Ends leases, lets delayed messages through, drops idle groups and old messages.
    pub(crate) fn tick(&mut self, now: u64) {
        let mut idle = Vec::new();
        for g in self.groups.values_mut() {
            let Some(t) = self.topics.get(&g.topic) else {
                continue;
            };
            if g.tick(now, &t.attrs, &mut self.dying) {
                self.wake.append(&mut g.wakers);
            }
            if g.idle_deadline().is_some_and(|d| d <= now) && !g.dropping {
                g.dropping = true;
                idle.push(g.id);
            }
        }
        for id in idle {
            self.drop_group(id, now);
        }
        if now >= self.bury_at {
            self.dying.append(&mut self.unburied);
        }
        if self.retention_at().is_some_and(|at| at <= now) {
            self.retain(now);
        }
    }

    /// When `tick` has work next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let groups = self.groups.values().filter_map(GroupState::next_deadline);
        let bury = (!self.unburied.is_empty()).then_some(self.bury_at);
        let others = [self.retention_at(), self.write_at(), bury];
        groups.chain(others.into_iter().flatten()).min()
    }

    /// When old messages are to be looked for, if a topic has such and holds any.
    fn retention_at(&self) -> Option<u64> {
        let some = self.topics.values().any(|t| {
            let limited = t.keeps() || !t.options.age_max.is_zero();
            limited && t.extents.held > 0
        });
        some.then_some(self.retained + RETENTION_EVERY)
    }

    /// Lets messages go that are too old, or that are kept beyond what the topic wants to keep.
    fn retain(&mut self, now: u64) {
        self.retained = now;
        let mut out = Vec::new();
        for t in self.topics.values() {
            let runs: Vec<_> = t.extents.runs.values().collect();
            let older_than = |age: u64| {
                let limit = now.saturating_sub(age);
                let old = runs.iter().take_while(|e| e.time + TIME_MAX <= limit);
                old.last().map(|e| e.last + 1)
            };
            let age = micros(t.options.age_max);
            if age > 0
                && let Some(below) = older_than(age)
            {
                out.push((t.id, below, true));
            }
            if !t.keeps() {
                continue;
            }
            let mut over = t.extents.bytes.saturating_sub(t.options.keep_bytes);
            let large = runs.iter().take_while(|e| {
                let goes = over > 0;
                over = over.saturating_sub(e.bytes);
                goes
            });
            let by_size = large.last().map(|e| e.last + 1);
            let keep = micros(t.options.keep_for);
            let by_age = (keep > 0).then(|| older_than(keep)).flatten();
            if let Some(below) = by_size.max(by_age) {
                out.push((t.id, below, false));
            }
        }
        for (topic, below, waiting) in out {
            let record = Record::Discard {
                topic,
                below,
                waiting,
            };
            self.stage_one(record, Durability::Interval, now);
        }
    }

    /// Makes room for newer messages: at least so many messages and bytes of the oldest go.
    pub(super) fn drop_oldest(&mut self, topic: u32, messages: u64, bytes: u64, now: u64) {
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        let (mut freed, mut room, mut below) = (0, 0, 0);
        'all: for (first, e) in &t.extents.runs {
            let each = e.bytes / e.held.max(1);
            for seq in *first..=e.last {
                if freed >= messages && room >= bytes {
                    break 'all;
                }
                if self.is_held(t, seq) {
                    freed += 1;
                    room += each;
                    below = seq + 1;
                }
            }
        }
        if below > 0 {
            let record = Record::Discard {
                topic,
                below,
                waiting: true,
            };
            self.stage_one(record, Durability::Interval, now);
        }
    }

    /// Live messages of segments before `current` that hold few: they are to be written again, so that one
    /// stuck message pins no segment. At most about `max`.
    pub(crate) fn sparse(&self, current: u64, max: usize) -> Vec<(u64, Pos)> {
        let mut out = Vec::new();
        for (id, s) in self.segments.range(..current.saturating_sub(1)) {
            if s.live == 0 || s.live * SPARSE >= s.total || out.len() >= max {
                continue;
            }
            for t in self.topics.values() {
                for (first, last) in t.extents.within(*id) {
                    let here = (first..=last).filter(|seq| self.is_held(t, *seq));
                    let found = here.filter_map(|seq| Some((seq, t.extents.locate(seq)?)));
                    out.extend(found.filter(|(_, pos)| pos.segment == *id));
                }
            }
        }
        out
    }
}
