//! A queue that another process serves.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Address};
use crate::error::{PublishError, SettleError, TakeError, TopicError};
use crate::lease::Settle;
use crate::log::codec::{Reader, micros, put, put_bytes};
use crate::log::settings::{put_group_options, put_topic_options};
use crate::message::{Message, MessageId, Receipt};
use crate::options::{GroupOptions, TopicOptions};
use crate::shell::instant;
use crate::stats::{GroupStats, Stats, TopicStats};
use crate::traits::{Consumer, Delivery, Producer};

/// Requests that wait to be sent; more wait in their callers (back pressure).
const QUEUED_MAX: usize = 1024;
/// How long a request (but a take) may stay unanswered, through reconnects, before it is `Closed`.
const ANSWER_MAX: Duration = Duration::from_secs(15);

struct Request {
    id: u64,
    frame: Vec<u8>,
    reply: oneshot::Sender<Bytes>,
}

#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    next: AtomicU64,
    /// Makes the dedup ids of this client its own.
    name: u64,
}

/// A connection to a [`Server`](super::Server) that mends itself. Clones share it.
///
/// Connecting happens in the background; a server that is not there yet is waited for.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Starts connecting. Must be called on a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(address: impl Into<Address>) -> Self {
        Self::start(address.into(), None)
    }

    /// As [`connect`](Self::connect), to a server that asks for this secret. With another one, every request
    /// ends as if the server could not be reached.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect_with_secret(address: impl Into<Address>, secret: impl AsRef<[u8]>) -> Self {
        let mut hello = wire::begin(0, wire::HELLO);
        put_bytes(&mut hello, secret.as_ref());
        Self::start(address.into(), Some(hello))
    }

    fn start(address: Address, hello: Option<Vec<u8>>) -> Self {
        let (requests, queued) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(run(address, hello, queued));
        let name = RandomState::new().hash_one(micros(UNIX_EPOCH.elapsed().unwrap_or_default()));
        Self {
            shared: Arc::new(Shared {
                requests,
                next: AtomicU64::new(1),
                name,
            }),
        }
    }

    /// The topic of this name, made with these options if it is new.
    ///
    /// # Errors
    /// See [`TopicError`].
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the topic was made; ask again.
    pub async fn topic(
        &self,
        name: &str,
        options: TopicOptions,
    ) -> Result<RemoteTopic, TopicError> {
        let id = self.name(wire::TOPIC, name, |b| {
            put_bytes(b, name.as_bytes());
            put_topic_options(b, &options);
        });
        Ok(RemoteTopic {
            client: self.clone(),
            id: id.await?,
        })
    }

    async fn name(
        &self,
        kind: u8,
        name: &str,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, TopicError> {
        if !(1..=255).contains(&name.len()) {
            return Err(TopicError::Name(name.len()));
        }
        let (status, frame) = self.ask(kind, true, fill).await.ok_or(TopicError::Closed)?;
        let mut r = Reader {
            bytes: &frame,
            at: 9,
        };
        match status {
            wire::OK => r.u32().ok_or(TopicError::Closed),
            wire::TOO_MANY => Err(TopicError::TooMany(r.count(0).unwrap_or(0))),
            wire::UNKNOWN => Err(TopicError::Disk(r.string().unwrap_or_default())),
            _ => Err(TopicError::Closed),
        }
    }

    /// Counters of the whole queue; `None` when the server cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn stats(&self) -> Option<Stats> {
        let (status, frame) = self.ask(wire::STATS, true, |_| ()).await?;
        if status != wire::OK {
            return None;
        }
        parse_stats(&mut Reader {
            bytes: &frame,
            at: 9,
        })
    }

    async fn ask(
        &self,
        kind: u8,
        limited: bool,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Option<(u8, Bytes)> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let mut frame = wire::begin(id, kind);
        fill(&mut frame);
        let (reply, answer) = oneshot::channel();
        let whole = async {
            self.shared
                .requests
                .send(Request { id, frame, reply })
                .await
                .ok()?;
            answer.await.ok()
        };
        let frame = if limited {
            tokio::time::timeout(ANSWER_MAX, whole).await.ok()??
        } else {
            whole.await?
        };
        let (_, status) = wire::head(&frame)?;
        Some((status, frame))
    }
}

fn parse_stats(r: &mut Reader<'_>) -> Option<Stats> {
    let mut stats = Stats {
        disk_faults: r.u64()?,
        topics: Vec::new(),
    };
    for _ in 0..r.count(6)? {
        let mut t = TopicStats {
            name: r.string()?,
            published: r.u64()?,
            duplicates: r.u64()?,
            held: r.u64()?,
            held_bytes: r.u64()?,
            groups: Vec::new(),
        };
        for _ in 0..r.count(12)? {
            t.groups.push(GroupStats {
                name: r.string()?,
                published: r.u64()?,
                acked: r.u64()?,
                ready: r.u64()?,
                leased: r.u64()?,
                delayed: r.u64()?,
                dead: r.u64()?,
                discarded: r.u64()?,
                delivered: r.u64()?,
                redelivered: r.u64()?,
                expired: r.u64()?,
                oldest_ready: Duration::from_micros(r.u64()?),
            });
        }
        stats.topics.push(t);
    }
    Some(stats)
}

/// Keeps a connection; requests without an answer are sent again on the next one.
async fn run(address: Address, hello: Option<Vec<u8>>, mut queued: mpsc::Receiver<Request>) {
    let mut open: BTreeMap<u64, Request> = BTreeMap::new();
    let mut pause = Duration::from_millis(20);
    loop {
        open.retain(|_, r| !r.reply.is_closed());
        let ended = match &address {
            Address::Tcp(addr) => match TcpStream::connect(addr).await {
                Ok(s) => {
                    drop(s.set_nodelay(true));
                    let (r, w) = s.into_split();
                    pause = Duration::from_millis(20);
                    exchange(r, w, hello.as_ref(), &mut queued, &mut open).await
                }
                Err(_) => queued.is_closed(),
            },
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(s) => {
                    let (r, w) = s.into_split();
                    pause = Duration::from_millis(20);
                    exchange(r, w, hello.as_ref(), &mut queued, &mut open).await
                }
                Err(_) => queued.is_closed(),
            },
        };
        if ended {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

/// Runs one connection to its end; true when no client is left.
async fn exchange<R, W>(
    mut from: R,
    mut to: W,
    hello: Option<&Vec<u8>>,
    queued: &mut mpsc::Receiver<Request>,
    open: &mut BTreeMap<u64, Request>,
) -> bool
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin,
{
    let (answers, mut answered) = mpsc::channel(QUEUED_MAX);
    let reader = tokio::spawn(async move {
        while let Ok(Some(frame)) = wire::read_frame(&mut from, wire::FRAME_MAX).await {
            if answers.send(frame).await.is_err() {
                break;
            }
        }
    });
    let mut done = false;
    for frame in hello.into_iter().chain(open.values().map(|r| &r.frame)) {
        if wire::write_frame(&mut to, frame).await.is_err() {
            reader.abort();
            return false;
        }
    }
    loop {
        tokio::select! {
            answer = answered.recv() => {
                let Some(frame) = answer else { break };
                if let Some(request) = wire::head(&frame).and_then(|(id, _)| open.remove(&id)) {
                    drop(request.reply.send(frame));
                }
            }
            request = queued.recv() => {
                let Some(request) = request else { done = true; break };
                if request.reply.is_closed() {
                    continue;
                }
                let sent = wire::write_frame(&mut to, &request.frame).await;
                open.insert(request.id, request);
                if sent.is_err() {
                    break;
                }
            }
        }
    }
    reader.abort();
    done
}

/// A topic of a served queue.
#[derive(Debug, Clone)]
pub struct RemoteTopic {
    client: Client,
    id: u32,
}

impl RemoteTopic {
    /// Publishes one message; the future ends when the server has it as durable as the topic's options say.
    ///
    /// # Errors
    /// See [`PublishError`]; `Closed` after 15 s without an answer, and the outcome is then unknown.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the message is stored; publish again with the same dedup id.
    pub async fn publish(
        &self,
        message: impl Into<Message> + Send,
    ) -> Result<Receipt, PublishError> {
        self.publish_all(vec![message.into()])
            .await?
            .pop()
            .ok_or(PublishError::Closed)
    }

    /// Publishes several messages as one: all of them are stored, or none.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_all(
        &self,
        mut messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let size: usize = messages.iter().map(|m| m.body.len() + 64).sum();
        if size > wire::FRAME_MAX / 2 {
            return Err(PublishError::TooLarge {
                messages,
                size,
                max: wire::FRAME_MAX / 2,
            });
        }
        for m in &mut messages {
            if m.dedup.is_none() {
                let n = self.client.shared.next.fetch_add(1, Ordering::Relaxed);
                m.dedup = Some(format!("mq-{:x}-{n:x}", self.client.shared.name).into());
            }
        }
        let asked = self.client.ask(wire::PUBLISH, true, |b| {
            put(b, u64::from(self.id));
            put(b, messages.len() as u64);
            for m in &messages {
                wire::put_message(b, m);
            }
        });
        let (status, frame) = asked.await.ok_or(PublishError::Closed)?;
        let mut r = Reader {
            bytes: &frame,
            at: 9,
        };
        match status {
            wire::OK => receipts(&mut r).ok_or(PublishError::Closed),
            wire::FULL => Err(PublishError::Full {
                messages,
                waiting: r.u64().unwrap_or(0),
            }),
            wire::TOO_LARGE => {
                let mut n = || r.u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                Err(PublishError::TooLarge {
                    size: n(),
                    max: n(),
                    messages,
                })
            }
            wire::UNKNOWN => Err(PublishError::Unknown(r.string().unwrap_or_default())),
            _ => Err(PublishError::Closed),
        }
    }

    /// The consumer group of this name, made with these options if it is new.
    ///
    /// # Errors
    /// See [`TopicError`].
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the group was made; ask again.
    pub async fn group(
        &self,
        name: &str,
        options: GroupOptions,
    ) -> Result<RemoteGroup, TopicError> {
        let id = self.client.name(wire::GROUP, name, |b| {
            put(b, u64::from(self.id));
            put_bytes(b, name.as_bytes());
            put_group_options(b, &options);
        });
        Ok(RemoteGroup {
            client: self.client.clone(),
            id: id.await?,
        })
    }
}

fn receipts(r: &mut Reader<'_>) -> Option<Vec<Receipt>> {
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

/// A consumer group of a served queue. Clones, and other processes, compete.
#[derive(Debug, Clone)]
pub struct RemoteGroup {
    client: Client,
    id: u32,
}

impl RemoteGroup {
    /// Waits until something is ready and leases up to `max` messages (10 000 at most), through reconnects.
    ///
    /// # Errors
    /// See [`TakeError`].
    ///
    /// # Cancel safety
    /// Messages that were on their way to a dropped future come back when their lease ends, as an attempt.
    pub async fn take(&self, max: usize) -> Result<Vec<RemoteLease>, TakeError> {
        let asked = self.client.ask(wire::TAKE, false, |b| {
            put(b, u64::from(self.id));
            put(b, max.clamp(1, 10_000) as u64);
        });
        let (status, frame) = asked.await.ok_or(TakeError::Closed)?;
        let mut r = Reader {
            bytes: &frame,
            at: 9,
        };
        match status {
            wire::OK => self.leases(&mut r).ok_or(TakeError::Closed),
            wire::NO_GROUP => Err(TakeError::NoGroup),
            wire::DAMAGED => Err(TakeError::Damaged {
                id: r.u64().unwrap_or(0),
                file: r.string().unwrap_or_default(),
                offset: r.u64().unwrap_or(0),
                what: r.string().unwrap_or_default(),
            }),
            wire::UNKNOWN => Err(TakeError::Disk(r.string().unwrap_or_default())),
            _ => Err(TakeError::Closed),
        }
    }

    fn leases(&self, r: &mut Reader<'_>) -> Option<Vec<RemoteLease>> {
        let n = r.count(8)?;
        let mut out = Vec::with_capacity(n);
        let now = instant();
        for _ in 0..n {
            let message = wire::message(r)?;
            let attempt = r.u32()?;
            let published = UNIX_EPOCH.checked_add(Duration::from_micros(r.u64()?))?;
            let until =
                now + Duration::from_micros(r.u64()?.min(micros(Duration::from_hours(24 * 365))));
            let (seq, token) = (r.u64()?, r.u64()?);
            out.push(RemoteLease {
                group: self.clone(),
                seq,
                token,
                attempt,
                published,
                until,
                message,
                settled: false,
            });
        }
        Some(out)
    }
}

/// A leased message of a served queue; [`Delivery`] says what to do with it. One that is dropped unsettled is given back in the background, if a
/// connection is there; else its lease ends by itself.
#[derive(Debug)]
pub struct RemoteLease {
    group: RemoteGroup,
    seq: u64,
    token: u64,
    attempt: u32,
    published: SystemTime,
    until: Instant,
    message: Message,
    settled: bool,
}

impl RemoteLease {
    /// When the message was stored.
    #[must_use]
    pub fn published_at(&self) -> SystemTime {
        self.published
    }

    fn put_name(&self, b: &mut Vec<u8>) {
        put(b, u64::from(self.group.id));
        put(b, self.seq);
        put(b, self.token);
    }

    async fn ask(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), SettleError> {
        let asked = self.group.client.ask(kind, true, |b| {
            self.put_name(b);
            fill(b);
        });
        let (status, frame) = asked.await.ok_or(SettleError::Closed)?;
        match status {
            wire::OK => Ok(()),
            wire::LEASE_LOST => Err(SettleError::LeaseLost),
            wire::UNKNOWN => Err(SettleError::Unknown(
                Reader {
                    bytes: &frame,
                    at: 9,
                }
                .string()
                .unwrap_or_default(),
            )),
            _ => Err(SettleError::Closed),
        }
    }
}

impl Drop for RemoteLease {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let shared = &self.group.client.shared;
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let mut frame = wire::begin(id, wire::SETTLE);
        self.put_name(&mut frame);
        wire::put_settle(
            &mut frame,
            &Settle::Retry {
                after: Duration::ZERO,
            },
        );
        let (reply, answer) = oneshot::channel();
        // Kept open so that the request is not passed over as abandoned.
        if shared
            .requests
            .try_send(Request { id, frame, reply })
            .is_ok()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(answer);
        }
    }
}

impl Producer for RemoteTopic {
    fn publish(
        &self,
        batch: Vec<Message>,
    ) -> impl Future<Output = Result<Vec<Receipt>, PublishError>> + Send {
        self.publish_all(batch)
    }
}

impl Consumer for RemoteGroup {
    type Delivery = RemoteLease;

    fn receive(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<RemoteLease>, TakeError>> + Send {
        self.take(max.get())
    }
}

/// A dropped future of `settle` or `extend` leaves it open whether the server has recorded it. When the connection
/// was lost after it had, `LeaseLost` is possible although it is done.
impl Delivery for RemoteLease {
    fn message(&self) -> &Message {
        &self.message
    }

    fn id(&self) -> MessageId {
        MessageId(self.seq)
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(instant())
    }

    async fn extend(&mut self, by: Duration) -> Result<(), SettleError> {
        let from = instant();
        self.ask(wire::EXTEND, |b| put(b, micros(by))).await?;
        self.until = from + by;
        Ok(())
    }

    async fn settle(mut self, how: Settle) -> Result<(), SettleError> {
        self.settled = true;
        self.ask(wire::SETTLE, |b| wire::put_settle(b, &how)).await
    }
}
