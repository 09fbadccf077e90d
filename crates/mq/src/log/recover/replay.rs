//! Replay: the frames of one segment after another, what vouches for a bad one, and what can be rescued of it.

use bytes::Bytes;

use super::super::codec::Reader;
use super::super::format::{
    ALIGN, BLOCK, FRAME_HEADER, FrameHeader, Pos, SEGMENT_HEADER, align, records, salvage,
    segment_name,
};
use super::super::record::{Head, MESSAGE, Record, Stored};
use super::{Damage, Recovery};
use crate::error::OpenError;
use crate::state::{Effect, Run, State};

/// A message that was read from a damaged frame: it must be written again.
#[derive(Debug)]
pub(super) struct Rescued {
    pub(super) seq: u64,
    pub(super) time: u64,
    pub(super) stored: Stored,
}

/// The running state of a replay.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) state: State,
    pub(super) report: Recovery,
    /// Index of the frame that must come next.
    pub(super) expected: u64,
    pub(super) epoch: u64,
    pub(super) time: u64,
    pub(super) salvage: bool,
    pub(super) now: u64,
    pub(super) rescued: Vec<Rescued>,
    /// Damaged bytes, to be kept beside the log: segment, offset, bytes.
    pub(super) quarantine: Vec<(u64, u64, Bytes)>,
}

/// One segment to replay.
pub(super) struct Scan<'a> {
    pub(super) id: u64,
    pub(super) bytes: &'a Bytes,
    /// Frames from this index on stand in a later segment.
    pub(super) limit: u64,
    /// Whether no later segment holds a frame.
    pub(super) tail: bool,
}

impl Replay {
    /// Damage that stops an open, unless it may be skipped; then it is reported and its bytes are kept.
    pub(super) fn damaged(
        &mut self,
        segment: u64,
        offset: u64,
        bytes: Bytes,
        recovered: u64,
        what: &str,
    ) -> Result<(), OpenError> {
        if !self.salvage {
            return Err(OpenError::Damaged {
                file: segment_name(segment),
                offset,
                what: what.into(),
            });
        }
        self.report.damage.push(Damage {
            file: segment_name(segment),
            offset,
            bytes: bytes.len() as u64,
            recovered,
        });
        self.quarantine.push((segment, offset, bytes));
        Ok(())
    }

    /// Replays a segment from `start`; returns where the next frame may be written.
    pub(super) fn segment(&mut self, scan: &Scan<'_>, start: u64) -> Result<u64, OpenError> {
        let mut at = usize::try_from(start).unwrap_or(usize::MAX);
        loop {
            if self.expected >= scan.limit {
                return Ok(at as u64);
            }
            let block = usize::try_from(align(at as u64, BLOCK)).unwrap_or(usize::MAX);
            let headers = [at, block].map(|a| {
                let h = frame_at(scan.id, scan.bytes, a)?;
                (h.index == self.expected && h.epoch >= self.epoch).then_some((a, h))
            });
            // A torn frame may still stand in front of the block where the next generation went on.
            let good = headers.iter().flatten().find_map(|(a, h)| {
                let payloads = records(h, &body_of(h, scan.bytes, *a)).ok()?;
                Some((*a, *h, payloads))
            });
            if let Some((a, h, payloads)) = good {
                self.apply(&h, a, &payloads);
                at = usize::try_from(h.next(a as u64)).unwrap_or(usize::MAX);
                continue;
            }
            // No good frame here. Was there one once?
            let hit = headers.into_iter().flatten().next();
            let from = hit.map_or(at, |(a, _)| a);
            let voucher = later_frames(scan, from, self.expected, self.epoch)
                .find(|(_, h)| h.index.saturating_sub(h.unsynced.into()) > self.expected);
            let Some((_, voucher)) = voucher.or_else(|| (!scan.tail).then(|| (0, end(scan.limit))))
            else {
                let rest = scan.bytes.get(at..).unwrap_or_default();
                self.report.torn_tail |= rest.iter().take(FRAME_HEADER).any(|x| *x != 0);
                return Ok(at as u64);
            };
            // Frames in between that nobody vouches for yet are good all the same.
            let next = later_frames(scan, from, self.expected, self.epoch)
                .find(|(_, h)| h.index <= voucher.index);
            let stop = next.map_or(scan.bytes.len(), |(a, _)| a);
            let whole = next.map_or(scan.limit, |(_, h)| h.index) == self.expected + 1;
            let header = hit.map(|(_, h)| h).or_else(|| {
                // Only the header is bad, perhaps: all that binds the records is known.
                let body = stop.checked_sub(from + FRAME_HEADER)?;
                whole.then(|| self.presumed(scan.id, body))
            });
            let bytes = scan.bytes.slice(from.min(stop)..stop);
            let good = header
                .filter(|_| self.salvage)
                .map(|h| (h, salvage(&h, &body_of(&h, scan.bytes, from))));
            let recovered = good.as_ref().map_or(0, |(_, g)| g.len()) as u64;
            let what =
                "a frame does not match its checksum, and a later one shows that it was durable";
            self.damaged(scan.id, from as u64, bytes, recovered, what)?;
            if let Some((h, good)) = &good {
                self.apply_salvaged(h, from, good);
            }
            match next {
                Some((a, h)) => {
                    at = a;
                    self.expected = h.index;
                    self.state.next_seq = self.state.next_seq.max(h.first_seq);
                }
                None => {
                    self.expected = scan.limit;
                    return Ok(scan.bytes.len() as u64);
                }
            }
        }
    }

    /// The header that the next frame must have had.
    fn presumed(&self, segment: u64, body: usize) -> FrameHeader {
        FrameHeader {
            epoch: self.epoch,
            segment,
            index: self.expected,
            first_seq: self.state.next_seq,
            time: self.time,
            body_len: u32::try_from(body).unwrap_or(u32::MAX),
            records: u32::MAX,
            unsynced: 0,
            padded: false,
        }
    }

    fn apply(&mut self, h: &FrameHeader, at: usize, payloads: &[Bytes]) {
        let pos = Pos {
            segment: h.segment,
            offset: at as u64,
        };
        if h.epoch != self.epoch {
            self.state.close_extents();
        }
        let mut seq = h.first_seq;
        let mut run = Run::default();
        for payload in payloads {
            if payload.first() == Some(&MESSAGE)
                && let Some((head, _)) = Head::decode(&mut Reader::new(payload, 1))
            {
                let bytes = payload.len() + 8;
                if !run.add(&head, bytes) {
                    seq += self.publish(std::mem::take(&mut run), seq, pos, h.time);
                    run.add(&head, bytes);
                }
                continue;
            }
            seq += self.publish(std::mem::take(&mut run), seq, pos, h.time);
            // A record kind of a later minor version is passed over.
            if let Some(record) = Record::decode(payload) {
                if let Record::Moved(_, _, m) = &record {
                    self.place_of(m.topic);
                }
                self.state
                    .apply(Effect::Other(record), seq, pos, h.time, self.now);
            }
        }
        seq += self.publish(run, seq, pos, h.time);
        self.state.next_seq = self.state.next_seq.max(seq);
        self.state.committed_seq = self.state.committed_seq.max(seq);
        self.report.frames += 1;
        self.epoch = h.epoch;
        self.time = self.time.max(h.time);
        self.expected += 1;
    }

    fn publish(&mut self, run: Run, seq: u64, pos: Pos, time: u64) -> u64 {
        if run.count > 0 {
            self.place_of(run.topic);
        }
        self.state
            .apply(Effect::Publish(run), seq, pos, time, self.now)
    }

    /// Behind damage the record of a topic may be among what was lost.
    fn place_of(&mut self, topic: u32) {
        if !self.report.damage.is_empty() {
            self.state.ensure_topic(topic);
        }
    }

    fn apply_salvaged(&mut self, h: &FrameHeader, at: usize, good: &[(u32, Bytes)]) {
        let pos = Pos {
            segment: h.segment,
            offset: at as u64,
        };
        self.state.close_extents();
        let only_messages = good.iter().all(|(_, p)| p.first() == Some(&MESSAGE));
        let (mut seq, mut gap) = (h.first_seq, 0);
        for (ordinal, payload) in good {
            let Some(record) = Record::decode(payload) else {
                continue;
            };
            let message = matches!(record, Record::Message(_));
            if only_messages {
                seq = h.first_seq + u64::from(*ordinal);
            } else if message && *ordinal != gap {
                // A mixed frame with a hole: which number this message has is not known.
                continue;
            }
            let (number, time) = match &record {
                Record::Moved(old, time, _) => (*old, *time),
                _ => (seq, h.time),
            };
            if let Record::Message(stored) = &record {
                let mut run = Run::default();
                run.add(&stored.head(), payload.len() + 8);
                seq += self.publish(run, seq, pos, h.time);
            } else {
                self.state
                    .apply(Effect::Other(record.clone()), seq, pos, h.time, self.now);
            }
            self.state.close_extents();
            if let Record::Message(stored) | Record::Moved(_, _, stored) = record {
                self.rescued.push(Rescued {
                    seq: number,
                    time,
                    stored,
                });
            }
            gap = ordinal + 1;
        }
        // Numbers of the lost ones are not used again, where it is known how many they were.
        if h.records != u32::MAX {
            seq = seq.max(h.first_seq + u64::from(h.records));
        }
        self.state.next_seq = self.state.next_seq.max(seq);
        self.state.committed_seq = self.state.next_seq;
    }
}

/// Stands for the frames of a later segment, which vouch for all before them.
fn end(index: u64) -> FrameHeader {
    FrameHeader {
        epoch: 0,
        segment: 0,
        index,
        first_seq: 0,
        time: 0,
        body_len: 0,
        records: 0,
        unsynced: 0,
        padded: false,
    }
}

fn frame_at(id: u64, bytes: &Bytes, at: usize) -> Option<FrameHeader> {
    let h = FrameHeader::decode(bytes.get(at..)?, id, at as u64)?;
    let end = at
        .checked_add(FRAME_HEADER)?
        .checked_add(h.body_len as usize)?;
    (end <= bytes.len()).then_some(h)
}

fn body_of(h: &FrameHeader, bytes: &Bytes, at: usize) -> Bytes {
    let end = (at + FRAME_HEADER + h.body_len as usize).min(bytes.len());
    bytes.slice((at + FRAME_HEADER).min(end)..end)
}

/// The frames behind `from` that come later than frame `expected`, in the order in which they stand.
fn later_frames<'a>(
    scan: &'a Scan<'_>,
    from: usize,
    expected: u64,
    epoch: u64,
) -> impl Iterator<Item = (usize, FrameHeader)> + 'a {
    let step = usize::try_from(ALIGN).unwrap_or(64);
    (from + step..(scan.bytes.len() + 1).saturating_sub(FRAME_HEADER))
        .step_by(step)
        .filter_map(move |at| {
            let h = frame_at(scan.id, scan.bytes, at)?;
            let later = h.epoch >= epoch && h.index > expected && h.index < scan.limit;
            later.then_some((at, h))
        })
}

/// Index of the first frame of a segment; `None` when nothing in it was ever completed.
pub(super) fn first_index(id: u64, bytes: &Bytes) -> Option<u64> {
    let start = usize::try_from(SEGMENT_HEADER).ok()?;
    if let Some(h) = frame_at(id, bytes, start)
        && records(&h, &body_of(&h, bytes, start)).is_ok()
    {
        return Some(h.index);
    }
    // Damage at the front: a later frame that knew all before it durable proves that there was one.
    let scan = Scan {
        id,
        bytes,
        limit: u64::MAX,
        tail: true,
    };
    later_frames(&scan, start, 0, 0)
        .find(|(_, h)| h.unsynced == 0)
        .map(|(_, h)| h.index.saturating_sub(1))
}
