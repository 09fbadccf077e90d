//! The state as bytes, so that recovery starts near the end of the log.

use bytes::Bytes;

use crate::log::codec::{Reader, SMALL, le32, put, put_bytes};
use crate::log::format::Pos;
use crate::log::settings::{group_options, put_group_options, put_topic_options, topic_options};

use super::extents::Extent;
use super::group::{GroupState, Stage};
use super::intervals::Intervals;
use super::topic::{Attr, TopicState};
use super::{Limits, State};

/// No extent has as many numbers: a frame has at most 256 MiB.
const RUN_MAX: u64 = 1 << 25;

const MAGIC: &[u8; 8] = b"SBMQSNP\x02";

/// Where replay goes on after a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Position of the first frame that is not in the snapshot.
    pub(crate) pos: Pos,
    /// Its index.
    pub(crate) index: u64,
    pub(crate) epoch: u64,
    pub(crate) time: u64,
}

/// Writes the committed state; staged requests are not in it.
pub(crate) fn encode(state: &State, resume: Resume) -> Vec<u8> {
    let mut b = MAGIC.to_vec();
    for n in [
        resume.pos.segment,
        resume.pos.offset,
        resume.index,
        resume.epoch,
        resume.time,
        state.committed_seq,
    ] {
        put(&mut b, n);
    }
    put(&mut b, state.segments.len() as u64);
    for (id, s) in &state.segments {
        put(&mut b, *id);
        put(&mut b, s.live);
        put(&mut b, s.total);
    }
    let topics: Vec<_> = state.topics.values().filter(|t| t.committed).collect();
    put(&mut b, topics.len() as u64);
    for t in topics {
        put_topic(&mut b, t, state.committed_seq);
    }
    put(&mut b, state.groups.len() as u64);
    for g in state.groups.values() {
        put_group(&mut b, g);
    }
    let crc = crc32c::crc32c(&b);
    b.extend_from_slice(&crc.to_le_bytes());
    b
}

fn put_topic(b: &mut Vec<u8>, t: &TopicState, committed: u64) {
    put(b, u64::from(t.id));
    put_bytes(b, t.name.as_bytes());
    put_topic_options(b, &t.options);
    put(b, t.published);
    let dedup: Vec<_> = t
        .dedup_order
        .iter()
        .filter_map(|(_, id)| t.dedup.get(id).map(|(s, time)| (id, *s, *time)))
        .filter(|(_, s, _)| *s < committed)
        .collect();
    put(b, dedup.len() as u64);
    for (id, seq, time) in dedup {
        put_bytes(b, id);
        put(b, seq);
        put(b, time);
    }
    put(b, t.extents.runs.len() as u64);
    let mut last = 0;
    for (first, e) in &t.extents.runs {
        for n in [
            first - last,
            e.last - first,
            e.pos.segment,
            e.pos.offset,
            e.time,
            e.bytes,
            e.held,
        ] {
            put(b, n);
        }
        last = *first;
    }
    put(b, t.extents.moved.len() as u64);
    for (seq, pos) in &t.extents.moved {
        put(b, *seq);
        put(b, pos.segment);
        put(b, pos.offset);
    }
    put(b, t.attrs.len() as u64);
    for (seq, a) in &t.attrs {
        put(b, *seq);
        b.push(a.priority);
        put(b, a.key);
        put(b, a.not_before);
    }
    put_runs(b, &t.kept);
}

fn put_runs(b: &mut Vec<u8>, set: &Intervals) {
    put(b, set.runs_len() as u64);
    for (first, last) in set.runs() {
        put(b, first);
        put(b, last - first);
    }
}

fn put_group(b: &mut Vec<u8>, g: &GroupState) {
    put(b, u64::from(g.id));
    put(b, u64::from(g.topic));
    put_bytes(b, g.name.as_bytes());
    put_group_options(b, &g.options);
    for n in [
        g.acked,
        g.dead,
        g.discarded,
        g.delivered,
        g.redelivered,
        g.expired,
    ] {
        put(b, n);
    }
    put_runs(b, &g.fresh);
    let mut entries: Vec<_> = g.entries.iter().collect();
    entries.sort_unstable_by_key(|(seq, _)| **seq);
    put(b, entries.len() as u64);
    for (seq, e) in entries {
        put(b, *seq);
        put(b, u64::from(e.attempts));
        put(b, if e.stage == Stage::Delayed { e.at } else { 0 });
    }
}

/// Reads a snapshot; `None` when it is damaged or cut.
pub(crate) fn decode(bytes: &Bytes, limits: Limits, now: u64) -> Option<(State, Resume)> {
    let end = bytes.len().checked_sub(4)?;
    if bytes.get(..8)? != MAGIC || crc32c::crc32c(&bytes[..end]) != le32(&bytes[end..]) {
        return None;
    }
    let body = bytes.slice(..end);
    let mut r = Reader::new(&body, 8);
    let resume = Resume {
        pos: pos(&mut r)?,
        index: r.small()?,
        epoch: r.small()?,
        time: r.small()?,
    };
    let mut state = State::new(limits);
    state.next_seq = r.small()?;
    state.committed_seq = state.next_seq;
    for _ in 0..r.count(3)? {
        let s = state.segments.entry(r.small()?).or_default();
        (s.live, s.total) = (r.small()?, r.small()?);
    }
    for _ in 0..r.count(4)? {
        let t = topic(&mut r)?;
        state.next_id = state.next_id.max(t.id.checked_add(1)?);
        state.topic_names.insert(t.name.clone(), t.id);
        state.topics.insert(t.id, t);
    }
    for _ in 0..r.count(8)? {
        let g = group(&mut r, &mut state, now)?;
        state.next_id = state.next_id.max(g.id.checked_add(1)?);
        state
            .group_names
            .insert((g.topic, g.name.clone()), (g.id, 0));
        state.groups.insert(g.id, g);
    }
    Some((state, resume))
}

/// A sum that is still far from the limit.
fn sum(a: u64, b: u64) -> Option<u64> {
    a.checked_add(b).filter(|n| *n < 8 * SMALL)
}

fn pos(r: &mut Reader<'_>) -> Option<Pos> {
    Some(Pos {
        segment: r.small()?,
        offset: r.small()?,
    })
}

fn topic(r: &mut Reader<'_>) -> Option<TopicState> {
    let id = r.u32()?;
    let mut t = TopicState::new(id, r.string()?, topic_options(r)?);
    t.committed = true;
    t.published = r.small()?;
    for _ in 0..r.count(3)? {
        let id = r.bytes()?;
        let (seq, time) = (r.small()?, r.small()?);
        t.remember(&id, seq, time);
    }
    let mut first = 0_u64;
    let count = r.count(7)?;
    // Collected and then built at once: a hundred gigabytes have more than a million of them.
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        first = first.checked_add(r.small()?).filter(|n| *n < SMALL)?;
        let e = Extent {
            last: first + r.small().filter(|n| *n < RUN_MAX)?,
            pos: pos(r)?,
            time: r.small()?,
            bytes: r.small()?,
            held: r.small()?,
        };
        t.extents.held = sum(t.extents.held, e.held)?;
        t.extents.bytes = sum(t.extents.bytes, e.bytes)?;
        runs.push((first, e));
    }
    let apart = runs.windows(2).all(|w| w[0].1.last < w[1].0);
    t.extents.runs = runs.into_iter().collect();
    if !apart {
        return None;
    }
    for _ in 0..r.count(3)? {
        let seq = r.u64()?;
        t.extents.moved.insert(seq, pos(r)?);
    }
    for _ in 0..r.count(4)? {
        let seq = r.u64()?;
        let attr = Attr {
            priority: r.byte()?.min(7),
            key: r.u64()?,
            not_before: r.u64()?,
        };
        if t.options.compact && attr.key != 0 {
            t.newest.insert(attr.key, seq);
        }
        t.attrs.insert(seq, attr);
    }
    for _ in 0..r.count(2)? {
        let first = r.u64()?;
        t.kept.insert_apart(first, first.checked_add(r.u64()?)?)?;
    }
    Some(t)
}

fn group(r: &mut Reader<'_>, state: &mut State, now: u64) -> Option<GroupState> {
    let (id, topic) = (r.u32()?, r.u32()?);
    let mut g = GroupState::new(id, topic, r.string()?, group_options(r)?, now);
    let counters = [
        &mut g.acked,
        &mut g.dead,
        &mut g.discarded,
        &mut g.delivered,
        &mut g.redelivered,
        &mut g.expired,
    ];
    for counter in counters {
        *counter = r.small()?;
    }
    g.published = g.acked + g.dead + g.discarded;
    for _ in 0..r.count(2)? {
        let first = r.u64()?;
        g.fresh.insert_apart(first, first.checked_add(r.u64()?)?)?;
    }
    g.published = sum(g.published, g.fresh.len())?;
    let t = state.topics.get_mut(&topic)?;
    t.groups.push(id);
    for _ in 0..r.count(3)? {
        let seq = r.u64()?;
        let attempts = r.u32()?;
        let until = r.u64()?;
        let attr = t.attrs.get(&seq).copied().unwrap_or_default();
        if g.has(seq) {
            return None;
        }
        g.published = sum(g.published, 1)?;
        g.place(seq, attr, until, attempts, now);
    }
    Some(g)
}
