//! Reading frames back: open files by segment, and the bytes of messages.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::Reader;
use super::format::{
    ALIGN, BLOCK, FRAME_HEADER, FrameHeader, Pos, RECORD_HEADER, align, plain_records, records,
    salvage, segment_name,
};
use super::record::{MESSAGE, MOVED, Stored};
use crate::storage::{Storage, StorageFile, read_full};

/// Segments kept open at once.
const OPEN_MAX: usize = 64;
/// Bytes of recent frames kept in memory for consumers that keep up.
const RECENT_MAX: usize = 4 << 20;
/// How far a walk from frame to frame looks for the next one behind a damaged one.
const SKIP_MAX: u64 = 256 << 10;

#[derive(Debug)]
pub(crate) struct SegmentReader {
    storage: Arc<dyn Storage>,
    open: Mutex<BTreeMap<u64, Arc<dyn StorageFile>>>,
    recent: Mutex<Recent>,
    /// The frame that was read last: takes in a row want it again.
    last: Mutex<Option<Arc<Parsed>>>,
}

/// Frames as they were written, oldest first: the log only goes forward, so they are sorted.
#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<(Pos, Bytes)>,
    bytes: usize,
}

impl Recent {
    fn get(&self, pos: Pos) -> Option<&Bytes> {
        let at = self.frames.binary_search_by_key(&pos, |(p, _)| *p).ok()?;
        self.frames.get(at).map(|(_, frame)| frame)
    }
}

/// A frame and where its messages are in it.
#[derive(Debug)]
struct Parsed {
    pos: Pos,
    header: FrameHeader,
    body: Bytes,
    /// Message, start and end of its payload; sorted by message.
    messages: Vec<(u64, u32, u32)>,
    /// When those were stored that have moved here.
    moved: BTreeMap<u64, u64>,
}

/// Why a message could not be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) what: String,
    /// The disk refused to say; the bytes may be sound.
    pub(crate) refused: bool,
}

impl From<io::Error> for Unreadable {
    fn from(e: io::Error) -> Self {
        Self {
            what: e.to_string(),
            refused: true,
        }
    }
}

impl Parsed {
    fn new(pos: Pos, header: FrameHeader, body: Bytes, trusted: bool) -> Self {
        let mut parsed = Self {
            pos,
            messages: Vec::with_capacity((header.records as usize).min(body.len() / RECORD_HEADER)),
            moved: BTreeMap::new(),
            header,
            body,
        };
        let mut found = Vec::new();
        let plain = trusted && {
            let all = plain_records(&header, &parsed.body, |start, end| found.push((start, end)));
            all.is_some()
        };
        if plain {
            let only_messages =
                (found.iter()).all(|(at, _)| parsed.body.get(*at) == Some(&MESSAGE));
            parsed.index((0..).zip(found), only_messages, true);
            return parsed;
        }
        let (found, complete) = match records(&header, &parsed.body) {
            Ok(all) => ((0..).zip(all).collect(), true),
            Err(_) => (salvage(&header, &parsed.body), false),
        };
        let only_messages = found.iter().all(|(_, p)| p.first() == Some(&MESSAGE));
        let base = parsed.body.as_ptr() as usize;
        let ranges = found.into_iter().map(|(ordinal, payload)| {
            let start = payload.as_ptr() as usize - base;
            (ordinal, (start, start + payload.len()))
        });
        parsed.index(ranges.collect::<Vec<_>>(), only_messages, complete);
        parsed
    }

    /// Notes where messages are. Behind a hole in a mixed frame, their numbers are not known.
    fn index(
        &mut self,
        found: impl IntoIterator<Item = (u32, (usize, usize))>,
        only_messages: bool,
        complete: bool,
    ) {
        let first_seq = self.header.first_seq;
        let (mut seq, mut gap) = (first_seq, 0);
        for (ordinal, (from, to)) in found {
            let start = u32::try_from(from).unwrap_or(u32::MAX);
            let end = u32::try_from(to).unwrap_or(u32::MAX);
            match self.body.get(from) {
                Some(&MESSAGE) => {
                    if only_messages {
                        seq = first_seq + u64::from(ordinal);
                    } else if !complete && ordinal != gap {
                        continue;
                    }
                    self.messages.push((seq, start, end));
                    seq += 1;
                }
                Some(&MOVED) => {
                    let payload = self.body.slice(from..to);
                    let mut r = Reader::new(&payload, 1);
                    if let (Some(old), Some(time)) = (r.u64(), r.u64()) {
                        self.moved.insert(old, time);
                        let at = start + u32::try_from(r.at).unwrap_or(0);
                        self.messages.push((old, at, end));
                    }
                }
                _ => {}
            }
            gap = ordinal + 1;
        }
        self.messages.sort_unstable();
    }

    /// A message and when it was stored.
    fn message(&self, seq: u64) -> Option<(Stored, u64)> {
        let i = self
            .messages
            .binary_search_by_key(&seq, |(s, _, _)| *s)
            .ok()?;
        let (_, start, end) = self.messages[i];
        let payload = self.body.slice(start as usize..end as usize);
        let moved = self.moved.get(&seq);
        // What stands in front of a moved message was passed over.
        let stored = Stored::decode(&mut Reader::new(&payload, usize::from(moved.is_none())))?;
        Some((stored, moved.copied().unwrap_or(self.header.time)))
    }
}

impl SegmentReader {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            open: Mutex::default(),
            recent: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// A frame as it was written, for readers that come soon.
    pub(crate) fn remember(&self, pos: Pos, frame: Bytes) {
        let mut recent = self.recent.lock();
        recent.bytes += frame.len();
        recent.frames.push_back((pos, frame));
        while recent.bytes > RECENT_MAX {
            let Some((_, old)) = recent.frames.pop_front() else {
                break;
            };
            recent.bytes -= old.len();
        }
    }

    /// Forgets a segment that is about to be recycled.
    pub(crate) fn forget(&self, segment: u64) {
        self.open.lock().remove(&segment);
        self.last.lock().take_if(|p| p.pos.segment == segment);
        let mut recent = self.recent.lock();
        let recent = &mut *recent;
        recent.frames.retain(|(pos, _)| pos.segment != segment);
        recent.bytes = recent.frames.iter().map(|(_, frame)| frame.len()).sum();
    }

    fn file(&self, segment: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let file = self.storage.open(&segment_name(segment), false)?;
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(segment, Arc::clone(&file));
        Ok(file)
    }

    fn header(&self, pos: Pos) -> Result<Option<FrameHeader>, Unreadable> {
        if let Some(frame) = self.recent.lock().get(pos) {
            return Ok(FrameHeader::decode(frame, pos.segment, pos.offset));
        }
        let mut head = [0; FRAME_HEADER];
        let file = self.file(pos.segment)?;
        let n = read_full(&*file, &mut head, pos.offset)?;
        Ok(FrameHeader::decode(&head[..n], pos.segment, pos.offset))
    }

    /// The frame of a message, starting at one that stands at or a little before it.
    fn find(&self, start: Pos, seq: u64) -> Result<Pos, Unreadable> {
        let mut at = start;
        let mut here = self.header(start)?;
        loop {
            let Some(h) = here else {
                return self.find_behind_damage(at, seq);
            };
            if h.first_seq > seq {
                // The message has moved to it.
                return Ok(at);
            }
            let next = h.next(at.offset);
            let mut found = None;
            for offset in [next, align(next, BLOCK)] {
                let pos = Pos { offset, ..at };
                found = self.header(pos)?.filter(|n| n.index == h.index + 1);
                if let Some(n) = found {
                    if n.first_seq > seq {
                        return Ok(at);
                    }
                    at = pos;
                    break;
                }
            }
            if found.is_none() {
                // It is the last one, or the next one is damaged.
                let frame = self.parse(at)?;
                if frame
                    .messages
                    .last()
                    .is_some_and(|(last, _, _)| *last >= seq)
                {
                    return Ok(at);
                }
                at.offset = next;
            }
            here = found;
        }
    }

    fn find_behind_damage(&self, from: Pos, seq: u64) -> Result<Pos, Unreadable> {
        let mut best = None;
        let mut at = align(from.offset, ALIGN);
        while at < from.offset + SKIP_MAX {
            let pos = Pos { offset: at, ..from };
            match self.header(pos)? {
                Some(h) if h.first_seq > seq => break,
                Some(h) => {
                    best = Some(pos);
                    at = align(h.next(at), ALIGN);
                }
                None => at += ALIGN,
            }
        }
        best.ok_or_else(|| Unreadable {
            what: "the frame header does not match its checksum or place".into(),
            refused: false,
        })
    }

    fn parse(&self, pos: Pos) -> Result<Arc<Parsed>, Unreadable> {
        if let Some(last) = &*self.last.lock()
            && last.pos == pos
        {
            return Ok(Arc::clone(last));
        }
        let cached = self.recent.lock().get(pos).cloned();
        let trusted = cached.is_some();
        let (header, body) = match cached {
            Some(frame) => split(pos, frame)?,
            None => self.load(pos)?,
        };
        let parsed = Arc::new(Parsed::new(pos, header, body, trusted));
        *self.last.lock() = Some(Arc::clone(&parsed));
        Ok(parsed)
    }

    fn load(&self, pos: Pos) -> Result<(FrameHeader, Bytes), Unreadable> {
        let file = self.file(pos.segment)?;
        // One read brings the frames of lone publishes whole.
        let mut first = vec![0; 4096];
        let n = read_full(&*file, &mut first, pos.offset)?;
        first.truncate(n);
        if let Some(header) = FrameHeader::decode(&first, pos.segment, pos.offset) {
            let whole = FRAME_HEADER + header.body_len as usize;
            if first.len() < whole && pos.offset + whole as u64 <= file.len()? {
                let have = first.len();
                first.resize(whole, 0);
                read_full(&*file, &mut first[have..], pos.offset + have as u64)?;
            }
        }
        split(pos, Bytes::from(first))
    }

    /// The message with this number in the frame at `pos`, or in one that follows closely, and when it was
    /// stored.
    pub(crate) fn message(&self, pos: Pos, seq: u64) -> Result<(Stored, u64), Unreadable> {
        let last = self.last.lock().clone();
        let near = last.filter(|l| l.pos.segment == pos.segment && l.pos >= pos);
        let mut start = pos;
        if let Some(near) = near {
            if let Some(found) = near.message(seq) {
                return Ok(found);
            }
            if near.header.first_seq <= seq {
                start = near.pos;
            }
        }
        let frame = self.parse(self.find(start, seq)?)?;
        frame.message(seq).ok_or_else(|| Unreadable {
            what: "the record does not match its checksum".into(),
            refused: false,
        })
    }
}

fn split(pos: Pos, frame: Bytes) -> Result<(FrameHeader, Bytes), Unreadable> {
    let unreadable = |what: &str| Unreadable {
        what: what.into(),
        refused: false,
    };
    let header = FrameHeader::decode(&frame, pos.segment, pos.offset)
        .ok_or_else(|| unreadable("the frame header does not match its checksum or place"))?;
    let whole = FRAME_HEADER + header.body_len as usize;
    if frame.len() < whole {
        return Err(unreadable("the frame is cut off by the end of the file"));
    }
    let body = frame.slice(FRAME_HEADER..whole);
    Ok((header, body))
}
