//! Waiting for a commit, with or without a runtime. Who waits on a thread of its own commits by itself.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use super::{Core, instant};
use crate::options::Durability;
use crate::state::Waiter;

thread_local! {
    /// Whether this thread is in [`block_on`]: what it stages it commits itself, so the committer's thread is
    /// not woken for it.
    pub(super) static LEADS: Cell<bool> = const { Cell::new(false) };
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
        state.waiters.push(Waiter {
            ticket: self.ticket,
            sync,
            leads: LEADS.get(),
            waker: cx.waker().clone(),
        });
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

/// Runs a future of this crate on the calling thread, until the deadline. When nobody else is committing, this
/// thread does: a lone publisher never waits for another thread to wake up.
pub(crate) fn block_on<F: Future>(
    core: &Core,
    future: F,
    deadline: Option<Instant>,
) -> Option<F::Output> {
    let parker = Arc::new(Parker {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        LEADS.set(true);
        let polled = future.as_mut().poll(&mut cx);
        LEADS.set(false);
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
}
