//! The balancer: membership and picks around one strategy.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::ask::Ask;
use crate::config::Config;
use crate::endpoint::{Endpoint, Shared, Slot, millis};
use crate::ewma::Fade;
use crate::lease::Lease;
use crate::ready::Ready;
use crate::rng::Rng;
use crate::snapshot::Snapshot;
use crate::strategy::Strategy;
use crate::sync::{ArcSwap, AtomicU64, Mutex, Ordering};

/// No endpoint can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no endpoint for this request: {known} are known, {ready} are ready, {tried} were tried already"
)]
#[non_exhaustive]
pub struct NoneReady {
    /// Endpoints listed.
    pub known: usize,
    /// Endpoints up, not resting, not draining, with a weight above 0. If this is above 0, all of
    /// them were excluded by the caller.
    pub ready: usize,
    /// Endpoints that the caller excluded, known or not.
    pub tried: usize,
}

/// What [`Balancer::set_endpoints`] changed. `added + kept` are listed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Listing {
    /// Ids that are new.
    pub added: usize,
    /// Ids that were listed before.
    pub kept: usize,
    /// Ids that were listed before and are no more.
    pub left: usize,
    /// Endpoints that were not taken: an id that came before in the same list, or beyond
    /// [`ENDPOINTS_MAX`].
    pub ignored: usize,
}

/// The most endpoints that a balancer lists.
pub const ENDPOINTS_MAX: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Inner<T, S> {
    strategy: S,
    pub(crate) config: Config,
    pub(crate) fade: Fade,
    /// From where milliseconds are counted: when endpoints were first listed.
    pub(crate) epoch: OnceLock<Instant>,
    pub(crate) snapshot: ArcSwap<Snapshot<T>>,
    /// Serialises changes of the snapshot, and holds when rates are judged next. A pick takes it only
    /// when a rest or an interval is over, and waits for it only when nobody is ready.
    pub(crate) change: Mutex<Option<Instant>>,
    pub(crate) rng: Rng,
    pub(crate) picked: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl<T, S> Inner<T, S> {
    /// Milliseconds since the epoch, as estimates of latency are dated.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        self.epoch.get().map_or(0, |epoch| millis(*epoch, now))
    }
}

/// Chooses among endpoints with strategy `S`. Clones share everything.
pub struct Balancer<T, S> {
    inner: Arc<Inner<T, S>>,
}

impl<T, S> Clone for Balancer<T, S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T, S: fmt::Debug> fmt::Debug for Balancer<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("strategy", &self.inner.strategy)
            .field("endpoints", &self.inner.snapshot.load().all.len())
            .finish_non_exhaustive()
    }
}

impl<T, S> Balancer<T, S> {
    pub(crate) fn inner(&self) -> &Inner<T, S> {
        &self.inner
    }

    /// A balancer with no endpoint yet.
    #[must_use]
    pub fn new(strategy: S, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                strategy,
                config,
                fade: Fade::over(config.tau),
                epoch: OnceLock::new(),
                snapshot: ArcSwap::from_pointee(Snapshot::empty()),
                change: Mutex::new(None),
                rng: Rng::new(0),
                picked: AtomicU64::new(0),
                succeeded: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                busy: AtomicU64::new(0),
                cancelled: AtomicU64::new(0),
                ejections: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// Lists the endpoints anew. What was learned of an id that stays is kept; a new one starts with
    /// the median latency of its peers, and so does one that comes back after a rest or a failed check if it
    /// was slower; of two with the same id the first counts, and what is beyond
    /// [`ENDPOINTS_MAX`] is left out. Requests under way at one that left go on and still report.
    pub fn set_endpoints(
        &self,
        endpoints: impl IntoIterator<Item = Endpoint<T>>,
        now: Instant,
    ) -> Listing {
        // The caller's iterator runs before the lock is taken: it may use this balancer.
        let mut listing = Listing::default();
        let mut listed = std::collections::HashSet::new();
        let mut wanted = Vec::new();
        for endpoint in endpoints {
            if wanted.len() < ENDPOINTS_MAX && listed.insert(Arc::clone(&endpoint.id)) {
                wanted.push(endpoint);
            } else {
                listing.ignored += 1;
            }
        }

        let mut judge_at = self.inner.change.lock();
        let old = self.inner.snapshot.load_full();
        let known: HashMap<&str, &Arc<Shared>> = old
            .all
            .iter()
            .map(|slot| (&*slot.endpoint.id, &slot.shared))
            .collect();
        let epoch = *self.inner.epoch.get_or_init(|| now);
        let initial = self.inner.typical_latency(&old, now);
        let all: Vec<Arc<Slot<T>>> = wanted
            .into_iter()
            .map(|endpoint| {
                let shared = known.get(&*endpoint.id).map_or_else(
                    || {
                        listing.added += 1;
                        Arc::new(Shared::new(initial, epoch, now))
                    },
                    |shared| Arc::clone(shared),
                );
                Arc::new(Slot { endpoint, shared })
            })
            .collect();
        listing.kept = all.len() - listing.added;
        listing.left = old.all.len() - listing.kept;
        self.inner.start_judging(&mut judge_at, now);
        self.inner.publish(*judge_at, &old, all);
        listing
    }
}

impl<T, S> Inner<T, S> {
    /// What is expected of somebody of whom nothing is known: the median of those who are ready.
    pub(crate) fn typical_latency(&self, snapshot: &Snapshot<T>, now: Instant) -> Duration {
        let mut known: Vec<f64> = snapshot
            .ready
            .iter()
            .map(|slot| slot.shared.latency(self.fade, self.millis(now)))
            .collect();
        known.sort_by(f64::total_cmp);
        known
            .get(known.len() / 2)
            .and_then(|seconds| Duration::try_from_secs_f64(*seconds).ok())
            .unwrap_or(self.config.initial)
    }
}

impl<T, S: Strategy> Balancer<T, S> {
    /// Picks an endpoint.
    ///
    /// # Errors
    ///
    /// [`NoneReady`] when no endpoint is up.
    pub fn pick(&self, now: Instant) -> Result<Lease<T, S>, NoneReady> {
        self.pick_for(&Ask::new(), now)
    }

    /// Picks an endpoint that is not among `tried`: for the retry of a request that failed elsewhere.
    ///
    /// # Errors
    ///
    /// [`NoneReady`] when no endpoint is up, or all that are were tried.
    pub fn pick_except(&self, tried: &[&str], now: Instant) -> Result<Lease<T, S>, NoneReady> {
        self.pick_for(&Ask::new().with_tried(tried), now)
    }

    /// Picks an endpoint for what is known of the request. If a rest is over at `now`, whoever rested
    /// may be picked: nobody has to call [`Balancer::handle_timeout`] for that.
    ///
    /// # Errors
    ///
    /// [`NoneReady`] when no endpoint is up, or all that are were tried.
    pub fn pick_for(&self, ask: &Ask<'_>, now: Instant) -> Result<Lease<T, S>, NoneReady> {
        let inner = &self.inner;
        let mut snapshot = inner.snapshot.load();
        if snapshot.wake_at.is_some_and(|at| at <= now) {
            // With somebody else ready, whoever is at it already need not be waited for.
            let lock = if snapshot.ready.is_empty() {
                Some(inner.change.lock())
            } else {
                inner.change.try_lock()
            };
            if let Some(mut judge_at) = lock {
                inner.wake(&mut judge_at, now);
            }
            snapshot = inner.snapshot.load();
        }
        let slow_start = &inner.config.slow_start;
        let ready = Ready {
            rows: &snapshot.rows,
            generation: snapshot.generation,
            equal: snapshot.equal && slow_start.is_off(),
            slow_start,
            fade: inner.fade,
            now_ms: inner.millis(now),
            ask: *ask,
            now,
        };
        let picked = inner.strategy.pick(&ready);
        let Some(slot) = picked.and_then(|index| snapshot.ready.get(index)) else {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(NoneReady {
                known: snapshot.all.len(),
                ready: snapshot.ready.len(),
                tried: ask.tried().len(),
            });
        };
        Ok(Lease::begin(self.clone(), Arc::clone(slot), now))
    }
}
