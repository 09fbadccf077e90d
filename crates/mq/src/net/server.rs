//! The process that owns the files answers the others.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::counters;
use super::wire::{self, Address};
use crate::error::{PublishError, SettleError, TakeError, TopicError};
use crate::group::Group;
use crate::lease::{extend, settle, settle_error};
use crate::log::codec::{Reader, put, put_bytes};
use crate::log::settings::{group_options, topic_options};
use crate::queue::Queue;
use crate::shell::Committed;

/// Connections served at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Requests of one connection in progress at once; more wait in the socket (back pressure).
const REQUESTS_MAX: usize = 256;
/// Longest secret in bytes.
const SECRET_BYTES_MAX: usize = 256;
/// How long a connection may take to show the secret.
const HELLO_MAX: Duration = Duration::from_secs(5);

/// Serves a queue to other processes until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: Address,
    task: JoinHandle<()>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Listens on a TCP address (port 0 takes a free one) or on a socket file.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// Dropping the future listens to nothing.
    pub async fn bind(queue: Queue, address: impl Into<Address>) -> io::Result<Self> {
        Self::listen(queue, address.into(), None).await
    }

    /// As [`bind`](Self::bind), and serves only clients that show `secret`, 1 to 256 bytes, with
    /// [`Client::connect_with_secret`](super::Client::connect_with_secret). It keeps out other users and other
    /// programs of this machine; it travels as it is, so over a network it protects nothing.
    ///
    /// # Errors
    /// What the system says; `InvalidInput` for a secret of another length.
    ///
    /// # Cancel safety
    /// As [`bind`](Self::bind).
    pub async fn bind_with_secret(
        queue: Queue,
        address: impl Into<Address>,
        secret: impl Into<Bytes>,
    ) -> io::Result<Self> {
        let secret = secret.into();
        if !(1..=SECRET_BYTES_MAX).contains(&secret.len()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a secret has 1 to 256 bytes",
            ));
        }
        Self::listen(queue, address.into(), Some(secret)).await
    }

    async fn listen(queue: Queue, address: Address, secret: Option<Bytes>) -> io::Result<Self> {
        let (listener, address) = match address {
            Address::Tcp(addr) => {
                let listener = TcpListener::bind(addr).await?;
                let addr = listener.local_addr()?;
                (Listener::Tcp(listener), Address::Tcp(addr))
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(&path).is_err() {
                    drop(std::fs::remove_file(&path));
                }
                (
                    Listener::Unix(UnixListener::bind(&path)?),
                    Address::Unix(path),
                )
            }
        };
        let task = tokio::spawn(accept(listener, queue, secret));
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if let Address::Unix(path) = &self.address {
            drop(std::fs::remove_file(path));
        }
    }
}

async fn accept(listener: Listener, queue: Queue, secret: Option<Bytes>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = match &listener {
            Listener::Tcp(l) => l.accept().await.map(|(s, _)| {
                drop(s.set_nodelay(true));
                let (r, w) = s.into_split();
                connections.spawn(serve(r, w, queue.clone(), secret.clone()));
            }),
            Listener::Unix(l) => l.accept().await.map(|(s, _)| {
                let (r, w) = s.into_split();
                connections.spawn(serve(r, w, queue.clone(), secret.clone()));
            }),
        };
        if accepted.is_err() {
            // Out of file descriptors, most likely: others may close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether the first frame shows the secret, in time.
async fn admitted(from: &mut (impl AsyncRead + Unpin), secret: &Bytes) -> bool {
    // Id, kind, and the secret with its length.
    let max = 9 + 2 + SECRET_BYTES_MAX;
    let Ok(Ok(Some(frame))) = tokio::time::timeout(HELLO_MAX, wire::read_frame(from, max)).await
    else {
        return false;
    };
    let shown = Reader::new(&frame, wire::HEAD_LEN).bytes();
    let hello = wire::head(&frame).is_some_and(|(_, kind)| kind == wire::HELLO);
    hello && shown.is_some_and(|shown| bool::from(shown.ct_eq(secret)))
}

async fn serve<R, W>(mut from: R, mut to: W, queue: Queue, secret: Option<Bytes>)
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    if let Some(secret) = &secret
        && !admitted(&mut from, secret).await
    {
        return;
    }
    let (answers, mut answered) = mpsc::channel::<Vec<u8>>(REQUESTS_MAX);
    // Dropped at the end of the connection: takes that wait are cancelled and lease nothing.
    let mut requests = JoinSet::new();
    requests.spawn(async move {
        while let Some(answer) = answered.recv().await {
            if wire::write_frame(&mut to, &answer).await.is_err() {
                break;
            }
        }
    });
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    // Those that may still wait, by the id of their request.
    let mut takes: HashMap<u64, AbortHandle> = HashMap::new();
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok(Some(frame)) = wire::read_frame(&mut from, wire::FRAME_MAX).await else {
            break;
        };
        while requests.try_join_next().is_some() {}
        let head = wire::head(&frame);
        if let Some((_, wire::CANCEL)) = head {
            let called_back = Reader::new(&frame, wire::HEAD_LEN).u64();
            if let Some(take) = called_back.and_then(|id| takes.remove(&id)) {
                take.abort();
            }
            continue;
        }
        let (queue, answers) = (queue.clone(), answers.clone());
        let task = requests.spawn(async move {
            answer(&queue, &frame, &answers).await;
            drop(permit);
        });
        if let Some((id, wire::TAKE)) = head {
            if takes.len() >= 2 * REQUESTS_MAX {
                takes.retain(|_, take| !take.is_finished());
            }
            takes.insert(id, task);
        }
    }
}

/// Handles one request. Leases are let go only when their answer is on its way.
async fn answer(queue: &Queue, frame: &Bytes, answers: &mpsc::Sender<Vec<u8>>) {
    let Some((id, kind)) = wire::head(frame) else {
        return;
    };
    let mut r = Reader::new(frame, wire::HEAD_LEN);
    let bad = || error(id, wire::BAD, "the request cannot be parsed");
    let reply = match kind {
        // Shown to a server that asks for none.
        wire::HELLO => return,
        wire::PUBLISH => publish(queue, id, &mut r).await,
        wire::TAKE => {
            let Some((group, max)) = r.u32().zip(r.u32()) else {
                drop(answers.send(bad()).await);
                return;
            };
            take(queue, id, group, max as usize, answers).await;
            return;
        }
        wire::SETTLE => settle_lease(queue, id, &mut r).await,
        wire::EXTEND => extend_lease(queue, id, &mut r),
        wire::TOPIC | wire::GROUP => name(queue, id, kind, frame.clone()).await,
        wire::STATS => Some(stats(queue, id)),
        _ => None,
    };
    drop(answers.send(reply.unwrap_or_else(bad)).await);
}

fn error(id: u64, status: u8, what: &str) -> Vec<u8> {
    let mut b = wire::begin(id, status);
    put_bytes(&mut b, what.as_bytes());
    b
}

async fn publish(queue: &Queue, id: u64, r: &mut Reader<'_>) -> Option<Vec<u8>> {
    let topic = r.u32()?;
    let n = r.count(4)?;
    let mut messages = Vec::with_capacity(n);
    for _ in 0..n {
        messages.push(wire::message(r)?);
    }
    let Some(topic) = queue.topic_by_number(topic) else {
        return Some(error(id, wire::CLOSED, "no such topic"));
    };
    Some(match topic.publish_all(messages).await {
        Ok(receipts) => {
            let mut b = wire::begin(id, wire::OK);
            wire::put_receipts(&mut b, &receipts);
            b
        }
        Err(PublishError::Full { waiting, .. }) => {
            let mut b = wire::begin(id, wire::FULL);
            put(&mut b, waiting);
            b
        }
        Err(PublishError::TooLarge { size, max, .. }) => {
            let mut b = wire::begin(id, wire::TOO_LARGE);
            put(&mut b, size as u64);
            put(&mut b, max as u64);
            b
        }
        Err(PublishError::Unknown(what)) => error(id, wire::UNKNOWN, &what),
        Err(PublishError::Unsupported { what, .. }) => error(id, wire::BAD, what),
        Err(PublishError::Closed) => error(id, wire::CLOSED, "the queue is closed"),
    })
}

async fn take(queue: &Queue, id: u64, group: u32, max: usize, answers: &mpsc::Sender<Vec<u8>>) {
    let taken = match Group::by_number(queue, group) {
        Some(group) => group.take(max.min(10_000)).await,
        None => Err(TakeError::NoGroup),
    };
    // Wait for room first: until the answer has a place in the channel, the leases stay ours to give back.
    let Ok(slot) = answers.reserve().await else {
        return;
    };
    slot.send(match taken {
        Ok(leases) => {
            let mut b = wire::begin(id, wire::OK);
            put(&mut b, leases.len() as u64);
            for lease in leases {
                wire::put_leased(&mut b, lease);
            }
            b
        }
        Err(TakeError::NoGroup) => error(id, wire::NO_GROUP, ""),
        Err(TakeError::Damaged {
            id: message,
            file,
            offset,
            what,
        }) => {
            let mut b = wire::begin(id, wire::DAMAGED);
            put(&mut b, message);
            put_bytes(&mut b, file.as_bytes());
            put(&mut b, offset);
            put_bytes(&mut b, what.as_bytes());
            b
        }
        Err(TakeError::Disk(what) | TakeError::Broker(what)) => error(id, wire::UNKNOWN, &what),
        Err(TakeError::Closed) => error(id, wire::CLOSED, "the queue is closed"),
    });
}

fn settled(id: u64, done: Result<(), SettleError>) -> Vec<u8> {
    match done {
        Ok(()) => wire::begin(id, wire::OK),
        Err(SettleError::LeaseLost) => error(id, wire::LEASE_LOST, ""),
        Err(SettleError::Unknown(what)) => error(id, wire::UNKNOWN, &what),
        Err(e) => error(id, wire::CLOSED, &e.to_string()),
    }
}

async fn settle_lease(queue: &Queue, id: u64, r: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (group, seq, token, how) = (r.u32()?, r.u64()?, r.u64()?, wire::settle(r)?);
    let done = match settle(&queue.core, group, seq, token, how) {
        Ok((ticket, durability)) => {
            let wait = Committed {
                core: Arc::clone(&queue.core),
                ticket,
                durability,
            };
            wait.await.map_err(settle_error)
        }
        Err(e) => Err(e),
    };
    Some(settled(id, done))
}

fn extend_lease(queue: &Queue, id: u64, r: &mut Reader<'_>) -> Option<Vec<u8>> {
    let (group, seq, token, by) = (
        r.u32()?,
        r.u64()?,
        r.u64()?,
        Duration::from_micros(r.u64()?),
    );
    Some(settled(
        id,
        extend(&queue.core, group, seq, token, by).map(drop),
    ))
}

/// Finds or makes a topic or group. Making one waits for a commit, so it runs off the runtime's threads.
async fn name(queue: &Queue, id: u64, kind: u8, frame: Bytes) -> Option<Vec<u8>> {
    let queue = queue.clone();
    let made = tokio::task::spawn_blocking(move || {
        let mut r = Reader::new(&frame, wire::HEAD_LEN);
        Some(if kind == wire::TOPIC {
            let name = r.string()?;
            queue
                .topic_with(&name, topic_options(&mut r)?)
                .map(|t| t.id)
        } else {
            let topic = r.u32()?;
            let name = r.string()?;
            let options = group_options(&mut r)?;
            match queue.topic_by_number(topic) {
                Some(topic) => topic.group_with(&name, options).map(|g| g.number()),
                None => Err(TopicError::Closed),
            }
        })
    });
    Some(match made.await.ok()?? {
        Ok(number) => {
            let mut b = wire::begin(id, wire::OK);
            put(&mut b, u64::from(number));
            b
        }
        Err(TopicError::TooMany(max)) => {
            let mut b = wire::begin(id, wire::TOO_MANY);
            put(&mut b, max as u64);
            b
        }
        Err(TopicError::Disk(what)) => error(id, wire::UNKNOWN, &what),
        Err(e) => error(id, wire::CLOSED, &e.to_string()),
    })
}

fn stats(queue: &Queue, id: u64) -> Vec<u8> {
    let mut b = wire::begin(id, wire::OK);
    counters::put_stats(&mut b, &queue.stats());
    b
}
