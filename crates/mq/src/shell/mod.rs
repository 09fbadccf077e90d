//! The shell: the clock, and what handles and the committer share.

mod committer;
mod wait;

use std::task::Waker;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use crate::log::codec::micros;
use crate::log::format::{Pos, segment_name};
use crate::log::reader::SegmentReader;
use crate::state::State;

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
            let nudge = std::mem::take(&mut state.nudge) && !wait::LEADS.get();
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
        let Some(done) = committer.commit(self, self.clock.now(), true) else {
            return false;
        };
        drop(committer);
        // The one who commits next first, then those whose wait is over.
        if done.kick {
            self.kick.notify_one();
        }
        done.leader
            .into_iter()
            .chain(done.wake)
            .for_each(Waker::wake);
        true
    }
}

/// File name and offset for error messages.
pub(crate) fn place(pos: Pos) -> (String, u64) {
    (segment_name(pos.segment), pos.offset)
}
