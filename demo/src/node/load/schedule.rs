//! When synthetic users arrive: a Poisson process on an absolute schedule that no answer delays.

use std::time::Duration;

use fastrand::Rng;

/// Moments of arrival, as times since the start of the load.
///
/// The same seed and rate give the same moments. Gaps are exponential, so that arrivals bunch up as
/// those of people do who know nothing of each other.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    chance: Rng,
    gap_mean_s: f64,
    at_s: f64,
}

impl Schedule {
    /// On average `per_second` arrivals a second; 0 is none at all.
    pub(crate) fn new(per_second: u32, seed: u64) -> Self {
        Self {
            chance: Rng::with_seed(seed),
            gap_mean_s: 1.0 / f64::from(per_second),
            at_s: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if !self.gap_mean_s.is_finite() {
            return None;
        }
        // `f64` draws from [0, 1), so the logarithm's argument is never zero.
        self.at_s -= (1.0 - self.chance.f64()).ln() * self.gap_mean_s;
        Duration::try_from_secs_f64(self.at_s).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_the_order_too_and_a_seed_repeats() {
        let moments: Vec<Duration> = Schedule::new(200, 7).take(20_000).collect();
        assert!(moments.is_sorted());
        let seconds = moments.last().unwrap().as_secs_f64();
        assert!((seconds - 100.0).abs() < 3.0, "{seconds}");
        assert!(Schedule::new(200, 7).take(20_000).eq(moments));
        assert_ne!(Schedule::new(200, 8).next(), Schedule::new(200, 7).next());
    }

    #[test]
    fn arrivals_bunch_up_as_those_of_strangers_do() {
        let moments: Vec<f64> = Schedule::new(100, 3)
            .take(10_000)
            .map(|at| at.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Of exponential gaps 63.2 % are below the mean, and 13.5 % above twice the mean.
        let share = |wanted: &dyn Fn(f64) -> bool| {
            let there = gaps.iter().filter(|gap| wanted(**gap)).count();
            f64::from(u32::try_from(there).unwrap()) / 9_999.0
        };
        assert!((share(&|gap| gap < 0.01) - 0.632).abs() < 0.02);
        assert!((share(&|gap| gap > 0.02) - 0.135).abs() < 0.02);
    }

    #[test]
    fn no_rate_means_no_arrivals() {
        assert_eq!(Schedule::new(0, 1).next(), None);
    }
}
