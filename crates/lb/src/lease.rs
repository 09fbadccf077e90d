//! A request under way: the guard that reports how it went.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::balancer::Balancer;
use crate::endpoint::Slot;
use crate::sync::Ordering;

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

/// A request under way at one endpoint.
///
/// Report how it went. Dropped without a report it counts as cancelled: the endpoint learns neither
/// a latency nor a failure, since nobody waited for its answer.
#[must_use = "a lease that is dropped counts as cancelled; report how the request went"]
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
    /// Counts the pick.
    pub(crate) fn begin(balancer: Balancer<T, S>, slot: Arc<Slot<T>>, now: Instant) -> Self {
        let inner = balancer.inner();
        inner.picked.fetch_add(1, Ordering::Relaxed);
        slot.shared.picked.fetch_add(1, Ordering::Relaxed);
        slot.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            balancer,
            slot,
            since: now,
            reported: false,
        }
    }

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

    /// Tells how it went. `now` is when the answer, or its beginning, was there; before the pick it
    /// counts as the moment of the pick.
    pub fn report(mut self, outcome: Outcome, now: Instant) {
        self.reported = true;
        let inner = self.balancer.inner();
        let shared = &self.slot.shared;
        let config = &inner.config;
        let waited = now.saturating_duration_since(self.since);
        let latency = match outcome {
            Outcome::Success => waited,
            Outcome::Failure | Outcome::Busy => waited.max(config.penalty),
        };
        // The sample before the count: in between, the endpoint looks too loaded rather than too free.
        shared.sample(latency, config.tau, now);
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        match outcome {
            Outcome::Success => {
                // A write only if it changes something: others read the same line.
                if shared.failures.load(Ordering::Relaxed) != 0 {
                    shared.failures.store(0, Ordering::Relaxed);
                }
                shared.succeeded.fetch_add(1, Ordering::Relaxed);
                inner.succeeded.fetch_add(1, Ordering::Release);
            }
            Outcome::Busy => {
                shared.busy.fetch_add(1, Ordering::Relaxed);
                inner.busy.fetch_add(1, Ordering::Release);
            }
            Outcome::Failure => {
                let in_a_row = shared
                    .failures
                    .fetch_add(1, Ordering::Relaxed)
                    .saturating_add(1);
                shared.failed.fetch_add(1, Ordering::Relaxed);
                inner.failed.fetch_add(1, Ordering::Release);
                if config.ejection.is_too_many(in_a_row) {
                    inner.eject(shared, now);
                }
            }
        }
    }
}

impl<T, S> Drop for Lease<T, S> {
    fn drop(&mut self) {
        if !self.reported {
            let shared = &self.slot.shared;
            shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            shared.cancelled.fetch_add(1, Ordering::Relaxed);
            let inner = self.balancer.inner();
            inner.cancelled.fetch_add(1, Ordering::Release);
        }
    }
}
