//! The bytes of a segment: header, frames, records, and the checksums that bind them to their place.

use bytes::Bytes;

use crate::options::{Durability, GroupOptions, Start, TopicOptions, WhenFull};
use crate::weak;

/// Version of the format. It changes only when older builds could not read the files.
pub(crate) const VERSION: u16 = 1;
/// Frames start after this many bytes of a segment.
pub(crate) const SEGMENT_HEADER: u64 = 4096;
/// Synced frames end on a multiple of this, so that no block with acknowledged bytes is written again.
pub(crate) const BLOCK: u64 = 4096;
/// All frames start on a multiple of this.
pub(crate) const ALIGN: u64 = 64;
/// Bytes of a frame header.
pub(crate) const FRAME_HEADER: usize = 64;
/// Bytes in front of each record: checksum and length.
pub(crate) const RECORD_HEADER: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"SBMQSEG\0";
const FRAME_MAGIC: u32 = 0x514D_4253;

/// Where a frame starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Pos {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

pub(crate) fn align(n: u64, to: u64) -> u64 {
    n.div_ceil(to) * to
}

pub(crate) fn segment_name(id: u64) -> String {
    format!("{id:016x}.seg")
}

/// The first block of a segment.
pub(crate) fn segment_header(id: u64, size: u64) -> Vec<u8> {
    let mut b = Vec::with_capacity(64);
    b.extend_from_slice(SEGMENT_MAGIC);
    b.extend_from_slice(&VERSION.to_le_bytes());
    b.extend_from_slice(&[0; 6]);
    b.extend_from_slice(&id.to_le_bytes());
    b.extend_from_slice(&size.to_le_bytes());
    let crc = crc32c::crc32c(&b);
    b.extend_from_slice(&crc.to_le_bytes());
    b
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    Valid { id: u64, size: u64 },
    Version(u16),
    Invalid,
}

pub(crate) fn read_segment_header(b: &[u8]) -> SegmentHeader {
    if b.len() < 36 || &b[..8] != SEGMENT_MAGIC || crc32c::crc32c(&b[..32]) != le32(&b[32..]) {
        return SegmentHeader::Invalid;
    }
    let version = u16::from_le_bytes([b[8], b[9]]);
    if version > VERSION {
        return SegmentHeader::Version(version);
    }
    SegmentHeader::Valid {
        id: le64(&b[16..]),
        size: le64(&b[24..]),
    }
}

/// Header of a frame: one commit, atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) epoch: u64,
    pub(crate) segment: u64,
    pub(crate) index: u64,
    pub(crate) first_seq: u64,
    pub(crate) time: u64,
    pub(crate) body_len: u32,
    pub(crate) records: u32,
    /// How many frames before this one were not known durable when it was written.
    pub(crate) unsynced: u32,
    pub(crate) padded: bool,
}

impl FrameHeader {
    pub(crate) fn encode(&self, offset: u64) -> [u8; FRAME_HEADER] {
        let mut b = [0; FRAME_HEADER];
        b[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        b[4] = 1;
        b[5] = u8::from(self.padded);
        b[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        b[16..24].copy_from_slice(&self.segment.to_le_bytes());
        b[24..32].copy_from_slice(&self.index.to_le_bytes());
        b[32..40].copy_from_slice(&self.first_seq.to_le_bytes());
        b[40..48].copy_from_slice(&self.time.to_le_bytes());
        b[48..52].copy_from_slice(&self.body_len.to_le_bytes());
        b[52..56].copy_from_slice(&self.records.to_le_bytes());
        b[56..60].copy_from_slice(&self.unsynced.to_le_bytes());
        let crc = header_crc(&b, offset);
        b[60..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// The header at this offset of this segment, if it is one and belongs there.
    pub(crate) fn decode(b: &[u8], segment: u64, offset: u64) -> Option<Self> {
        if b.len() < FRAME_HEADER || le32(b) != FRAME_MAGIC || b[4] != 1 {
            return None;
        }
        let elsewhere = le64(&b[16..]) != segment && !weak::unbound();
        if header_crc(b, offset) != le32(&b[60..]) || elsewhere {
            return None;
        }
        Some(Self {
            epoch: le64(&b[8..]),
            segment,
            index: le64(&b[24..]),
            first_seq: le64(&b[32..]),
            time: le64(&b[40..]),
            body_len: le32(&b[48..]),
            records: le32(&b[52..]),
            unsynced: le32(&b[56..]),
            padded: b[5] & 1 == 1,
        })
    }

    /// Offset of the frame after this one.
    pub(crate) fn next(&self, offset: u64) -> u64 {
        let end = offset + FRAME_HEADER as u64 + u64::from(self.body_len);
        align(end, if self.padded { BLOCK } else { ALIGN })
    }

    /// What ties a record to this frame.
    fn bind(&self, ordinal: u32) -> u32 {
        if weak::unbound() {
            return 0;
        }
        let mut z = self.segment.rotate_left(40)
            ^ self.index
            ^ (self.epoch << 20)
            ^ (u64::from(ordinal) << 32);
        z = (z ^ (z >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from(z >> 32).unwrap_or(0)
    }
}

fn header_crc(b: &[u8], offset: u64) -> u32 {
    let offset = if weak::unbound() { 0 } else { offset };
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), &b[..60])
}

/// Copies records (as `put_record` made them) behind a frame header, binding each to the frame.
pub(crate) fn build_frame(header: &FrameHeader, offset: u64, records: &[u8]) -> Vec<u8> {
    let end = usize::try_from(header.next(offset) - offset).unwrap_or(usize::MAX);
    let mut out = Vec::with_capacity(end);
    out.extend_from_slice(&header.encode(offset));
    out.extend_from_slice(records);
    let mut at = FRAME_HEADER;
    let stop = FRAME_HEADER + records.len();
    let mut ordinal = 0;
    while at < stop {
        let bound = le32(&out[at..]) ^ header.bind(ordinal);
        out[at..at + 4].copy_from_slice(&bound.to_le_bytes());
        at += RECORD_HEADER + le32(&out[at + 4..]) as usize;
        ordinal += 1;
    }
    out.resize(end, 0);
    out
}

/// The records of a frame: `Ok` payloads, or which of them are damaged.
pub(crate) fn records(header: &FrameHeader, body: &Bytes) -> Result<Vec<Bytes>, usize> {
    let mut out = Vec::with_capacity((header.records as usize).min(body.len() / RECORD_HEADER + 1));
    let mut at = 0;
    for ordinal in 0..header.records {
        let Some((_, record)) = record_at(body, at).filter(|(b, _)| *b == header.bind(ordinal))
        else {
            return Err(out.len());
        };
        at += RECORD_HEADER + record.len();
        out.push(record);
    }
    if at == body.len() {
        Ok(out)
    } else {
        Err(out.len())
    }
}

/// Every record of a damaged frame that still has a good checksum, with its ordinal.
pub(crate) fn salvage(header: &FrameHeader, body: &Bytes) -> Vec<(u32, Bytes)> {
    let (mut at, mut ordinal, mut out) = (0, 0, Vec::new());
    while at + RECORD_HEADER <= body.len() && ordinal < header.records {
        // After damage the length may be wrong: try each later ordinal here, then the next byte.
        let hit = record_at(body, at).and_then(|(binding, record)| {
            (ordinal..header.records.min(ordinal.saturating_add(64)))
                .find(|o| header.bind(*o) == binding)
                .map(|o| (o, record))
        });
        if let Some((o, record)) = hit {
            at += RECORD_HEADER + record.len();
            ordinal = o + 1;
            out.push((o, record));
        } else {
            at += 1;
        }
    }
    out
}

/// The record that stands here, and what its checksum was bound with if it is intact.
fn record_at(body: &Bytes, at: usize) -> Option<(u32, Bytes)> {
    let head = body.get(at..at + RECORD_HEADER)?;
    let len = le32(&head[4..]) as usize;
    let end = at.checked_add(RECORD_HEADER)?.checked_add(len)?;
    if len == 0 || end > body.len() {
        return None;
    }
    let binding = crc32c::crc32c(&body[at + 4..end]) ^ le32(head);
    Some((binding, body.slice(at + RECORD_HEADER..end)))
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Message(Stored),
    /// A live message written again so that its old segment can go.
    Moved(u64, u64, Stored),
    Settle {
        group: u32,
        seqs: Vec<u64>,
        dead: bool,
    },
    Attempt {
        group: u32,
        seqs: Vec<(u64, u32)>,
    },
    Nack {
        group: u32,
        seq: u64,
        until: u64,
        attempts: u32,
    },
    Topic {
        id: u32,
        name: String,
        options: TopicOptions,
    },
    Group {
        id: u32,
        topic: u32,
        name: String,
        options: GroupOptions,
    },
    DropGroup {
        id: u32,
    },
    Mark,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    pub(crate) topic: u32,
    /// Only this group gets it (0 is every group).
    pub(crate) target: u32,
    pub(crate) priority: u8,
    pub(crate) not_before: u64,
    pub(crate) key: Option<Bytes>,
    pub(crate) dedup: Option<Bytes>,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) body: Bytes,
}

/// Appends a record: checksum (not yet bound), length, payload.
pub(crate) fn put_record(out: &mut Vec<u8>, record: &Record) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    record.encode(out);
    let len = u32::try_from(out.len() - start - RECORD_HEADER).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

impl Record {
    fn encode(&self, b: &mut Vec<u8>) {
        match self {
            Self::Message(m) => {
                b.push(1);
                m.encode(b);
            }
            Self::Settle { group, seqs, dead } => {
                b.push(2);
                b.push(u8::from(*dead));
                put(b, u64::from(*group));
                let ranges = ranges(seqs);
                put(b, ranges.len() as u64);
                let mut last = 0;
                for (first, count) in ranges {
                    put(b, first - last);
                    put(b, count);
                    last = first + count;
                }
            }
            Self::Attempt { group, seqs } => {
                b.push(3);
                put(b, u64::from(*group));
                put(b, seqs.len() as u64);
                for (seq, n) in seqs {
                    put(b, *seq);
                    put(b, u64::from(*n));
                }
            }
            Self::Nack {
                group,
                seq,
                until,
                attempts,
            } => {
                b.push(4);
                put(b, u64::from(*group));
                put(b, *seq);
                put(b, *until);
                put(b, u64::from(*attempts));
            }
            Self::Topic { id, name, options } => {
                b.push(5);
                put(b, u64::from(*id));
                put_bytes(b, name.as_bytes());
                put_topic_options(b, options);
            }
            Self::Group {
                id,
                topic,
                name,
                options,
            } => {
                b.push(6);
                put(b, u64::from(*id));
                put(b, u64::from(*topic));
                put_bytes(b, name.as_bytes());
                put_group_options(b, options);
            }
            Self::DropGroup { id } => {
                b.push(7);
                put(b, u64::from(*id));
            }
            Self::Mark => b.push(8),
            Self::Moved(seq, time, m) => {
                b.push(9);
                put(b, *seq);
                put(b, *time);
                m.encode(b);
            }
        }
    }

    /// Parses a payload. `None` when it is no record of this version.
    pub(crate) fn decode(payload: &Bytes) -> Option<Self> {
        let mut r = Reader {
            bytes: payload,
            at: 1,
        };
        let record = match payload.first()? {
            1 => Self::Message(Stored::decode(&mut r)?),
            2 => {
                let dead = r.byte()? == 1;
                let group = r.u32()?;
                let n = r.count(2)?;
                let (mut seqs, mut last) = (Vec::new(), 0u64);
                for _ in 0..n {
                    let first = last.checked_add(r.u64()?)?;
                    let count = r.u64()?;
                    last = first.checked_add(count)?;
                    if count > 1 << 24 {
                        return None;
                    }
                    seqs.extend(first..last);
                }
                Self::Settle { group, seqs, dead }
            }
            3 => {
                let group = r.u32()?;
                let n = r.count(2)?;
                let mut seqs = Vec::with_capacity(n);
                for _ in 0..n {
                    seqs.push((r.u64()?, r.u32()?));
                }
                Self::Attempt { group, seqs }
            }
            4 => Self::Nack {
                group: r.u32()?,
                seq: r.u64()?,
                until: r.u64()?,
                attempts: r.u32()?,
            },
            5 => Self::Topic {
                id: r.u32()?,
                name: r.string()?,
                options: topic_options(&mut r)?,
            },
            6 => Self::Group {
                id: r.u32()?,
                topic: r.u32()?,
                name: r.string()?,
                options: group_options(&mut r)?,
            },
            7 => Self::DropGroup { id: r.u32()? },
            8 => Self::Mark,
            9 => Self::Moved(r.u64()?, r.u64()?, Stored::decode(&mut r)?),
            _ => return None,
        };
        Some(record)
    }
}

impl Stored {
    pub(crate) fn encode(&self, b: &mut Vec<u8>) {
        let flags = u8::from(self.key.is_some())
            | u8::from(self.dedup.is_some()) << 1
            | u8::from(!self.headers.is_empty()) << 2
            | u8::from(self.not_before != 0) << 3
            | u8::from(self.target != 0) << 4;
        b.push(flags);
        b.push(self.priority);
        put(b, u64::from(self.topic));
        if let Some(key) = &self.key {
            put_bytes(b, key);
        }
        if let Some(dedup) = &self.dedup {
            put_bytes(b, dedup);
        }
        if !self.headers.is_empty() {
            put(b, self.headers.len() as u64);
            for (name, value) in &self.headers {
                put_bytes(b, name.as_bytes());
                put_bytes(b, value);
            }
        }
        if self.not_before != 0 {
            put(b, self.not_before);
        }
        if self.target != 0 {
            put(b, u64::from(self.target));
        }
        b.extend_from_slice(&self.body);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let flags = r.byte()?;
        let priority = r.byte()?.min(7);
        let topic = r.u32()?;
        let key = if flags & 1 != 0 {
            Some(r.bytes()?)
        } else {
            None
        };
        let dedup = if flags & 2 != 0 {
            Some(r.bytes()?)
        } else {
            None
        };
        let mut headers = Vec::new();
        if flags & 4 != 0 {
            for _ in 0..r.count(2)? {
                headers.push((r.string()?, r.bytes()?));
            }
        }
        let not_before = if flags & 8 != 0 { r.u64()? } else { 0 };
        let target = if flags & 16 != 0 { r.u32()? } else { 0 };
        Some(Self {
            topic,
            target,
            priority,
            not_before,
            key,
            dedup,
            headers,
            body: r.bytes.slice(r.at..),
        })
    }
}

/// Runs of consecutive numbers in a sorted list.
fn ranges(seqs: &[u64]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for &seq in seqs {
        match out.last_mut() {
            Some((first, count)) if *first + *count == seq => *count += 1,
            _ => out.push((seq, 1)),
        }
    }
    out
}

pub(crate) fn put_topic_options(b: &mut Vec<u8>, o: &TopicOptions) {
    put(b, o.messages_max);
    put(b, o.bytes_max);
    b.push(u8::from(o.when_full == WhenFull::Refuse));
    put(b, micros(o.dedup_window));
    put(b, u64::from(o.dedup_max));
    b.push(u8::from(o.durability == Durability::Buffered) | u8::from(o.hold) << 1);
}

pub(crate) fn topic_options(r: &mut Reader<'_>) -> Option<TopicOptions> {
    let mut options = TopicOptions {
        messages_max: r.u64()?,
        bytes_max: r.u64()?,
        when_full: if r.byte()? == 1 {
            WhenFull::Refuse
        } else {
            WhenFull::Wait
        },
        dedup_window: std::time::Duration::from_micros(r.u64()?),
        dedup_max: r.u32()?,
        ..TopicOptions::default()
    };
    let flags = r.byte()?;
    options.durability = if flags & 1 == 1 {
        Durability::Buffered
    } else {
        Durability::Synced
    };
    options.hold = flags & 2 == 2;
    Some(options)
}

pub(crate) fn put_group_options(b: &mut Vec<u8>, o: &GroupOptions) {
    b.push(u8::from(o.start == Start::End));
    put(b, micros(o.lease));
    put(b, u64::from(o.deliveries_max));
    put_bytes(b, o.dead_letter.as_deref().unwrap_or("").as_bytes());
    b.push(u8::from(o.ordered_keys));
    put(b, u64::from(o.in_flight_max));
    put(b, micros(o.idle_max));
    b.push(u8::from(o.durability == Durability::Buffered));
}

pub(crate) fn group_options(r: &mut Reader<'_>) -> Option<GroupOptions> {
    Some(GroupOptions {
        start: if r.byte()? == 1 {
            Start::End
        } else {
            Start::Beginning
        },
        lease: std::time::Duration::from_micros(r.u64()?),
        deliveries_max: r.u32()?,
        dead_letter: Some(r.string()?).filter(|s| !s.is_empty()),
        ordered_keys: r.byte()? == 1,
        in_flight_max: r.u32()?,
        idle_max: std::time::Duration::from_micros(r.u64()?),
        durability: if r.byte()? == 1 {
            Durability::Buffered
        } else {
            Durability::Synced
        },
    })
}

pub(crate) fn micros(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Appends a LEB128 number.
pub(crate) fn put(b: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        b.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    b.push((n & 0x7F) as u8);
}

pub(crate) fn put_bytes(b: &mut Vec<u8>, bytes: &[u8]) {
    put(b, bytes.len() as u64);
    b.extend_from_slice(bytes);
}

/// Reads what `put` and `put_bytes` wrote; `None` at anything else.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) at: usize,
}

impl Reader<'_> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let b = self.byte()?;
            if shift == 63 && b > 1 {
                return None;
            }
            n |= u64::from(b & 0x7F) << shift;
            if b & 0x80 == 0 {
                return Some(n);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    /// A count of items that take at least `size` bytes each: never more than can be there.
    pub(crate) fn count(&mut self, size: usize) -> Option<usize> {
        let n = usize::try_from(self.u64()?).ok()?;
        (n <= (self.bytes.len() - self.at) / size.max(1)).then_some(n)
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let n = self.count(1)?;
        let b = self.bytes.slice(self.at..self.at + n);
        self.at += n;
        Some(b)
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

pub(crate) fn le32(b: &[u8]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

pub(crate) fn le64(b: &[u8]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}
