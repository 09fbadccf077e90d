//! Read-through: what is missing is loaded, once for all who ask at the same time.
//!
//! One caller, the leader, runs its loader; the others wait for the outcome. If the leader's future is
//! dropped, the next waiter leads with its own loader. If a loader panics, the panic goes on in its own
//! caller and the waiters get an error; nothing is poisoned. If the key is written or invalidated while
//! a load is under way, those who asked before get what was loaded, nothing is stored, and those who
//! ask later load anew. No runtime is needed.

mod error;
mod flight;
mod flush;
mod many;
mod refresh;
mod write;

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use foldhash::fast::RandomState;

pub use error::LoadError;
use flight::{Heard, Joined, Settings, Shared};
pub use flush::Unwritten;
pub use refresh::{Found, Refresh, early};
pub use write::{Batch, Full, WriteBehind};

use crate::life::Life;
use crate::lock::thread;
use crate::policy::{Adaptive, Policy};
use crate::sync::Cache;

/// Loads under way at once, unless told otherwise.
const FLIGHTS_MAX: usize = 65_536;

/// A cache that loads what is missing. Clones share it.
///
/// At most one load of a key is under way at a time, except that a write or an invalidation during a
/// load lets the next caller start another, and so does a load that is [overdue](Self::with_deadline).
///
/// # Fresh and stale
///
/// Of an entry's time to live, the last part may be set to be [*stale*](Self::with_stale). While it is,
/// [`ReadThrough::get_or_load`] loads anew and falls back on the stale value if that fails (stale if
/// error); [`ReadThrough::get_or_refresh`] hands it out at once, with the work of loading it anew (stale
/// while revalidate). The cache's own `get` knows no difference.
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
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
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
        let settings = Settings {
            stale: Duration::ZERO,
            deadline: Duration::MAX,
            flights_max: FLIGHTS_MAX,
            load_weight: 0,
        };
        Self {
            shared: Arc::new(Shared::new(cache, settings)),
        }
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.shared.settings;
        change(&mut settings);
        Self {
            shared: Arc::new(Shared::new(self.shared.cache.clone(), settings)),
        }
    }

    /// Sets how much of an entry's time to live, at its end, it is stale. Entries that never expire are
    /// never stale. Set it before the first load: clones made earlier keep what they have. Defaults to
    /// nothing.
    #[must_use]
    pub fn with_stale(self, stale: Duration) -> Self {
        self.with(|settings| settings.stale = stale)
    }

    /// Sets for how long newcomers wait for a load that somebody else began; after that the next one
    /// begins another, so that a loader which never returns does not block its key. Those who wait
    /// already go on waiting: give them a timeout of your own. Set it before the first load. Defaults to
    /// for ever.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        self.with(|settings| settings.deadline = deadline)
    }

    /// Sets how many loads may be under way at once; above, [`LoadError::Busy`]. Set it before the first
    /// load. Defaults to 65 536.
    #[must_use]
    pub fn with_flights_max(self, flights: usize) -> Self {
        self.with(|settings| settings.flights_max = flights)
    }

    /// Sets the weight for which room is made before a load begins, so that loads under way count
    /// against the capacity. If there is no such room (other loads hold it all), the load goes on
    /// without. Set it before the first load. Defaults to 0.
    #[must_use]
    pub fn with_load_weight(self, weight: u64) -> Self {
        self.with(|settings| settings.load_weight = weight)
    }

    /// The cache itself, for reading, writing and invalidating.
    #[must_use]
    pub fn cache(&self) -> &Cache<K, V, P, S> {
        &self.shared.cache
    }

    /// Loads under way.
    #[must_use]
    pub fn loads_under_way(&self) -> usize {
        self.shared.flights()
    }

    /// The value of `key`: from the cache, or from a load under way, or from `load`. A stale value is
    /// the answer only if loading fails.
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] with what the loader said; failures are not cached.
    /// [`LoadError::Panicked`] if another caller's loader panicked. [`LoadError::Busy`] if as many loads
    /// as allowed are under way.
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
        let living = || async { load().await.map(|value| (value, Life::new())) };
        self.get_or_load_living(key, valid, living).await
    }

    /// As [`ReadThrough::get_or_load`], and the loader says how long the value lives: a `max-age` that came
    /// with it, say.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReadThrough::get_or_load`].
    pub async fn get_or_load_with<F>(
        &self,
        key: &K,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<(V, Life), E>>,
    {
        self.get_or_load_living(key, |_| true, load).await
    }

    async fn get_or_load_living<F>(
        &self,
        key: &K,
        valid: impl Fn(&V) -> bool,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<(V, Life), E>>,
    {
        let mut stale = None;
        if let Some((value, left)) = self.shared.cache.get_with_life(key, &valid) {
            if left > self.shared.settings.stale {
                return Ok(value);
            }
            stale = Some(value);
        }
        let outcome = self.load(key, valid, load).await;
        match (outcome, stale) {
            (Err(_), Some(value)) => Ok(value),
            (outcome, _) => outcome,
        }
    }

    /// Joins a flight or leads one.
    async fn load<F>(
        &self,
        key: &K,
        valid: impl Fn(&V) -> bool,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<(V, Life), E>>,
    {
        loop {
            let mut lead = match self.shared.join(key)? {
                Joined::Leads(lead) => lead,
                Joined::Waits(place) => match place.wait(&self.shared, key).await {
                    Heard::Done(Ok(value)) if valid(&value) => return Ok(value),
                    // Good enough for others, not for us: look again, and load if need be.
                    Heard::Done(Ok(_)) => continue,
                    Heard::Done(Err(error)) => return Err(error),
                    Heard::Lead => place.lead(&self.shared, key),
                },
            };
            // It may have come while we were on our way. This caller's miss has been counted.
            if let Some((value, left)) = self.shared.cache.peek_with_life(key, &valid)
                && left > self.shared.settings.stale
            {
                lead.found(value.clone());
                return Ok(value);
            }
            lead.reserve();
            let outcome = load().await;
            return lead.loaded(outcome.map_err(|error| LoadError::Failed(Arc::new(error))));
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
        block_on(self.get_or_load(key, || async { load() }), None)
            .unwrap_or(Err(LoadError::TimedOut))
    }

    /// As [`ReadThrough::get_or_load_blocking`], but waits for somebody else's load for `wait` at most.
    /// A loader of its own it does not interrupt.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`], and [`LoadError::TimedOut`].
    pub fn get_or_load_blocking_within(
        &self,
        key: &K,
        wait: Duration,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>> {
        let loading = self.get_or_load(key, || async { load() });
        block_on(loading, Some(wait)).unwrap_or(Err(LoadError::TimedOut))
    }
}

/// Runs a future on this thread, for `wait` at most.
fn block_on<F: Future>(future: F, wait: Option<Duration>) -> Option<F::Output> {
    struct Thread(thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Thread(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let start = wall();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // A wake between the poll and here leaves a token, so that this returns at once.
        match wait.map(|wait| wait.saturating_sub(wall().saturating_duration_since(start))) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a thread has been blocked is a matter of the wall, not of the cache's clock"
)]
fn wall() -> std::time::Instant {
    std::time::Instant::now()
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
        let flight = through.shared.flight(&1).expect("the load is under way");
        assert_eq!(flight.waiters(), 0);
        drop(hanging);
        assert_eq!(through.loads_under_way(), 0);
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
