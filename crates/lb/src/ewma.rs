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

/// [`decay`] by milliseconds, for scans: four decimals, and no call of `exp`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fade {
    /// How often the estimate halves in a millisecond; infinite without a `tau`.
    halvings: f64,
}

impl Fade {
    pub(crate) fn over(tau: Duration) -> Self {
        Self {
            halvings: std::f64::consts::LOG2_E / (tau.as_secs_f64() * 1e3),
        }
    }

    /// What is left after so many milliseconds; beyond 49 days they count as 49 days.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "halvings are from 0 to 1000"
    )]
    pub(crate) fn factor(self, elapsed_ms: u64) -> f64 {
        let elapsed = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
        let halvings = f64::from(elapsed) * self.halvings;
        // Also without a tau, where 0 times infinity is no number.
        if !(0.0..1_000.0).contains(&halvings) {
            return 0.0;
        }
        let whole = (halvings + 0.5) as u32;
        let part = halvings - f64::from(whole);
        // 2^-part by its Taylor series, whose next term is below 5e-5 for a part of at most a half.
        let [one, two, three, four] = TERMS;
        let square = part * part;
        let power = (1.0 + part * one) + square * ((two + part * three) + square * four);
        power * f64::from_bits((1_023 - u64::from(whole)) << 52)
    }
}

/// `(-ln 2)^n / n!` from n = 1 on.
const TERMS: [f64; 4] = [
    -std::f64::consts::LN_2,
    0.240_226_506_959_100_7,
    -0.055_504_108_664_821_58,
    0.009_618_129_107_628_477,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fade_is_the_decay_to_four_decimals() {
        for tau in [1, 50, 1_000, 10_000, 86_400_000] {
            let tau = Duration::from_millis(tau);
            for ms in (0..2_000).chain((2_000..10_000_000).step_by(9_973)) {
                let exact = decay(Duration::from_millis(ms), tau);
                let quick = Fade::over(tau).factor(ms);
                assert!(
                    (exact - quick).abs() < 5e-5,
                    "{ms} of {tau:?}: {quick} for {exact}"
                );
            }
        }
        assert!(Fade::over(Duration::ZERO).factor(0).abs() < 1e-9);
        assert!(Fade::over(Duration::MAX).factor(u64::MAX) > 0.9);
    }
}
