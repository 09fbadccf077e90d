//! What is asked of the queue: checked, numbered and staged.

use std::collections::HashMap;

use bytes::Bytes;

use crate::log::codec::micros;
use crate::log::record::{Head, Record, Stored, put_message, put_record};
use crate::message::{Message, NotBefore, dead_header};
use crate::options::{Durability, GroupOptions, TopicOptions, WhenFull};

use super::group::{GroupState, Picked};
use super::topic::TopicState;
use super::{Effect, Run, State};

/// Messages as they will stand in a frame. Made outside the lock.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<Message>,
    buf: Vec<u8>,
    run: Run,
}

impl Batch {
    pub(crate) fn new(topic: u32, messages: Vec<Message>, now: u64) -> Self {
        let (mut buf, mut run) = (Vec::new(), Run::default());
        let size: usize = messages.iter().map(|m| m.body.len() + 24).sum();
        buf.reserve(size);
        for m in &messages {
            encode(&mut buf, &mut run, topic, m, now);
        }
        Self { messages, buf, run }
    }
}

fn encode(buf: &mut Vec<u8>, run: &mut Run, topic: u32, m: &Message, now: u64) {
    let start = buf.len();
    let head = Head {
        topic,
        priority: m.priority,
        not_before: match m.not_before {
            NotBefore::Now => 0,
            NotBefore::After(d) => now.saturating_add(micros(d)),
            NotBefore::At(t) => t.duration_since(std::time::UNIX_EPOCH).map_or(0, micros),
        },
        key: m.key.as_deref(),
        dedup: m.dedup.as_deref(),
    };
    put_message(buf, &head, &m.headers, &m.body);
    run.add(&head, buf.len() - start);
}

/// What a staged publish is told later, and which numbers it got.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) ticket: u64,
    pub(crate) first: u64,
    /// Place in the batch, and the message that was stored earlier under the same dedup id.
    pub(crate) duplicates: Vec<(usize, u64)>,
}

/// Why messages were not staged.
#[derive(Debug)]
pub(crate) enum Refused {
    Full {
        batch: Box<Batch>,
        waiting: u64,
        wait: bool,
    },
    TooLarge {
        batch: Box<Batch>,
        size: usize,
    },
}

impl State {
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
        self.stage_one(Record::DropGroup { id }, Durability::Interval, now)
    }

    /// Messages that wait in the topic's slowest group, staged ones included.
    fn depth(&self, topic: &TopicState) -> u64 {
        let groups = topic.groups.iter().filter_map(|g| self.groups.get(g));
        let slowest = groups.map(GroupState::outstanding).max();
        slowest.unwrap_or(topic.extents.held) + topic.staged
    }

    /// Stages messages, all or none. `Refused::Full { wait: true }` asks the caller to wait for space.
    pub(crate) fn publish(
        &mut self,
        topic: u32,
        mut batch: Batch,
        now: u64,
    ) -> Result<Staged, Refused> {
        let Some(t) = self.topics.get(&topic) else {
            return Err(Refused::Full {
                batch: Box::new(batch),
                waiting: 0,
                wait: false,
            });
        };
        let duplicates = without_duplicates(t, &mut batch, self.next_seq, now);
        let size = batch.buf.len();
        if size > self.limits.frame_max {
            let batch = Box::new(batch);
            return Err(Refused::TooLarge { batch, size });
        }
        let (count, bytes) = (batch.run.count, batch.run.bytes);
        if count == 0 {
            // All known: their frames have tickets at or before the newest one.
            if let Some(t) = self.topics.get_mut(&topic) {
                t.duplicates += duplicates.len() as u64;
            }
            return Ok(Staged {
                ticket: self.next_ticket - 1,
                first: self.next_seq,
                duplicates,
            });
        }
        let waiting = self.depth(t);
        let held = t.extents.bytes + t.staged_bytes;
        let over = waiting > 0
            && (waiting + count > t.options.messages_max || held + bytes > t.options.bytes_max);
        let behind = self.staged_bytes > 0 && self.staged_bytes + size > self.limits.staged_max;
        let policy = t.options.when_full;
        if behind || (over && policy != WhenFull::DropOldest) {
            let wait = policy == WhenFull::Wait || !over;
            return Err(Refused::Full {
                batch: Box::new(batch),
                waiting,
                wait,
            });
        }
        if over {
            let messages = (waiting + count).saturating_sub(t.options.messages_max);
            let bytes = (held + bytes).saturating_sub(t.options.bytes_max);
            self.drop_oldest(topic, messages, bytes, now);
        }
        let (mut durability, mut waited_for) = (Durability::Synced, false);
        if let Some(t) = self.topics.get(&topic) {
            durability = t.options.durability;
            let waits = |id: &u32| self.groups.get(id).is_some_and(|g| !g.wakers.is_empty());
            waited_for = durability == Durability::Buffered && t.groups.iter().any(waits);
        }
        self.hungry |= waited_for;
        let first = self.next_seq;
        let ticket = self.stage_run(&batch.buf, batch.run, durability, now);
        if let Some(t) = self.topics.get_mut(&topic) {
            t.staged += count;
            t.staged_bytes += bytes;
            t.duplicates += duplicates.len() as u64;
            let mut seq = first;
            let mut known = duplicates.iter().map(|(at, _)| *at).peekable();
            for (at, m) in batch.messages.iter().enumerate() {
                if known.next_if_eq(&at).is_some() {
                    continue;
                }
                if let Some(id) = &m.dedup {
                    t.remember(id, seq, now);
                }
                seq += 1;
            }
        }
        Ok(Staged {
            ticket,
            first,
            duplicates,
        })
    }

    fn stage_run(&mut self, buf: &[u8], run: Run, durability: Durability, now: u64) -> u64 {
        let count = run.count;
        let chunk = self.chunk(buf.len(), durability, now);
        chunk.buf.extend_from_slice(buf);
        chunk.records += u32::try_from(count).unwrap_or(u32::MAX);
        chunk.messages += count;
        let ticket = chunk.ticket;
        match chunk.effects.last_mut() {
            Some(Effect::Publish(last)) if last.topic == run.topic => {
                let at = last.count;
                last.special
                    .extend(run.special.into_iter().map(|(n, a)| (at + n, a)));
                last.dedup
                    .extend(run.dedup.into_iter().map(|(n, id)| (at + n, id)));
                last.count += run.count;
                last.bytes += run.bytes;
            }
            _ => chunk.effects.push(Effect::Publish(run)),
        }
        self.next_seq += count;
        ticket
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
        use dead_header as h;
        let text = |s: &str| Bytes::copy_from_slice(s.as_bytes());
        m.headers.retain(|(n, _)| !n.starts_with(h::PREFIX));
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
        let settle = Record::Settle {
            group,
            ranges: vec![(seq, 1)],
            dead: true,
        };
        let head = Head {
            topic: dead,
            priority: m.priority,
            key: m.key.as_deref(),
            ..Head::default()
        };
        let (mut buf, mut run) = (Vec::new(), Run::default());
        put_record(&mut buf, &settle);
        let before = buf.len();
        put_message(&mut buf, &head, &m.headers, &m.body);
        run.add(&head, buf.len() - before);
        if let Some(t) = self.topics.get_mut(&dead) {
            t.staged += 1;
            t.staged_bytes += run.bytes;
        }
        let chunk = self.chunk(buf.len(), Durability::Synced, now);
        chunk.buf.extend_from_slice(&buf);
        chunk.records += 2;
        chunk.messages += 1;
        chunk.effects.push(Effect::Other(settle));
        chunk.effects.push(Effect::Publish(run));
        let ticket = chunk.ticket;
        self.next_seq += 1;
        Some(ticket)
    }

    /// Leases up to `max` messages of a group and stages the record of it; returns the ticket to wait for.
    pub(crate) fn take(&mut self, group: u32, max: usize, now: u64) -> (u64, Vec<Picked>) {
        let mut token = self.next_token;
        let Some(g) = self.groups.get_mut(&group) else {
            return (0, Vec::new());
        };
        let Some(t) = self.topics.get(&g.topic) else {
            return (0, Vec::new());
        };
        let picked = g.take(max, now, &mut token, &t.attrs);
        self.next_token = token;
        if picked.is_empty() {
            return (0, picked);
        }
        let durability = match g.options.durability {
            Durability::Buffered => Durability::Buffered,
            Durability::Synced | Durability::Interval => Durability::Interval,
        };
        let seqs = picked.iter().map(|p| (p.seq, p.attempt)).collect();
        let record = Record::Attempt { group, seqs };
        (self.stage_one(record, durability, now), picked)
    }
}

/// Takes the messages out of a batch whose dedup id is known; returns their places and what was stored before.
fn without_duplicates(
    t: &TopicState,
    batch: &mut Batch,
    next_seq: u64,
    now: u64,
) -> Vec<(usize, u64)> {
    let mut found = Vec::new();
    if batch.run.dedup.is_empty() {
        return found;
    }
    let mut fresh: HashMap<&[u8], u64> = HashMap::new();
    let mut seq = next_seq;
    for (at, m) in batch.messages.iter().enumerate() {
        if let Some(id) = &m.dedup {
            let first = t.known(id, now).or_else(|| fresh.get(&id[..]).copied());
            if let Some(first) = first {
                found.push((at, first));
                continue;
            }
            fresh.insert(id, seq);
        }
        seq += 1;
    }
    if !found.is_empty() {
        let topic = batch.run.topic;
        let (mut buf, mut run) = (Vec::new(), Run::default());
        let mut known = found.iter().map(|(at, _)| *at).peekable();
        for (at, m) in batch.messages.iter().enumerate() {
            if known.next_if_eq(&at).is_none() {
                encode(&mut buf, &mut run, topic, m, now);
            }
        }
        (batch.buf, batch.run) = (buf, run);
    }
    found
}
