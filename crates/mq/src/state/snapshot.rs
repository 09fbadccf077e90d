//! The state as bytes, so that recovery starts near the end of the log.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::format::{
    Pos, Reader, group_options, le32, put, put_bytes, put_group_options, put_topic_options,
    topic_options,
};

use super::group::{GroupState, Stage};
use super::{Item, Limits, State, TopicState};

const MAGIC: &[u8; 8] = b"SBMQSNP\x01";

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
    let topics: Vec<_> = state.topics.values().filter(|t| t.committed).collect();
    put(&mut b, topics.len() as u64);
    for t in topics {
        put(&mut b, u64::from(t.id));
        put_bytes(&mut b, t.name.as_bytes());
        put_topic_options(&mut b, &t.options);
        put(&mut b, t.published);
        let dedup: Vec<_> = t
            .dedup_order
            .iter()
            .filter_map(|(_, id)| t.dedup.get(id).map(|(s, time)| (id, *s, *time)))
            .collect();
        let dedup: Vec<_> = dedup
            .into_iter()
            .filter(|(_, s, _)| *s < state.committed_seq)
            .collect();
        put(&mut b, dedup.len() as u64);
        for (id, seq, time) in dedup {
            put_bytes(&mut b, id);
            put(&mut b, seq);
            put(&mut b, time);
        }
        put(&mut b, t.items.len() as u64);
        let mut last = 0;
        for (seq, i) in &t.items {
            put(&mut b, seq - last);
            last = *seq;
            for n in [
                i.pos.segment,
                i.pos.offset,
                u64::from(i.len),
                u64::from(i.priority),
                i.key,
            ] {
                put(&mut b, n);
            }
            put(&mut b, i.not_before);
            put(&mut b, i.time);
            put(&mut b, u64::from(i.target));
        }
    }
    put(&mut b, state.groups.len() as u64);
    for g in state.groups.values() {
        put(&mut b, u64::from(g.id));
        put(&mut b, u64::from(g.topic));
        put_bytes(&mut b, g.name.as_bytes());
        put_group_options(&mut b, &g.options);
        for n in [g.acked, g.dead, g.delivered, g.redelivered, g.expired] {
            put(&mut b, n);
        }
        let all = g.all_outstanding();
        put(&mut b, all.len() as u64);
        let mut last = 0;
        for seq in all {
            put(&mut b, seq - last);
            last = seq;
            let entry = g.entries.get(&seq);
            put(&mut b, entry.map_or(0, |e| u64::from(e.attempts)));
            put(
                &mut b,
                entry.map_or(0, |e| {
                    if let Stage::Delayed { until } = e.stage {
                        until
                    } else {
                        0
                    }
                }),
            );
        }
    }
    let crc = crc32c::crc32c(&b);
    b.extend_from_slice(&crc.to_le_bytes());
    b
}

/// Reads a snapshot; `None` when it is damaged or cut.
pub(crate) fn decode(bytes: &Bytes, limits: Limits, now: u64) -> Option<(State, Resume)> {
    let end = bytes.len().checked_sub(4)?;
    if bytes.get(..8)? != MAGIC || crc32c::crc32c(&bytes[..end]) != le32(&bytes[end..]) {
        return None;
    }
    let body = bytes.slice(..end);
    let mut r = Reader {
        bytes: &body,
        at: 8,
    };
    let pos = Pos {
        segment: r.u64()?,
        offset: r.u64()?,
    };
    let resume = Resume {
        pos,
        index: r.u64()?,
        epoch: r.u64()?,
        time: r.u64()?,
    };
    let mut state = State::new(limits);
    state.next_seq = r.u64()?;
    state.committed_seq = state.next_seq;
    for _ in 0..r.count(4)? {
        let id = r.u32()?;
        let name = r.string()?;
        let mut t = TopicState::new(id, name.clone(), topic_options(&mut r)?);
        t.committed = true;
        t.published = r.u64()?;
        for _ in 0..r.count(3)? {
            let id = r.bytes()?;
            let (seq, time) = (r.u64()?, r.u64()?);
            t.remember(&id, seq, time);
        }
        let mut seq = 0;
        let mut items = BTreeMap::new();
        for _ in 0..r.count(9)? {
            seq += r.u64()?;
            let item = Item {
                pos: Pos {
                    segment: r.u64()?,
                    offset: r.u64()?,
                },
                len: r.u32()?,
                priority: u8::try_from(r.u64()?).ok()?.min(7),
                key: r.u64()?,
                not_before: r.u64()?,
                time: r.u64()?,
                target: r.u32()?,
                refs: 0,
            };
            t.bytes += u64::from(item.len);
            *state.segments.entry(item.pos.segment).or_insert(0) += 1;
            items.insert(seq, item);
        }
        t.items = items;
        state.next_id = state.next_id.max(id + 1);
        state.topic_names.insert(name, id);
        state.topics.insert(id, t);
    }
    for _ in 0..r.count(8)? {
        let (id, topic) = (r.u32()?, r.u32()?);
        let name = r.string()?;
        let mut g = GroupState::new(id, topic, name.clone(), group_options(&mut r)?, now);
        g.acked = r.u64()?;
        g.dead = r.u64()?;
        g.delivered = r.u64()?;
        g.redelivered = r.u64()?;
        g.expired = r.u64()?;
        let t = state.topics.get_mut(&topic)?;
        let n = r.count(3)?;
        g.published = g.acked + g.dead + n as u64;
        let mut seq = 0;
        for _ in 0..n {
            seq += r.u64()?;
            let attempts = r.u32()?;
            let until = r.u64()?;
            let item = t.items.get_mut(&seq)?;
            item.refs += 1;
            g.place(seq, item.priority, item.key, until, attempts, now);
        }
        t.groups.push(id);
        state.next_id = state.next_id.max(id + 1);
        state.group_names.insert((topic, name), (id, 0));
        state.groups.insert(id, g);
    }
    Some((state, resume))
}
