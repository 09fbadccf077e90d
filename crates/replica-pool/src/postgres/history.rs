//! How old a replica's state is, by when the primary was where the replica is now.
//!
//! What a replica says about its lag by itself is unusable: the time since the last replayed transaction
//! grows on an idle system, and the reported replay lag of a replica that stands still shrinks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::evidence::{Epoch, Lsn};

/// Positions of the primary kept, and the least time between two: they reach back 12.8 s.
const KEPT: usize = 128;
const SPACING: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct History {
    epoch: Epoch,
    /// Oldest first. Each says: up to that moment the primary had not passed this position.
    seen: VecDeque<(Instant, Lsn)>,
}

impl History {
    /// The primary of `epoch` was at `lsn` when asked at `asked`, or later.
    pub(super) fn primary_at(&mut self, epoch: Epoch, lsn: Lsn, asked: Instant) {
        if epoch < self.epoch {
            return;
        }
        if epoch > self.epoch {
            // Positions of two reigns cannot be compared.
            self.seen.clear();
            self.epoch = epoch;
        }
        if let Some((at, last)) = self.seen.back_mut() {
            if *last >= lsn {
                if *last == lsn {
                    *at = (*at).max(asked);
                }
                return;
            }
            if asked.saturating_duration_since(*at) < SPACING {
                return;
            }
        }
        if self.seen.len() >= KEPT {
            self.seen.pop_front();
        }
        self.seen.push_back((asked, lsn));
    }

    /// How old the state of a replica at `lsn` is at most. `None` when that is not known.
    pub(super) fn age(&self, lsn: Lsn, now: Instant) -> Option<Duration> {
        self.seen
            .iter()
            .rev()
            .find(|(_, primary)| *primary <= lsn)
            .map(|(at, _)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some instant to start from"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn age_is_the_time_since_the_primary_was_there() {
        let start = now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut history = History::default();
        assert_eq!(history.age(u64::MAX, at(0)), None);
        for step in 0..10 {
            history.primary_at(1, 100 + step, at(step * 1_000));
        }
        assert_eq!(
            history.age(109, at(9_500)),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            history.age(105, at(9_500)),
            Some(Duration::from_millis(4_500))
        );
        assert_eq!(history.age(99, at(9_500)), None);
        // An idle primary keeps its replicas young.
        history.primary_at(1, 109, at(60_000));
        assert_eq!(
            history.age(109, at(60_100)),
            Some(Duration::from_millis(100))
        );
        // A deposed one says nothing, a new one starts afresh.
        history.primary_at(0, 500, at(60_200));
        assert_eq!(
            history.age(500, at(60_200)),
            Some(Duration::from_millis(200))
        );
        history.primary_at(2, 120, at(61_000));
        assert_eq!(history.age(109, at(61_000)), None);
        assert_eq!(history.age(120, at(61_000)), Some(Duration::ZERO));
    }

    #[test]
    fn it_is_bounded_and_never_says_younger_than_true() {
        let start = now();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut history = History::default();
        let mut truth: Vec<(Instant, Lsn)> = Vec::new();
        let (mut at, mut lsn) = (start, 0);
        for _ in 0..5_000 {
            at += Duration::from_millis(rng.u64(0..80));
            lsn += rng.u64(0..3);
            truth.push((at, lsn));
            history.primary_at(1, lsn, at);
            assert!(history.seen.len() <= KEPT);
            let replica = lsn.saturating_sub(rng.u64(0..40));
            if let Some(age) = history.age(replica, at) {
                // The primary passed the replica's position at the first moment that is beyond it.
                let passed = truth.iter().find(|(_, lsn)| *lsn > replica);
                let least = passed.map_or(Duration::ZERO, |(passed, _)| at - *passed);
                assert!(age >= least, "{age:?} for at least {least:?}");
            }
        }
    }
}
