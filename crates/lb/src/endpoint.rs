//! One of several equals, and what is known of it while requests run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ewma::{Estimate, decay};
use crate::health::Health;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};

/// An endpoint as the caller lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<T> {
    pub(crate) id: Arc<str>,
    pub(crate) target: T,
    pub(crate) weight: u32,
    pub(crate) draining: bool,
}

impl<T> Endpoint<T> {
    /// An endpoint of weight 1. The id must stay the same over updates: what was learned of the
    /// endpoint is kept under it.
    pub fn new(id: impl Into<String>, target: T) -> Self {
        Self {
            id: id.into().into(),
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

    pub(crate) const fn is_listed_ready(&self) -> bool {
        self.weight > 0 && !self.draining
    }
}

/// What outlives one listing of the endpoint.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) in_flight: AtomicU32,
    estimate: Mutex<Estimate>,
    published: Published,
    pub(crate) joined: Instant,
    pub(crate) health: Mutex<Health>,
    pub(crate) picked: AtomicU64,
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) ejections: AtomicU64,
}

impl Shared {
    pub(crate) fn new(initial: Duration, now: Instant) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            estimate: Mutex::new(Estimate::new(initial, now)),
            published: Published::new(initial.as_secs_f64(), now),
            joined: now,
            health: Mutex::new(Health::new(now)),
            picked: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
        }
    }

    pub(crate) fn sample(&self, latency: Duration, tau: Duration, now: Instant) {
        let mut estimate = self.estimate.lock();
        estimate.record(latency, tau, now);
        self.published.set(estimate.seconds(), now);
    }

    /// The expected latency in seconds, fading while no sample comes, so that an endpoint that was
    /// slow once is tried again.
    pub(crate) fn latency(&self, tau: Duration, now: Instant) -> f64 {
        let (seconds, elapsed) = self.published.read(now);
        seconds * decay(elapsed, tau)
    }
}

/// An estimate that is read without a lock: seconds in the upper 24 bits (an `f32` without its sign
/// and the last seven digits), and when it was taken in the lower 40, in milliseconds since `epoch`.
#[derive(Debug)]
struct Published {
    bits: AtomicU64,
    epoch: Instant,
}

/// Thirty-four years of milliseconds.
const TIME_BITS: u32 = 40;

impl Published {
    fn new(seconds: f64, now: Instant) -> Self {
        let published = Self {
            bits: AtomicU64::new(0),
            epoch: now,
        };
        published.set(seconds, now);
        published
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "four digits of a latency are enough to compare with"
    )]
    fn set(&self, seconds: f64, now: Instant) {
        let since = now.saturating_duration_since(self.epoch).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let since = since.min((1 << TIME_BITS) - 1);
        let seconds = u64::from((seconds as f32).to_bits() >> 7);
        self.bits
            .store((seconds << TIME_BITS) | since, Ordering::Relaxed);
    }

    /// The seconds, and how long ago they were taken.
    fn read(&self, now: Instant) -> (f64, Duration) {
        let bits = self.bits.load(Ordering::Relaxed);
        let seconds = f32::from_bits(((bits >> TIME_BITS) as u32) << 7);
        let at = Duration::from_millis(bits & ((1 << TIME_BITS) - 1));
        let elapsed = now.saturating_duration_since(self.epoch).saturating_sub(at);
        (f64::from(seconds), elapsed)
    }
}

/// An endpoint in a snapshot.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    pub(crate) endpoint: Endpoint<T>,
    pub(crate) shared: Arc<Shared>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "tests count from the clock's present"
    )]
    fn an_estimate_is_as_good_after_a_year_as_on_the_first_day() {
        let start = Instant::now();
        let tau = Duration::from_secs(10);
        let shared = Shared::new(Duration::from_millis(30), start);
        for days in [0, 49, 50, 365, 10_000] {
            let now = start + Duration::from_secs(86_400 * days);
            shared.sample(Duration::from_millis(200), tau, now);
            let fresh = shared.latency(tau, now + Duration::from_millis(1));
            assert!((fresh - 0.2).abs() < 1e-4, "day {days}: {fresh}");
            let faded = shared.latency(tau, now + tau);
            assert!((faded - 0.2 / std::f64::consts::E).abs() < 1e-3, "{faded}");
        }
    }
}
