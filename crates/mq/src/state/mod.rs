//! The queue as a plain value: a fold over committed records, and the leases that live in memory only.
//!
//! Nothing here reads a clock or a file. Requests are staged into chunks ([`requests`]); the shell writes a
//! chunk as one frame and reports it back, and only then it takes effect ([`apply`]). So the state is at any
//! time what a recovery from the same frames would build.

mod apply;
pub(crate) mod extents;
pub(crate) mod group;
pub(crate) mod intervals;
mod requests;
pub(crate) mod snapshot;
pub(crate) mod topic;
mod upkeep;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use crate::log::format::{FRAME_HEADER, Pos, frame_buf};
use crate::log::record::{Head, Record, put_record};
use crate::options::Durability;
use extents::Segments;
use group::{Dying, GroupState};
use topic::{Attr, TopicState};

pub(crate) use requests::{Batch, Refused, Staged};

/// What nobody waits for is written when so many bytes of it have come up, if not before.
const LINGER_BYTES: usize = 256 << 10;

/// Bounds that belong to the whole queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest frame body in bytes: a batch must fit.
    pub(crate) frame_max: usize,
    /// Bytes staged and not yet written; publishers wait beyond that.
    pub(crate) staged_max: usize,
    /// Topics plus groups.
    pub(crate) names_max: usize,
    /// Microseconds until what nobody waits for is written.
    pub(crate) write_interval: u64,
}

/// Neighbouring messages of one topic in one frame.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) topic: u32,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
    /// Place in the run, for those that have something special.
    pub(crate) special: Vec<(u64, Attr)>,
    pub(crate) dedup: Vec<(u64, Bytes)>,
}

impl Run {
    /// Adds the next message, unless it is of another topic.
    pub(crate) fn add(&mut self, head: &Head<'_>, bytes: usize) -> bool {
        if self.count > 0 && self.topic != head.topic {
            return false;
        }
        self.topic = head.topic;
        let attr = Attr {
            priority: head.priority,
            key: head.key.map_or(0, key_hash),
            not_before: head.not_before,
        };
        if attr != Attr::default() {
            self.special.push((self.count, attr));
        }
        if let Some(id) = head.dedup {
            self.dedup.push((self.count, Bytes::copy_from_slice(id)));
        }
        self.count += 1;
        self.bytes += bytes as u64;
        true
    }
}

/// What a record does when it is committed.
#[derive(Debug)]
pub(crate) enum Effect {
    Publish(Run),
    Other(Record),
}

/// One frame to be.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) ticket: u64,
    pub(crate) first_seq: u64,
    pub(crate) time: u64,
    /// Room for the frame's header, then the records.
    pub(crate) buf: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) messages: u64,
    pub(crate) effects: Vec<Effect>,
    pub(crate) sync: bool,
    /// Somebody may wait for it to be written.
    pub(crate) urgent: bool,
}

impl Chunk {
    /// An empty one with room for so many bytes of records.
    pub(crate) fn new(first_seq: u64, time: u64, bytes: usize) -> Self {
        Self {
            ticket: 0,
            first_seq,
            time,
            buf: frame_buf(bytes),
            records: 0,
            messages: 0,
            effects: Vec::new(),
            sync: false,
            urgent: false,
        }
    }

    pub(crate) fn body_len(&self) -> usize {
        self.buf.len().saturating_sub(FRAME_HEADER)
    }
}

/// Somebody who waits for a commit.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: u64,
    /// For the sync, not only for the write.
    pub(crate) sync: bool,
    /// A thread that commits by itself when it is woken.
    pub(crate) leads: bool,
    pub(crate) waker: Waker,
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
    pub(crate) segments: Segments,
    /// Leases that ended once too often.
    pub(crate) dying: Dying,
    /// Those of them that could not be read, and when they are tried again.
    pub(crate) unburied: Dying,
    pub(crate) bury_at: u64,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) wake: Vec<Waker>,
    /// Somebody waits in the `space` of a topic.
    pub(crate) crowded: bool,
    /// When what nobody waits for is to be written.
    write_at: Option<u64>,
    /// A consumer waits for what is staged.
    pub(crate) hungry: bool,
    /// The committer's thread is to be woken, unless who staged commits by himself.
    pub(crate) nudge: bool,
    /// The committer's thread is to be woken.
    pub(crate) kick: bool,
    /// The committer's thread has something to do besides what is staged.
    pub(crate) chores: bool,
    /// Records are encoded here.
    scratch: Vec<u8>,
    pub(crate) fault: Option<String>,
    pub(crate) faults: u64,
    pub(crate) closed: bool,
    /// Everything that was staged before the close is settled one way or the other.
    pub(crate) finished: bool,
    /// When old messages were looked for last.
    pub(crate) retained: u64,
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
            segments: Segments::new(),
            dying: Dying::new(),
            unburied: Dying::new(),
            bury_at: 0,
            waiters: Vec::new(),
            wake: Vec::new(),
            crowded: false,
            write_at: None,
            hungry: false,
            nudge: false,
            kick: false,
            chores: false,
            scratch: Vec::new(),
            fault: None,
            faults: 0,
            closed: false,
            finished: false,
            retained: 0,
            replaying: true,
        }
    }

    /// The chunk that the next `bytes` of records go into.
    fn chunk(&mut self, bytes: usize, durability: Durability, now: u64) -> &mut Chunk {
        let fits = self
            .staging
            .back()
            .is_some_and(|c| c.body_len() + bytes <= self.limits.frame_max);
        if !fits {
            let mut chunk = Chunk::new(self.next_seq, now, bytes);
            chunk.ticket = self.next_ticket;
            self.staging.push_back(chunk);
            self.next_ticket += 1;
        }
        let before = self.staged_bytes;
        self.staged_bytes += bytes;
        if durability == Durability::Buffered {
            self.linger(before, now);
        } else {
            self.nudge = true;
        }
        let last = self.staging.len() - 1;
        let chunk = &mut self.staging[last];
        chunk.sync |= durability == Durability::Synced;
        chunk.urgent |= durability != Durability::Buffered;
        chunk
    }

    /// Something was staged that nobody waits for: it is written after a while, or when much has come up.
    fn linger(&mut self, staged_before: usize, now: u64) {
        if self.write_at.is_none() {
            self.write_at = Some(now.saturating_add(self.limits.write_interval));
            self.kick = true;
        }
        let much = staged_before < LINGER_BYTES && self.staged_bytes >= LINGER_BYTES;
        self.kick |= much || self.hungry;
    }

    /// When what nobody waits for is to be written, if there is such.
    fn write_at(&self) -> Option<u64> {
        self.write_at
    }

    /// Whether something is to be written now.
    pub(crate) fn wants_commit(&self, now: u64) -> bool {
        let lingers = || {
            self.staged_bytes < LINGER_BYTES
                && !self.hungry
                && self.write_at.is_some_and(|at| now < at)
        };
        !self.staging.is_empty() && (self.staging.iter().any(|c| c.urgent) || !lingers())
    }

    pub(crate) fn stage_one(&mut self, record: Record, durability: Durability, now: u64) -> u64 {
        let mut buf = std::mem::take(&mut self.scratch);
        buf.clear();
        put_record(&mut buf, &record);
        let chunk = self.chunk(buf.len(), durability, now);
        chunk.buf.extend_from_slice(&buf);
        chunk.records += 1;
        chunk.effects.push(Effect::Other(record));
        let ticket = chunk.ticket;
        self.scratch = buf;
        ticket
    }

    /// The oldest staged chunk, to be written as one frame.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        let chunk = self.staging.pop_front()?;
        if self.staging.is_empty() {
            self.write_at = None;
            self.hungry = false;
        }
        Some(chunk)
    }

    /// A chunk, of so many bytes of records, is written: it takes effect.
    pub(crate) fn committed(
        &mut self,
        chunk: Chunk,
        bytes: usize,
        pos: Pos,
        synced: bool,
        now: u64,
    ) {
        let mut seq = chunk.first_seq;
        for effect in chunk.effects {
            if let Effect::Publish(run) = &effect
                && let Some(t) = self.topics.get_mut(&run.topic)
            {
                t.staged = t.staged.saturating_sub(run.count);
                t.staged_bytes = t.staged_bytes.saturating_sub(run.bytes);
            }
            seq += self.apply(effect, seq, pos, chunk.time, now);
        }
        self.committed_seq = self.committed_seq.max(seq);
        self.staged_bytes = self.staged_bytes.saturating_sub(bytes);
        self.written = chunk.ticket;
        if synced {
            self.synced = chunk.ticket;
        }
        self.fault = None;
        self.wake_waiters();
        if self.crowded {
            self.crowded = false;
            for t in self.topics.values_mut() {
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
        let covered = |ticket: u64, sync: bool| ticket <= if sync { synced } else { written };
        let done = self.waiters.extract_if(.., |w| covered(w.ticket, w.sync));
        self.wake.extend(done.map(|w| w.waker));
    }

    /// A waiting thread that can make the next commit.
    pub(crate) fn next_leader(&mut self) -> Option<Waker> {
        let at = self.waiters.iter().position(|w| w.leads)?;
        Some(self.waiters.swap_remove(at).waker)
    }

    /// The disk refuses: everybody who waits is told, and newcomers are until a commit succeeds.
    pub(crate) fn failed(&mut self, what: String) {
        self.fault = Some(what);
        self.faults += 1;
        self.wake_publishers();
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.kick = true;
        self.wake_publishers();
        for g in self.groups.values_mut() {
            self.wake.append(&mut g.wakers);
        }
    }

    /// Nothing will be committed any more.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.wake_publishers();
    }

    fn wake_publishers(&mut self) {
        self.wake.extend(self.waiters.drain(..).map(|w| w.waker));
        for t in self.topics.values_mut() {
            self.wake.append(&mut t.space);
        }
    }

    /// What is published next starts extents of its own.
    pub(crate) fn close_extents(&mut self) {
        for t in self.topics.values_mut() {
            t.extents.close();
        }
    }

    pub(crate) fn attr(&self, topic: u32, seq: u64) -> Attr {
        let attrs = self.topics.get(&topic).map(|t| &t.attrs);
        attrs.and_then(|a| a.get(&seq)).copied().unwrap_or_default()
    }

    /// Where a message of a group is: its frame, or one that stands a little before it.
    pub(crate) fn locate(&self, group: u32, seq: u64) -> Option<Pos> {
        let topic = self.groups.get(&group)?.topic;
        self.topics.get(&topic)?.extents.locate(seq)
    }

    /// Whether anybody still needs a message of this topic.
    pub(crate) fn is_held(&self, topic: &TopicState, seq: u64) -> bool {
        let has = |id: &u32| self.groups.get(id).is_some_and(|g| g.has(seq));
        topic.groups.iter().any(has) || topic.kept.contains(seq)
    }

    /// All messages that a topic holds.
    pub(crate) fn held(&self, topic: &TopicState) -> Vec<u64> {
        let runs = topic.extents.runs.iter();
        runs.flat_map(|(first, e)| *first..=e.last)
            .filter(|seq| self.is_held(topic, *seq))
            .collect()
    }
}

/// 64-bit FNV-1a; never 0, which means no key. Stored in snapshots: it must not change.
pub(crate) fn key_hash(key: &[u8]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for b in key {
        h = (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    }
    h.max(1)
}
