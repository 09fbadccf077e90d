//! The fold: what a committed record does.

use std::collections::BTreeSet;

use crate::log::format::Pos;
use crate::log::record::Record;
use crate::log::writer::Moved;
use crate::options::{GroupOptions, Start, TopicOptions};

use super::group::{GroupState, Leave};
use super::intervals::Intervals;
use super::topic::{Attr, TopicState};
use super::{Effect, Run, State};

impl State {
    /// Folds one effect into the state; returns how many numbers it takes.
    pub(crate) fn apply(&mut self, effect: Effect, seq: u64, pos: Pos, time: u64, now: u64) -> u64 {
        match effect {
            Effect::Publish(run) => {
                self.apply_publish(&run, seq, pos, time, now);
                return run.count;
            }
            Effect::Other(record) => self.apply_record(record, pos, now),
        }
        0
    }

    fn apply_record(&mut self, record: Record, pos: Pos, now: u64) {
        match record {
            Record::Moved(seq, _, m) => {
                if let Some(t) = self.topics.get(&m.topic)
                    && self.is_held(t, seq)
                    && let Some(t) = self.topics.get_mut(&m.topic)
                {
                    t.extents.relocate(seq, pos, &mut self.segments);
                }
            }
            Record::Settle {
                group,
                ranges,
                dead,
            } => {
                let how = if dead { Leave::Dead } else { Leave::Acked };
                for (first, count) in ranges {
                    self.settle_range(group, first, first.saturating_add(count), how);
                }
            }
            Record::Attempt { group, seqs } => {
                // Afterwards attempts are counted when a message is taken.
                if !self.replaying {
                    return;
                }
                if let Some(g) = self.groups.get_mut(&group)
                    && let Some(t) = self.topics.get(&g.topic)
                {
                    for (seq, n) in seqs {
                        g.attempted(seq, n, t.attrs.get(&seq).copied().unwrap_or_default());
                    }
                }
            }
            Record::Nack {
                group,
                seq,
                until,
                attempts,
            } => self.apply_nack(group, seq, until, attempts, now),
            Record::Topic { id, name, options } => self.apply_topic(id, name, options),
            Record::Group {
                id,
                topic,
                name,
                options,
            } => self.apply_group(id, topic, &name, &options, now),
            Record::DropGroup { id } => self.apply_drop_group(id),
            Record::Seek { group, from } => self.apply_seek(group, from, now),
            Record::Discard {
                topic,
                below,
                waiting,
            } => self.apply_discard(topic, below, waiting),
            Record::Message(_) | Record::Mark => {}
        }
    }

    fn apply_topic(&mut self, id: u32, name: String, options: TopicOptions) {
        let topic = self
            .topics
            .entry(id)
            .or_insert_with(|| TopicState::new(id, name.clone(), options));
        topic.committed = true;
        self.topic_names.insert(name, id);
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    /// Makes a place for the messages of a topic whose own record is lost.
    pub(crate) fn ensure_topic(&mut self, id: u32) {
        if !self.topics.contains_key(&id) {
            self.apply_topic(id, format!("recovered-{id}"), TopicOptions::default());
        }
    }

    fn apply_publish(&mut self, run: &Run, first: u64, pos: Pos, time: u64, now: u64) {
        let end = first + run.count;
        self.next_seq = self.next_seq.max(end);
        self.committed_seq = self.committed_seq.max(end);
        let Some(t) = self.topics.get_mut(&run.topic) else {
            return;
        };
        if run.count == 0 || t.extents.of(first).is_some() {
            return;
        }
        t.published += run.count;
        for (at, id) in &run.dedup {
            t.remember(id, first + at, time);
        }
        let keeps = t.keeps() || (t.groups.is_empty() && t.options.hold);
        if t.groups.is_empty() && !keeps && !t.options.compact {
            return;
        }
        t.extents
            .push(first, run.count, pos, time, run.bytes, &mut self.segments);
        t.attrs
            .extend(run.special.iter().map(|(at, attr)| (first + at, *attr)));
        if keeps {
            t.kept.insert(first, end - 1);
        } else if t.options.compact {
            for (at, _) in run.special.iter().filter(|(_, attr)| attr.key != 0) {
                t.kept.insert(first + at, first + at);
            }
        }
        for id in &t.groups {
            if let Some(g) = self.groups.get_mut(id) {
                let mut from = first;
                for (at, attr) in &run.special {
                    let seq = first + at;
                    if seq > from {
                        g.admit_run(from, seq - 1);
                    }
                    g.admit(seq, *attr, now);
                    from = seq + 1;
                }
                if from < end {
                    g.admit_run(from, end - 1);
                }
                self.wake.append(&mut g.wakers);
            }
        }
        if t.options.compact {
            for (at, attr) in &run.special {
                self.supersede(run.topic, first + at, attr.key);
            }
            for seq in first..end {
                self.free_if_unheld(run.topic, seq);
            }
        }
    }

    /// In a compacted topic the older message of a key goes, unless somebody has begun with it.
    fn supersede(&mut self, topic: u32, seq: u64, key: u64) {
        let Some(t) = self.topics.get_mut(&topic).filter(|_| key != 0) else {
            return;
        };
        let Some(old) = t.newest.insert(key, seq).filter(|old| *old != seq) else {
            return;
        };
        if !t.keeps() {
            t.kept.remove(old);
        }
        let attr = t.attrs.get(&old).copied().unwrap_or_default();
        for id in &t.groups {
            let begun = |g: &GroupState| g.entries.get(&old).is_some_and(|e| e.attempts > 0);
            if let Some(g) = self.groups.get_mut(id).filter(|g| !begun(g)) {
                g.settled(old, attr, Leave::Discarded);
            }
        }
        self.free_if_unheld(topic, old);
    }

    fn settle_range(&mut self, group: u32, first: u64, end: u64, how: Leave) {
        let Some(g) = self.groups.get_mut(&group) else {
            return;
        };
        let Some(t) = self.topics.get_mut(&g.topic) else {
            return;
        };
        // A group of its own in a topic that keeps nothing: whoever settles is the last to hold it.
        let sole = t.groups.len() == 1 && t.kept.len() == 0;
        let mut free = Vec::new();
        let mut settle = |g: &mut GroupState, seq: u64| {
            let attr = if t.attrs.is_empty() {
                Attr::default()
            } else {
                t.attrs.get(&seq).copied().unwrap_or_default()
            };
            if !g.settled(seq, attr, how) {
                return;
            }
            if !sole {
                free.push(seq);
            } else if t.extents.of(seq).is_some() {
                t.extents.free(seq, &mut self.segments);
                if !t.attrs.is_empty() {
                    t.attrs.remove(&seq);
                }
            }
        };
        if end - first > 1024 + 2 * g.outstanding() {
            // No more than are there, whatever the record says.
            for seq in g.all_outstanding().range(first..end) {
                settle(g, *seq);
            }
        } else {
            (first..end).for_each(|seq| settle(g, seq));
        }
        self.wake.append(&mut t.space);
        self.wake.append(&mut g.wakers);
        let topic = g.topic;
        for seq in free {
            self.free_if_unheld(topic, seq);
        }
    }

    /// Lets a message go that no group needs any more.
    pub(super) fn free_if_unheld(&mut self, topic: u32, seq: u64) {
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        if self.is_held(t, seq) || t.extents.of(seq).is_none() {
            return;
        }
        if let Some(t) = self.topics.get_mut(&topic) {
            t.extents.free(seq, &mut self.segments);
            t.attrs.remove(&seq);
            self.wake.append(&mut t.space);
        }
    }

    fn apply_nack(&mut self, group: u32, seq: u64, until: u64, attempts: u32, now: u64) {
        let Some(g) = self.groups.get_mut(&group) else {
            return;
        };
        let topic = g.topic;
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        let attr = t.attrs.get(&seq).copied().unwrap_or_default();
        let superseded = t.options.compact && attr.key != 0;
        if superseded && t.newest.get(&attr.key).is_some_and(|n| *n != seq) {
            g.settled(seq, attr, Leave::Discarded);
            self.free_if_unheld(topic, seq);
            return;
        }
        g.returned(seq, attr, until, attempts, now, &mut self.dying);
        self.wake.append(&mut g.wakers);
    }

    fn apply_group(&mut self, id: u32, topic: u32, name: &str, options: &GroupOptions, now: u64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        if self.groups.contains_key(&id) {
            return;
        }
        let held = self.held(t);
        let names = (topic, name.to_owned());
        let ticket = self.group_names.get(&names).map_or(0, |(_, t)| *t);
        self.group_names.insert(names, (id, ticket));
        let mut g = GroupState::new(id, topic, name.to_owned(), options.clone(), now);
        if options.start == Start::Beginning {
            admit_all(&mut g, t, held.iter().copied(), now);
        }
        let release = t.groups.is_empty() && !t.keeps() && !t.options.compact;
        self.groups.insert(id, g);
        if let Some(t) = self.topics.get_mut(&topic) {
            t.groups.push(id);
            if release {
                t.kept = Intervals::default();
            }
        }
        if release {
            // What was held for the first group and is not wanted by it goes.
            for seq in held {
                self.free_if_unheld(topic, seq);
            }
        }
    }

    fn apply_drop_group(&mut self, id: u32) {
        let Some(mut g) = self.groups.remove(&id) else {
            return;
        };
        self.wake.append(&mut g.wakers);
        self.group_names.retain(|_, (g, _)| *g != id);
        let all = g.all_outstanding();
        let Some(t) = self.topics.get_mut(&g.topic) else {
            return;
        };
        t.groups.retain(|x| *x != id);
        // When it was the last one, what it had left goes; later messages are held for the next group.
        for seq in all {
            self.free_if_unheld(g.topic, seq);
        }
    }

    /// A group goes on at `from`: what is held from there on is its business again, what is before is not.
    fn apply_seek(&mut self, group: u32, from: u64, now: u64) {
        let Some(g) = self.groups.get_mut(&group) else {
            return;
        };
        let topic = g.topic;
        let had = g.all_outstanding();
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        let attr = |seq: &u64| t.attrs.get(seq).copied().unwrap_or_default();
        for seq in &had {
            g.settled(*seq, attr(seq), Leave::Discarded);
        }
        let mut wanted: BTreeSet<u64> = had.range(from..).copied().collect();
        let t = &self.topics[&topic];
        wanted.extend(self.held(t).into_iter().filter(|seq| *seq >= from));
        if let Some(g) = self.groups.get_mut(&group) {
            admit_all(g, &self.topics[&topic], wanted.into_iter(), now);
            self.wake.append(&mut g.wakers);
        }
        for seq in had {
            self.free_if_unheld(topic, seq);
        }
    }

    /// Messages below a number leave the topic: those that were only kept, or whoever waits for them.
    fn apply_discard(&mut self, topic: u32, below: u64, waiting: bool) {
        let Some(t) = self.topics.get(&topic) else {
            return;
        };
        let groups = t.groups.clone();
        let old: Vec<u64> = (self.held(t).into_iter())
            .take_while(|seq| *seq < below)
            .collect();
        for seq in old {
            let attr = self.attr(topic, seq);
            for id in groups.iter().filter(|_| waiting) {
                if let Some(g) = self.groups.get_mut(id) {
                    g.settled(seq, attr, Leave::Discarded);
                }
            }
            if let Some(t) = self.topics.get_mut(&topic) {
                let newest = t.newest.get(&attr.key) == Some(&seq);
                if newest && t.options.compact && !waiting {
                    continue;
                }
                t.kept.remove(seq);
                if newest {
                    t.newest.remove(&attr.key);
                }
            }
            self.free_if_unheld(topic, seq);
        }
    }

    /// Frames were written again elsewhere: from, to, first message and the one behind the last.
    pub(crate) fn remap(&mut self, moved: &[Moved]) {
        for (_, to, first, end) in moved {
            for seq in *first..*end {
                let held = |t: &&TopicState| t.extents.of(seq).is_some() && self.is_held(t, seq);
                let topic = self.topics.values().find(held).map(|t| t.id);
                if let Some(t) = topic.and_then(|id| self.topics.get_mut(&id)) {
                    t.extents.relocate(seq, *to, &mut self.segments);
                }
            }
        }
    }
}

/// Gives a group messages that the topic holds, plain neighbours as one run.
fn admit_all(g: &mut GroupState, t: &TopicState, seqs: impl Iterator<Item = u64>, now: u64) {
    let mut run: Option<(u64, u64)> = None;
    for seq in seqs {
        let attr = t.attrs.get(&seq).copied().unwrap_or_default();
        if attr == Attr::default() {
            match &mut run {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                _ => {
                    if let Some((first, last)) = run.replace((seq, seq)) {
                        g.admit_run(first, last);
                    }
                }
            }
        } else {
            g.admit(seq, attr, now);
        }
    }
    if let Some((first, last)) = run {
        g.admit_run(first, last);
    }
}
