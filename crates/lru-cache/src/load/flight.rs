//! One load under way and everybody who waits for it: loading, leaderless, done.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::lock::Mutex;

use super::LoadError;
use crate::life::Life;
use crate::policy::Policy;
use crate::sync::{Cache, Lease, Reservation};

/// One load under way.
pub(super) struct Flight<V, E> {
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

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.state.lock().waiters.len()
    }
}

/// What a waiter learns.
pub(super) enum Heard<V, E> {
    Done(Result<V, LoadError<E>>),
    Lead,
}

/// Waits for a flight; leaves its place and, if it was woken to lead, hands the lead on when dropped.
pub(super) struct Waiting<'a, K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
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

/// Loads under way.
type Board<K, V, E, P, S> = HashMap<K, Under<K, V, E, P, S>>;

/// The cache, the board of flights, and what was set.
pub(super) struct Shared<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    pub(super) cache: Cache<K, V, P, S>,
    flights: Mutex<Board<K, V, E, P, S>>,
    pub(super) settings: Settings,
}

/// What was set; the builder methods of `ReadThrough` say what each means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) stale: Duration,
    pub(super) deadline: Duration,
    pub(super) flights_max: usize,
    pub(super) load_weight: u64,
}

/// A flight and the lease that tells whether newcomers may still join it.
struct Under<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    flight: Arc<Flight<V, E>>,
    lease: Arc<Lease<K, V, P, S>>,
    /// When newcomers stop waiting for it, on the cache's time line.
    overdue: Duration,
}

/// A place in a flight.
pub(super) enum Joined<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    Leads(Lead<K, V, E, P, S>),
    Waits(Place<K, V, E, P, S>),
}

/// A waiter's place, from which it may come to lead.
pub(super) struct Place<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    flight: Arc<Flight<V, E>>,
    lease: Arc<Lease<K, V, P, S>>,
}

impl<K: Hash + Eq + Clone, V: Clone, E, P: Policy, S: BuildHasher> Place<K, V, E, P, S> {
    pub(super) fn wait<'a>(
        &'a self,
        shared: &'a Shared<K, V, E, P, S>,
        key: &'a K,
    ) -> Waiting<'a, K, V, E, P, S> {
        Waiting {
            shared,
            key,
            flight: &self.flight,
            ticket: None,
            over: false,
        }
    }

    pub(super) fn lead(self, shared: &Arc<Shared<K, V, E, P, S>>, key: &K) -> Lead<K, V, E, P, S> {
        Lead {
            shared: Arc::clone(shared),
            key: key.clone(),
            flight: self.flight,
            lease: self.lease,
            reservation: None,
            over: false,
        }
    }
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Shared<K, V, E, P, S> {
    pub(super) fn new(cache: Cache<K, V, P, S>, settings: Settings) -> Self {
        Self {
            cache,
            flights: Mutex::new(HashMap::new()),
            settings,
        }
    }

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

    pub(super) fn flights(&self) -> usize {
        self.flights.lock().len()
    }

    #[cfg(test)]
    pub(super) fn flight(&self, key: &K) -> Option<Arc<Flight<V, E>>> {
        let flights = self.flights.lock();
        flights.get(key).map(|under| Arc::clone(&under.flight))
    }
}

impl<K: Hash + Eq + Clone, V: Clone, E, P: Policy, S: BuildHasher> Shared<K, V, E, P, S> {
    /// The flight of a key that one may still join, or a new one that the caller leads.
    pub(super) fn join(self: &Arc<Self>, key: &K) -> Result<Joined<K, V, E, P, S>, LoadError<E>> {
        let now = if self.settings.deadline == Duration::MAX {
            Duration::ZERO
        } else {
            self.cache.now()
        };
        let mut flights = self.flights.lock();
        if let Some(under) = flights.get(key)
            && under.lease.is_current()
            && now <= under.overdue
        {
            let place = Place {
                flight: Arc::clone(&under.flight),
                lease: Arc::clone(&under.lease),
            };
            drop(flights);
            return Ok(Joined::Waits(place));
        }
        if flights.len() >= self.settings.flights_max && !flights.contains_key(key) {
            let flights = flights.len();
            return Err(LoadError::Busy { flights });
        }
        // Only who leads needs one.
        let lease = Arc::new(self.cache.lease(key));
        let flight = Arc::new(Flight::new());
        let under = Under {
            flight: Arc::clone(&flight),
            lease: Arc::clone(&lease),
            overdue: now.saturating_add(self.settings.deadline),
        };
        let before = flights.insert(key.clone(), under);
        drop(flights);
        drop(before);
        Ok(Joined::Leads(Place { flight, lease }.lead(self, key)))
    }

    /// Leads a flight of a key that nobody is loading.
    pub(super) fn lead_alone(self: &Arc<Self>, key: &K) -> Option<Lead<K, V, E, P, S>> {
        match self.join(key) {
            Ok(Joined::Leads(lead)) => Some(lead),
            Ok(Joined::Waits(_)) | Err(_) => None,
        }
    }
}

/// The leader's duty to end its flight, however it ends itself.
pub(super) struct Lead<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    shared: Arc<Shared<K, V, E, P, S>>,
    key: K,
    flight: Arc<Flight<V, E>>,
    lease: Arc<Lease<K, V, P, S>>,
    reservation: Option<Reservation<K, V, P, S>>,
    over: bool,
}

impl<K: Hash + Eq + Clone, V: Clone, E, P: Policy, S: BuildHasher> Lead<K, V, E, P, S> {
    /// Makes room for what is about to be loaded, if that was set.
    pub(super) fn reserve(&mut self) {
        let weight = self.shared.settings.load_weight;
        if weight != 0 {
            self.reservation = self.shared.cache.reserve(weight);
        }
    }

    /// Ends the flight with what was there already.
    pub(super) fn found(mut self, value: V) {
        self.end(Ok(value));
    }

    /// Stores what was loaded, unless the key was written or invalidated meanwhile, and tells it.
    pub(super) fn loaded(
        mut self,
        outcome: Result<(V, Life), LoadError<E>>,
    ) -> Result<V, LoadError<E>> {
        self.reservation = None;
        let outcome = outcome.map(|(value, life)| {
            let (cache, key) = (&self.shared.cache, self.key.clone());
            // Stored before the flight leaves the board, so that nobody loads in between.
            let _outdated = cache.fill_with(&self.lease, key, value.clone(), life);
            value
        });
        self.end(outcome.clone());
        outcome
    }

    fn end(&mut self, outcome: Result<V, LoadError<E>>) {
        self.over = true;
        self.shared.clear(&self.key, &self.flight);
        self.flight.finish(outcome);
    }
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> Drop for Lead<K, V, E, P, S> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if std::thread::panicking() {
            self.shared.clear(&self.key, &self.flight);
            self.flight.finish(Err(LoadError::Panicked));
            return;
        }
        // Dropped half-way. With nobody waiting the flight ends; else the next one leads.
        let alone = {
            let state = self.flight.state.lock();
            state.waiters.is_empty()
        };
        if alone {
            self.shared.clear(&self.key, &self.flight);
        }
        // Somebody may have joined just now: to them the flight is leaderless either way.
        self.flight.abdicate();
    }
}
