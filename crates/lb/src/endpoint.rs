//! One of several equals, and what is known of it while requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ewma::{Estimate, decay};
use crate::health::{Health, SlowStart};

/// An endpoint as the caller lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<T> {
    pub(crate) id: String,
    pub(crate) target: T,
    pub(crate) weight: u32,
    pub(crate) draining: bool,
}

impl<T> Endpoint<T> {
    /// An endpoint of weight 1. The id must stay the same over updates: what was learned of the
    /// endpoint is kept under it.
    pub fn new(id: impl Into<String>, target: T) -> Self {
        Self {
            id: id.into(),
            target,
            weight: 1,
            draining: false,
        }
    }

    /// Sets its share relative to the others; 0 means that it gets nothing. Defaults to 1.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets whether it takes nothing new and only finishes what it has. Defaults to false.
    #[must_use]
    pub fn with_draining(mut self, draining: bool) -> Self {
        self.draining = draining;
        self
    }
}

/// What outlives one listing of the endpoint.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) in_flight: AtomicU32,
    estimate: Mutex<Estimate>,
    /// The estimate for readers without a lock: seconds as `f32` above, milliseconds since `epoch`
    /// of the last sample below.
    published: AtomicU64,
    epoch: Instant,
    pub(crate) joined: Instant,
    pub(crate) health: Mutex<Health>,
    pub(crate) picked: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) ejections: AtomicU64,
}

impl Shared {
    pub(crate) fn new(initial: Duration, epoch: Instant, now: Instant) -> Self {
        let shared = Self {
            in_flight: AtomicU32::new(0),
            estimate: Mutex::new(Estimate::new(initial, now)),
            published: AtomicU64::new(0),
            epoch,
            joined: now,
            health: Mutex::new(Health::new(now)),
            picked: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
        };
        shared.publish(initial.as_secs_f64(), now);
        shared
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits of a latency are enough to compare with"
    )]
    fn publish(&self, seconds: f64, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        let bits = (u64::from((seconds as f32).to_bits()) << 32) | u64::from(since);
        self.published.store(bits, Ordering::Relaxed);
    }

    pub(crate) fn sample(&self, latency: Duration, tau: Duration, now: Instant) {
        let mut estimate = self.estimate.lock();
        estimate.record(latency, tau, now);
        self.publish(estimate.seconds(), now);
    }

    /// The expected latency in seconds, fading while no sample comes, so that an endpoint that was
    /// slow once is tried again.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the halves of a 64-bit word have 32 bits"
    )]
    pub(crate) fn latency(&self, tau: Duration, now: Instant) -> f64 {
        let bits = self.published.load(Ordering::Relaxed);
        let seconds = f64::from(f32::from_bits((bits >> 32) as u32));
        let at = Duration::from_millis(u64::from(bits as u32));
        let elapsed = now.saturating_duration_since(self.epoch).saturating_sub(at);
        seconds * decay(elapsed, tau)
    }
}

/// An endpoint in a snapshot.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    pub(crate) endpoint: Endpoint<T>,
    pub(crate) shared: Arc<Shared>,
}

impl<T> Slot<T> {
    /// The weight that counts now: less while the endpoint warms up.
    pub(crate) fn weight(&self, slow_start: &SlowStart, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.shared.joined);
        f64::from(self.endpoint.weight) * slow_start.factor(age)
    }
}
