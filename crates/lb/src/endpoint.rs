//! One of several equals, and what is known of it while requests run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ewma::{Estimate, Fade};
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
    /// From where milliseconds are counted: one for all endpoints of a balancer.
    epoch: Instant,
    /// Failures of real requests in a row.
    pub(crate) failures: AtomicU32,
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
    pub(crate) fn new(initial: Duration, epoch: Instant, now: Instant) -> Self {
        let published = Published(AtomicU64::new(0));
        published.set(initial.as_secs_f64(), millis(epoch, now));
        Self {
            in_flight: AtomicU32::new(0),
            estimate: Mutex::new(Estimate::new(initial, now)),
            published,
            epoch,
            failures: AtomicU32::new(0),
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
        self.published
            .set(estimate.seconds(), millis(self.epoch, now));
    }

    /// It comes back: failures and what they counted as belong to its life before. Whoever was slower
    /// than is typical starts from there, like a newcomer.
    pub(crate) fn come_back(&self, typical: Duration, now: Instant) {
        self.failures.store(0, Ordering::Relaxed);
        let mut estimate = self.estimate.lock();
        if estimate.seconds() > typical.as_secs_f64() {
            *estimate = Estimate::new(typical, now);
            self.published
                .set(estimate.seconds(), millis(self.epoch, now));
        }
    }

    /// The expected latency in seconds, fading while no sample comes, so that an endpoint that was
    /// slow once is tried again. `now_ms` is [`millis`] since the balancer's epoch.
    #[inline]
    pub(crate) fn latency(&self, fade: Fade, now_ms: u64) -> f64 {
        let (seconds, at) = self.published.read();
        seconds * fade.factor(now_ms.saturating_sub(at))
    }
}

/// Milliseconds from `epoch` to `now`.
pub(crate) fn millis(epoch: Instant, now: Instant) -> u64 {
    let since = now.saturating_duration_since(epoch);
    since
        .as_secs()
        .saturating_mul(1_000)
        .saturating_add(u64::from(since.subsec_millis()))
}

/// An estimate that is read without a lock: seconds in the upper 24 bits (an `f32` without its sign
/// and the last seven digits), and when it was taken in the lower 40, in milliseconds since the epoch.
#[derive(Debug)]
struct Published(AtomicU64);

/// Thirty-four years of milliseconds.
const TIME_BITS: u32 = 40;

impl Published {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "four digits of a latency are enough to compare with"
    )]
    fn set(&self, seconds: f64, at: u64) {
        let at = at.min((1 << TIME_BITS) - 1);
        let seconds = u64::from((seconds as f32).to_bits() >> 7);
        self.0.store((seconds << TIME_BITS) | at, Ordering::Relaxed);
    }

    /// The seconds, and when they were taken.
    #[inline]
    fn read(&self) -> (f64, u64) {
        let bits = self.0.load(Ordering::Relaxed);
        let seconds = f32::from_bits(((bits >> TIME_BITS) as u32) << 7);
        (f64::from(seconds), bits & ((1 << TIME_BITS) - 1))
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
        let shared = Shared::new(Duration::from_millis(30), start, start);
        let fade = Fade::over(tau);
        for days in [0, 49, 50, 365, 10_000] {
            let now = start + Duration::from_secs(86_400 * days);
            shared.sample(Duration::from_millis(200), tau, now);
            let fresh = shared.latency(fade, millis(start, now) + 1);
            assert!((fresh - 0.2).abs() < 1e-4, "day {days}: {fresh}");
            let faded = shared.latency(fade, millis(start, now + tau));
            assert!((faded - 0.2 / std::f64::consts::E).abs() < 1e-3, "{faded}");
        }
    }
}
