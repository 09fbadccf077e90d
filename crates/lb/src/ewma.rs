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

/// [`decay`] by milliseconds, for scans: some five decimals, and no call of `exp`.
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

    /// What is left after so many milliseconds.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds that an endpoint lives have far fewer than 53 bits, and halvings are from 0 to 1000"
    )]
    pub(crate) fn factor(self, elapsed_ms: u64) -> f64 {
        let halvings = elapsed_ms as f64 * self.halvings;
        // Also without a tau, where 0 times infinity is no number.
        if !(0.0..1_000.0).contains(&halvings) {
            return 0.0;
        }
        let whole = halvings as u64;
        let part = halvings - whole as f64;
        // 2^-part by its Taylor series, whose next term is below 2e-6 for a part below 1.
        let power = TERMS.iter().rev().fold(0.0, |sum, term| sum * part + term);
        power * f64::from_bits((1_023 - whole) << 52)
    }
}

/// `(-ln 2)^n / n!`
const TERMS: [f64; 8] = [
    1.0,
    -std::f64::consts::LN_2,
    0.240_226_506_959_100_7,
    -0.055_504_108_664_821_58,
    0.009_618_129_107_628_477,
    -0.001_333_355_814_642_844,
    0.000_154_035_303_933_816,
    -0.000_015_252_733_804_059_8,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fade_is_the_decay_to_five_decimals() {
        for tau in [1, 50, 1_000, 10_000, 86_400_000] {
            let tau = Duration::from_millis(tau);
            for ms in (0..2_000).chain((2_000..10_000_000).step_by(9_973)) {
                let exact = decay(Duration::from_millis(ms), tau);
                let quick = Fade::over(tau).factor(ms);
                assert!(
                    (exact - quick).abs() < 5e-6,
                    "{ms} of {tau:?}: {quick} for {exact}"
                );
            }
        }
        assert!(Fade::over(Duration::ZERO).factor(0).abs() < 1e-9);
        assert!(Fade::over(Duration::MAX).factor(u64::MAX) > 0.9);
    }
}
