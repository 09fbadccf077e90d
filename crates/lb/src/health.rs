//! When an endpoint rests, and when it is let in again: pure state, time as an argument.

use std::time::{Duration, Instant};

use crate::outlier::{FailurePercentage, SuccessRate};

/// Passive ejection: what real requests say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EjectionConfig {
    pub(crate) failures: u32,
    pub(crate) rest: Duration,
    pub(crate) rest_max: Duration,
    pub(crate) percent_max: u8,
    pub(crate) interval: Duration,
    pub(crate) success_rate: Option<SuccessRate>,
    pub(crate) failure_percentage: Option<FailurePercentage>,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            rest: Duration::from_secs(30),
            rest_max: Duration::from_secs(300),
            percent_max: 50,
            interval: Duration::from_secs(10),
            success_rate: None,
            failure_percentage: None,
        }
    }
}

impl EjectionConfig {
    /// Sets after how many failures in a row an endpoint rests; 0 means never. Defaults to 5.
    #[must_use]
    pub fn with_failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Sets the first rest and the longest. The rest is multiplied by the number of ejections so far,
    /// of which one is forgiven for each interval that the endpoint served without. Defaults to 30 s
    /// and 300 s, as Envoy's and gRPC's.
    #[must_use]
    pub fn with_rest(mut self, first: Duration, longest: Duration) -> Self {
        self.rest = first;
        self.rest_max = longest.max(first);
        self
    }

    /// Sets the share of all endpoints that may rest at once, in percent (at most 100). When it is
    /// above 0, one endpoint may always rest. Defaults to 50: if more seem bad, it is rather the
    /// network or the request.
    #[must_use]
    pub fn with_percent_max(mut self, percent: u8) -> Self {
        self.percent_max = percent.min(100);
        self
    }

    /// Turns on the ejection of those that succeed much less than the others. Defaults to off.
    #[must_use]
    pub fn with_success_rate(mut self, rule: SuccessRate) -> Self {
        self.success_rate = Some(rule);
        self
    }

    /// Turns on the ejection of those that fail more than a fixed share. Defaults to off.
    #[must_use]
    pub fn with_failure_percentage(mut self, rule: FailurePercentage) -> Self {
        self.failure_percentage = Some(rule);
        self
    }

    /// Sets over what time success rates and failure percentages are taken, and an ejection is
    /// forgiven, at least a millisecond. Defaults to 10 s.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Whether an endpoint with so many failures in a row should rest.
    pub(crate) const fn is_too_many(&self, in_a_row: u32) -> bool {
        self.failures > 0 && in_a_row >= self.failures
    }

    pub(crate) const fn judges_rates(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }
}

/// Active checks: what the endpoint itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeConfig {
    pub(crate) every: Duration,
    pub(crate) patience: Duration,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            patience: Duration::from_secs(30),
            rise: 1,
            fall: 2,
        }
    }
}

impl ProbeConfig {
    /// Sets the time between two checks of an endpoint, at least a millisecond. Defaults to 1 s.
    #[must_use]
    pub fn with_every(mut self, every: Duration) -> Self {
        self.every = every.max(Duration::from_millis(1));
        self
    }

    /// Sets after what time a check without an answer counts as bad, so that one whose answer was lost
    /// does not leave its endpoint unchecked for ever. Defaults to 30 s.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how many good checks in a row bring a down endpoint up (`rise`), and how many bad ones
    /// take an up endpoint down (`fall`); 0 counts as 1. Defaults to 1 and 2.
    #[must_use]
    pub fn with_thresholds(mut self, rise: u32, fall: u32) -> Self {
        self.rise = rise.max(1);
        self.fall = fall.max(1);
        self
    }
}

/// How a new endpoint warms up: its weight grows from a floor to the whole over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    window: Duration,
    aggression: f64,
    floor: f64,
}

impl Default for SlowStart {
    /// No slow start.
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            aggression: 1.0,
            floor: 0.1,
        }
    }
}

impl SlowStart {
    /// Warms up over `window`, from a tenth, linearly.
    #[must_use]
    pub fn over(window: Duration) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// Sets the shape: above 1 the weight grows faster at first. Not positive counts as 1. Defaults
    /// to 1.
    #[must_use]
    pub fn with_aggression(mut self, aggression: f64) -> Self {
        self.aggression = if aggression > 0.0 { aggression } else { 1.0 };
        self
    }

    /// Sets the least share, a thousandth to 1: with nothing at all a new endpoint would never warm
    /// up. Defaults to 0.1.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.floor = if floor.is_nan() {
            0.1
        } else {
            floor.clamp(0.001, 1.0)
        };
        self
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.window.is_zero()
    }

    /// The share of its weight that an endpoint of this age has:
    /// `max(floor, (max(age, 1 s) / window)^(1 / aggression))` within the window, as Envoy documents.
    #[must_use]
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let age = age.max(Duration::from_secs(1)).as_secs_f64();
        (age / self.window.as_secs_f64())
            .powf(1.0 / self.aggression)
            .clamp(self.floor, 1.0)
    }
}

/// A rest that the clock cannot count to, a hundred years.
const FOR_EVER: Duration = Duration::from_secs(3_155_760_000);

/// What is known of one endpoint's health.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    ejected_until: Option<Instant>,
    /// Multiplies the rest; one less for each interval without ejection.
    times: u32,
    pub(crate) up: bool,
    good: u32,
    bad: u32,
    pub(crate) probe_at: Instant,
    /// When a check was handed out that has no answer yet.
    pub(crate) probing: Option<Instant>,
    calm_since: Instant,
    /// Successes and failures when the current interval began.
    pub(crate) interval_start: (u64, u64),
}

impl Health {
    /// Up until something says otherwise; checked at once if there are checks.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            ejected_until: None,
            times: 0,
            up: true,
            good: 0,
            bad: 0,
            probe_at: now,
            probing: None,
            calm_since: now,
            interval_start: (0, 0),
        }
    }

    pub(crate) const fn ejected_until(&self) -> Option<Instant> {
        self.ejected_until
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.up && self.ejected_until.is_none()
    }

    /// Sends it to rest.
    pub(crate) fn eject(&mut self, config: &EjectionConfig, now: Instant) {
        let calm = now.saturating_duration_since(self.calm_since);
        let forgiven = calm
            .as_nanos()
            .checked_div(config.interval.as_nanos())
            .unwrap_or(0);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.times = self.times.saturating_sub(forgiven).saturating_add(1);
        let rest = config.rest.saturating_mul(self.times).min(config.rest_max);
        self.ejected_until = now.checked_add(rest).or_else(|| now.checked_add(FOR_EVER));
    }

    /// Lets it in again when its rest is over. True if that changed anything.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let over = self.ejected_until.is_some_and(|until| until <= now);
        if over {
            // Not `now`, which may be later.
            self.calm_since = self.ejected_until.take().unwrap_or(now);
        }
        over
    }

    /// Whether the answer of a check is not to be waited for any longer.
    pub(crate) fn is_probe_lost(&self, config: &ProbeConfig, now: Instant) -> bool {
        self.probing
            .is_some_and(|since| now.saturating_duration_since(since) >= config.patience)
    }

    /// When the next check is due, or the answer of one is not waited for any longer.
    pub(crate) fn next_probe(&self, config: &ProbeConfig) -> Instant {
        self.probing.map_or(self.probe_at, |since| {
            since.checked_add(config.patience).unwrap_or(since)
        })
    }

    /// A check came back. A good one also ends a rest: the endpoint itself says that it is well.
    /// True if readiness changed.
    pub(crate) fn probed(&mut self, config: &ProbeConfig, good: bool, now: Instant) -> bool {
        self.probing = None;
        self.probe_at = now.checked_add(config.every).unwrap_or(now);
        let before = self.is_ready();
        if good {
            self.bad = 0;
            self.good = self.good.saturating_add(1);
            if self.good >= config.rise {
                self.up = true;
                if self.ejected_until.take().is_some() {
                    self.calm_since = now;
                }
            }
        } else {
            self.good = 0;
            self.bad = self.bad.saturating_add(1);
            if self.bad >= config.fall {
                self.up = false;
            }
        }
        before != self.is_ready()
    }
}
