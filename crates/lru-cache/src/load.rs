//! Read-through: what is missing is loaded, once for all who ask at the same time.
//!
//! One caller, the leader, runs its loader; the others wait for the outcome. If the leader's future is
//! dropped, the next waiter leads with its own loader. If a loader panics, the panic goes on in its own
//! caller and the waiters get an error; nothing is poisoned. If the key is written or invalidated while
//! a load is under way, those who asked before get what was loaded, nothing is stored, and those who
//! ask later load anew. No runtime is needed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::policy::{Adaptive, Policy};
use crate::sync::{Cache, Lease};

/// Why no value came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed; all who waited for it get the same error.
    #[error("loading failed: {0}")]
    Failed(Arc<E>),
    /// The loader of another caller panicked. Ask again to try with your own.
    #[error("the loader panicked")]
    Panicked,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
        }
    }
}

/// One load under way.
struct Flight<V, E> {
    state: Mutex<State<V, E>>,
}

struct State<V, E> {
    outcome: Outcome<V, E>,
    /// By ticket, so in the order in which they came. Who leaves is taken out: a load that hangs while
    /// callers time out and come back takes no more room than there are callers.
    waiters: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

enum Outcome<V, E> {
    /// Somebody is loading.
    Loading,
    /// The leader left; the next waiter that is polled leads.
    Leaderless,
    /// It is over.
    Done(Result<V, LoadError<E>>),
}

impl<V, E> Flight<V, E> {
    const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                outcome: Outcome::Loading,
                waiters: BTreeMap::new(),
                next_ticket: 0,
            }),
        }
    }

    /// Ends the flight and wakes everybody.
    fn finish(&self, outcome: Result<V, LoadError<E>>) {
        let waiters = {
            let mut state = self.state.lock();
            state.outcome = Outcome::Done(outcome);
            std::mem::take(&mut state.waiters)
        };
        waiters.into_values().for_each(Waker::wake);
    }

    /// Gives the lead up: the waiter that has waited longest is woken to take it.
    fn abdicate(&self) {
        let next = {
            let mut state = self.state.lock();
            state.outcome = Outcome::Leaderless;
            state.waiters.pop_first()
        };
        if let Some((_, next)) = next {
            next.wake();
        }
    }
}

/// What a waiter learns.
enum Heard<V, E> {
    Done(Result<V, LoadError<E>>),
    Lead,
}

/// Waits for a flight; leaves its place and, if it was woken to lead, hands the lead on when dropped.
struct Waiting<'a, K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    shared: &'a Shared<K, V, E, P, S>,
    key: &'a K,
    flight: &'a Arc<Flight<V, E>>,
    ticket: Option<u64>,
    over: bool,
}

impl<K: Hash + Eq, V: Clone, E, P: Policy, S: BuildHasher> Future for Waiting<'_, K, V, E, P, S> {
    type Output = Heard<V, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = this.flight.state.lock();
        match &state.outcome {
            Outcome::Done(outcome) => {
                let outcome = outcome.clone();
                this.over = true;
                Poll::Ready(Heard::Done(outcome))
            }
            Outcome::Leaderless => {
                state.outcome = Outcome::Loading;
                if let Some(ticket) = this.ticket {
                    state.waiters.remove(&ticket);
                }
                this.over = true;
                Poll::Ready(Heard::Lead)
            }
            Outcome::Loading => {
                let ticket = *this.ticket.get_or_insert(state.next_ticket);
                state.next_ticket = state.next_ticket.max(ticket + 1);
                // A waker that was replaced may run the caller's code when dropped: not under the lock.
                let before = state.waiters.insert(ticket, context.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Drop for Waiting<'_, K, V, E, P, S> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (leaderless, next) = {
            let mut state = self.flight.state.lock();
            let own = self.ticket.and_then(|ticket| state.waiters.remove(&ticket));
            // We may have been the one woken to lead.
            let leaderless = matches!(state.outcome, Outcome::Leaderless);
            let next = if leaderless {
                state.waiters.pop_first()
            } else {
                None
            };
            drop(state);
            drop(own);
            (leaderless, next)
        };
        match next {
            Some((_, next)) => next.wake(),
            // Nobody is left: the flight must not stay on the board for ever.
            None if leaderless => self.shared.clear(self.key, self.flight),
            None => {}
        }
    }
}

struct Shared<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    cache: Cache<K, V, P, S>,
    flights: Mutex<Flights<K, V, E, P, S>>,
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Shared<K, V, E, P, S> {
    /// Takes a flight off the board, unless another one of the same key is there by now.
    fn clear(&self, key: &K, flight: &Arc<Flight<V, E>>) {
        let mut flights = self.flights.lock();
        if flights
            .get(key)
            .is_some_and(|under| Arc::ptr_eq(&under.flight, flight))
        {
            let gone = flights.remove(key);
            // A lease takes a lock of the cache when dropped: not while holding ours.
            drop(flights);
            drop(gone);
        }
    }
}

type Flights<K, V, E, P, S> = HashMap<K, Under<K, V, E, P, S>>;

/// A flight and the lease that tells whether newcomers may still join it.
struct Under<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    flight: Arc<Flight<V, E>>,
    lease: Arc<Lease<K, V, P, S>>,
}

/// A cache that loads what is missing. Clones share it.
///
/// At most one load of a key is under way at a time, except that a write or an invalidation during a
/// load lets the next caller start another. Loads under way are as many as there are keys being asked
/// for; bound them where the requests come in.
pub struct ReadThrough<K: Hash + Eq, V, E, P: Policy = Adaptive, S: BuildHasher = RandomState> {
    shared: Arc<Shared<K, V, E, P, S>>,
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Clone for ReadThrough<K, V, E, P, S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> fmt::Debug for ReadThrough<K, V, E, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("cache", &self.shared.cache)
            .finish_non_exhaustive()
    }
}

/// The leader's duty to end its flight, however it ends itself.
struct Lead<'a, K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    shared: &'a Shared<K, V, E, P, S>,
    key: &'a K,
    flight: Arc<Flight<V, E>>,
    lease: Arc<Lease<K, V, P, S>>,
    over: bool,
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Drop for Lead<'_, K, V, E, P, S> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if std::thread::panicking() {
            self.shared.clear(self.key, &self.flight);
            self.flight.finish(Err(LoadError::Panicked));
            return;
        }
        // Dropped half-way. With nobody waiting the flight ends; else the next one leads.
        let alone = {
            let state = self.flight.state.lock();
            state.waiters.is_empty()
        };
        if alone {
            self.shared.clear(self.key, &self.flight);
        }
        // Somebody may have joined just now: to them the flight is leaderless either way.
        self.flight.abdicate();
    }
}

impl<K, V, E, P, S> ReadThrough<K, V, E, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// Loads into `cache`, which may be used directly besides.
    #[must_use]
    pub fn new(cache: Cache<K, V, P, S>) -> Self {
        Self {
            shared: Arc::new(Shared {
                cache,
                flights: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// The cache itself, for reading, writing and invalidating.
    #[must_use]
    pub fn cache(&self) -> &Cache<K, V, P, S> {
        &self.shared.cache
    }

    /// The value of `key`: from the cache, or from a load under way, or from `load`.
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] with what the loader said; failures are not cached.
    /// [`LoadError::Panicked`] if another caller's loader panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the loader if this caller leads, and the next waiter leads with its
    /// own; dropping a waiter changes nothing for the others.
    pub async fn get_or_load<F>(&self, key: &K, load: impl FnOnce() -> F) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        self.get_or_load_if(key, |_| true, load).await
    }

    /// As [`ReadThrough::get_or_load`], but a value that is cached, or was loaded for somebody else,
    /// is used only if `valid` says yes: for readers that need at least some version. What this
    /// caller loads itself is returned without asking.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReadThrough::get_or_load`].
    pub async fn get_or_load_if<F>(
        &self,
        key: &K,
        valid: impl Fn(&V) -> bool,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        if let Some(value) = self.shared.cache.get_if(key, &valid) {
            return Ok(value);
        }
        loop {
            let (flight, lease, leads) = self.join(key);
            if !leads {
                let waiting = Waiting {
                    shared: &self.shared,
                    key,
                    flight: &flight,
                    ticket: None,
                    over: false,
                };
                match waiting.await {
                    Heard::Done(Ok(value)) if valid(&value) => return Ok(value),
                    // Good enough for others, not for us: look again, and load if need be.
                    Heard::Done(Ok(_)) => continue,
                    Heard::Done(Err(error)) => return Err(error),
                    Heard::Lead => {}
                }
            }
            let mut lead = Lead {
                shared: &self.shared,
                key,
                flight,
                lease,
                over: false,
            };
            // It may have come while we were on our way. This caller's miss has been counted.
            if let Some(value) = self.shared.cache.peek_if(key, &valid) {
                lead.over = true;
                self.shared.clear(key, &lead.flight);
                lead.flight.finish(Ok(value.clone()));
                return Ok(value);
            }
            let outcome = load().await;
            lead.over = true;
            return match outcome {
                Ok(value) => {
                    // Stored before the flight leaves the board, so that nobody loads in between.
                    let _outdated = self
                        .shared
                        .cache
                        .fill(&lead.lease, key.clone(), value.clone());
                    self.shared.clear(key, &lead.flight);
                    lead.flight.finish(Ok(value.clone()));
                    Ok(value)
                }
                Err(error) => {
                    let error = LoadError::Failed(Arc::new(error));
                    self.shared.clear(key, &lead.flight);
                    lead.flight.finish(Err(error.clone()));
                    Err(error)
                }
            };
        }
    }

    /// As [`ReadThrough::get_or_load`] for callers that may block their thread.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`].
    pub fn get_or_load_blocking(
        &self,
        key: &K,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        block_on(self.get_or_load(key, || async { load() }))
    }

    /// The flight of a key that one may still join, or a new one that the caller leads.
    #[expect(
        clippy::type_complexity,
        reason = "three parts, taken apart by both callers"
    )]
    fn join(&self, key: &K) -> (Arc<Flight<V, E>>, Arc<Lease<K, V, P, S>>, bool) {
        let lease = Arc::new(self.shared.cache.lease(key));
        let mut flights = self.shared.flights.lock();
        if let Some(under) = flights.get(key)
            && under.lease.is_current()
        {
            return (Arc::clone(&under.flight), Arc::clone(&under.lease), false);
        }
        let flight = Arc::new(Flight::new());
        let before = flights.insert(
            key.clone(),
            Under {
                flight: Arc::clone(&flight),
                lease: Arc::clone(&lease),
            },
        );
        drop(flights);
        drop(before);
        (flight, lease, true)
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // A wake between the poll and here leaves a token, so that this returns at once.
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(3600)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_that_leave_a_hanging_load_leave_nothing_behind() {
        let through: ReadThrough<u8, u8, ()> = ReadThrough::new(Cache::new(8));
        let mut context = Context::from_waker(Waker::noop());
        let mut hanging = Box::pin(through.get_or_load(&1, std::future::pending));
        assert!(hanging.as_mut().poll(&mut context).is_pending());
        for _ in 0..1_000 {
            let mut waiting = Box::pin(through.get_or_load(&1, std::future::pending));
            assert!(waiting.as_mut().poll(&mut context).is_pending());
        }
        let flights = through.shared.flights.lock();
        let flight = Arc::clone(&flights.get(&1).expect("the load is under way").flight);
        drop(flights);
        assert!(flight.state.lock().waiters.is_empty());
        drop(hanging);
        assert!(through.shared.flights.lock().is_empty());
    }

    #[test]
    fn a_load_counts_as_one_look_up() {
        let through: ReadThrough<u8, u8, ()> = ReadThrough::new(Cache::new(8));
        for _ in 0..2 {
            let value = through.get_or_load_blocking(&1, || Ok(7));
            assert_eq!(value.expect("loaded"), 7);
        }
        let stats = through.cache().stats();
        assert_eq!((stats.hits, stats.misses), (1, 1));
    }
}
