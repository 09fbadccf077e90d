//! How loaded an endpoint is.

use crate::endpoint::Shared;
use crate::ewma::Fade;
use crate::sync::Ordering;

/// A measure of load: the lower, the sooner an endpoint is picked.
///
/// # What an implementor must keep true
///
/// The answer is a number that is not NaN and not negative, and comes without waiting.
pub trait Load: Send + Sync {
    /// The load of an endpoint, before its weight is taken into account.
    fn load(&self, seen: &Seen) -> f64;
}

/// What a [`Load`] may look at.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// Requests under way.
    pub in_flight: u32,
    /// The expected latency in seconds (peak EWMA).
    pub latency: f64,
}

impl Seen {
    #[inline]
    pub(crate) fn of(shared: &Shared, fade: Fade, now_ms: u64) -> Self {
        Self {
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            latency: shared.latency(fade, now_ms),
        }
    }
}

/// Requests under way: "least request", "least connections".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written by its name alone")]
pub struct InFlight;

impl Load for InFlight {
    fn load(&self, seen: &Seen) -> f64 {
        f64::from(seen.in_flight)
    }
}

/// Expected latency times requests under way plus one, as in Finagle and linkerd.
///
/// A failure counts as a slow answer (see [`Config::with_failure_penalty`]), so that an endpoint
/// which fails fast does not look attractive.
///
/// [`Config::with_failure_penalty`]: crate::Config::with_failure_penalty
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written by its name alone")]
pub struct PeakEwma;

impl Load for PeakEwma {
    fn load(&self, seen: &Seen) -> f64 {
        // An estimate that has faded to nothing must still order by what is under way.
        (seen.latency + 1e-6) * (f64::from(seen.in_flight) + 1.0)
    }
}

impl<F: Fn(&Seen) -> f64 + Send + Sync> Load for F {
    fn load(&self, seen: &Seen) -> f64 {
        self(seen)
    }
}
