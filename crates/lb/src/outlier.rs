//! Outlier detection over an interval: who fails much more than the others, or than a fixed share.
//!
//! The rules are those of gRFC A50 and of Envoy: success rate first, then failure percentage; an
//! endpoint with few requests is not judged; ejection stops at the allowed share.

/// Ejects endpoints whose success rate is below `mean - factor * standard deviation` of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    factor_thousandths: u32,
    enforcement: u8,
    endpoints_min: usize,
    requests_min: u64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            factor_thousandths: 1_900,
            enforcement: 100,
            endpoints_min: 5,
            requests_min: 100,
        }
    }
}

impl SuccessRate {
    /// Sets how many thousandths of a standard deviation below the mean is too low. Defaults to 1900.
    #[must_use]
    pub fn with_factor_thousandths(mut self, factor: u32) -> Self {
        self.factor_thousandths = factor;
        self
    }

    /// Sets how many of a hundred outliers are ejected (at most 100). Defaults to 100.
    #[must_use]
    pub fn with_enforcement(mut self, percent: u8) -> Self {
        self.enforcement = percent.min(100);
        self
    }

    /// Sets how many endpoints must have `requests` in an interval for any to be judged. Defaults to
    /// 5 and 100.
    #[must_use]
    pub fn with_volume(mut self, endpoints: usize, requests: u64) -> Self {
        self.endpoints_min = endpoints;
        self.requests_min = requests;
        self
    }
}

/// Ejects endpoints of whose requests in an interval more than a fixed percentage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePercentage {
    threshold: u8,
    enforcement: u8,
    endpoints_min: usize,
    requests_min: u64,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self {
            threshold: 85,
            enforcement: 100,
            endpoints_min: 5,
            requests_min: 50,
        }
    }
}

impl FailurePercentage {
    /// Sets the percentage (at most 100) above which an endpoint is an outlier. Defaults to 85.
    #[must_use]
    pub fn with_threshold(mut self, percent: u8) -> Self {
        self.threshold = percent.min(100);
        self
    }

    /// Sets how many of a hundred outliers are ejected (at most 100). Defaults to 100.
    #[must_use]
    pub fn with_enforcement(mut self, percent: u8) -> Self {
        self.enforcement = percent.min(100);
        self
    }

    /// Sets how many endpoints must have `requests` in an interval for any to be judged. Defaults to
    /// 5 and 50.
    #[must_use]
    pub fn with_volume(mut self, endpoints: usize, requests: u64) -> Self {
        self.endpoints_min = endpoints;
        self.requests_min = requests;
        self
    }
}

/// What an endpoint's requests came to in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Succeeded.
    pub ok: u64,
    /// Failed.
    pub failed: u64,
    /// Rests already.
    pub ejected: bool,
}

impl Tally {
    /// `ok` successes and `failed` failures of an endpoint that does not rest.
    #[must_use]
    pub const fn new(ok: u64, failed: u64) -> Self {
        Self {
            ok,
            failed,
            ejected: false,
        }
    }

    const fn total(self) -> u64 {
        self.ok.saturating_add(self.failed)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
    fn success_percent(self) -> f64 {
        100.0 * self.ok as f64 / self.total().max(1) as f64
    }
}

/// The mean of `rates` and the rate below which one is an outlier: `mean - factor * s`, with `s` the
/// population standard deviation. `None` without rates.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count of endpoints")]
pub fn success_rate_threshold(rates: &[f64], factor: f64) -> Option<(f64, f64)> {
    if rates.is_empty() {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    Some((mean, mean - factor * variance.sqrt()))
}

/// Whether one more of `known` may be ejected when `ejected` are: one always may, if any.
pub(crate) fn may_eject(ejected: usize, known: usize, percent_max: u8) -> bool {
    (ejected as u128) * 100 < (known as u128) * u128::from(percent_max)
}

/// The outliers of one interval, by index, in the order of their ejection.
///
/// `percent_max` bounds the share of endpoints that rest; `chance` decides where enforcement is below
/// 100.
pub fn outliers(
    tallies: &[Tally],
    success_rate: Option<&SuccessRate>,
    failure_percentage: Option<&FailurePercentage>,
    percent_max: u8,
    mut chance: impl FnMut() -> u64,
) -> Vec<usize> {
    let mut out = tallies.iter().filter(|tally| tally.ejected).count();
    let mut found: Vec<usize> = Vec::new();
    let mut enforce = |percent: u8| percent >= 100 || chance() % 100 < u64::from(percent);
    let with_volume = |requests_min: u64| -> Vec<usize> {
        (0..tallies.len())
            .filter(|index| tallies[*index].total() >= requests_min.max(1))
            .collect()
    };
    if let Some(rule) = success_rate {
        let judged = with_volume(rule.requests_min);
        let rates: Vec<f64> = judged
            .iter()
            .map(|index| tallies[*index].success_percent())
            .collect();
        let factor = f64::from(rule.factor_thousandths) / 1_000.0;
        if judged.len() >= rule.endpoints_min
            && let Some((_, threshold)) = success_rate_threshold(&rates, factor)
        {
            for (index, rate) in judged.into_iter().zip(rates) {
                if !may_eject(out, tallies.len(), percent_max) {
                    break;
                }
                if rate < threshold && !tallies[index].ejected && enforce(rule.enforcement) {
                    found.push(index);
                    out += 1;
                }
            }
        }
    }
    if let Some(rule) = failure_percentage {
        let judged = with_volume(rule.requests_min);
        if judged.len() >= rule.endpoints_min {
            for index in judged {
                if !may_eject(out, tallies.len(), percent_max) {
                    break;
                }
                let failed = 100.0 - tallies[index].success_percent();
                if failed > f64::from(rule.threshold)
                    && !tallies[index].ejected
                    && !found.contains(&index)
                    && enforce(rule.enforcement)
                {
                    found.push(index);
                    out += 1;
                }
            }
        }
    }
    found
}
