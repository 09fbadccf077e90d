//! A bound on retries, so that they cannot melt what is left.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Allows retries up to a share of recent requests, and a floor of so many a second.
///
/// Each request deposits a fraction of a token, each retry takes a whole one; a steady trickle lets a
/// service with few requests retry at all. Tokens are capped at ten seconds' worth of trickle plus
/// what the cap for deposits allows, so a quiet hour saves up no storm. The idea is Finagle's
/// `RetryBudget`.
#[derive(Debug)]
pub struct RetryBudget {
    ratio: f64,
    per_second: f64,
    inner: Mutex<Bucket>,
}

/// Seconds of requests and trickle that may be saved up.
const SAVED_SECONDS: f64 = 10.0;

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    cap: f64,
    at: Option<Instant>,
    allowed: u64,
    refused: u64,
    deposits: u64,
}

/// What a budget has done. `withdrawals asked = allowed + refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Requests that were deposited.
    pub deposits: u64,
    /// Retries that were allowed.
    pub allowed: u64,
    /// Retries that were refused.
    pub refused: u64,
}

impl Default for RetryBudget {
    /// A fifth of all requests, and at least ten a second.
    fn default() -> Self {
        Self::new(0.2, 10)
    }
}

impl RetryBudget {
    /// `ratio` retries a request (clamped to 0..=10; NaN counts as 0), and at least `per_second`
    /// retries a second.
    #[must_use]
    pub fn new(ratio: f64, per_second: u32) -> Self {
        let ratio = if ratio.is_nan() {
            0.0
        } else {
            ratio.clamp(0.0, 10.0)
        };
        let per_second = f64::from(per_second);
        let cap = (per_second * SAVED_SECONDS).max(1.0);
        Self {
            ratio,
            per_second,
            inner: Mutex::new(Bucket {
                tokens: per_second,
                cap,
                at: None,
                allowed: 0,
                refused: 0,
                deposits: 0,
            }),
        }
    }

    /// Counts one request (not its retries).
    pub fn deposit(&self, now: Instant) {
        let mut bucket = self.inner.lock();
        bucket.trickle(self.per_second, now);
        bucket.tokens = (bucket.tokens + self.ratio).min(bucket.cap.max(100.0 * self.ratio));
        bucket.deposits += 1;
    }

    /// Asks for one retry. False means: give the first error back.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut bucket = self.inner.lock();
        bucket.trickle(self.per_second, now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            bucket.allowed += 1;
            true
        } else {
            bucket.refused += 1;
            false
        }
    }

    /// What was asked and answered so far.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        let bucket = self.inner.lock();
        BudgetStats {
            deposits: bucket.deposits,
            allowed: bucket.allowed,
            refused: bucket.refused,
        }
    }
}

impl Bucket {
    fn trickle(&mut self, per_second: f64, now: Instant) {
        let since = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let room = self.cap - self.tokens;
        if room > 0.0 {
            self.tokens += (since.as_secs_f64() * per_second).min(room);
        }
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }
}
