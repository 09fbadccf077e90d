//! The shell: the clock, and what handles and the committer share.

mod committer;
mod wait;

use std::task::Waker;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::log::codec::micros;
use crate::log::format::{Pos, segment_name};
use crate::log::reader::SegmentReader;
use crate::state::State;
use crate::sync::{Condvar, Mutex};

pub(crate) use committer::{Committer, Pace, run};
pub(crate) use wait::{Committed, NotCommitted, block_on};

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
    /// Locked before `state` by whoever needs both.
    pub(crate) committer: Mutex<Committer>,
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
            let out = f(&mut state, now);
            let nudge = std::mem::take(&mut state.nudge) && !wait::leads();
            let kick = std::mem::take(&mut state.kick) || nudge;
            (out, std::mem::take(&mut state.wake), kick)
        };
        if kick {
            self.kick.notify_one();
        }
        wake.into_iter().for_each(Waker::wake);
        out
    }

    /// Commits what is staged, unless somebody else is at it, who then sees to the rest. Returns whether
    /// something was committed or refused.
    fn try_commit(&self) -> bool {
        let Some(mut committer) = self.committer.try_lock() else {
            return false;
        };
        let now = self.clock.now();
        let done = committer.commit(self, now);
        // Let go before looking who comes next: who stages after the look finds it free.
        drop(committer);
        let (leader, kick) = {
            let mut state = self.state.lock();
            let staged = state.wants_commit(now);
            let leader = if staged { state.next_leader() } else { None };
            let kick = state.chores || (staged && leader.is_none());
            (leader, kick)
        };
        // The one who commits next first, then those whose wait is over.
        if kick {
            self.kick.notify_one();
        }
        leader.into_iter().for_each(Waker::wake);
        let Some(done) = done else {
            return false;
        };
        done.wake.into_iter().for_each(Waker::wake);
        true
    }
}

/// File name and offset for error messages.
pub(crate) fn place(pos: Pos) -> (String, u64) {
    (segment_name(pos.segment), pos.offset)
}
