//! The records of the log: what each says, and its bytes.

use bytes::Bytes;

use super::codec::{Reader, put, put_bytes};
use super::format::RECORD_HEADER;
use super::settings::{group_options, put_group_options, put_topic_options, topic_options};
use crate::options::{GroupOptions, TopicOptions};

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Message(Stored),
    /// A live message written again so that its old segment can go.
    Moved(u64, u64, Stored),
    Settle {
        group: u32,
        /// First and how many, in order.
        ranges: Vec<(u64, u64)>,
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
    /// The group goes on at this message.
    Seek {
        group: u32,
        from: u64,
    },
    /// Messages below this one go: those that are only kept, or also those that somebody waits for.
    Discard {
        topic: u32,
        below: u64,
        waiting: bool,
    },
    Mark,
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stored {
    pub(crate) topic: u32,
    pub(crate) priority: u8,
    pub(crate) not_before: u64,
    pub(crate) key: Option<Bytes>,
    pub(crate) dedup: Option<Bytes>,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) body: Bytes,
}

/// What the queue must know of a message; the rest it reads when somebody takes it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head<'a> {
    pub(crate) topic: u32,
    pub(crate) priority: u8,
    pub(crate) not_before: u64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) dedup: Option<&'a [u8]>,
}

/// Appends a record: checksum (not yet bound), length, payload.
fn put_framed(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    payload(out);
    let len = u32::try_from(out.len() - start - RECORD_HEADER).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn put_record(out: &mut Vec<u8>, record: &Record) {
    put_framed(out, |b| record.encode(b));
}

pub(crate) fn put_message(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    headers: &[(String, Bytes)],
    body: &[u8],
) {
    put_framed(out, |b| {
        b.push(MESSAGE);
        put_stored(b, head, headers, body);
    });
}

/// First byte of the payload of a message.
pub(crate) const MESSAGE: u8 = 1;
/// First byte of the payload of a message that was written again.
pub(crate) const MOVED: u8 = 9;

impl Record {
    fn encode(&self, b: &mut Vec<u8>) {
        match self {
            Self::Message(m) => {
                b.push(MESSAGE);
                m.encode(b);
            }
            Self::Settle {
                group,
                ranges,
                dead,
            } => {
                b.push(2);
                b.push(u8::from(*dead));
                put(b, u64::from(*group));
                put(b, ranges.len() as u64);
                let mut last = 0;
                for (first, count) in ranges {
                    put(b, first - last);
                    put(b, *count);
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
            Self::Seek { group, from } => {
                b.push(10);
                put(b, u64::from(*group));
                put(b, *from);
            }
            Self::Discard {
                topic,
                below,
                waiting,
            } => {
                b.push(11);
                b.push(u8::from(*waiting));
                put(b, u64::from(*topic));
                put(b, *below);
            }
            Self::Moved(seq, time, m) => {
                b.push(MOVED);
                put(b, *seq);
                put(b, *time);
                m.encode(b);
            }
        }
    }

    /// Parses a payload. `None` when it is no record of this version.
    pub(crate) fn decode(payload: &Bytes) -> Option<Self> {
        let mut r = Reader::new(payload, 1);
        let record = match *payload.first()? {
            MESSAGE => Self::Message(Stored::decode(&mut r)?),
            2 => {
                let dead = r.byte()? == 1;
                let group = r.u32()?;
                let n = r.count(2)?;
                let (mut ranges, mut last) = (Vec::with_capacity(n), 0u64);
                for _ in 0..n {
                    let first = last.checked_add(r.u64()?)?;
                    let count = r.u64()?;
                    last = first.checked_add(count)?;
                    ranges.push((first, count));
                }
                Self::Settle {
                    group,
                    ranges,
                    dead,
                }
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
            MOVED => Self::Moved(r.u64()?, r.u64()?, Stored::decode(&mut r)?),
            10 => Self::Seek {
                group: r.u32()?,
                from: r.u64()?,
            },
            11 => {
                let waiting = r.byte()? == 1;
                Self::Discard {
                    topic: r.u32()?,
                    below: r.u64()?,
                    waiting,
                }
            }
            _ => return None,
        };
        Some(record)
    }
}

/// Appends a message as it is stored: flags, priority, topic, what is optional, headers, body.
pub(crate) fn put_stored(
    b: &mut Vec<u8>,
    head: &Head<'_>,
    headers: &[(String, Bytes)],
    body: &[u8],
) {
    let flags = u8::from(head.key.is_some())
        | u8::from(head.dedup.is_some()) << 1
        | u8::from(!headers.is_empty()) << 2
        | u8::from(head.not_before != 0) << 3;
    b.push(flags);
    b.push(head.priority);
    put(b, u64::from(head.topic));
    for bytes in head.key.into_iter().chain(head.dedup) {
        put_bytes(b, bytes);
    }
    if head.not_before != 0 {
        put(b, head.not_before);
    }
    if !headers.is_empty() {
        put(b, headers.len() as u64);
        for (name, value) in headers {
            put_bytes(b, name.as_bytes());
            put_bytes(b, value);
        }
    }
    b.extend_from_slice(body);
}

impl<'a> Head<'a> {
    /// Reads what stands in front of a message's headers and body.
    pub(crate) fn decode(r: &mut Reader<'a>) -> Option<(Self, u8)> {
        let flags = r.byte()?;
        let priority = r.byte()?.min(7);
        let topic = r.u32()?;
        let mut bytes = |flag: u8| {
            if flags & flag == 0 {
                return Some(None);
            }
            r.slice().map(Some)
        };
        let (key, dedup) = (bytes(1)?, bytes(2)?);
        let not_before = if flags & 8 != 0 { r.u64()? } else { 0 };
        let head = Head {
            topic,
            priority,
            not_before,
            key,
            dedup,
        };
        Some((head, flags))
    }
}

impl Stored {
    pub(crate) fn encode(&self, b: &mut Vec<u8>) {
        put_stored(b, &self.head(), &self.headers, &self.body);
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            topic: self.topic,
            priority: self.priority,
            not_before: self.not_before,
            key: self.key.as_deref(),
            dedup: self.dedup.as_deref(),
        }
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        let whole = r.bytes;
        let (head, flags) = Head::decode(r)?;
        let mut headers = Vec::new();
        if flags & 4 != 0 {
            for _ in 0..r.count(2)? {
                headers.push((r.string()?, r.bytes()?));
            }
        }
        Some(Self {
            topic: head.topic,
            priority: head.priority,
            not_before: head.not_before,
            key: head.key.map(|k| whole.slice_ref(k)),
            dedup: head.dedup.map(|d| whole.slice_ref(d)),
            headers,
            body: whole.slice(r.at..),
        })
    }
}

/// Runs of consecutive numbers in a sorted list.
pub(crate) fn ranges(seqs: &[u64]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for &seq in seqs {
        match out.last_mut() {
            Some((first, count)) if *first + *count == seq => *count += 1,
            _ => out.push((seq, 1)),
        }
    }
    out
}
