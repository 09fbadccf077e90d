//! The bytes of a segment: header, frames, records, and the checksums that bind them to their place.

use bytes::Bytes;

use super::codec::{SMALL, le32, le64};
use crate::weak;

/// Version of the format. It changes only when older builds could not read the files. Version 1 was never released.
pub(crate) const VERSION: u16 = 2;
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
    if version != VERSION {
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
        // A checksum is no proof of sense.
        if [8, 24, 32, 40].iter().any(|at| le64(&b[*at..]) >= SMALL) {
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

/// Room for `bytes` of records behind the room for a frame header.
pub(crate) fn frame_buf(bytes: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity((FRAME_HEADER + bytes).next_multiple_of(FRAME_HEADER));
    frame.resize(FRAME_HEADER, 0);
    frame
}

/// Makes a frame of records (as `put_record` made them, in a [`frame_buf`]): binds each to the frame, fills in the
/// header, and pads.
pub(crate) fn seal(header: &FrameHeader, offset: u64, frame: &mut Vec<u8>) {
    bind_all(header, frame);
    frame[..FRAME_HEADER].copy_from_slice(&header.encode(offset));
    let end = usize::try_from(header.next(offset) - offset).unwrap_or(usize::MAX);
    frame.resize(end, 0);
}

/// Takes a frame apart again, so that it can be sealed for another place.
pub(crate) fn unseal(header: &FrameHeader, frame: &mut Vec<u8>) {
    frame.truncate(FRAME_HEADER + header.body_len as usize);
    bind_all(header, frame);
}

/// Binds each record to the frame, or undoes that.
fn bind_all(header: &FrameHeader, frame: &mut [u8]) {
    let mut at = FRAME_HEADER;
    let mut ordinal = 0;
    while at < frame.len() {
        let bound = le32(&frame[at..]) ^ header.bind(ordinal);
        frame[at..at + 4].copy_from_slice(&bound.to_le_bytes());
        at += RECORD_HEADER + le32(&frame[at + 4..]) as usize;
        ordinal += 1;
    }
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

/// Calls `f` with start and end of each payload in the body of a frame that is known to be intact; `None` when the
/// lengths do not fit.
pub(crate) fn plain_records(
    header: &FrameHeader,
    body: &[u8],
    mut f: impl FnMut(usize, usize),
) -> Option<()> {
    let mut at = 0;
    for _ in 0..header.records {
        let start = at + RECORD_HEADER;
        let end = start + le32(body.get(at + 4..start)?) as usize;
        if end > body.len() {
            return None;
        }
        f(start, end);
        at = end;
    }
    Some(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::record::{Head, Record, put_message, put_record};

    #[test]
    fn a_frame_is_written_as_ever() {
        let header = FrameHeader {
            epoch: 3,
            segment: 7,
            index: 41,
            first_seq: 1000,
            time: 1_764_057_600_000_000,
            body_len: 0,
            records: 2,
            unsynced: 1,
            padded: false,
        };
        let head = Head {
            topic: 2,
            priority: 5,
            not_before: 9,
            key: Some(b"k"),
            dedup: Some(b"d"),
        };
        let mut frame = frame_buf(0);
        put_message(&mut frame, &head, &[("h".into(), "v".into())], b"body");
        put_record(&mut frame, &Record::Mark);
        let unsealed = frame.clone();
        let body_len = u32::try_from(frame.len() - FRAME_HEADER).unwrap();
        let header = FrameHeader { body_len, ..header };
        seal(&header, 8192, &mut frame);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let (written, padding) = frame.split_at(unsealed.len());
        assert_eq!(
            hex(written),
            include_str!("../../tests/vectors/frame.hex").trim()
        );
        assert!(padding.iter().all(|b| *b == 0) && frame.len().is_multiple_of(64));
        unseal(&header, &mut frame);
        assert_eq!(frame[FRAME_HEADER..], unsealed[FRAME_HEADER..]);
    }
}
