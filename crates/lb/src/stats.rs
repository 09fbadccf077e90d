//! What a balancer has done, in counters that add up.

use std::time::{Duration, Instant};

use crate::balancer::Balancer;
use crate::endpoint::Slot;
use crate::ewma::Fade;
use crate::sync::Ordering;

/// Counters of a balancer over all leases it ever gave. Once no report is under way,
/// `picked = succeeded + failed + busy + cancelled + in_flight`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Leases given.
    pub picked: u64,
    /// Leases reported as [`Outcome::Success`](crate::Outcome::Success).
    pub succeeded: u64,
    /// Leases reported as [`Outcome::Failure`](crate::Outcome::Failure).
    pub failed: u64,
    /// Leases reported as [`Outcome::Busy`](crate::Outcome::Busy).
    pub busy: u64,
    /// Leases dropped without a report.
    pub cancelled: u64,
    /// Leases out now.
    pub in_flight: u64,
    /// Times that an endpoint was sent to rest.
    pub ejections: u64,
    /// Picks refused with [`NoneReady`](crate::NoneReady).
    pub refused: u64,
    /// The endpoints listed now, in the order of the list.
    pub endpoints: Vec<EndpointStats>,
}

/// One endpoint in [`Stats`], since it joined. Once no report is under way,
/// `picked = succeeded + failed + busy + cancelled + in_flight` here too; and as long as none has left,
/// each counter of [`Stats`] is the sum over its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its id.
    pub id: String,
    /// Whether it is listed for traffic, up, and not at rest.
    pub ready: bool,
    /// Whether active checks say that it is up.
    pub up: bool,
    /// Whether it rests after failures.
    pub ejected: bool,
    /// Whether it is listed as draining.
    pub draining: bool,
    /// Expected latency.
    pub latency: Duration,
    /// Requests under way.
    pub in_flight: u32,
    /// Times picked.
    pub picked: u64,
    /// Successes.
    pub succeeded: u64,
    /// Failures.
    pub failed: u64,
    /// Times it was too busy.
    pub busy: u64,
    /// Requests that were given up.
    pub cancelled: u64,
    /// Times ejected.
    pub ejections: u64,
}

impl EndpointStats {
    fn of<T>(slot: &Slot<T>, fade: Fade, now_ms: u64) -> Self {
        let shared = &slot.shared;
        let (up, ejected, ready) = {
            let health = shared.health.lock();
            let ejected = health.ejected_until().is_some();
            (health.up, ejected, health.is_ready())
        };
        Self {
            id: slot.endpoint.id.to_string(),
            ready: slot.endpoint.is_listed_ready() && ready,
            up,
            ejected,
            draining: slot.endpoint.draining,
            latency: Duration::try_from_secs_f64(shared.latency(fade, now_ms)).unwrap_or_default(),
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            picked: shared.picked.load(Ordering::Relaxed),
            succeeded: shared.succeeded.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            busy: shared.busy.load(Ordering::Relaxed),
            cancelled: shared.cancelled.load(Ordering::Relaxed),
            ejections: shared.ejections.load(Ordering::Relaxed),
        }
    }
}

impl<T, S> Balancer<T, S> {
    /// What happened so far.
    #[must_use]
    pub fn stats(&self, now: Instant) -> Stats {
        let inner = self.inner();
        let snapshot = inner.snapshot.load();
        let endpoints = snapshot
            .all
            .iter()
            .map(|slot| EndpointStats::of(slot, inner.fade, inner.millis(now)))
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
