//! What one server tells the others: 42 bytes and a tag.

use subtle::ConstantTimeEq;

use super::FeedError;
use crate::hash::keyed;
use crate::time::Timestamp;

const VERSION: u8 = 2;
pub(super) const TAG: usize = 16;

/// One change. Each is a maximum over what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Session {
        hash: u64,
    },
    Subject {
        hash: u64,
        generation: u64,
    },
    /// Everybody who authenticated before this.
    Global {
        before: Timestamp,
    },
    /// Subjects whose first `length` bytes have this hash, and who authenticated before.
    Prefix {
        hash: u64,
        length: u8,
        before: Timestamp,
    },
}

impl Change {
    pub(super) fn encode(self) -> (u8, u64, u64) {
        match self {
            Self::Session { hash } => (0, hash, 0),
            Self::Subject { hash, generation } => (1, hash, generation),
            Self::Global { before } => (2, 0, before.as_secs()),
            Self::Prefix {
                hash,
                length,
                before,
            } => (4, hash, before.as_secs() << 8 | u64::from(length)),
        }
    }

    pub(super) fn decode(kind: u8, hash: u64, value: u64) -> Option<Self> {
        Some(match kind {
            0 => Self::Session { hash },
            1 => Self::Subject {
                hash,
                generation: value,
            },
            2 => Self::Global {
                before: Timestamp::from_secs(value),
            },
            4 => Self::Prefix {
                hash,
                length: value.to_le_bytes()[0],
                before: Timestamp::from_secs(value >> 8),
            },
            _ => return None,
        })
    }
}

pub(super) struct Message {
    pub(super) origin: u64,
    pub(super) number: u64,
    /// `None`: it only says how many there were.
    pub(super) change: Option<Change>,
    pub(super) forget_at: Timestamp,
}

const BEAT: u8 = 3;

impl Message {
    pub(super) fn write(&self, key: &[u8; 32]) -> Vec<u8> {
        let (kind, hash, value) = self.change.map_or((BEAT, 0, 0), Change::encode);
        let mut body = Vec::with_capacity(42 + TAG);
        body.push(VERSION);
        body.extend_from_slice(&self.origin.to_le_bytes());
        body.extend_from_slice(&self.number.to_le_bytes());
        body.push(kind);
        for number in [hash, value, self.forget_at.as_secs()] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        seal(body, key)
    }

    pub(super) fn read(message: &[u8], key: &[u8; 32]) -> Result<Self, FeedError> {
        let body = open(message, key)?;
        if body.len() != 42 || body[0] != VERSION {
            return Err(FeedError::Malformed);
        }
        let change = match body[17] {
            BEAT => None,
            kind => Some(
                Change::decode(kind, number(body, 18), number(body, 26))
                    .ok_or(FeedError::Malformed)?,
            ),
        };
        Ok(Self {
            origin: number(body, 1),
            number: number(body, 9),
            change,
            forget_at: Timestamp::from_secs(number(body, 34)),
        })
    }
}

/// All that is known: the numbers of the senders and the changes.
#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) senders: Vec<(u64, u64)>,
    pub(super) changes: Vec<(Change, Timestamp)>,
}

impl Snapshot {
    pub(super) fn write(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(10 + self.senders.len() * 16 + self.changes.len() * 25 + TAG);
        body.extend_from_slice(&[VERSION, b'S']);
        body.extend_from_slice(&(self.senders.len() as u64).to_le_bytes());
        for (origin, sent) in &self.senders {
            body.extend_from_slice(&origin.to_le_bytes());
            body.extend_from_slice(&sent.to_le_bytes());
        }
        for (change, forget_at) in &self.changes {
            let (kind, hash, value) = change.encode();
            body.push(kind);
            for number in [hash, value, forget_at.as_secs()] {
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
        seal(body, key)
    }

    pub(super) fn read(snapshot: &[u8], key: &[u8; 32]) -> Result<Self, FeedError> {
        let body = open(snapshot, key)?;
        let rest = body
            .strip_prefix(&[VERSION, b'S'])
            .ok_or(FeedError::Malformed)?;
        let (count, rest) = rest.split_first_chunk().ok_or(FeedError::Malformed)?;
        let senders = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(16))
            .and_then(|bytes| rest.split_at_checked(bytes));
        let (senders, changes) = senders.ok_or(FeedError::Malformed)?;
        let changes = changes.chunks_exact(25);
        if !changes.remainder().is_empty() {
            return Err(FeedError::Malformed);
        }
        let change = |entry: &[u8]| {
            let change = Change::decode(entry[0], number(entry, 1), number(entry, 9));
            let forget_at = Timestamp::from_secs(number(entry, 17));
            Ok((change.ok_or(FeedError::Malformed)?, forget_at))
        };
        Ok(Self {
            senders: (senders.chunks_exact(16))
                .map(|sender| (number(sender, 0), number(sender, 8)))
                .collect(),
            changes: changes.map(change).collect::<Result<_, _>>()?,
        })
    }
}

fn seal(mut body: Vec<u8>, key: &[u8; 32]) -> Vec<u8> {
    let tag = tag(&body, key);
    body.extend_from_slice(&tag);
    body
}

fn open<'a>(message: &'a [u8], key: &[u8; 32]) -> Result<&'a [u8], FeedError> {
    let (body, is) = message
        .split_last_chunk::<TAG>()
        .ok_or(FeedError::Malformed)?;
    if bool::from(tag(body, key).ct_eq(is)) {
        Ok(body)
    } else {
        Err(FeedError::Malformed)
    }
}

fn tag(body: &[u8], key: &[u8; 32]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    keyed(&mut tag, key, &[b"t", body]);
    tag
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
