//! The balancer: membership, picks, reports and health around one strategy.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::endpoint::{Endpoint, Shared, Slot};
use crate::health::{EjectionConfig, ProbeConfig, SlowStart};
use crate::load::Seen;
use crate::outlier::{Tally, may_eject, outliers};
use crate::rng::Rng;
use crate::strategy::{Ready, Strategy};

/// Settings of a [`Balancer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    tau: Duration,
    initial: Duration,
    penalty: Duration,
    slow_start: SlowStart,
    ejection: EjectionConfig,
    probes: Option<ProbeConfig>,
    panic: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tau: Duration::from_secs(10),
            initial: Duration::from_millis(30),
            penalty: Duration::from_secs(1),
            slow_start: SlowStart::default(),
            ejection: EjectionConfig::default(),
            probes: None,
            panic: false,
        }
    }
}

impl Config {
    /// Sets over what time a latency is forgotten. Defaults to 10 s.
    #[must_use]
    pub fn with_decay(mut self, tau: Duration) -> Self {
        self.tau = tau;
        self
    }

    /// Sets the latency expected of an endpoint when none is known of any; later ones start from the
    /// median of their peers, so that no herd runs to the newcomer. Defaults to 30 ms.
    #[must_use]
    pub fn with_initial_latency(mut self, latency: Duration) -> Self {
        self.initial = latency;
        self
    }

    /// Sets the latency that a failure counts as, if it came faster. Without it the endpoint that
    /// fails fastest draws all traffic. Defaults to 1 s; set it to your time-out.
    #[must_use]
    pub fn with_failure_penalty(mut self, penalty: Duration) -> Self {
        self.penalty = penalty;
        self
    }

    /// Sets how new endpoints warm up. Defaults to not at all.
    #[must_use]
    pub fn with_slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// Sets passive ejection. Defaults to [`EjectionConfig::default`].
    #[must_use]
    pub fn with_ejection(mut self, ejection: EjectionConfig) -> Self {
        self.ejection = ejection;
        self
    }

    /// Sets whether all listed endpoints are picked from, health ignored, when none is healthy: an
    /// attempt that may fail instead of a refusal that is sure, and the first answer of one that came
    /// back is not missed. Defaults to off.
    #[must_use]
    pub fn with_panic(mut self, panic: bool) -> Self {
        self.panic = panic;
        self
    }

    /// Turns active checks on. Defaults to none.
    #[must_use]
    pub fn with_probes(mut self, probes: ProbeConfig) -> Self {
        self.probes = Some(probes);
        self
    }
}

/// How a request went, as far as the endpoint is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It answered, be it with a refusal that is the caller's fault.
    Success,
    /// No connection, a broken one, a time-out, or an answer that says the endpoint is unwell.
    Failure,
    /// It says that it is busy. Counts as slow, not as unwell: busy endpoints must not be ejected
    /// one after the other.
    Busy,
}

/// No endpoint can be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no endpoint: of {known} known, {ready} are ready, and all of these were tried")]
#[non_exhaustive]
pub struct NoneReady {
    /// Endpoints listed.
    pub known: usize,
    /// Endpoints up, not resting, not draining, with a weight above 0. If this is above 0, all of
    /// them were excluded by the caller.
    pub ready: usize,
}

/// A check that is due; answer with [`Balancer::probe_result`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeDue<T> {
    /// Whom to check.
    pub id: String,
    /// Where.
    pub target: T,
}

/// Counters of a balancer. `picked = succeeded + failed + busy + cancelled + in_flight`, over all
/// leases ever given, once no report is under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Leases given.
    pub picked: u64,
    /// Leases reported as [`Outcome::Success`].
    pub succeeded: u64,
    /// Leases reported as [`Outcome::Failure`].
    pub failed: u64,
    /// Leases reported as [`Outcome::Busy`].
    pub busy: u64,
    /// Leases dropped without a report.
    pub cancelled: u64,
    /// Leases out now.
    pub in_flight: u64,
    /// Times that an endpoint was sent to rest.
    pub ejections: u64,
    /// Picks refused with [`NoneReady`].
    pub refused: u64,
    /// The endpoints listed now, in the order of the list.
    pub endpoints: Vec<EndpointStats>,
}

/// One endpoint in [`Stats`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its id.
    pub id: String,
    /// Whether it can be picked.
    pub ready: bool,
    /// Whether active checks say that it is up.
    pub up: bool,
    /// Whether it rests after failures.
    pub ejected: bool,
    /// Whether it is listed as draining.
    pub draining: bool,
    /// Requests under way.
    pub in_flight: u32,
    /// Expected latency.
    pub latency: Duration,
    /// Times picked since it joined.
    pub picked: u64,
    /// Failures since it joined.
    pub failed: u64,
    /// Times ejected since it joined.
    pub ejections: u64,
}

struct Snapshot<T> {
    all: Vec<Arc<Slot<T>>>,
    ready: Vec<Arc<Slot<T>>>,
    equal: bool,
    /// The latest join among the ready, for knowing when nobody warms up any more.
    generation: u64,
}

struct Inner<T, S> {
    strategy: S,
    config: Config,
    snapshot: ArcSwap<Snapshot<T>>,
    /// Serialises changes of the snapshot; picks do not take it.
    change: Mutex<u64>,
    /// When rates are judged next.
    judge_at: Mutex<Option<Instant>>,
    rng: Rng,
    picked: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
    cancelled: AtomicU64,
    ejections: AtomicU64,
    refused: AtomicU64,
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

impl<T: Clone, S: Strategy> Balancer<T, S> {
    /// A balancer with no endpoint yet.
    #[must_use]
    pub fn new(strategy: S, config: Config) -> Self {
        Self {
            inner: Arc::new(Inner {
                strategy,
                config,
                snapshot: ArcSwap::from_pointee(Snapshot {
                    all: Vec::new(),
                    ready: Vec::new(),
                    equal: true,
                    generation: 0,
                }),
                change: Mutex::new(0),
                judge_at: Mutex::new(None),
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
    /// the median latency of its peers; of two with the same id the first counts. Requests under way
    /// at one that left go on and still report.
    pub fn set_endpoints(&self, endpoints: impl IntoIterator<Item = Endpoint<T>>, now: Instant) {
        let mut change = self.inner.change.lock();
        let old = self.inner.snapshot.load_full();
        let known: HashMap<&str, &Arc<Shared>> = old
            .all
            .iter()
            .map(|slot| (slot.endpoint.id.as_str(), &slot.shared))
            .collect();
        let initial = self.initial_latency(&old, now);
        let mut all: Vec<Arc<Slot<T>>> = Vec::new();
        let mut listed = std::collections::HashSet::new();
        for endpoint in endpoints {
            if !listed.insert(endpoint.id.clone()) {
                continue;
            }
            let shared = known.get(endpoint.id.as_str()).map_or_else(
                || Arc::new(Shared::new(initial, now, now)),
                |shared| Arc::clone(shared),
            );
            all.push(Arc::new(Slot { endpoint, shared }));
        }
        self.inner.rebuild(&mut change, all);
    }

    fn initial_latency(&self, old: &Snapshot<T>, now: Instant) -> Duration {
        let mut known: Vec<f64> = old
            .ready
            .iter()
            .map(|slot| slot.shared.latency(self.inner.config.tau, now))
            .collect();
        known.sort_by(f64::total_cmp);
        known
            .get(known.len() / 2)
            .and_then(|seconds| Duration::try_from_secs_f64(*seconds).ok())
            .unwrap_or(self.inner.config.initial)
    }

    /// Picks an endpoint.
    ///
    /// # Errors
    ///
    /// [`NoneReady`] when no endpoint is up.
    pub fn pick(&self, now: Instant) -> Result<Lease<T, S>, NoneReady> {
        self.pick_except(&[], now)
    }

    /// Picks an endpoint that is not among `tried`: for the retry of a request that failed elsewhere.
    ///
    /// # Errors
    ///
    /// [`NoneReady`] when no endpoint is up, or all that are were tried.
    pub fn pick_except(&self, tried: &[&str], now: Instant) -> Result<Lease<T, S>, NoneReady> {
        let inner = &self.inner;
        let snapshot = inner.snapshot.load();
        let slow_start = &inner.config.slow_start;
        let weight = |index: usize| {
            snapshot
                .ready
                .get(index)
                .map_or(0.0, |slot| slot.weight(slow_start, now))
        };
        let seen = |index: usize| {
            snapshot.ready.get(index).map_or(
                Seen {
                    in_flight: 0,
                    latency: 0.0,
                },
                |slot| Seen::of(slot, inner.config.tau, now),
            )
        };
        let open = |index: usize| {
            snapshot
                .ready
                .get(index)
                .is_some_and(|slot| !tried.contains(&slot.endpoint.id.as_str()))
        };
        let ready = Ready {
            count: snapshot.ready.len(),
            generation: snapshot.generation,
            equal: snapshot.equal && *slow_start == SlowStart::default(),
            weight: &weight,
            seen: &seen,
            open: &open,
        };
        let slot = inner
            .strategy
            .pick(&ready)
            .and_then(|index| snapshot.ready.get(index));
        let Some(slot) = slot else {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(NoneReady {
                known: snapshot.all.len(),
                ready: snapshot.ready.len(),
            });
        };
        inner.picked.fetch_add(1, Ordering::Relaxed);
        slot.shared.picked.fetch_add(1, Ordering::Relaxed);
        slot.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Lease {
            balancer: self.clone(),
            slot: Arc::clone(slot),
            since: now,
            reported: false,
        })
    }

    /// The checks that are due. Each is given once; until [`Balancer::probe_result`] brings its
    /// answer, the same endpoint is not due again. Empty without [`Config::with_probes`].
    #[must_use]
    pub fn probes_due(&self, now: Instant) -> Vec<ProbeDue<T>> {
        if self.inner.config.probes.is_none() {
            return Vec::new();
        }
        let snapshot = self.inner.snapshot.load();
        let mut due = Vec::new();
        for slot in &snapshot.all {
            let mut health = slot.shared.health.lock();
            if !health.probing && health.probe_at <= now {
                health.probing = true;
                due.push(ProbeDue {
                    id: slot.endpoint.id.clone(),
                    target: slot.endpoint.target.clone(),
                });
            }
        }
        due
    }

    /// Brings the answer of a check. An id that has left meanwhile is ignored.
    pub fn probe_result(&self, id: &str, good: bool, now: Instant) {
        let Some(config) = self.inner.config.probes else {
            return;
        };
        let mut change = self.inner.change.lock();
        let snapshot = self.inner.snapshot.load_full();
        let slot = snapshot.all.iter().find(|slot| slot.endpoint.id == id);
        let changed = slot.is_some_and(|slot| slot.shared.health.lock().probed(&config, good, now));
        if changed {
            self.inner.rebuild(&mut change, snapshot.all.clone());
        }
    }

    /// When there is next something to do: a rest that ends, or a check that is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let probes = self.inner.config.probes.is_some();
        let snapshot = self.inner.snapshot.load();
        snapshot
            .all
            .iter()
            .flat_map(|slot| {
                let health = slot.shared.health.lock();
                let probe = (probes && !health.probing).then_some(health.probe_at);
                [health.ejected_until(), probe]
            })
            .flatten()
            .chain(*self.inner.judge_at.lock())
            .min()
    }

    /// Lets in those whose rest is over, and judges the rates of an interval that is over. Call it at [`Balancer::next_deadline`], or simply before
    /// picks at the rate that suits you.
    pub fn handle_timeout(&self, now: Instant) {
        self.inner.judge_rates(now);
        let mut change = self.inner.change.lock();
        let snapshot = self.inner.snapshot.load_full();
        let woken = snapshot
            .all
            .iter()
            .filter(|slot| slot.shared.health.lock().wake(now))
            .count();
        if woken > 0 {
            self.inner.rebuild(&mut change, snapshot.all.clone());
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self, now: Instant) -> Stats {
        let inner = &self.inner;
        let snapshot = inner.snapshot.load();
        let endpoints = snapshot
            .all
            .iter()
            .map(|slot| {
                let health = slot.shared.health.lock();
                EndpointStats {
                    id: slot.endpoint.id.clone(),
                    ready: slot.endpoint.is_listed_ready() && health.is_ready(),
                    up: health.up,
                    ejected: health.ejected_until().is_some(),
                    draining: slot.endpoint.draining,
                    in_flight: slot.shared.in_flight.load(Ordering::Relaxed),
                    latency: Duration::try_from_secs_f64(
                        slot.shared.latency(inner.config.tau, now),
                    )
                    .unwrap_or_default(),
                    picked: slot.shared.picked.load(Ordering::Relaxed),
                    failed: slot.shared.failed.load(Ordering::Relaxed),
                    ejections: slot.shared.ejections.load(Ordering::Relaxed),
                }
            })
            .collect();
        // Outcomes before picks: a lease that ends in between must not make the difference negative.
        let succeeded = inner.succeeded.load(Ordering::Acquire);
        let failed = inner.failed.load(Ordering::Acquire);
        let busy = inner.busy.load(Ordering::Acquire);
        let cancelled = inner.cancelled.load(Ordering::Acquire);
        let picked = inner.picked.load(Ordering::Acquire);
        Stats {
            picked,
            succeeded,
            failed,
            busy,
            cancelled,
            in_flight: picked.saturating_sub(succeeded + failed + busy + cancelled),
            ejections: inner.ejections.load(Ordering::Relaxed),
            refused: inner.refused.load(Ordering::Relaxed),
            endpoints,
        }
    }
}

impl<T> Endpoint<T> {
    const fn is_listed_ready(&self) -> bool {
        self.weight > 0 && !self.draining
    }
}

impl<T, S> Inner<T, S> {
    fn rebuild(&self, change: &mut u64, all: Vec<Arc<Slot<T>>>) {
        *change += 1;
        let mut ready: Vec<_> = all
            .iter()
            .filter(|slot| slot.endpoint.is_listed_ready() && slot.shared.health.lock().is_ready())
            .cloned()
            .collect();
        if ready.is_empty() && self.config.panic {
            ready = all
                .iter()
                .filter(|slot| slot.endpoint.is_listed_ready())
                .cloned()
                .collect();
        }
        let equal = ready
            .windows(2)
            .all(|pair| pair[0].endpoint.weight == pair[1].endpoint.weight);
        self.snapshot.store(Arc::new(Snapshot {
            all,
            ready,
            equal,
            generation: *change,
        }));
    }

    /// At the end of an interval, sends the outliers of it to rest.
    fn judge_rates(&self, now: Instant) {
        let config = &self.config.ejection;
        if !config.judges_rates() {
            return;
        }
        {
            let mut judge_at = self.judge_at.lock();
            let due = judge_at.is_some_and(|at| at <= now);
            if due || judge_at.is_none() {
                *judge_at = now.checked_add(config.interval);
            }
            if !due {
                return;
            }
        }
        let snapshot = self.snapshot.load_full();
        let tallies: Vec<Tally> = snapshot
            .all
            .iter()
            .map(|slot| {
                let totals = (
                    slot.shared.succeeded.load(Ordering::Relaxed),
                    slot.shared.failed.load(Ordering::Relaxed),
                );
                let mut health = slot.shared.health.lock();
                let before = std::mem::replace(&mut health.interval_start, totals);
                let mut tally = Tally::new(
                    totals.0.saturating_sub(before.0),
                    totals.1.saturating_sub(before.1),
                );
                tally.ejected = health.ejected_until().is_some();
                tally
            })
            .collect();
        let found = outliers(
            &tallies,
            config.success_rate.as_ref(),
            config.failure_percentage.as_ref(),
            config.percent_max,
            || self.rng.next(),
        );
        for slot in found
            .into_iter()
            .filter_map(|index| snapshot.all.get(index))
        {
            self.eject(&slot.shared, now);
        }
    }

    /// An endpoint failed too often in a row: it rests, if enough others stay.
    fn eject(&self, shared: &Arc<Shared>, now: Instant) {
        let mut change = self.change.lock();
        let snapshot = self.snapshot.load_full();
        let resting = snapshot
            .all
            .iter()
            .filter(|slot| slot.shared.health.lock().ejected_until().is_some())
            .count();
        // The limit is on those that rest already, so that one may always rest.
        let known = snapshot.all.len();
        if !may_eject(resting, known, self.config.ejection.percent_max) {
            return;
        }
        let listed = snapshot
            .all
            .iter()
            .any(|slot| Arc::ptr_eq(&slot.shared, shared));
        if !listed {
            return;
        }
        {
            let mut health = shared.health.lock();
            if health.ejected_until().is_some() {
                return;
            }
            health.eject(&self.config.ejection, now);
        }
        shared.ejections.fetch_add(1, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.rebuild(&mut change, snapshot.all.clone());
    }
}

/// A request under way at one endpoint.
///
/// Report how it went. Dropped without a report it counts as cancelled: the endpoint learns neither
/// a latency nor a failure, since nobody waited for its answer.
pub struct Lease<T, S> {
    balancer: Balancer<T, S>,
    slot: Arc<Slot<T>>,
    since: Instant,
    reported: bool,
}

impl<T: fmt::Debug, S> fmt::Debug for Lease<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.slot.endpoint.id)
            .field("target", &self.slot.endpoint.target)
            .finish_non_exhaustive()
    }
}

impl<T, S> Lease<T, S> {
    /// The endpoint's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.slot.endpoint.id
    }

    /// What the caller listed under that id.
    #[must_use]
    pub fn target(&self) -> &T {
        &self.slot.endpoint.target
    }

    /// Tells how it went. `now` is when the answer, or its beginning, was there.
    pub fn report(mut self, outcome: Outcome, now: Instant) {
        self.reported = true;
        let inner = &self.balancer.inner;
        let shared = &self.slot.shared;
        let latency = now.saturating_duration_since(self.since);
        let config = &inner.config;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        match outcome {
            Outcome::Success => {
                shared.sample(latency, config.tau, now);
                shared.health.lock().succeeded();
                shared.succeeded.fetch_add(1, Ordering::Relaxed);
                inner.succeeded.fetch_add(1, Ordering::Release);
            }
            Outcome::Busy => {
                shared.sample(latency.max(config.penalty), config.tau, now);
                inner.busy.fetch_add(1, Ordering::Release);
            }
            Outcome::Failure => {
                shared.sample(latency.max(config.penalty), config.tau, now);
                let eject = shared.health.lock().failed(&config.ejection);
                shared.failed.fetch_add(1, Ordering::Relaxed);
                inner.failed.fetch_add(1, Ordering::Release);
                if eject {
                    inner.eject(shared, now);
                }
            }
        }
    }
}

impl<T, S> Drop for Lease<T, S> {
    fn drop(&mut self) {
        if !self.reported {
            self.slot.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.slot.shared.cancelled.fetch_add(1, Ordering::Relaxed);
            self.balancer
                .inner
                .cancelled
                .fetch_add(1, Ordering::Release);
        }
    }
}
