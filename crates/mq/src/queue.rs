//! The embedded queue: opening, topics, groups, closing.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::{OpenError, PublishError, TopicError};
use crate::group::Group;
use crate::log::codec::micros;
use crate::log::reader::SegmentReader;
use crate::log::recover::{self, Progress, Recovery};
use crate::log::writer::Writer;
use crate::message::{Message, MessageId, Receipt};
use crate::options::{Durability, GroupOptions, TopicOptions};
use crate::shell::{self, Clock, Committed, Committer, Core, NotCommitted, Pace, block_on};
use crate::state::{Batch, Limits, Refused, Staged};
use crate::stats::Stats;
use crate::storage::{DiskStorage, Storage};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// Settings of a queue. Made by [`Queue::options`].
#[derive(Debug, Clone)]
pub struct Options {
    segment_bytes: u64,
    sync_interval: Duration,
    write_interval: Duration,
    staged_bytes_max: usize,
    names_max: usize,
    salvage: bool,
    progress: Option<OnProgress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            sync_interval: Duration::from_millis(200),
            write_interval: Duration::from_millis(5),
            staged_bytes_max: 32 << 20,
            names_max: 10_000,
            salvage: false,
            progress: None,
        }
    }
}

/// Who is told how far an open has come.
#[derive(Clone)]
struct OnProgress(Arc<dyn Fn(Progress) + Send + Sync>);

impl std::fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnProgress")
    }
}

impl Options {
    /// Size of a segment file in bytes, 64 KiB to 1 GiB, rounded up to 4 KiB. A batch or message may take
    /// a quarter of it. At least two exist. Defaults to 16 MiB.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How long [`Durability::Interval`] data may stay unsynced. Defaults to 200 ms.
    #[must_use]
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// How long [`Durability::Buffered`] data may stay unwritten; it is synced as that of `Interval` is.
    /// Defaults to 5 ms.
    #[must_use]
    pub fn write_interval(mut self, interval: Duration) -> Self {
        self.write_interval = interval;
        self
    }

    /// Bytes that may wait for the committer; publishes wait beyond that. Defaults to 32 MiB.
    #[must_use]
    pub fn staged_bytes_max(mut self, bytes: usize) -> Self {
        self.staged_bytes_max = bytes;
        self
    }

    /// Topics plus groups. Defaults to 10 000.
    #[must_use]
    pub fn names_max(mut self, names: usize) -> Self {
        self.names_max = names;
        self
    }

    /// Open although durable data is damaged, skipping what cannot be read (see [`Queue::recovery`]).
    /// Defaults to no: the open fails and names the place.
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Called while an open replays the log: before the first segment and after each. An open reads two segments
    /// at most, unless snapshots are damaged. Defaults to nobody.
    #[must_use]
    pub fn on_progress(mut self, f: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(OnProgress(Arc::new(f)));
        self
    }

    /// Opens (or makes) the queue in this directory.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Queue, OpenError> {
        let dir = dir.as_ref();
        let storage = DiskStorage::new(dir).map_err(|source| OpenError::Io {
            what: format!("directory {}", dir.display()),
            source,
        })?;
        self.open_on(storage)
    }

    /// Opens (or makes) the queue on any [`Storage`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(self, storage: impl Storage) -> Result<Queue, OpenError> {
        let (core, lock, recovery) = self.assemble(Arc::new(storage), Clock::wall())?;
        let core = Arc::new(core);
        let for_thread = Arc::clone(&core);
        let thread = thread::Builder::new()
            .name("mq-committer".into())
            .spawn(move || {
                shell::run(&for_thread);
                drop(lock);
            })
            .map_err(|source| OpenError::Io {
                what: "start the committer thread".into(),
                source,
            })?;
        let owner = Owner {
            core: Arc::clone(&core),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Queue {
            core,
            owner: Arc::new(owner),
            recovery: Arc::new(recovery),
        })
    }

    pub(crate) fn assemble(
        &self,
        storage: Arc<dyn Storage>,
        wall: u64,
    ) -> Result<(Core, Box<dyn Send + Sync>, Recovery), OpenError> {
        if !(64 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(OpenError::Option("segment_bytes must be 64 KiB to 1 GiB"));
        }
        let segment = self.segment_bytes.div_ceil(4096) * 4096;
        let limits = Limits {
            frame_max: Writer::body_max(segment),
            staged_max: self.staged_bytes_max.max(1),
            names_max: self.names_max,
            write_interval: micros(self.write_interval),
        };
        let lock = storage.lock().map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => OpenError::Io {
                what: "lock the directory".into(),
                source: e,
            },
        })?;
        let progress = |p| {
            if let Some(OnProgress(f)) = &self.progress {
                f(p);
            }
        };
        let opened = recover::open(&storage, segment, limits, self.salvage, wall, &progress)?;
        let pace = Pace {
            sync_interval: self.sync_interval,
        };
        let reader = SegmentReader::new(Arc::clone(&storage));
        let committer = Committer::new(storage, opened.writer, opened.resumes, pace);
        let core = Core {
            committer: Mutex::new(committer),
            state: Mutex::new(opened.state),
            kick: Condvar::default(),
            reader,
            clock: Clock::starting_at(opened.time),
        };
        if !opened.report.damage.is_empty() {
            // Replay must not meet the damage again.
            let written = core.committer.lock().snapshot(&core);
            written.map_err(|source| OpenError::Io {
                what: "write a snapshot after the salvage".into(),
                source,
            })?;
        }
        Ok((core, lock, opened.report))
    }
}

/// Ends the committer when the last handle goes.
#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Owner {
    fn close(&self) {
        self.core.with(|state, _| state.close());
        if let Some(thread) = self.thread.lock().take() {
            drop(thread.join());
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

/// A durable queue in a directory of this process. Clones share it.
///
/// When the last handle (queue, topic, group or lease) is dropped, what is staged is committed and the
/// directory is released. Nothing needs to be closed: a killed process loses nothing that was acknowledged.
#[derive(Debug, Clone)]
pub struct Queue {
    pub(crate) core: Arc<Core>,
    owner: Arc<Owner>,
    recovery: Arc<Recovery>,
}

impl Queue {
    /// Opens (or makes) the queue in this directory, with default options.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::default().open(dir)
    }

    /// Settings to open a queue with.
    #[must_use]
    pub fn options() -> Options {
        Options::default()
    }

    /// The topic of this name, made with default options if it is new. Blocks for one commit when new.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        self.topic_with(name, TopicOptions::default())
    }

    /// The topic of this name, made with these options if it is new. Blocks for one commit when new.
    ///
    /// # Errors
    /// See [`TopicError`].
    #[expect(clippy::needless_pass_by_value, reason = "options are built in place")]
    pub fn topic_with(&self, name: &str, options: TopicOptions) -> Result<Topic, TopicError> {
        check_name(name)?;
        let (found, max) = self
            .core
            .with(|s, now| (s.topic(name, &options, now), s.limits.names_max));
        let (id, ticket) = found.ok_or(TopicError::TooMany(max))?;
        self.confirm(ticket)?;
        let durability = self
            .core
            .state
            .lock()
            .topics
            .get(&id)
            .map_or(Durability::Synced, |t| t.options.durability);
        Ok(Topic {
            queue: self.clone(),
            id,
            name: name.into(),
            durability,
        })
    }

    fn confirm(&self, ticket: u64) -> Result<(), TopicError> {
        let wait = Committed {
            core: Arc::clone(&self.core),
            ticket,
            durability: Durability::Synced,
        };
        match block_on(&self.core, wait, None) {
            None | Some(Err(NotCommitted::Closed)) => Err(TopicError::Closed),
            Some(Err(NotCommitted::Disk(what))) => Err(TopicError::Disk(what)),
            Some(Ok(())) => Ok(()),
        }
    }

    #[cfg(feature = "server")]
    pub(crate) fn topic_by_number(&self, id: u32) -> Option<Topic> {
        let (name, durability) = {
            let state = self.core.state.lock();
            let t = state.topics.get(&id)?;
            (t.name.clone(), t.options.durability)
        };
        Some(Topic {
            queue: self.clone(),
            id,
            name: name.into(),
            durability,
        })
    }

    /// Names of all topics.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.core
            .state
            .lock()
            .topics
            .values()
            .map(|t| t.name.clone())
            .collect()
    }

    /// What recovery found when this queue was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Counters of every topic and group, taken at one moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let now = self.core.clock.now();
        Stats::of(&self.core.state.lock(), now)
    }

    /// Commits what is staged, writes a snapshot and releases the directory; all other handles answer
    /// `Closed` from then on. Blocks. Dropping the last handle does the same.
    pub fn close(&self) {
        self.owner.close();
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), TopicError> {
    if (1..=255).contains(&name.len()) {
        Ok(())
    } else {
        Err(TopicError::Name(name.len()))
    }
}

/// How long a redrive waits for a commit before it gives up.
const REDRIVE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A topic to publish to. Clones share it.
#[derive(Debug, Clone)]
pub struct Topic {
    pub(crate) queue: Queue,
    pub(crate) id: u32,
    name: Arc<str>,
    durability: Durability,
}

impl Topic {
    /// The topic's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes one message; the future ends when it is as durable as the topic's options say.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    /// Nothing is stored before the first poll. A future dropped later leaves it open whether the message
    /// is stored: publish again with the same dedup id to be sure that it is stored once.
    pub fn publish(&self, message: impl Into<Message>) -> PublishOne {
        PublishOne(self.publish_all(vec![message.into()]))
    }

    /// Publishes several messages as one: after a crash all of them are there, or none. An empty list
    /// is answered at once.
    ///
    /// # Errors
    /// See [`PublishError`].
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub fn publish_all(&self, messages: Vec<Message>) -> Publish {
        Publish {
            topic: self.clone(),
            messages: Some(messages),
            batch: None,
            staged: None,
        }
    }

    /// [`publish`](Self::publish) for a thread without a runtime.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_blocking(&self, message: impl Into<Message>) -> Result<Receipt, PublishError> {
        self.publish_all_blocking(vec![message.into()])?
            .pop()
            .ok_or(PublishError::Closed)
    }

    /// [`publish_all`](Self::publish_all) for a thread without a runtime.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_all_blocking(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        block_on(&self.queue.core, self.publish_all(messages), None)
            .unwrap_or(Err(PublishError::Closed))
    }

    /// The consumer group of this name, made with default options if it is new. Blocks for one commit
    /// when new.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub fn group(&self, name: &str) -> Result<Group, TopicError> {
        self.group_with(name, GroupOptions::default())
    }

    /// The consumer group of this name, made with these options if it is new. Blocks for one commit
    /// when new.
    ///
    /// # Errors
    /// See [`TopicError`].
    #[expect(clippy::needless_pass_by_value, reason = "options are built in place")]
    pub fn group_with(&self, name: &str, options: GroupOptions) -> Result<Group, TopicError> {
        check_name(name)?;
        let (found, max) = self
            .queue
            .core
            .with(|s, now| (s.group(self.id, name, &options, now), s.limits.names_max));
        let (id, ticket) = found.ok_or(TopicError::TooMany(max))?;
        self.queue.confirm(ticket)?;
        Ok(Group::new(self.queue.clone(), id, name))
    }

    /// Takes messages out of this dead-letter topic and publishes each again to the topic it died in,
    /// up to `max`; returns how many. Headers about the death are dropped. What did not die in a topic stays.
    /// Blocks.
    ///
    /// # Errors
    /// The first error of a publish or acknowledgement; a message may then be in both places, never in none.
    pub fn redrive(&self, max: usize) -> Result<usize, PublishError> {
        use crate::message::dead_header;
        const GROUP: &str = "mq-redrive";
        let closed = |_| PublishError::Closed;
        let group = self
            .group_with(GROUP, GroupOptions::new().deliveries_max(0))
            .map_err(closed)?;
        let waits = || {
            let stats = self.queue.stats();
            stats
                .group(&self.name, GROUP)
                .is_some_and(|group| group.ready > 0)
        };
        let mut moved = 0;
        // Held until the end, so that they are not taken again and again.
        let mut foreign = Vec::new();
        while moved < max && waits() {
            // Not the wait for a message, which is there, but for the commit of its lease.
            let leases = group
                .take_blocking((max - moved).min(100), Some(REDRIVE_WAIT_MAX))
                .map_err(|_| PublishError::Closed)?;
            if leases.is_empty() {
                break;
            }
            for lease in leases {
                let mut message = lease.message().clone();
                let origin = message.header_value(dead_header::TOPIC).cloned();
                let Some(origin) = origin.and_then(|b| String::from_utf8(b.to_vec()).ok()) else {
                    foreign.push(lease);
                    continue;
                };
                message
                    .headers
                    .retain(|(n, _)| !n.starts_with(dead_header::PREFIX));
                // If the acknowledgement below is lost, the next redrive must not publish twice.
                message.dedup = Some(format!("mq-redrive-{}", lease.id()).into());
                self.queue
                    .topic(&origin)
                    .map_err(closed)?
                    .publish_blocking(message)?;
                lease
                    .ack_blocking()
                    .map_err(|e| PublishError::Unknown(e.to_string()))?;
                moved += 1;
            }
        }
        Ok(moved)
    }
}

/// The future of [`Topic::publish_all`].
#[derive(Debug)]
#[must_use = "nothing is stored until the future is polled"]
pub struct Publish {
    topic: Topic,
    messages: Option<Vec<Message>>,
    /// Encoded, and waiting for room.
    batch: Option<Batch>,
    staged: Option<(Committed, Staged, usize)>,
}

impl Publish {
    /// Stages the batch; gives it back when there is no room yet.
    fn stage(&self, batch: Batch, cx: &Context<'_>) -> Result<Result<Staged, Batch>, PublishError> {
        let id = self.topic.id;
        self.topic.queue.core.with(|state, now| {
            if state.closed {
                return Err(PublishError::Closed);
            }
            if let Some(what) = &state.fault {
                return Err(PublishError::Unknown(what.clone()));
            }
            match state.publish(id, batch, now) {
                Ok(staged) => Ok(Ok(staged)),
                Err(Refused::Full {
                    batch, wait: true, ..
                }) => {
                    if let Some(t) = state.topics.get_mut(&id) {
                        t.space.push(cx.waker().clone());
                        state.crowded = true;
                    }
                    Ok(Err(*batch))
                }
                Err(Refused::Full { batch, waiting, .. }) => Err(PublishError::Full {
                    messages: batch.messages,
                    waiting,
                }),
                Err(Refused::TooLarge { batch, size }) => Err(PublishError::TooLarge {
                    messages: batch.messages,
                    size,
                    max: state.limits.frame_max,
                }),
            }
        })
    }
}

fn receipts(staged: &Staged, count: usize) -> Vec<Receipt> {
    let mut known = staged.duplicates.iter().peekable();
    let mut seq = staged.first;
    (0..count)
        .map(|at| match known.next_if(|(place, _)| *place == at) {
            Some((_, first)) => Receipt {
                id: MessageId(*first),
                duplicate: true,
            },
            None => {
                seq += 1;
                Receipt {
                    id: MessageId(seq - 1),
                    duplicate: false,
                }
            }
        })
        .collect()
}

impl Future for Publish {
    type Output = Result<Vec<Receipt>, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(messages) = self.messages.take() {
            let now = self.topic.queue.core.clock.now();
            self.batch = Some(Batch::new(self.topic.id, messages, now));
        }
        if let Some(batch) = self.batch.take() {
            let count = batch.messages.len();
            match self.stage(batch, cx) {
                Err(e) => return Poll::Ready(Err(e)),
                Ok(Err(batch)) => {
                    self.batch = Some(batch);
                    return Poll::Pending;
                }
                Ok(Ok(staged)) => {
                    let wait = Committed {
                        core: Arc::clone(&self.topic.queue.core),
                        ticket: staged.ticket,
                        durability: self.topic.durability,
                    };
                    self.staged = Some((wait, staged, count));
                }
            }
        }
        let Some((wait, staged, count)) = &mut self.staged else {
            return Poll::Ready(Err(PublishError::Closed));
        };
        match Pin::new(wait).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => {
                let receipts = receipts(staged, *count);
                self.staged = None;
                Poll::Ready(match done {
                    Ok(()) => Ok(receipts),
                    Err(NotCommitted::Disk(what)) => Err(PublishError::Unknown(what)),
                    Err(NotCommitted::Closed) => Err(PublishError::Closed),
                })
            }
        }
    }
}

/// The future of [`Topic::publish`].
#[derive(Debug)]
#[must_use = "nothing is stored until the future is polled"]
pub struct PublishOne(Publish);

impl Future for PublishOne {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|done| done?.pop().ok_or(PublishError::Closed))
    }
}

/// A deadline this far from now.
pub(crate) fn deadline(after: Duration) -> Option<Instant> {
    shell::instant().checked_add(after)
}
