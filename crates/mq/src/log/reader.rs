//! Reading frames back: open files by segment, and the bytes of one message.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::format::{
    FRAME_HEADER, FrameHeader, Pos, Record, Stored, records, salvage, segment_name,
};
use crate::storage::{Storage, StorageFile, read_full};

/// Segments kept open at once.
const OPEN_MAX: usize = 64;
/// Bytes of recent frames kept in memory for consumers that keep up.
const RECENT_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct SegmentReader {
    storage: Arc<dyn Storage>,
    open: Mutex<BTreeMap<u64, Arc<dyn StorageFile>>>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    frames: BTreeMap<Pos, Bytes>,
    order: std::collections::VecDeque<Pos>,
    bytes: usize,
}

/// Why a message could not be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) what: String,
}

impl SegmentReader {
    pub(crate) fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            storage,
            open: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// A frame as it was written, for readers that come soon.
    pub(crate) fn remember(&self, pos: Pos, frame: Bytes) {
        let mut recent = self.recent.lock();
        recent.bytes += frame.len();
        recent.order.push_back(pos);
        recent.frames.insert(pos, frame);
        while recent.bytes > RECENT_MAX {
            let Some(old) = recent.order.pop_front() else {
                break;
            };
            if let Some(frame) = recent.frames.remove(&old) {
                recent.bytes -= frame.len();
            }
        }
    }

    /// Forgets a segment that is about to be recycled.
    pub(crate) fn forget(&self, segment: u64) {
        self.open.lock().remove(&segment);
        let mut recent = self.recent.lock();
        recent.frames.retain(|pos, _| pos.segment != segment);
        recent.bytes = recent.frames.values().map(Bytes::len).sum();
        let frames = std::mem::take(&mut recent.frames);
        recent.order.retain(|pos| frames.contains_key(pos));
        recent.frames = frames;
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

    fn frame(&self, pos: Pos) -> Result<(FrameHeader, Bytes), Unreadable> {
        if let Some(frame) = self.recent.lock().frames.get(&pos) {
            let header = FrameHeader::decode(frame, pos.segment, pos.offset);
            if let Some(h) = header {
                let body = frame.slice(FRAME_HEADER..FRAME_HEADER + h.body_len as usize);
                return Ok((h, body));
            }
        }
        let io = |e: io::Error| Unreadable {
            what: e.to_string(),
        };
        let file = self.file(pos.segment).map_err(io)?;
        // One read brings the frames of lone publishes whole.
        let mut first = vec![0; 4096];
        let n = read_full(&*file, &mut first, pos.offset).map_err(io)?;
        first.truncate(n);
        let header =
            FrameHeader::decode(&first, pos.segment, pos.offset).ok_or_else(|| Unreadable {
                what: "the frame header does not match its checksum or place".into(),
            })?;
        let len = header.body_len as usize;
        let whole = FRAME_HEADER + len;
        if first.len() < whole {
            let have = first.len();
            let size = file.len().map_err(io)?;
            if pos.offset + whole as u64 > size {
                return Err(Unreadable {
                    what: "the frame is cut off by the end of the file".into(),
                });
            }
            first.resize(whole, 0);
            read_full(&*file, &mut first[have..], pos.offset + have as u64).map_err(io)?;
        }
        let bytes = Bytes::from(first);
        Ok((header, bytes.slice(FRAME_HEADER..whole)))
    }

    /// The message with this sequence number in the frame at `pos`.
    pub(crate) fn message(&self, pos: Pos, seq: u64) -> Result<Stored, Unreadable> {
        let (header, body) = self.frame(pos)?;
        let payloads: Vec<(u32, Bytes)> = records(&header, &body).map_or_else(
            |_| salvage(&header, &body),
            |all| {
                all.into_iter()
                    .enumerate()
                    .map(|(i, r)| (u32::try_from(i).unwrap_or(u32::MAX), r))
                    .collect()
            },
        );
        let complete = payloads.len() == header.records as usize;
        let mut at = header.first_seq;
        for (_, payload) in &payloads {
            match Record::decode(payload) {
                Some(Record::Message(m)) => {
                    // With records missing, positions in the frame no longer give sequence numbers.
                    if complete && at == seq {
                        return Ok(m);
                    }
                    at += 1;
                }
                Some(Record::Moved(old, _, m)) if old == seq => return Ok(m),
                _ => {}
            }
        }
        if !complete {
            // Lone messages per record only: count ordinals where every lost record was a message.
            let only_messages = payloads.iter().all(|(_, p)| p.first() == Some(&1));
            if only_messages {
                let want = u32::try_from(seq.wrapping_sub(header.first_seq)).unwrap_or(u32::MAX);
                if let Some((_, p)) = payloads.iter().find(|(o, _)| *o == want)
                    && let Some(Record::Message(m)) = Record::decode(p)
                {
                    return Ok(m);
                }
            }
        }
        Err(Unreadable {
            what: "the record does not match its checksum".into(),
        })
    }
}
