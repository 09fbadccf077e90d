//! The shell: the clock, the committer thread, and waiting with or without a runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::log::codec::micros;
use crate::log::format::Pos;
use crate::log::reader::SegmentReader;
use crate::log::record::{Record, Stored};
use crate::log::recover::write_snapshot;
use crate::log::writer::Writer;
use crate::options::Durability;
use crate::state::snapshot::{self, Resume};
use crate::state::{Chunk, State};
use crate::storage::Storage;

/// After a refused commit the committer waits this long before it tries again.
const RETRY: Duration = Duration::from_millis(100);

/// Messages that are written again between two snapshots, about.
const RELOCATE_MAX: usize = 1024;

/// Time that never steps back: the wall clock at open (or the newest time in the log, if that is later)
/// plus what a monotonic clock has counted since. Microseconds since 1970.
#[derive(Debug)]
pub(crate) struct Clock {
    base: u64,
    started: Instant,
}

impl Clock {
    pub(crate) fn wall() -> u64 {
        #[expect(
            clippy::disallowed_methods,
            reason = "the shell reads the wall clock once, at open"
        )]
        let now = SystemTime::now();
        now.duration_since(UNIX_EPOCH).map_or(0, micros)
    }

    pub(crate) fn starting_at(base: u64) -> Self {
        Self {
            base,
            started: instant(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.base + micros(instant().saturating_duration_since(self.started))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell is where the monotonic clock is read"
)]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// What handles and the committer share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) state: Mutex<State>,
    pub(crate) kick: Condvar,
    pub(crate) reader: SegmentReader,
    pub(crate) clock: Clock,
}

impl Core {
    /// Runs `f` on the state, then wakes whom it made ready, outside the lock.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut State, u64) -> T) -> T {
        let now = self.clock.now();
        let (out, wake, kick) = {
            let mut state = self.state.lock();
            let before = state.next_ticket;
            let staged = state.staged_bytes;
            let out = f(&mut state, now);
            let kick = state.next_ticket != before || state.staged_bytes != staged || state.closed;
            (out, std::mem::take(&mut state.wake), kick)
        };
        if kick {
            self.kick.notify_one();
        }
        for waker in wake {
            waker.wake();
        }
        out
    }
}

/// Settings of the committer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) sync_interval: Duration,
    /// A snapshot is written after this many bytes of log.
    pub(crate) snapshot_bytes: u64,
}

/// The one that writes. Driven by its thread, or step by step by a test.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) writer: Writer,
    pub(crate) resumes: Vec<Resume>,
    pub(crate) pace: Pace,
    /// A chunk that the disk refused; it goes first.
    refused: Option<Chunk>,
    since_snapshot: u64,
    unsynced_since: Option<u64>,
    retry_at: Option<u64>,
}

impl Committer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        writer: Writer,
        resumes: Vec<Resume>,
        pace: Pace,
    ) -> Self {
        Self {
            storage,
            writer,
            resumes,
            pace,
            refused: None,
            since_snapshot: 0,
            unsynced_since: None,
            retry_at: None,
        }
    }

    /// Does what is due now. Returns whether there may be more.
    pub(crate) fn step(&mut self, core: &Core, now: u64) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        self.retry_at = None;
        self.bury(core, now);
        let chunk = self
            .refused
            .take()
            .or_else(|| core.state.lock().next_chunk());
        let Some(mut chunk) = chunk else {
            return self.idle(core, now);
        };
        match self.writer.commit(&chunk) {
            Ok(done) => {
                self.since_snapshot += done.frame.len() as u64;
                core.reader.remember(done.pos, done.frame);
                self.unsynced_since = if done.synced {
                    None
                } else {
                    self.unsynced_since.or(Some(now))
                };
                let wake = {
                    let mut state = core.state.lock();
                    state.remap(&done.moved);
                    state.committed(&mut chunk, done.pos, done.synced, now);
                    std::mem::take(&mut state.wake)
                };
                wake.into_iter().for_each(Waker::wake);
                if self.since_snapshot >= self.pace.snapshot_bytes {
                    // A snapshot that fails is tried again after the next stretch of log.
                    self.since_snapshot = 0;
                    if self.snapshot(core).is_err() {
                        core.state.lock().faults += 1;
                    }
                    self.relocate(core, now);
                }
                true
            }
            Err(e) => {
                self.refused = Some(chunk);
                self.refuse(core, now, &e);
                false
            }
        }
    }

    fn refuse(&mut self, core: &Core, now: u64, e: &std::io::Error) {
        self.retry_at = Some(now + micros(RETRY));
        let wake = {
            let mut state = core.state.lock();
            state.failed(e.to_string());
            std::mem::take(&mut state.wake)
        };
        wake.into_iter().for_each(Waker::wake);
    }

    /// Nothing to commit: sync what is due, prepare ahead.
    fn idle(&mut self, core: &Core, now: u64) -> bool {
        let due = self
            .unsynced_since
            .is_some_and(|at| at + micros(self.pace.sync_interval) <= now);
        if due && self.writer.has_unsynced() {
            match self.writer.sync() {
                Ok(moved) => {
                    self.unsynced_since = None;
                    let wake = {
                        let mut state = core.state.lock();
                        state.remap(&moved);
                        state.all_synced();
                        std::mem::take(&mut state.wake)
                    };
                    wake.into_iter().for_each(Waker::wake);
                }
                Err(e) => self.refuse(core, now, &e),
            }
            return true;
        }
        if self.writer.wants_prepare() && self.writer.prepare().is_err() {
            // A full disk is met again when the segment is needed; publishers are told then.
            self.retry_at = Some(now + micros(RETRY));
        }
        false
    }

    /// Moves messages with no delivery left to their dead-letter topics.
    fn bury(&mut self, core: &Core, now: u64) {
        loop {
            let job = {
                let mut state = core.state.lock();
                let Some((group, seq, reason)) = state.dying.pop_front() else {
                    return;
                };
                let attempts = state
                    .groups
                    .get(&group)
                    .and_then(|g| g.entries.get(&seq))
                    .map_or(0, |e| e.attempts);
                state
                    .locate(group, seq)
                    .map(|pos| (group, seq, reason, attempts, pos))
            };
            let Some((group, seq, mut reason, attempts, pos)) = job else {
                continue;
            };
            let stored = match core.reader.message(pos, seq) {
                Ok((stored, _)) => stored,
                Err(e) => {
                    reason = format!("{reason}; its bytes are damaged: {}", e.what);
                    Stored::default()
                }
            };
            core.state
                .lock()
                .stage_dead(group, seq, attempts, stored, &reason, now);
        }
    }

    /// Stages the live messages of sparse segments to be written again.
    pub(crate) fn relocate(&self, core: &Core, now: u64) {
        let sparse = core
            .state
            .lock()
            .sparse(self.writer.segment(), RELOCATE_MAX);
        for (seq, pos) in sparse {
            // A damaged one stays where it is; who takes it is told.
            if let Ok((stored, time)) = core.reader.message(pos, seq) {
                let moved = Record::Moved(seq, time, stored);
                let mut state = core.state.lock();
                state.stage_one(moved, Durability::Buffered, now);
            }
        }
    }

    /// Writes the committed state and frees the segments that nothing needs any more.
    pub(crate) fn snapshot(&mut self, core: &Core) -> std::io::Result<()> {
        // What the snapshot holds must be durable in the log first, or numbers could be used twice.
        let moved = self.writer.sync()?;
        self.unsynced_since = None;
        let (pos, index) = self.writer.position();
        let time = core.clock.now();
        let resume = Resume {
            pos,
            index,
            epoch: self.writer.epoch(),
            time,
        };
        let bytes = {
            let mut state = core.state.lock();
            state.remap(&moved);
            state.all_synced();
            snapshot::encode(&state, resume)
        };
        let keep = self.resumes.last().map(|r| r.index);
        write_snapshot(&*self.storage, &bytes, index, keep)?;
        self.resumes.push(resume);
        if self.resumes.len() > 2 {
            self.resumes.remove(0);
        }
        let Some(oldest) = self
            .resumes
            .first()
            .filter(|_| self.resumes.len() == 2)
            .map(|r| r.pos.segment)
        else {
            return Ok(());
        };
        let dead: Vec<u64> = {
            let mut state = core.state.lock();
            let current = self.writer.segment();
            for id in oldest.min(current).saturating_sub(1)..current {
                state.segments.entry(id).or_default();
            }
            let dead: Vec<u64> = state
                .segments
                .iter()
                .filter(|(id, s)| s.live == 0 && **id < oldest && **id < current && **id > 0)
                .map(|(id, _)| *id)
                .collect();
            for id in &dead {
                state.segments.remove(id);
            }
            dead
        };
        for id in dead {
            core.reader.forget(id);
            match self.writer.recycle(id) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Commits all that is staged and leaves a snapshot, so that the next open has nothing to replay.
    pub(crate) fn finish(&mut self, core: &Core) {
        let now = core.clock.now();
        self.retry_at = None;
        while self.step(core, now) {}
        if self.refused.is_none() {
            drop(self.snapshot(core));
        }
        core.with(|state, _| state.finish());
    }

    /// The committer thread.
    pub(crate) fn run(mut self, core: &Core) {
        loop {
            let now = core.clock.now();
            core.with(State::tick);
            if self.step(core, now) {
                continue;
            }
            let mut state = core.state.lock();
            if state.closed {
                drop(state);
                self.finish(core);
                return;
            }
            if self.retry_at.is_none() && (!state.staging.is_empty() || !state.dying.is_empty()) {
                continue;
            }
            let sync = self
                .unsynced_since
                .map(|at| at + micros(self.pace.sync_interval));
            let next = match self.retry_at {
                Some(at) => Some(at),
                None => state.next_deadline().into_iter().chain(sync).min(),
            };
            let wait = next.map_or(60_000_000, |at| {
                at.saturating_sub(core.clock.now()).clamp(200, 60_000_000)
            });
            core.kick.wait_for(&mut state, Duration::from_micros(wait));
        }
    }
}

/// Waits until a ticket is written or synced.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) core: Arc<Core>,
    pub(crate) ticket: u64,
    pub(crate) durability: Durability,
}

/// Why a ticket was not confirmed.
#[derive(Debug)]
pub(crate) enum NotCommitted {
    Disk(String),
    Closed,
}

impl Future for Committed {
    type Output = Result<(), NotCommitted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.core.state.lock();
        let sync = self.durability == Durability::Synced;
        if self.ticket <= if sync { state.synced } else { state.written } {
            return Poll::Ready(Ok(()));
        }
        if let Some(what) = &state.fault {
            return Poll::Ready(Err(NotCommitted::Disk(what.clone())));
        }
        if state.finished {
            return Poll::Ready(Err(NotCommitted::Closed));
        }
        state.waiters.push((self.ticket, sync, cx.waker().clone()));
        Poll::Pending
    }
}

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs a future of this crate on the calling thread, until the deadline.
pub(crate) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let parker = Arc::new(Parker {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(out) = future.as_mut().poll(&mut cx) {
            return Some(out);
        }
        while !parker.woken.swap(false, Ordering::Acquire) {
            match deadline {
                None => thread::park(),
                Some(at) => {
                    let left = at.saturating_duration_since(instant());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}

/// File name and offset for error messages.
pub(crate) fn place(pos: Pos) -> (String, u64) {
    (crate::log::format::segment_name(pos.segment), pos.offset)
}
