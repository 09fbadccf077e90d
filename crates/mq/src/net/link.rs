//! A connection that mends itself: requests go out, answers come back to who asked.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::wire::{self, Address};
use crate::lease::Settle;
use crate::log::codec::{Reader, micros, put};

/// Requests that wait to be sent; more wait in their callers (back pressure).
const QUEUED_MAX: usize = 1024;
/// How long a request (but a take) may stay unanswered, through reconnects, before it is given up.
const ANSWER_MAX: Duration = Duration::from_secs(15);

struct Request {
    id: u64,
    frame: Vec<u8>,
    /// Nobody waits for some answers.
    reply: Option<oneshot::Sender<Bytes>>,
}

impl Request {
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

#[derive(Debug)]
pub(super) struct Link {
    requests: mpsc::Sender<Request>,
    next: AtomicU64,
    /// Makes the dedup ids of this client its own.
    name: u64,
}

/// An answer: its status, and what follows it.
pub(super) struct Answer {
    pub(super) status: u8,
    frame: Bytes,
}

impl Answer {
    fn new(frame: Bytes) -> Option<Self> {
        let (_, status) = wire::head(&frame)?;
        Some(Self { status, frame })
    }

    pub(super) fn body(&self) -> Reader<'_> {
        Reader::new(&self.frame, wire::HEAD_LEN)
    }

    /// What an answer that is an error says.
    pub(super) fn what(&self) -> String {
        self.body().string().unwrap_or_default()
    }
}

impl Link {
    pub(super) fn start(address: Address, hello: Option<Vec<u8>>) -> Self {
        let (requests, queued) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(run(address, hello, queued));
        let name = RandomState::new().hash_one(micros(UNIX_EPOCH.elapsed().unwrap_or_default()));
        Self {
            requests,
            next: AtomicU64::new(1),
            name,
        }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A dedup id that no other client makes.
    pub(super) fn dedup_id(&self) -> Bytes {
        format!("mq-{:x}-{:x}", self.name, self.number()).into()
    }

    /// Asks and waits for the answer; `None` when none came in time.
    pub(super) async fn ask(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Option<Answer> {
        let id = self.number();
        let mut frame = wire::begin(id, kind);
        fill(&mut frame);
        let (reply, answer) = oneshot::channel();
        let whole = async {
            let reply = Some(reply);
            let request = Request { id, frame, reply };
            self.requests.send(request).await.ok()?;
            answer.await.ok()
        };
        Answer::new(tokio::time::timeout(ANSWER_MAX, whole).await.ok()??)
    }

    /// Asks for messages and waits without a limit. A future that is dropped calls the request back, and what was
    /// on its way goes back to the server.
    pub(super) async fn take(&self, group: u32, max: usize) -> Option<Answer> {
        let id = self.number();
        let mut frame = wire::begin(id, wire::TAKE);
        put(&mut frame, u64::from(group));
        put(&mut frame, max as u64);
        let (reply, answer) = oneshot::channel();
        let mut waiting = Waiting {
            link: self,
            id,
            group,
            answer,
            over: false,
        };
        let reply = Some(reply);
        let request = Request { id, frame, reply };
        self.requests.send(request).await.ok()?;
        let answer = (&mut waiting.answer).await;
        waiting.over = true;
        Answer::new(answer.ok()?)
    }

    /// Asks, and nobody waits for the answer. Without room the request is dropped.
    pub(super) fn tell(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        let id = self.number();
        let mut frame = wire::begin(id, kind);
        fill(&mut frame);
        let reply = None;
        drop(self.requests.try_send(Request { id, frame, reply }));
    }
}

struct Waiting<'a> {
    link: &'a Link,
    id: u64,
    group: u32,
    answer: oneshot::Receiver<Bytes>,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.answer.close();
        match self.answer.try_recv() {
            // It came at the last moment.
            Ok(frame) => {
                for body in release(self.group, &frame) {
                    self.link.tell(wire::SETTLE, |b| b.extend(body));
                }
            }
            Err(_) => self.link.tell(wire::CANCEL, |b| put(b, self.id)),
        }
    }
}

/// Bodies of requests that give back what an answer to a take brought.
fn release(group: u32, frame: &Bytes) -> Vec<Vec<u8>> {
    let taken = match wire::head(frame) {
        Some((_, wire::OK)) => wire::leases(&mut Reader::new(frame, wire::HEAD_LEN)),
        _ => None,
    };
    let body = |lease| {
        let mut b = Vec::new();
        wire::put_outcome(&mut b, group, &lease, &Settle::Release);
        b
    };
    taken.unwrap_or_default().into_iter().map(body).collect()
}

/// Keeps a connection; requests without an answer are sent again on the next one.
async fn run(address: Address, hello: Option<Vec<u8>>, mut queued: mpsc::Receiver<Request>) {
    let mut open: BTreeMap<u64, Request> = BTreeMap::new();
    let mut pause = Duration::from_millis(20);
    loop {
        // What nobody waits for belongs to the connection that is gone.
        open.retain(|_, r| r.reply.is_some() && !r.is_abandoned());
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
                let request = wire::head(&frame).and_then(|(id, _)| open.remove(&id));
                let Some(Request { frame: asked, reply: Some(reply), .. }) = request else { continue };
                let Err(frame) = reply.send(frame) else { continue };
                if give_back(&mut to, asked.into(), &frame).await.is_err() {
                    break;
                }
            }
            request = queued.recv() => {
                let Some(request) = request else { done = true; break };
                if request.is_abandoned() {
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

/// Gives back what a take brought that nobody waits for any more.
async fn give_back(
    to: &mut (impl AsyncWrite + Unpin),
    asked: Bytes,
    answer: &Bytes,
) -> std::io::Result<()> {
    if !matches!(wire::head(&asked), Some((_, wire::TAKE))) {
        return Ok(());
    }
    let Some(group) = Reader::new(&asked, wire::HEAD_LEN).u32() else {
        return Ok(());
    };
    for body in release(group, answer) {
        // An id that no request has: the answer goes nowhere.
        let mut frame = wire::begin(0, wire::SETTLE);
        frame.extend(body);
        wire::write_frame(to, &frame).await?;
    }
    Ok(())
}
