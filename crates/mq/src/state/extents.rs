//! Where a topic's messages are: runs of neighbours in one segment, and the few that have moved.

use std::collections::BTreeMap;

use crate::log::format::Pos;

/// Log bytes that one extent may span; a reader walks so far from frame to frame.
const SPAN_MAX: u64 = 64 << 10;
/// Messages of one extent were published within this many microseconds.
pub(super) const TIME_MAX: u64 = 10_000;

/// Messages with consecutive numbers, in frames that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) last: u64,
    /// The frame of the first one.
    pub(crate) pos: Pos,
    /// When the first one was published.
    pub(crate) time: u64,
    /// Log bytes of those that are held. While some have gone, the mean counts for each.
    pub(crate) bytes: u64,
    /// How many are held.
    pub(crate) held: u64,
}

/// Messages that live in a segment, and that were ever written to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) live: u64,
    pub(crate) total: u64,
}

pub(crate) type Segments = BTreeMap<u64, Occupancy>;

#[derive(Debug, Default)]
pub(crate) struct Extents {
    /// By the number of the first message.
    pub(crate) runs: BTreeMap<u64, Extent>,
    /// Messages that were written again elsewhere.
    pub(crate) moved: BTreeMap<u64, Pos>,
    pub(crate) held: u64,
    pub(crate) bytes: u64,
    /// Whether the last extent may grow: not across an open, where a frame that was cut may stand in between.
    open: bool,
}

impl Extents {
    /// What comes next starts an extent of its own.
    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    /// Adds `count` messages of the frame at `pos`.
    pub(crate) fn push(
        &mut self,
        first: u64,
        count: u64,
        pos: Pos,
        time: u64,
        bytes: u64,
        segments: &mut Segments,
    ) {
        let last = first + count - 1;
        self.held += count;
        self.bytes += bytes;
        let segment = segments.entry(pos.segment).or_default();
        segment.live += count;
        segment.total += count;
        if let Some((_, e)) = self.runs.iter_mut().next_back().filter(|_| self.open)
            && e.last + 1 == first
            && e.pos.segment == pos.segment
            && pos.offset.saturating_sub(e.pos.offset) < SPAN_MAX
            && time.saturating_sub(e.time) < TIME_MAX
        {
            e.last = last;
            e.bytes += bytes;
            e.held += count;
            return;
        }
        let extent = Extent {
            last,
            pos,
            time,
            bytes,
            held: count,
        };
        self.runs.insert(first, extent);
        self.open = true;
    }

    /// The extent of a message: the number of its first, and itself.
    pub(crate) fn of(&self, seq: u64) -> Option<(u64, &Extent)> {
        let (first, e) = self.runs.range(..=seq).next_back()?;
        (seq <= e.last).then_some((*first, e))
    }

    /// The frame of a message, or one that stands a little before it.
    pub(crate) fn locate(&self, seq: u64) -> Option<Pos> {
        match self.moved.get(&seq) {
            Some(pos) => Some(*pos),
            None => self.of(seq).map(|(_, e)| e.pos),
        }
    }

    /// A message is needed no more. It must be held.
    pub(crate) fn free(&mut self, seq: u64, segments: &mut Segments) {
        let Some((first, e)) = self.runs.range_mut(..=seq).next_back() else {
            return;
        };
        let first = *first;
        let share = e.bytes / e.held.max(1);
        e.bytes -= share;
        e.held = e.held.saturating_sub(1);
        self.bytes -= share;
        self.held = self.held.saturating_sub(1);
        let segment = e.pos.segment;
        if e.held == 0 {
            self.bytes -= e.bytes;
            self.runs.remove(&first);
        }
        let segment = self.moved.remove(&seq).map_or(segment, |p| p.segment);
        if let Some(s) = segments.get_mut(&segment) {
            s.live = s.live.saturating_sub(1);
        }
    }

    /// A message was written again at `to`.
    pub(crate) fn relocate(&mut self, seq: u64, to: Pos, segments: &mut Segments) {
        let Some(from) = self.locate(seq) else { return };
        if let Some(s) = segments.get_mut(&from.segment) {
            s.live = s.live.saturating_sub(1);
        }
        let s = segments.entry(to.segment).or_default();
        s.live += 1;
        s.total += 1;
        self.moved.insert(seq, to);
    }

    /// Extents and moved messages that may live in a segment, as ranges of numbers.
    pub(crate) fn within(&self, segment: u64) -> impl Iterator<Item = (u64, u64)> {
        let runs = self
            .runs
            .iter()
            .filter(move |(_, e)| e.pos.segment == segment);
        let moved = self.moved.iter().filter(move |(_, p)| p.segment == segment);
        runs.map(|(first, e)| (*first, e.last))
            .chain(moved.map(|(seq, _)| (*seq, *seq)))
    }
}
