//! The one that writes: commits what is staged, syncs in time, buries, snapshots, and frees segments.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::Core;
use crate::log::codec::micros;
use crate::log::record::{Record, Stored};
use crate::log::recover::write_snapshot;
use crate::log::writer::Writer;
use crate::options::Durability;
use crate::state::snapshot::{self, Resume};
use crate::state::{Chunk, State};
use crate::storage::Storage;

/// After a refused commit the committer waits this long before it tries again.
const RETRY: Duration = Duration::from_millis(100);
/// A message that could not be read to be buried is tried again after this long.
const BURY_AGAIN: Duration = Duration::from_secs(1);
/// Messages that are written again between two snapshots, about.
const RELOCATE_MAX: usize = 1024;

/// Settings of the committer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) sync_interval: Duration,
}

/// Driven by whoever waits for a commit, by its thread, or step by step by a test.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) writer: Writer,
    pub(crate) resumes: Vec<Resume>,
    pub(crate) pace: Pace,
    /// A chunk that the disk refused; it goes first.
    refused: Option<Chunk>,
    /// The segment at whose beginning a snapshot was tried last.
    snapshot_segment: u64,
    unsynced_since: Option<u64>,
    retry_at: Option<u64>,
    /// Until when the thread sleeps, unless it is woken.
    sleeps_until: u64,
}

/// Whom a commit leaves to be woken.
#[derive(Debug)]
pub(super) struct Done {
    /// Those whose wait is over.
    pub(super) wake: Vec<Waker>,
}

impl Committer {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        writer: Writer,
        resumes: Vec<Resume>,
        pace: Pace,
    ) -> Self {
        let snapshot_segment = writer.segment();
        Self {
            storage,
            writer,
            resumes,
            pace,
            refused: None,
            snapshot_segment,
            unsynced_since: None,
            retry_at: None,
            sleeps_until: 0,
        }
    }

    /// Does what is due now. Returns whether there may be more.
    pub(crate) fn step(&mut self, core: &Core, now: u64) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        if self.wants_snapshot() {
            // A snapshot that fails is tried again after the next segment.
            self.snapshot_segment = self.writer.segment();
            self.relocate(core, now);
            while let Some(done) = self.commit(core, now) {
                done.wake.into_iter().for_each(Waker::wake);
            }
            if self.snapshot(core).is_err() {
                core.state.lock().faults += 1;
            }
        }
        self.bury(core, now);
        match self.commit(core, now) {
            Some(done) => {
                done.wake.into_iter().for_each(Waker::wake);
                self.refused.is_none()
            }
            None => self.idle(core, now),
        }
    }

    /// At the beginning of each segment: so the segments before the last one are free.
    fn wants_snapshot(&self) -> bool {
        self.writer.segment() != self.snapshot_segment
    }

    /// Whether the committer's thread is wanted, for something besides what is staged, before it would wake.
    fn has_chores(&self) -> bool {
        self.wants_snapshot()
            || self.refused.is_some()
            || self.writer.wants_prepare()
            || self
                .next_deadline()
                .is_some_and(|at| at < self.sleeps_until)
    }

    /// Commits the oldest chunk, if there is one, or is told of the refusal. Returns whom to wake.
    pub(super) fn commit(&mut self, core: &Core, now: u64) -> Option<Done> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        let chunk = self
            .refused
            .take()
            .or_else(|| core.state.lock().next_chunk());
        let mut chunk = chunk?;
        self.retry_at = None;
        let bytes = chunk.body_len();
        let done = match self.writer.commit(&mut chunk) {
            Ok(done) => done,
            Err(e) => {
                self.refused = Some(chunk);
                let wake = self.refuse(core, now, &e);
                core.state.lock().chores = true;
                return Some(Done { wake });
            }
        };
        core.reader.remember(done.pos, done.frame);
        self.unsynced_since = if done.synced {
            None
        } else {
            self.unsynced_since.or(Some(now))
        };
        let mut state = core.state.lock();
        state.remap(&done.moved);
        state.committed(chunk, bytes, done.pos, done.synced, now);
        state.chores |= self.has_chores() || !state.dying.is_empty();
        let wake = std::mem::take(&mut state.wake);
        Some(Done { wake })
    }

    fn refuse(&mut self, core: &Core, now: u64, e: &std::io::Error) -> Vec<Waker> {
        self.retry_at = Some(now + micros(RETRY));
        let mut state = core.state.lock();
        state.failed(e.to_string());
        std::mem::take(&mut state.wake)
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
                Err(e) => self.refuse(core, now, &e).into_iter().for_each(Waker::wake),
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
                Err(e) if e.refused => {
                    // What cannot be read now is not thrown away.
                    let mut state = core.state.lock();
                    state.faults += 1;
                    state.unburied.push_back((group, seq, reason));
                    state.bury_at = now + micros(BURY_AGAIN);
                    continue;
                }
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
                state.stage_one(moved, Durability::Interval, now);
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

    /// When there is work next that nobody will call for.
    fn next_deadline(&self) -> Option<u64> {
        let sync = self
            .unsynced_since
            .map(|at| at + micros(self.pace.sync_interval));
        self.retry_at.or(sync)
    }
}

/// The committer's thread.
pub(crate) fn run(core: &Core) {
    loop {
        let now = core.clock.now();
        core.with(State::tick);
        let job = core.committer.lock().writer.segment_to_make();
        if let Some(job) = job {
            // Filling a file takes long: others commit meanwhile.
            let made = job.make();
            core.committer.lock().writer.segment_made(job, made);
        }
        let (more, own, retries) = {
            let mut committer = core.committer.lock();
            core.state.lock().chores = false;
            let more = committer.step(core, now);
            let own = committer.next_deadline();
            committer.sleeps_until = own.unwrap_or(u64::MAX);
            (more, own, committer.retry_at.is_some())
        };
        if more {
            continue;
        }
        let state = core.state.lock();
        if state.closed {
            drop(state);
            core.committer.lock().finish(core);
            return;
        }
        let now = core.clock.now();
        if state.chores || (!retries && (state.wants_commit(now) || !state.dying.is_empty())) {
            continue;
        }
        let others = state.next_deadline().filter(|_| !retries);
        let next = own.into_iter().chain(others).min();
        let wait = next.map_or(60_000_000, |at| {
            at.saturating_sub(now).clamp(200, 60_000_000)
        });
        core.kick.wait_for(state, Duration::from_micros(wait));
    }
}
