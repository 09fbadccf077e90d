//! Asking many shards at once, and saying which of them answered.

use std::future::Future;
use std::num::NonZeroUsize;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::key::ShardId;

/// How much of the data an answer stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Coverage {
    /// Shards that answered, in ascending order.
    pub answered: Vec<ShardId>,
    /// Shards that failed, in ascending order.
    pub missing: Vec<ShardId>,
}

impl Coverage {
    /// Whether every shard answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// The share that answered, 0 to 1; 1 when nobody was asked.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "shards are few")]
    pub const fn ratio(&self) -> f64 {
        let all = self.answered.len() + self.missing.len();
        if all == 0 {
            1.0
        } else {
            self.answered.len() as f64 / all as f64
        }
    }
}

/// What came back from a scatter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gathered<R, E> {
    /// Answers, in ascending order of shard.
    pub answers: Vec<(ShardId, R)>,
    /// Failures, in ascending order of shard.
    pub failures: Vec<(ShardId, E)>,
}

/// Some shards did not answer, and the caller wanted all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of {} shards did not answer; {first} said: {error}", .coverage.missing.len(), .coverage.missing.len() + .coverage.answered.len())]
#[non_exhaustive]
pub struct Incomplete<E> {
    /// Who answered and who did not.
    pub coverage: Coverage,
    /// The first shard that failed.
    pub first: ShardId,
    /// Its failure.
    pub error: E,
}

impl<R, E> Gathered<R, E> {
    /// Who answered and who did not.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        Coverage {
            answered: self.answers.iter().map(|(shard, _)| *shard).collect(),
            missing: self.failures.iter().map(|(shard, _)| *shard).collect(),
        }
    }

    /// The answers, if every shard gave one.
    ///
    /// # Errors
    ///
    /// [`Incomplete`] with the coverage and the first failure.
    pub fn complete(self) -> Result<Vec<(ShardId, R)>, Incomplete<E>> {
        let coverage = self.coverage();
        match self.failures.into_iter().next() {
            None => Ok(self.answers),
            Some((first, error)) => Err(Incomplete {
                coverage,
                first,
                error,
            }),
        }
    }
}

/// Asks each shard, at most `at_once` of them at a time, and waits for all.
///
/// A deadline is the caller's: let `ask` fail when it takes too long, with the timer of the runtime
/// in use; the other shards' answers are kept.
///
/// # Cancel safety
///
/// Dropping the future drops the questions under way and forgets the answers; shards not yet asked
/// are not asked.
pub async fn scatter<R, E, F, A>(
    shards: impl IntoIterator<Item = ShardId>,
    at_once: NonZeroUsize,
    mut ask: A,
) -> Gathered<R, E>
where
    A: FnMut(ShardId) -> F,
    F: Future<Output = Result<R, E>>,
{
    let mut waiting = shards.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut gathered = Gathered {
        answers: Vec::new(),
        failures: Vec::new(),
    };
    loop {
        while under_way.len() < at_once.get() {
            let Some(shard) = waiting.next() else { break };
            let answer = ask(shard);
            under_way.push(async move { (shard, answer.await) });
        }
        match under_way.next().await {
            None => break,
            Some((shard, Ok(answer))) => gathered.answers.push((shard, answer)),
            Some((shard, Err(error))) => gathered.failures.push((shard, error)),
        }
    }
    gathered.answers.sort_by_key(|(shard, _)| *shard);
    gathered.failures.sort_by_key(|(shard, _)| *shard);
    gathered
}
