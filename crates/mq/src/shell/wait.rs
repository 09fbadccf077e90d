//! Waiting for a commit, with or without a runtime. Who waits on a thread of its own commits by itself.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::{Core, instant};
use crate::options::Durability;
use crate::state::{State, Waiter};
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, thread_local};

thread_local! {
    /// Whether this thread is in [`block_on`]: what it stages it commits itself, so the committer's thread is
    /// not woken for it.
    static LEADS: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn leads() -> bool {
    LEADS.with(Cell::get)
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

impl Committed {
    /// The answer, if it is known.
    fn outcome(&self, state: &State) -> Option<Result<(), NotCommitted>> {
        let reached = match self.durability {
            Durability::Synced => state.synced,
            Durability::Interval => state.written,
            Durability::Buffered => u64::MAX,
        };
        if self.ticket <= reached {
            return Some(Ok(()));
        }
        if let Some(what) = &state.fault {
            return Some(Err(NotCommitted::Disk(what.clone())));
        }
        state.finished.then_some(Err(NotCommitted::Closed))
    }
}

impl Future for Committed {
    type Output = Result<(), NotCommitted>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.durability == Durability::Buffered {
            return Poll::Ready(Ok(()));
        }
        let leads = leads();
        loop {
            let mut state = self.core.state.lock();
            if let Some(outcome) = self.outcome(&state) {
                return Poll::Ready(outcome);
            }
            // A thread that finds nobody committing does it itself, before it waits.
            if leads && !state.staging.is_empty() {
                drop(state);
                if self.core.try_commit() {
                    continue;
                }
                state = self.core.state.lock();
                if let Some(outcome) = self.outcome(&state) {
                    return Poll::Ready(outcome);
                }
            }
            state.waiters.push(Waiter {
                ticket: self.ticket,
                sync: self.durability == Durability::Synced,
                leads,
                waker: cx.waker().clone(),
            });
            return Poll::Pending;
        }
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

thread_local! {
    /// What wakes this thread, made once.
    static PARKER: (Arc<Parker>, Waker) = {
        let parker = Arc::new(Parker {
            thread: thread::current(),
            woken: AtomicBool::new(false),
        });
        (Arc::clone(&parker), Waker::from(parker))
    };
}

/// Runs a future of this crate on the calling thread, until the deadline. When nobody else is committing, this
/// thread does: a lone publisher never waits for another thread to wake up.
pub(crate) fn block_on<F: Future>(
    core: &Core,
    future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    PARKER.with(|(parker, waker)| {
        let mut cx = Context::from_waker(waker);
        let mut future = pin!(future);
        loop {
            LEADS.with(|l| l.set(true));
            let polled = future.as_mut().poll(&mut cx);
            LEADS.with(|l| l.set(false));
            if let Poll::Ready(out) = polled {
                return Some(out);
            }
            if core.try_commit() {
                continue;
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
    })
}
