//! One topic: where its messages are, what is special about some of them, and the ids that it remembers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use crate::log::codec::micros;
use crate::options::TopicOptions;

use super::extents::Extents;
use super::intervals::Intervals;

/// What only some messages have. Plain ones cost no memory of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) priority: u8,
    /// Hash of the ordering key, 0 for none.
    pub(crate) key: u64,
    pub(crate) not_before: u64,
}

pub(crate) type Attrs = BTreeMap<u64, Attr>;

#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) options: TopicOptions,
    pub(crate) committed: bool,
    pub(crate) ticket: u64,
    pub(crate) extents: Extents,
    pub(crate) attrs: Attrs,
    /// Messages that stay although no group has them: held for the first group to come, kept for replay, or the
    /// newest of their key.
    pub(crate) kept: Intervals,
    /// The newest message of each key, where only that is kept.
    pub(crate) newest: HashMap<u64, u64>,
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
    pub(crate) fn new(id: u32, name: String, options: TopicOptions) -> Self {
        Self {
            id,
            name,
            options,
            committed: false,
            ticket: 0,
            extents: Extents::default(),
            attrs: Attrs::new(),
            kept: Intervals::default(),
            newest: HashMap::new(),
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

    /// Whether all messages stay for a while after every group has settled them.
    pub(crate) fn keeps(&self) -> bool {
        self.options.keep_bytes > 0
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

    pub(crate) fn known(&self, id: &Bytes, now: u64) -> Option<u64> {
        let (seq, time) = *self.dedup.get(id)?;
        (time >= now.saturating_sub(micros(self.options.dedup_window))).then_some(seq)
    }
}
