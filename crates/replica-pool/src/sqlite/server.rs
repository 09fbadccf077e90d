//! The shell that runs a copy: one thread that writes, one task that follows, readers beside them.

mod follow;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::copy::{Apply, Copy, CopyError, applied, state_path};
use super::message::{PIECE_BYTES_MAX, Piece, Pull, Shipment, SnapshotId};
use crate::evidence::{Epoch, Evidence, Lsn, MemberId, Role};
use crate::failover::Action;

/// How one copy reaches the others. Both calls must come to an end by themselves.
pub trait Peers: Send + Sync + 'static {
    /// Has `member` answer a [`Pull`] by its [`Server::pull`]. `None` if it did not answer.
    fn pull(&self, member: MemberId, pull: Pull) -> impl Future<Output = Option<Shipment>> + Send;

    /// Has `member` answer by its [`Server::piece`]. `None` if it did not answer.
    fn piece(
        &self,
        member: MemberId,
        id: Option<SnapshotId>,
        offset: u64,
    ) -> impl Future<Output = Option<Piece>> + Send;
}

/// Bounds of a [`Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct ServerOptions {
    /// Commands that wait to be written; more wait to be taken. Defaults to 1 024.
    pub waiting_max: usize,
    /// Bytes of commands that one sync covers, at most, unless one is larger. Defaults to 1 MiB.
    pub batch_bytes_max: usize,
    /// Readers at one time; more wait. Each keeps a connection. Defaults to 4.
    pub readers_max: usize,
    /// How long a write waits for a majority before its outcome is called unknown. Defaults to 2 s.
    pub commit_wait_max: Duration,
    /// How long a question of a replica may wait for news. Its answer is the heartbeat. Defaults to
    /// 200 ms.
    pub pull_wait_max: Duration,
    /// How long a replica waits after a question that nobody answered. Defaults to 50 ms.
    pub retry_after: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            waiting_max: 1_024,
            batch_bytes_max: 1 << 20,
            readers_max: 4,
            commit_wait_max: Duration::from_secs(2),
            pull_wait_max: Duration::from_millis(200),
            retry_after: Duration::from_millis(50),
        }
    }
}

/// Why a write has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Nothing was written: ask the primary.
    #[error("this copy is not the primary")]
    NotPrimary {
        /// Whom this copy follows, if it knows.
        primary: Option<MemberId>,
    },
    /// Nothing was written: the disk is full.
    #[error("the disk is full; make room and try again")]
    Full,
    /// It may be carried out or not: send the command again, with the same id.
    #[error("no majority has confirmed it in time; it may be carried out later")]
    Unknown,
    /// The copy has failed and serves nothing more.
    #[error("the copy has failed; open it again")]
    Unusable,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The copy has not reached the position in time.
    #[error("this copy is at {applied}, which is behind what was asked for")]
    Behind {
        /// Where it is.
        applied: Lsn,
    },
    /// SQLite failed.
    #[error("reading: {0}")]
    Sqlite(String),
    /// The copy is shutting down.
    #[error("the copy is shutting down")]
    Gone,
}

type WriteResult<T> = Result<(Lsn, T), WriteError>;

struct Job<T> {
    command: Vec<u8>,
    answer: oneshot::Sender<WriteResult<T>>,
}

struct Core<A: Apply> {
    copy: Copy<A>,
    /// Writers by the number of their record, until it is applied.
    waiting: BTreeMap<Lsn, oneshot::Sender<WriteResult<A::Answer>>>,
    /// What a replica learned to be committed, and when: applied as late as the lag says.
    due: VecDeque<(Instant, Lsn)>,
    /// When the primary was last heard.
    heard: Option<Instant>,
}

/// What others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    last: Lsn,
    committed: Lsn,
    applied: Lsn,
    epoch: Epoch,
    following: Option<MemberId>,
    primary: bool,
    usable: bool,
}

struct Inner<A: Apply> {
    core: Mutex<Core<A>>,
    seen: watch::Sender<Seen>,
    options: ServerOptions,
    lag_ms: AtomicU64,
    readers: Mutex<Vec<Connection>>,
    reading: Semaphore,
    snapshot: Mutex<Option<(SnapshotId, std::fs::File, u64)>>,
    state: PathBuf,
}

/// A copy at work. Clones share it; its tasks end with the last clone.
pub struct Server<A: Apply> {
    inner: Arc<Inner<A>>,
    jobs: mpsc::Sender<Job<A::Answer>>,
    _tasks: Arc<Tasks>,
}

impl<A: Apply> Clone for Server<A> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            jobs: self.jobs.clone(),
            _tasks: Arc::clone(&self._tasks),
        }
    }
}

impl<A: Apply> std::fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("seen", &*self.inner.seen.borrow())
            .finish_non_exhaustive()
    }
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl<A: Apply> Server<A> {
    /// Starts the writing thread and the tasks that follow a primary and apply what is committed.
    ///
    /// # Errors
    /// When the thread cannot be started.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        copy: Copy<A>,
        peers: impl Peers,
        options: ServerOptions,
    ) -> std::io::Result<Self> {
        let state = state_path(copy.dir());
        let (seen, _) = watch::channel(Seen::of(&copy));
        let (jobs, queue) = mpsc::channel(options.waiting_max.max(1));
        let inner = Arc::new(Inner {
            core: Mutex::new(Core {
                copy,
                waiting: BTreeMap::new(),
                due: VecDeque::new(),
                heard: None,
            }),
            seen,
            options,
            lag_ms: AtomicU64::new(0),
            readers: Mutex::default(),
            reading: Semaphore::new(options.readers_max.max(1)),
            snapshot: Mutex::default(),
            state,
        });
        let writer = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || writer.write_all(queue))?;
        let follow = tokio::spawn(Arc::clone(&inner).follow_for_ever(peers));
        let apply = tokio::spawn(Arc::clone(&inner).apply_for_ever());
        Ok(Self {
            inner,
            jobs,
            _tasks: Arc::new(Tasks(vec![follow.abort_handle(), apply.abort_handle()])),
        })
    }

    /// Carries a command out: on return a majority has it on disk and this copy's readers see it.
    ///
    /// # Errors
    /// [`WriteError`] says whether it may have been carried out.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the command is carried out.
    pub async fn write(&self, command: Vec<u8>) -> WriteResult<A::Answer> {
        let (answer, answered) = oneshot::channel();
        if self.jobs.send(Job { command, answer }).await.is_err() {
            return Err(WriteError::Unusable);
        }
        match timeout(self.inner.options.commit_wait_max, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(WriteError::Unknown),
        }
    }

    /// Runs `query` on a connection that sees at least `at_least`, waiting for that up to `wait`. The
    /// answer comes with the position that it was read at.
    ///
    /// # Errors
    /// [`ReadError::Behind`] when the position was not reached in time.
    ///
    /// # Cancel safety
    /// Nothing happens but that the query may run to its end.
    pub async fn read<T: Send + 'static>(
        &self,
        at_least: Lsn,
        wait: Duration,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Lsn, T), ReadError> {
        let mut seen = self.inner.seen.subscribe();
        // The borrow that comes with it ends here: it must not live across an await.
        let reached = timeout(wait, seen.wait_for(|seen| seen.applied >= at_least))
            .await
            .is_ok_and(|seen| seen.is_ok());
        if !reached {
            let applied = self.inner.seen.borrow().applied;
            return Err(ReadError::Behind { applied });
        }
        let _place = self
            .inner
            .reading
            .acquire()
            .await
            .map_err(|_| ReadError::Gone)?;
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || inner.read(query))
            .await
            .map_err(|_| ReadError::Gone)?
            .map_err(|error| ReadError::Sqlite(error.to_string()))
    }

    /// Carries out an order of a coordinator and answers with the evidence after it. `None` when the
    /// copy has failed: it then serves nothing until it is opened again.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the order is carried out.
    pub async fn perform(&self, action: Action) -> Option<Evidence> {
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || {
            let mut core = inner.core.lock();
            let done = core.copy.perform(&action);
            inner.advance(&mut core);
            let mut evidence = done.ok()?;
            evidence.age = core.age();
            Some(evidence)
        })
        .await
        .ok()
        .flatten()
    }

    /// What the copy says about itself.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let core = self.inner.core.lock();
        let mut evidence = core.copy.evidence();
        evidence.age = core.age();
        evidence
    }

    /// Whether the copy is the primary of `epoch`. Never waits.
    #[must_use]
    pub fn reigns(&self, epoch: Epoch) -> bool {
        let seen = *self.inner.seen.borrow();
        seen.usable && seen.primary && seen.epoch == epoch
    }

    /// How long the oldest record that is committed, as far as this copy knows, has waited to be
    /// applied. Zero when all is.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.inner.core.lock().delay()
    }

    /// Answers a replica; without news, only after a while.
    ///
    /// # Cancel safety
    /// The receipt in `pull` counts or not; the replica will ask again.
    pub async fn pull(&self, pull: Pull) -> Shipment {
        let deadline = Instant::now() + self.inner.options.pull_wait_max;
        let mut seen = self.inner.seen.subscribe();
        loop {
            let inner = Arc::clone(&self.inner);
            let shipment = spawn_blocking(move || {
                let mut core = inner.core.lock();
                let shipment = core.copy.ship(&pull);
                inner.advance(&mut core);
                shipment.unwrap_or(Shipment::NotPrimary)
            })
            .await
            .unwrap_or(Shipment::NotPrimary);
            let nothing_new = matches!(
                &shipment,
                Shipment::Entries { entries, committed, .. }
                    if entries.is_empty() && *committed <= pull.committed
            );
            if !nothing_new {
                return shipment;
            }
            let news = seen.wait_for(|seen| {
                !seen.primary || seen.last > pull.last || seen.committed > pull.committed
            });
            if !matches!(tokio::time::timeout_at(deadline, news).await, Ok(Ok(_))) {
                return shipment;
            }
        }
    }

    /// A piece of the snapshot `id`, or the first of a new one. `None` when there is no such snapshot
    /// any more, or this copy is not the primary.
    ///
    /// # Cancel safety
    /// A snapshot may be written in vain.
    pub async fn piece(&self, id: Option<SnapshotId>, offset: u64) -> Option<Piece> {
        let inner = Arc::clone(&self.inner);
        spawn_blocking(move || inner.piece(id, offset).ok().flatten())
            .await
            .ok()
            .flatten()
    }

    /// Makes this copy apply late while it is a replica: a fault to practise with.
    pub fn set_lag(&self, lag: Duration) {
        let ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.inner.lag_ms.store(ms, Ordering::Relaxed);
        self.inner.seen.send_modify(|_| {});
    }

    /// Tells, once every clone is dropped, whether some work of this copy still runs.
    pub(super) fn remains(&self) -> impl Fn() -> bool + Send + use<A> {
        let inner = Arc::downgrade(&self.inner);
        move || inner.strong_count() > 0
    }

    /// Resolves when the copy has failed and must be opened again.
    ///
    /// # Cancel safety
    /// It only looks.
    pub async fn failed(&self) {
        let mut seen = self.inner.seen.subscribe();
        let _gone = seen.wait_for(|seen| !seen.usable).await;
    }
}

impl Seen {
    fn of<A: Apply>(copy: &Copy<A>) -> Self {
        let evidence = copy.evidence();
        Self {
            last: evidence.received,
            committed: evidence.committed,
            applied: evidence.applied,
            epoch: evidence.epoch,
            following: evidence.following,
            primary: evidence.role == Role::Primary,
            usable: copy.is_usable(),
        }
    }
}

impl<A: Apply> Core<A> {
    fn age(&self) -> Duration {
        if self.copy.is_primary() {
            return Duration::ZERO;
        }
        self.heard
            .map_or(Duration::MAX, |heard| heard.elapsed())
            .max(self.delay())
    }

    fn delay(&self) -> Duration {
        self.due
            .front()
            .map_or(Duration::ZERO, |(at, _)| at.elapsed())
    }
}

impl<A: Apply> Inner<A> {
    /// Applies what may be applied now, answers those who wait for it, and tells everybody.
    fn advance(&self, core: &mut Core<A>) {
        let now = Instant::now();
        let lag = Duration::from_millis(self.lag_ms.load(Ordering::Relaxed));
        let until = if core.copy.is_primary() || lag.is_zero() {
            core.due.clear();
            Lsn::MAX
        } else {
            let committed = core.copy.committed();
            let known = core
                .due
                .back()
                .map_or_else(|| core.copy.applied(), |due| due.1);
            if committed > known {
                core.due.push_back((now, committed));
            }
            let mut until = core.copy.applied();
            while let Some((at, lsn)) = core.due.front().copied() {
                if at + lag > now {
                    break;
                }
                until = lsn;
                core.due.pop_front();
            }
            until
        };
        while core.copy.is_usable() {
            match core.copy.apply(until) {
                Ok(answers) if answers.is_empty() => break,
                Ok(answers) => {
                    for (lsn, answer) in answers {
                        if let Some(waiter) = core.waiting.remove(&lsn) {
                            let _gone = waiter.send(Ok((lsn, answer)));
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "applying records");
                    break;
                }
            }
        }
        if !core.copy.is_primary() {
            // Another primary may yet commit these records, or cut them off.
            for (_, waiter) in std::mem::take(&mut core.waiting) {
                let _gone = waiter.send(Err(WriteError::Unknown));
            }
        }
        core.waiting.retain(|_, waiter| !waiter.is_closed());
        let now = Seen::of(&core.copy);
        self.seen.send_if_modified(|seen| {
            let changed = *seen != now;
            *seen = now;
            changed
        });
    }

    /// The writing thread: whatever has come up meanwhile goes into one sync.
    fn write_all(&self, mut queue: mpsc::Receiver<Job<A::Answer>>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.command.len();
            let mut jobs = vec![first];
            while bytes < self.options.batch_bytes_max && jobs.len() < self.options.waiting_max {
                let Ok(job) = queue.try_recv() else { break };
                bytes += job.command.len();
                jobs.push(job);
            }
            // Whoever no longer waits has not been promised anything.
            jobs.retain(|job| !job.answer.is_closed());
            let (commands, answers): (Vec<_>, Vec<_>) = jobs
                .into_iter()
                .map(|job| (job.command, job.answer))
                .unzip();
            if commands.is_empty() {
                continue;
            }
            let mut core = self.core.lock();
            match core.copy.append(commands) {
                Ok(first) => core.waiting.extend((first..).zip(answers)),
                Err(error) => {
                    let error = match error {
                        CopyError::NotPrimary { primary } => WriteError::NotPrimary { primary },
                        CopyError::Full { .. } => WriteError::Full,
                        CopyError::Unusable => WriteError::Unusable,
                        // A failed sync leaves open what is on disk.
                        other => {
                            tracing::error!(error = %other, "writing commands");
                            WriteError::Unknown
                        }
                    };
                    for answer in answers {
                        let _gone = answer.send(Err(error.clone()));
                    }
                }
            }
            self.advance(&mut core);
        }
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<(Lsn, T)> {
        let kept = self.readers.lock().pop();
        let mut reader = match kept {
            Some(reader) => reader,
            None => open_reader(&self.state)?,
        };
        // One transaction, so that the answer and its position belong together.
        let tx = reader.transaction()?;
        let at = applied(&tx)?;
        let answer = query(&tx)?;
        drop(tx);
        self.readers.lock().push(reader);
        Ok((at, answer))
    }

    fn piece(
        &self,
        id: Option<SnapshotId>,
        offset: u64,
    ) -> Result<Option<Piece>, Box<dyn std::error::Error>> {
        let mut kept = self.snapshot.lock();
        if id.is_none() {
            let (id, path) = {
                let mut core = self.core.lock();
                if !core.copy.is_primary() {
                    return Ok(None);
                }
                core.copy.snapshot()?
            };
            let file = std::fs::File::open(&path)?;
            // Unlinked at once: it lives as long as somebody may read it, and no crash leaves it behind.
            std::fs::remove_file(&path)?;
            let total = file.metadata()?.len();
            *kept = Some((id, file, total));
        }
        let Some((have, file, total)) = kept.as_mut() else {
            return Ok(None);
        };
        if id.is_some_and(|id| id != *have) {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        Read::by_ref(file)
            .take(PIECE_BYTES_MAX as u64)
            .read_to_end(&mut bytes)?;
        let piece = Piece {
            id: *have,
            offset,
            total: *total,
            bytes,
        };
        if offset + piece.bytes.len() as u64 >= *total {
            *kept = None;
        }
        Ok(Some(piece))
    }
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let reader = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    reader.busy_timeout(Duration::from_secs(1))?;
    Ok(reader)
}
