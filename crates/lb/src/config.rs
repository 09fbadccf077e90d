//! The settings of a balancer.

use std::time::Duration;

use crate::health::{EjectionConfig, ProbeConfig, SlowStart};

/// Settings of a [`Balancer`](crate::Balancer).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    pub(crate) tau: Duration,
    pub(crate) initial: Duration,
    pub(crate) penalty: Duration,
    pub(crate) slow_start: SlowStart,
    pub(crate) ejection: EjectionConfig,
    pub(crate) probes: Option<ProbeConfig>,
    pub(crate) panic: bool,
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
    /// Sets over what time a latency is forgotten; with zero, each answer is forgotten at once.
    /// Defaults to 10 s.
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
