//! The bytes between client and server: length-delimited frames, one request or answer each.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::lease::{Lease, Settle};
use crate::log::codec::{Reader, le64, micros, put, put_bytes};
use crate::log::record::{Head, Stored, put_stored};
use crate::message::{Message, MessageId, NotBefore, Receipt};

/// Largest frame. A batch beyond it is refused before it is sent.
pub(super) const FRAME_MAX: usize = 64 << 20;

pub(super) const PUBLISH: u8 = 1;
pub(super) const TAKE: u8 = 2;
pub(super) const SETTLE: u8 = 3;
pub(super) const EXTEND: u8 = 4;
pub(super) const TOPIC: u8 = 5;
pub(super) const GROUP: u8 = 6;
pub(super) const STATS: u8 = 7;
/// The first frame of a connection that shows a secret. It is not answered.
pub(super) const HELLO: u8 = 8;

/// Calls back a take that waits. It is not answered.
pub(super) const CANCEL: u8 = 9;

/// Length of a frame's id and kind or status.
pub(super) const HEAD_LEN: usize = 9;

/// Status of an answer.
pub(super) const OK: u8 = 0;
pub(super) const FULL: u8 = 1;
pub(super) const TOO_LARGE: u8 = 2;
pub(super) const UNKNOWN: u8 = 3;
pub(super) const CLOSED: u8 = 4;
pub(super) const LEASE_LOST: u8 = 5;
pub(super) const NO_GROUP: u8 = 6;
pub(super) const DAMAGED: u8 = 7;
pub(super) const TOO_MANY: u8 = 8;
pub(super) const BAD: u8 = 9;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP address; use loopback.
    Tcp(SocketAddr),
    /// A socket file. A stale one is replaced at bind.
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// Reads one frame of at most `max` bytes; `None` at a clean end.
///
/// The first four bytes of an HTTP request are text, so they are a length beyond [`FRAME_MAX`]: what a web page
/// sends to this port never becomes a frame.
pub(super) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<Option<Bytes>> {
    let len = match from.read_u32_le().await {
        Ok(len) => len as usize,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    };
    if !(9..=max).contains(&len) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "frame length out of bounds",
        ));
    }
    // Grows with what arrives, so that a lying length allocates nothing.
    let mut buf = Vec::with_capacity(len.min(64 << 10));
    from.take(len as u64).read_to_end(&mut buf).await?;
    if buf.len() < len {
        return Ok(None);
    }
    Ok(Some(Bytes::from(buf)))
}

pub(super) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> io::Result<()> {
    let len =
        u32::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut whole = Vec::with_capacity(frame.len() + 4);
    whole.extend_from_slice(&len.to_le_bytes());
    whole.extend_from_slice(frame);
    to.write_all(&whole).await
}

/// A frame's id and kind (of a request) or status (of an answer).
pub(super) fn head(frame: &Bytes) -> Option<(u64, u8)> {
    let id = frame.get(..8)?;
    Some((le64(id), *frame.get(8)?))
}

pub(super) fn begin(id: u64, kind: u8) -> Vec<u8> {
    let mut b = id.to_le_bytes().to_vec();
    b.push(kind);
    b
}

pub(super) fn put_message(b: &mut Vec<u8>, m: &Message) {
    let (kind, value) = match m.not_before {
        NotBefore::Now => (0, 0),
        NotBefore::After(d) => (1, micros(d)),
        NotBefore::At(t) => (2, t.duration_since(UNIX_EPOCH).map_or(0, micros)),
    };
    b.push(kind);
    put(b, value);
    let head = Head {
        priority: m.priority,
        key: m.key.as_deref(),
        dedup: m.dedup.as_deref(),
        ..Head::default()
    };
    let mut inner = Vec::with_capacity(m.body.len() + 32);
    put_stored(&mut inner, &head, &m.headers, &m.body);
    put_bytes(b, &inner);
}

pub(super) fn message(r: &mut Reader<'_>) -> Option<Message> {
    let kind = r.byte()?;
    let value = r.u64()?;
    let inner = r.bytes()?;
    let stored = Stored::decode(&mut Reader::new(&inner, 0))?;
    let not_before = match kind {
        0 => NotBefore::Now,
        1 => NotBefore::After(Duration::from_micros(value)),
        2 => NotBefore::At(UNIX_EPOCH.checked_add(Duration::from_micros(value))?),
        _ => return None,
    };
    Some(Message {
        body: stored.body,
        key: stored.key,
        dedup: stored.dedup,
        priority: stored.priority,
        not_before,
        headers: stored.headers,
    })
}

fn put_settle(b: &mut Vec<u8>, how: &Settle) {
    match how {
        Settle::Done => b.push(0),
        Settle::Retry { after } => {
            b.push(1);
            put(b, micros(*after));
        }
        Settle::Release => b.push(2),
        Settle::Dead { reason } => {
            b.push(3);
            put_bytes(b, reason.as_bytes());
        }
    }
}

pub(super) fn settle(r: &mut Reader<'_>) -> Option<Settle> {
    Some(match r.byte()? {
        0 => Settle::Done,
        1 => Settle::Retry {
            after: Duration::from_micros(r.u64()?),
        },
        2 => Settle::Release,
        3 => Settle::Dead {
            reason: r.string()?,
        },
        _ => return None,
    })
}

/// A leased message as it travels.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) message: Message,
    pub(super) attempt: u32,
    /// Microseconds since the epoch.
    pub(super) published: u64,
    pub(super) remaining: Duration,
    pub(super) seq: u64,
    token: u64,
}

pub(super) fn put_leased(b: &mut Vec<u8>, lease: Lease) {
    let remaining = micros(lease.remaining());
    put_message(b, lease.message());
    put(b, u64::from(lease.attempt()));
    put(b, lease.published_micros());
    put(b, remaining);
    let (_, seq, token) = lease.detach();
    put(b, seq);
    put(b, token);
}

pub(super) fn leases(r: &mut Reader<'_>) -> Option<Vec<Leased>> {
    let n = r.count(8)?;
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        let message = message(r)?;
        let attempt = r.u32()?;
        let published = r.u64()?;
        UNIX_EPOCH.checked_add(Duration::from_micros(published))?;
        out.push(Leased {
            message,
            attempt,
            published,
            remaining: Duration::from_micros(r.u64()?),
            seq: r.u64()?,
            token: r.u64()?,
        });
    }
    Some(out)
}

/// Group, message and token.
pub(super) fn put_lease(b: &mut Vec<u8>, group: u32, lease: &Leased) {
    put(b, u64::from(group));
    put(b, lease.seq);
    put(b, lease.token);
}

pub(super) fn put_outcome(b: &mut Vec<u8>, group: u32, lease: &Leased, how: &Settle) {
    put_lease(b, group, lease);
    put_settle(b, how);
}

pub(super) fn put_receipts(b: &mut Vec<u8>, receipts: &[Receipt]) {
    put(b, receipts.len() as u64);
    for receipt in receipts {
        put(b, receipt.id.0);
        b.push(u8::from(receipt.duplicate));
    }
}

pub(super) fn receipts(r: &mut Reader<'_>) -> Option<Vec<Receipt>> {
    let n = r.count(2)?;
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        out.push(Receipt {
            id: MessageId(r.u64()?),
            duplicate: r.byte()? == 1,
        });
    }
    Some(out)
}
