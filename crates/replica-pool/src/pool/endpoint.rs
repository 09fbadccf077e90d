//! The connections to one copy: how many there may be, who waits for one, which lie idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::PoolOptions;
use super::stats::{Busy, CopyStats};
use crate::engine::Engine;
use crate::evidence::MemberId;

pub(super) struct Endpoint<E: Engine> {
    pub(super) member: MemberId,
    places: Arc<Semaphore>,
    /// Reads that the primary serves for want of a replica leave the rest to writers.
    read_places: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State<E::Connection>>,
}

struct State<C> {
    idle: Vec<Idle<C>>,
    /// Connections of an earlier generation are not kept: the copy failed or changed its part since.
    generation: u64,
    stats: CopyStats,
}

struct Idle<C> {
    connection: C,
    opened: Instant,
    since: Instant,
}

/// Why there is no connection.
pub(super) enum NoConnection<E> {
    Full(Busy),
    TimedOut(Busy),
    Silent,
    Failed(E),
}

/// A connection in use. Dropped, it is closed.
pub(super) struct Held<E: Engine> {
    endpoint: Arc<Endpoint<E>>,
    connection: Option<E::Connection>,
    opened: Instant,
    generation: u64,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// What became of a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Succeeded,
    Failed,
    Cancelled,
}

/// Takes itself off when its future ends or is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<E: Engine> Endpoint<E> {
    pub(super) fn new(member: MemberId, options: &PoolOptions) -> Arc<Self> {
        Arc::new(Self {
            member,
            places: Arc::new(Semaphore::new(options.connections_max.max(1))),
            read_places: Arc::new(Semaphore::new(options.primary_reads_max.max(1))),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                idle: Vec::new(),
                generation: 0,
                stats: CopyStats::new(member),
            }),
        })
    }

    /// How much is asked of the copy now, for the choice of the least busy one.
    pub(super) fn load(&self) -> usize {
        let waiting = self.waiting.load(Ordering::Relaxed);
        usize::MAX / 2 - self.places.available_permits() + waiting
    }

    fn busy(&self) -> Busy {
        Busy {
            member: self.member,
            in_use: self.state.lock().stats.out,
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    async fn place(
        &self,
        of: &Arc<Semaphore>,
        waiting_max: usize,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, NoConnection<E::Error>> {
        if let Ok(place) = Arc::clone(of).try_acquire_owned() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= waiting_max {
            return Err(NoConnection::Full(self.busy()));
        }
        match timeout_at(deadline, Arc::clone(of).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(NoConnection::TimedOut(self.busy())),
        }
    }

    /// A connection, an idle one if there is one. `spared`: a read that the primary serves.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        engine: &E,
        options: &PoolOptions,
        spared: bool,
        deadline: Instant,
    ) -> Result<Held<E>, NoConnection<E::Error>> {
        let read_place = if spared {
            Some(
                self.place(&self.read_places, options.waiting_max, deadline)
                    .await?,
            )
        } else {
            None
        };
        let place = self
            .place(&self.places, options.waiting_max, deadline)
            .await?;
        let places = (place, read_place);
        let now = Instant::now();
        {
            let mut state = self.state.lock();
            while let Some(idle) = state.idle.pop() {
                if expired(&idle, options, now) || !engine.usable(&idle.connection) {
                    state.stats.closed += 1;
                    continue;
                }
                return Ok(self.hold(&mut state, idle.connection, idle.opened, places));
            }
        }
        let connect_until = deadline.min(now + options.connect_max);
        let connected = timeout_at(connect_until, engine.connect(self.member)).await;
        let mut state = self.state.lock();
        match connected {
            Ok(Ok(connection)) => {
                state.stats.opened += 1;
                Ok(self.hold(&mut state, connection, Instant::now(), places))
            }
            Ok(Err(error)) => {
                state.stats.connect_failures += 1;
                Err(NoConnection::Failed(error))
            }
            Err(_) => {
                state.stats.connect_failures += 1;
                Err(NoConnection::Silent)
            }
        }
    }

    fn hold(
        self: &Arc<Self>,
        state: &mut State<E::Connection>,
        connection: E::Connection,
        opened: Instant,
        places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    ) -> Held<E> {
        state.stats.out += 1;
        Held {
            endpoint: Arc::clone(self),
            connection: Some(connection),
            opened,
            generation: state.generation,
            _places: places,
        }
    }

    /// Closes the idle connections, and those in use once they come back.
    pub(super) fn renew(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        let idle = std::mem::take(&mut state.idle);
        state.stats.closed += idle.len() as u64;
        drop(state);
    }

    /// Closes idle connections whose time is over.
    pub(super) fn prune(&self, options: &PoolOptions, now: Instant) {
        let mut state = self.state.lock();
        let (over, keep): (Vec<_>, Vec<_>) = std::mem::take(&mut state.idle)
            .into_iter()
            .partition(|idle| expired(idle, options, now));
        state.idle = keep;
        state.stats.closed += over.len() as u64;
        drop(state);
    }

    pub(super) fn stats(&self) -> CopyStats {
        let state = self.state.lock();
        CopyStats {
            idle: state.idle.len(),
            waiting: self.waiting.load(Ordering::Relaxed),
            ..state.stats.clone()
        }
    }
}

fn expired<C>(idle: &Idle<C>, options: &PoolOptions, now: Instant) -> bool {
    now.saturating_duration_since(idle.since) >= options.idle_max
        || now.saturating_duration_since(idle.opened) >= options.lifetime_max
}

impl<E: Engine> Held<E> {
    pub(super) fn connection(&self) -> Option<&E::Connection> {
        self.connection.as_ref()
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut E::Connection> {
        self.connection.as_mut()
    }

    pub(super) fn member(&self) -> MemberId {
        self.endpoint.member
    }

    /// Counts the connection as lent out.
    pub(super) fn lend(&self) {
        self.endpoint.state.lock().stats.leased += 1;
    }

    /// Counts how the lease ended, and keeps the connection if that is wanted.
    pub(super) fn give_back(&mut self, verdict: Verdict, keep: bool) {
        let mut state = self.endpoint.state.lock();
        match verdict {
            Verdict::Succeeded => state.stats.succeeded += 1,
            Verdict::Failed => state.stats.failed += 1,
            Verdict::Cancelled => state.stats.cancelled += 1,
        }
        if keep
            && state.generation == self.generation
            && let Some(connection) = self.connection.take()
        {
            state.stats.out -= 1;
            state.idle.push(Idle {
                connection,
                opened: self.opened,
                since: Instant::now(),
            });
        }
    }
}

impl<E: Engine> Drop for Held<E> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut state = self.endpoint.state.lock();
            state.stats.out -= 1;
            state.stats.closed += 1;
            drop(state);
            drop(connection);
        }
    }
}
