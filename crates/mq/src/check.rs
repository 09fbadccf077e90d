//! Looking at a queue's files without opening it: no lock is taken and nothing is written.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use bytes::Bytes;

use crate::log::format::{
    ALIGN, BLOCK, FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader, align,
    read_segment_header, records,
};
use crate::log::record::Record;
use crate::message::{Message, MessageId};

/// A message as it stands in a segment, whether or not it was settled since.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Seen {
    /// Its id.
    pub id: MessageId,
    /// Number of its topic.
    pub topic: u32,
    /// When it was stored.
    pub stored_at: SystemTime,
    /// The message, without its delay.
    pub message: Message,
}

/// What a segment holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// File name.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// What is wrong with its header, if something is.
    pub header: Option<String>,
    /// Good frames.
    pub frames: u64,
    /// Records in them.
    pub records: u64,
    /// Messages among the records.
    pub messages: u64,
    /// Offset and length of what is damaged: a good frame that comes later shows that it was there.
    pub damage: Vec<(u64, u64)>,
    /// Offset behind the last good frame.
    pub end: u64,
    /// Whether something stands there that is no frame: what a crash cuts off, or a damaged last frame.
    pub torn_tail: bool,
}

impl Segment {
    /// Whether nothing is damaged. A torn tail is normal after a crash.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.header.is_none() && self.damage.is_empty()
    }
}

/// Names of a queue's segments, oldest first.
///
/// # Errors
/// What the system says.
pub fn segments(dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(".seg")
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Reads one segment whole, and shows each message that stands in it.
///
/// # Errors
/// What the system says; damage is no error but is in the report.
pub fn segment(
    dir: impl AsRef<Path>,
    name: &str,
    mut each: impl FnMut(Seen),
) -> io::Result<Segment> {
    let bytes = Bytes::from(fs::read(dir.as_ref().join(name))?);
    let id = name.strip_suffix(".seg");
    let id = id
        .and_then(|s| u64::from_str_radix(s, 16).ok())
        .unwrap_or(0);
    let mut found = Segment {
        name: name.to_owned(),
        bytes: bytes.len() as u64,
        header: header(&bytes, id),
        ..Segment::default()
    };
    let mut at = SEGMENT_HEADER;
    let mut last: Option<FrameHeader> = None;
    while let Some((offset, h, payloads)) = next_good(&bytes, id, at, last) {
        if offset > align(at, BLOCK) {
            found.damage.push((at, offset - at));
        }
        found.frames += 1;
        let mut seq = h.first_seq;
        for payload in payloads {
            found.records += 1;
            let (id, time, stored) = match Record::decode(&payload) {
                Some(Record::Message(m)) => {
                    seq += 1;
                    (seq - 1, h.time, m)
                }
                Some(Record::Moved(id, time, m)) => (id, time, m),
                _ => continue,
            };
            found.messages += 1;
            each(Seen {
                id: MessageId(id),
                topic: stored.topic,
                stored_at: UNIX_EPOCH + Duration::from_micros(time),
                message: Message::from_stored(stored),
            });
        }
        at = h.next(offset);
        last = Some(h);
    }
    found.end = at;
    let rest = usize::try_from(at).unwrap_or(usize::MAX);
    found.torn_tail = (bytes.get(rest..).unwrap_or_default().iter())
        .take(FRAME_HEADER)
        .any(|b| *b != 0);
    Ok(found)
}

fn header(bytes: &Bytes, id: u64) -> Option<String> {
    match read_segment_header(bytes) {
        SegmentHeader::Valid { id: named, size } if named == id => {
            let len = bytes.len() as u64;
            (len < size).then(|| format!("the file has {len} bytes of {size}"))
        }
        SegmentHeader::Valid { id: named, .. } => Some(format!("it belongs to segment {named:x}")),
        SegmentHeader::Version(v) => Some(format!("it has format version {v}")),
        SegmentHeader::Invalid => Some("it does not match its checksum".into()),
    }
}

/// The next good frame at or behind `at` that belongs behind the last one.
fn next_good(
    bytes: &Bytes,
    id: u64,
    at: u64,
    last: Option<FrameHeader>,
) -> Option<(u64, FrameHeader, Vec<Bytes>)> {
    let mut offset = align(at, ALIGN);
    loop {
        let start = usize::try_from(offset).ok()?;
        let head = bytes.get(start..).filter(|b| b.len() >= FRAME_HEADER)?;
        let fits = |h: &FrameHeader| last.is_none_or(|l| h.index > l.index && h.epoch >= l.epoch);
        if let Some(h) = FrameHeader::decode(head, id, offset).filter(fits) {
            let body = start + FRAME_HEADER;
            let end = body.checked_add(h.body_len as usize)?;
            if end <= bytes.len()
                && let Ok(payloads) = records(&h, &bytes.slice(body..end))
            {
                return Some((offset, h, payloads));
            }
        }
        offset += ALIGN;
    }
}
