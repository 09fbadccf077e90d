//! The queue as a plain value: a fold over committed records, and the leases that live in memory only.
//!
//! Nothing here reads a clock or a file. Requests are staged into chunks; the shell writes a chunk as one
//! frame and reports it back, and only then it takes effect. So the state is at any time what a recovery
//! from the same frames would build.

pub(crate) mod group;
pub(crate) mod snapshot;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use crate::log::format::{Pos, Record, Stored, micros, put_record};
use crate::message::{Message, MessageId, NotBefore, Receipt};
use crate::options::{Durability, GroupOptions, Start, TopicOptions, WhenFull};
use group::{GroupState, Picked};

/// Bounds that belong to the whole queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest frame body in bytes: a batch must fit.
    pub(crate) frame_max: usize,
    /// Bytes staged and not yet written; publishers wait beyond that.
    pub(crate) staged_max: usize,
    /// Topics plus groups.
    pub(crate) names_max: usize,
}

/// One frame to be.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) ticket: u64,
    pub(crate) first_seq: u64,
    pub(crate) time: u64,
    pub(crate) buf: Vec<u8>,
    pub(crate) records: Vec<Record>,
    pub(crate) sync: bool,
}

#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) pos: Pos,
    pub(crate) len: u32,
    pub(crate) priority: u8,
    pub(crate) key: u64,
    pub(crate) not_before: u64,
    pub(crate) time: u64,
    pub(crate) target: u32,
    /// Groups that have not settled it.
    pub(crate) refs: u32,
}

#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) options: TopicOptions,
    pub(crate) committed: bool,
    pub(crate) ticket: u64,
    pub(crate) items: BTreeMap<u64, Item>,
    pub(crate) bytes: u64,
    pub(crate) staged: u64,
    pub(crate) staged_bytes: u64,
    pub(crate) groups: Vec<u32>,
    pub(crate) published: u64,
    pub(crate) duplicates: u64,
    /// Id to message and time.
    pub(crate) dedup: HashMap<Bytes, (u64, u64)>,
    pub(crate) dedup_order: VecDeque<(u64, Bytes)>,
    pub(crate) space: Vec<Waker>,
}

impl TopicState {
    fn new(id: u32, name: String, options: TopicOptions) -> Self {
        Self {
            id,
            name,
            options,
            committed: false,
            ticket: 0,
            items: BTreeMap::new(),
            bytes: 0,
            staged: 0,
            staged_bytes: 0,
            groups: Vec::new(),
            published: 0,
            duplicates: 0,
            dedup: HashMap::new(),
            dedup_order: VecDeque::new(),
            space: Vec::new(),
        }
    }

    pub(crate) fn remember(&mut self, id: &Bytes, seq: u64, now: u64) {
        if self.options.dedup_max == 0 {
            return;
        }
        if let Some((known, _)) = self.dedup.insert(id.clone(), (seq, now)) {
            if known == seq {
                return;
            }
            self.dedup_order.retain(|(_, i)| i != id);
        }
        self.dedup_order.push_back((now, id.clone()));
        let oldest = now.saturating_sub(micros(self.options.dedup_window));
        while let Some((time, first)) = self.dedup_order.front() {
            if *time >= oldest && self.dedup_order.len() <= self.options.dedup_max as usize {
                break;
            }
            self.dedup.remove(first);
            self.dedup_order.pop_front();
        }
    }

    fn known(&self, id: &Bytes, now: u64) -> Option<u64> {
        let (seq, time) = *self.dedup.get(id)?;
        (time >= now.saturating_sub(micros(self.options.dedup_window))).then_some(seq)
    }
}

/// Why messages were not staged.
#[derive(Debug)]
pub(crate) enum Refused {
    Full {
        messages: Vec<Message>,
        waiting: u64,
        wait: bool,
    },
    TooLarge {
        messages: Vec<Message>,
        size: usize,
    },
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) limits: Limits,
    pub(crate) topics: BTreeMap<u32, TopicState>,
    pub(crate) topic_names: HashMap<String, u32>,
    pub(crate) groups: BTreeMap<u32, GroupState>,
    pub(crate) group_names: HashMap<(u32, String), (u32, u64)>,
    pub(crate) next_id: u32,
    pub(crate) next_seq: u64,
    pub(crate) committed_seq: u64,
    pub(crate) staging: VecDeque<Chunk>,
    pub(crate) staged_bytes: usize,
    pub(crate) next_ticket: u64,
    pub(crate) written: u64,
    pub(crate) synced: u64,
    pub(crate) next_token: u64,
    /// Messages that live in each segment.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Leases that ended once too often: group, message, reason.
    pub(crate) dying: VecDeque<(u32, u64, String)>,
    pub(crate) waiters: Vec<(u64, bool, Waker)>,
    pub(crate) wake: Vec<Waker>,
    pub(crate) fault: Option<String>,
    pub(crate) faults: u64,
    pub(crate) closed: bool,
    /// Recovery is folding the log; afterwards attempts are counted when a message is taken.
    pub(crate) replaying: bool,
}

impl State {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            topics: BTreeMap::new(),
            topic_names: HashMap::new(),
            groups: BTreeMap::new(),
            group_names: HashMap::new(),
            next_id: 1,
            next_seq: 1,
            committed_seq: 1,
            staging: VecDeque::new(),
            staged_bytes: 0,
            next_ticket: 1,
            written: 0,
            synced: 0,
            next_token: 1,
            segments: BTreeMap::new(),
            dying: VecDeque::new(),
            waiters: Vec::new(),
            wake: Vec::new(),
            fault: None,
            faults: 0,
            closed: false,
            replaying: true,
        }
    }

    /// Stages records that must be committed together. Returns the ticket to wait for.
    pub(crate) fn stage(
        &mut self,
        records: Vec<Record>,
        encoded: &[u8],
        durability: Durability,
        now: u64,
    ) -> u64 {
        let fits = self
            .staging
            .back()
            .is_some_and(|c| c.buf.len() + encoded.len() <= self.limits.frame_max);
        if !fits {
            let chunk = Chunk {
                ticket: self.next_ticket,
                first_seq: self.next_seq,
                time: now,
                buf: Vec::new(),
                records: Vec::new(),
                sync: false,
            };
            self.next_ticket += 1;
            self.staging.push_back(chunk);
        }
        let messages = records
            .iter()
            .filter(|r| matches!(r, Record::Message(_)))
            .count() as u64;
        self.next_seq += messages;
        self.staged_bytes += encoded.len();
        let Some(chunk) = self.staging.back_mut() else {
            return self.next_ticket;
        };
        chunk.buf.extend_from_slice(encoded);
        chunk.records.extend(records);
        chunk.sync |= durability == Durability::Synced;
        chunk.ticket
    }

    pub(crate) fn stage_one(&mut self, record: Record, durability: Durability, now: u64) -> u64 {
        let mut buf = Vec::new();
        put_record(&mut buf, &record);
        self.stage(vec![record], &buf, durability, now)
    }

    /// Finds or makes a topic; returns its id and the ticket that makes it durable.
    pub(crate) fn topic(
        &mut self,
        name: &str,
        options: &TopicOptions,
        now: u64,
    ) -> Option<(u32, u64)> {
        if let Some(&id) = self.topic_names.get(name) {
            return Some((id, self.topics.get(&id).map_or(0, |t| t.ticket)));
        }
        if self.topics.len() + self.groups.len() >= self.limits.names_max {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let mut topic = TopicState::new(id, name.to_owned(), options.clone());
        let record = Record::Topic {
            id,
            name: name.to_owned(),
            options: options.clone(),
        };
        topic.ticket = self.stage_one(record, Durability::Synced, now);
        let ticket = topic.ticket;
        self.topics.insert(id, topic);
        self.topic_names.insert(name.to_owned(), id);
        Some((id, ticket))
    }

    /// Finds or makes a group; returns its id and the ticket that makes it durable.
    pub(crate) fn group(
        &mut self,
        topic: u32,
        name: &str,
        options: &GroupOptions,
        now: u64,
    ) -> Option<(u32, u64)> {
        if let Some(&found) = self.group_names.get(&(topic, name.to_owned())) {
            if let Some(g) = self.groups.get_mut(&found.0) {
                g.last_take = now;
            }
            return Some(found);
        }
        if self.topics.len() + self.groups.len() >= self.limits.names_max {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        let record = Record::Group {
            id,
            topic,
            name: name.to_owned(),
            options: options.clone(),
        };
        let ticket = self.stage_one(record, Durability::Synced, now);
        self.group_names
            .insert((topic, name.to_owned()), (id, ticket));
        Some((id, ticket))
    }

    pub(crate) fn drop_group(&mut self, id: u32, now: u64) -> u64 {
        self.group_names.retain(|_, (g, _)| *g != id);
        self.stage_one(Record::DropGroup { id }, Durability::Buffered, now)
    }

    /// Messages that wait in the topic's slowest group, and its bytes, staged ones included.
    fn depth(&self, topic: &TopicState) -> (u64, u64) {
        let slowest = topic
            .groups
            .iter()
            .filter_map(|g| self.groups.get(g))
            .map(GroupState::outstanding)
            .max();
        (
            slowest.unwrap_or(topic.items.len() as u64) + topic.staged,
            topic.bytes + topic.staged_bytes,
        )
    }

    /// Stages messages, all or none. `Refused::Full { wait: true }` asks the caller to wait for space.
    pub(crate) fn publish(
        &mut self,
        topic: u32,
        messages: Vec<Message>,
        now: u64,
    ) -> Result<(u64, Vec<Receipt>), Refused> {
        let Some(t) = self.topics.get(&topic) else {
            return Err(Refused::Full {
                messages,
                waiting: 0,
                wait: false,
            });
        };
        let mut receipts = Vec::with_capacity(messages.len());
        let mut stored = Vec::with_capacity(messages.len());
        let mut buf = Vec::new();
        let mut fresh: HashMap<Bytes, u64> = HashMap::new();
        let mut seq = self.next_seq;
        let mut duplicates = 0;
        for message in &messages {
            let first = message
                .dedup
                .as_ref()
                .and_then(|id| t.known(id, now).or_else(|| fresh.get(id).copied()));
            if let Some(first) = first {
                duplicates += 1;
                receipts.push(Receipt {
                    id: MessageId(first),
                    duplicate: true,
                });
                continue;
            }
            if let Some(id) = &message.dedup {
                fresh.insert(id.clone(), seq);
            }
            receipts.push(Receipt {
                id: MessageId(seq),
                duplicate: false,
            });
            let record = Record::Message(to_stored(topic, message, now));
            put_record(&mut buf, &record);
            stored.push(record);
            seq += 1;
        }
        if buf.len() > self.limits.frame_max {
            return Err(Refused::TooLarge {
                messages,
                size: buf.len(),
            });
        }
        if !stored.is_empty() {
            let (depth, bytes) = self.depth(t);
            let over = depth > 0
                && (depth + stored.len() as u64 > t.options.messages_max
                    || bytes + buf.len() as u64 > t.options.bytes_max);
            let staged =
                self.staged_bytes > 0 && self.staged_bytes + buf.len() > self.limits.staged_max;
            if over || staged {
                let wait = t.options.when_full == WhenFull::Wait;
                return Err(Refused::Full {
                    messages,
                    waiting: depth,
                    wait: wait || !over,
                });
            }
        }
        let durability = t.options.durability;
        let count = stored.len() as u64;
        let bytes = buf.len() as u64;
        let ticket = if stored.is_empty() {
            // All known: their frames have tickets at or before the newest one.
            self.next_ticket - 1
        } else {
            self.stage(stored, &buf, durability, now)
        };
        if let Some(t) = self.topics.get_mut(&topic) {
            t.staged += count;
            t.staged_bytes += bytes;
            t.duplicates += duplicates;
            for (id, seq) in fresh {
                t.remember(&id, seq, now);
            }
        }
        Ok((ticket, receipts))
    }

    /// Moves a message to the dead-letter topic of its group: one frame holds both halves.
    pub(crate) fn stage_dead(
        &mut self,
        group: u32,
        seq: u64,
        attempts: u32,
        mut m: Stored,
        reason: &str,
        now: u64,
    ) -> Option<u64> {
        let g = self.groups.get(&group)?;
        let t = self.topics.get(&g.topic)?;
        let name = g
            .options
            .dead_letter
            .clone()
            .unwrap_or_else(|| format!("{}.dead", t.name));
        use crate::message::dead_header as h;
        let text = |s: &str| Bytes::copy_from_slice(s.as_bytes());
        m.headers.retain(|(n, _)| !n.starts_with("mq-dead-"));
        for (name, value) in [
            (h::REASON, reason),
            (h::TOPIC, t.name.as_str()),
            (h::GROUP, g.name.as_str()),
            (h::ID, seq.to_string().as_str()),
            (h::ATTEMPTS, attempts.to_string().as_str()),
        ] {
            m.headers.push((name.to_owned(), text(value)));
        }
        let options = TopicOptions::default()
            .messages_max(u64::MAX)
            .bytes_max(u64::MAX);
        // A dead letter must have a place, also when the names are used up.
        let names_max = std::mem::replace(&mut self.limits.names_max, usize::MAX);
        let made = self.topic(&name, &options, now);
        self.limits.names_max = names_max;
        let (dead, _) = made?;
        m.topic = dead;
        m.target = 0;
        m.not_before = 0;
        m.dedup = None;
        let records = vec![
            Record::Settle {
                group,
                seqs: vec![seq],
                dead: true,
            },
            Record::Message(m),
        ];
        let mut buf = Vec::new();
        for r in &records {
            put_record(&mut buf, r);
        }
        if let Some(t) = self.topics.get_mut(&dead) {
            t.staged += 1;
        }
        Some(self.stage(records, &buf, Durability::Synced, now))
    }

    /// The oldest staged chunk, to be written as one frame.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        self.staging.pop_front()
    }

    /// A chunk is written (and synced up to `synced_through` tickets): it takes effect.
    pub(crate) fn committed(&mut self, chunk: &Chunk, pos: Pos, synced: bool, now: u64) {
        let mut seq = chunk.first_seq;
        for record in &chunk.records {
            if let Record::Message(m) = record
                && let Some(t) = self.topics.get_mut(&m.topic)
            {
                t.staged = t.staged.saturating_sub(1);
            }
            self.apply(record, seq, pos, chunk.time, now);
            seq += u64::from(matches!(record, Record::Message(_)));
        }
        self.committed_seq = self.committed_seq.max(seq);
        self.staged_bytes = self.staged_bytes.saturating_sub(chunk.buf.len());
        if self.staging.is_empty() {
            for t in self.topics.values_mut() {
                t.staged_bytes = 0;
                t.staged = 0;
            }
        }
        self.written = chunk.ticket;
        if synced {
            self.synced = chunk.ticket;
        }
        self.fault = None;
        self.wake_waiters();
        for t in self.topics.values_mut() {
            if !t.space.is_empty() {
                self.wake.append(&mut t.space);
            }
        }
    }

    /// Everything written so far is on disk.
    pub(crate) fn all_synced(&mut self) {
        self.synced = self.written;
        self.wake_waiters();
    }

    fn wake_waiters(&mut self) {
        let (written, synced) = (self.written, self.synced);
        let mut i = 0;
        while i < self.waiters.len() {
            let (ticket, sync, _) = &self.waiters[i];
            if *ticket <= if *sync { synced } else { written } {
                let (_, _, waker) = self.waiters.swap_remove(i);
                self.wake.push(waker);
            } else {
                i += 1;
            }
        }
    }

    /// The disk refuses: everybody who waits is told, and newcomers are until a commit succeeds.
    pub(crate) fn failed(&mut self, what: String) {
        self.fault = Some(what);
        self.faults += 1;
        for (_, _, waker) in self.waiters.drain(..) {
            self.wake.push(waker);
        }
        for t in self.topics.values_mut() {
            self.wake.append(&mut t.space);
        }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, _, waker) in self.waiters.drain(..) {
            self.wake.push(waker);
        }
        for t in self.topics.values_mut() {
            self.wake.append(&mut t.space);
        }
        for g in self.groups.values_mut() {
            self.wake.append(&mut g.wakers);
        }
    }

    /// Folds one committed record into the state.
    pub(crate) fn apply(&mut self, record: &Record, seq: u64, pos: Pos, time: u64, now: u64) {
        match record {
            Record::Message(m) => self.apply_message(m, seq, pos, time, now),
            Record::Moved(old, _, _) => self.move_item(record, *old, pos),
            Record::Settle { group, seqs, dead } => {
                for seq in seqs {
                    self.apply_settle(*group, *seq, *dead);
                }
            }
            Record::Attempt { group, seqs } => {
                if let Some(g) = self.groups.get_mut(group).filter(|_| self.replaying) {
                    for (seq, n) in seqs {
                        g.attempted(*seq, *n);
                    }
                }
            }
            Record::Nack {
                group,
                seq,
                until,
                attempts,
            } => {
                let Some(g) = self.groups.get_mut(group) else {
                    return;
                };
                let Some(item) = self.topics.get(&g.topic).and_then(|t| t.items.get(seq)) else {
                    return;
                };
                g.returned(*seq, item, *until, *attempts, now, &mut self.dying);
                self.wake.append(&mut g.wakers);
            }
            Record::Topic { id, name, options } => {
                let topic = self
                    .topics
                    .entry(*id)
                    .or_insert_with(|| TopicState::new(*id, name.clone(), options.clone()));
                topic.committed = true;
                self.topic_names.insert(name.clone(), *id);
                self.next_id = self.next_id.max(id + 1);
            }
            Record::Group {
                id,
                topic,
                name,
                options,
            } => self.apply_group(*id, *topic, name, options, now),
            Record::DropGroup { id } => self.apply_drop_group(*id),
            Record::Mark => {}
        }
    }

    /// Makes a place for the messages of a topic whose own record is lost.
    pub(crate) fn ensure_topic(&mut self, id: u32) {
        if !self.topics.contains_key(&id) {
            let record = Record::Topic {
                id,
                name: format!("recovered-{id}"),
                options: TopicOptions::default(),
            };
            self.apply(&record, 0, Pos::default(), 0, 0);
        }
    }

    fn apply_message(&mut self, m: &Stored, seq: u64, pos: Pos, time: u64, now: u64) {
        self.next_seq = self.next_seq.max(seq + 1);
        self.committed_seq = self.committed_seq.max(seq + 1);
        let Some(t) = self.topics.get_mut(&m.topic) else {
            return;
        };
        t.published += 1;
        if let Some(id) = &m.dedup {
            t.remember(id, seq, time);
        }
        let mut item = Item {
            pos,
            len: u32::try_from(m.body.len()).unwrap_or(u32::MAX),
            priority: m.priority,
            key: m.key.as_ref().map_or(0, |k| key_hash(k)),
            not_before: m.not_before,
            time,
            target: m.target,
            refs: 0,
        };
        for id in &t.groups {
            if let Some(g) = self
                .groups
                .get_mut(id)
                .filter(|_| m.target == 0 || m.target == *id)
            {
                item.refs += 1;
                g.admit(seq, &item, now);
                self.wake.append(&mut g.wakers);
            }
        }
        if item.refs > 0 || (t.groups.is_empty() && t.options.hold) {
            t.bytes += u64::from(item.len);
            *self.segments.entry(pos.segment).or_insert(0) += 1;
            t.items.insert(seq, item);
        }
    }

    fn move_item(&mut self, record: &Record, seq: u64, pos: Pos) {
        let Record::Moved(_, _, m) = record else {
            return;
        };
        let Some(item) = self
            .topics
            .get_mut(&m.topic)
            .and_then(|t| t.items.get_mut(&seq))
        else {
            return;
        };
        if let Some(n) = self.segments.get_mut(&item.pos.segment) {
            *n = n.saturating_sub(1);
        }
        item.pos = pos;
        *self.segments.entry(pos.segment).or_insert(0) += 1;
    }

    fn apply_settle(&mut self, group: u32, seq: u64, dead: bool) {
        let Some(g) = self.groups.get_mut(&group) else {
            return;
        };
        if !g.settled(seq, dead) {
            return;
        }
        self.wake.append(&mut g.wakers);
        let topic = g.topic;
        self.release(topic, seq);
    }

    /// One group needs the message no more.
    fn release(&mut self, topic: u32, seq: u64) {
        let Some(t) = self.topics.get_mut(&topic) else {
            return;
        };
        let Some(item) = t.items.get_mut(&seq) else {
            return;
        };
        item.refs = item.refs.saturating_sub(1);
        if item.refs == 0 {
            t.bytes = t.bytes.saturating_sub(u64::from(item.len));
            if let Some(n) = self.segments.get_mut(&item.pos.segment) {
                *n = n.saturating_sub(1);
            }
            t.items.remove(&seq);
            self.wake.append(&mut t.space);
        }
    }

    fn apply_group(&mut self, id: u32, topic: u32, name: &str, options: &GroupOptions, now: u64) {
        self.next_id = self.next_id.max(id + 1);
        let Some(t) = self.topics.get_mut(&topic) else {
            return;
        };
        if self.groups.contains_key(&id) {
            return;
        }
        let ticket = self
            .group_names
            .get(&(topic, name.to_owned()))
            .map_or(0, |(_, t)| *t);
        self.group_names
            .insert((topic, name.to_owned()), (id, ticket));
        let mut g = GroupState::new(id, topic, name.to_owned(), options.clone(), now);
        if options.start == Start::Beginning {
            for (seq, item) in &mut t.items {
                if item.target == 0 {
                    item.refs += 1;
                    g.admit(*seq, item, now);
                }
            }
        }
        t.groups.push(id);
        self.groups.insert(id, g);
        // What was held for the first group and is not wanted by it goes.
        let unwanted: Vec<u64> = t
            .items
            .iter()
            .filter(|(_, i)| i.refs == 0)
            .map(|(s, _)| *s)
            .collect();
        for seq in unwanted {
            self.release(topic, seq);
        }
    }

    fn apply_drop_group(&mut self, id: u32) {
        let Some(mut g) = self.groups.remove(&id) else {
            return;
        };
        self.wake.append(&mut g.wakers);
        self.group_names.retain(|_, (g, _)| *g != id);
        if let Some(t) = self.topics.get_mut(&g.topic) {
            t.groups.retain(|x| *x != id);
        }
        for seq in g.all_outstanding() {
            self.release(g.topic, seq);
        }
    }

    /// Ends leases, lets delayed messages through, drops idle groups.
    pub(crate) fn tick(&mut self, now: u64) {
        let mut idle = Vec::new();
        for g in self.groups.values_mut() {
            let Some(t) = self.topics.get(&g.topic) else {
                continue;
            };
            if g.tick(now, &t.items, &mut self.dying) {
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
    }

    /// When `tick` has work next.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.groups
            .values()
            .filter_map(GroupState::next_deadline)
            .min()
    }

    /// Frames were written again elsewhere: messages there have moved.
    pub(crate) fn remap(&mut self, moved: &[(Pos, Pos)]) {
        if moved.is_empty() {
            return;
        }
        let map: HashMap<(u64, u64), Pos> = moved
            .iter()
            .map(|(a, b)| ((a.segment, a.offset), *b))
            .collect();
        for t in self.topics.values_mut() {
            for item in t.items.values_mut() {
                if let Some(to) = map.get(&(item.pos.segment, item.pos.offset)) {
                    if let Some(n) = self.segments.get_mut(&item.pos.segment) {
                        *n = n.saturating_sub(1);
                    }
                    item.pos = *to;
                    *self.segments.entry(to.segment).or_insert(0) += 1;
                }
            }
        }
    }

    /// Leases up to `max` messages of a group and stages the record of it; returns the ticket to wait for.
    pub(crate) fn take(&mut self, group: u32, max: usize, now: u64) -> (u64, Vec<Picked>) {
        let mut token = self.next_token;
        let Some(g) = self.groups.get_mut(&group) else {
            return (0, Vec::new());
        };
        let picked = g.take(max, now, &mut token);
        self.next_token = token;
        if picked.is_empty() {
            return (0, picked);
        }
        let seqs = picked.iter().map(|p| (p.seq, p.attempt)).collect();
        let record = Record::Attempt { group, seqs };
        (self.stage_one(record, Durability::Buffered, now), picked)
    }

    /// Where a message is.
    #[cfg(feature = "torture")]
    pub(crate) fn locate(&self, topic: u32, seq: u64) -> Option<Pos> {
        Some(self.topics.get(&topic)?.items.get(&seq)?.pos)
    }

    pub(crate) fn item(&self, group: u32, seq: u64) -> Option<&Item> {
        self.topics
            .get(&self.groups.get(&group)?.topic)?
            .items
            .get(&seq)
    }
}

fn to_stored(topic: u32, m: &Message, now: u64) -> Stored {
    let not_before = match m.not_before {
        NotBefore::Now => 0,
        NotBefore::After(d) => now.saturating_add(micros(d)),
        NotBefore::At(t) => t.duration_since(std::time::UNIX_EPOCH).map_or(0, micros),
    };
    Stored {
        topic,
        target: 0,
        priority: m.priority,
        not_before,
        key: m.key.clone(),
        dedup: m.dedup.clone(),
        headers: m.headers.clone(),
        body: m.body.clone(),
    }
}

/// 64-bit FNV-1a; never 0, which means no key. Only compared within one process.
fn key_hash(key: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in key {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    }
    h.max(1)
}
