//! Peak EWMA: a latency estimate that rises at once and falls slowly.

use std::time::{Duration, Instant};

/// The latency that an endpoint is expected to have, in seconds.
///
/// A sample above the estimate replaces it; one below pulls it down with weight `1 - exp(-dt/tau)`,
/// where `dt` is the time since the last sample. So a slow answer is believed at once and forgotten
/// over some `tau`. The rule is that of Finagle's and linkerd's peak EWMA.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    seconds: f64,
    at: Instant,
}

impl Estimate {
    /// Starts from `initial` at `now`.
    #[must_use]
    pub const fn new(initial: Duration, now: Instant) -> Self {
        Self {
            seconds: initial.as_secs_f64(),
            at: now,
        }
    }

    /// Takes one latency. A `now` before the last one counts as the last one.
    pub fn record(&mut self, sample: Duration, tau: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        if sample >= self.seconds {
            self.seconds = sample;
        } else {
            let keep = decay(now.saturating_duration_since(self.at), tau);
            self.seconds = self.seconds.mul_add(keep, sample * (1.0 - keep));
        }
        self.at = self.at.max(now);
    }

    /// The estimate as of the last sample, in seconds.
    #[must_use]
    pub const fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// What is left of an estimate after `elapsed`: `exp(-elapsed / tau)`. With no `tau`, nothing.
pub(crate) fn decay(elapsed: Duration, tau: Duration) -> f64 {
    if tau.is_zero() {
        return 0.0;
    }
    (-elapsed.as_secs_f64() / tau.as_secs_f64()).exp()
}
