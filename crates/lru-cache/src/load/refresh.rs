//! Stale while revalidate, refresh ahead, and early refresh by chance.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use super::flight::Lead;
use super::{LoadError, ReadThrough};
use crate::life::Life;
use crate::policy::Policy;

/// A value, and perhaps the work of loading it anew.
#[derive(Debug)]
#[non_exhaustive]
pub struct Found<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    /// The value; stale if there is a refresh, but for one that was asked for early.
    pub value: V,
    /// The right to load the key anew, for the one caller who is to do it.
    pub refresh: Option<Refresh<K, V, E, P, S>>,
}

/// The right to load a key anew, while others are handed the stale value. If it is dropped, the next
/// caller gets it.
pub struct Refresh<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> {
    lead: Lead<K, V, E, P, S>,
}

impl<K: Hash + Eq, V, E, P: Policy, S: BuildHasher> fmt::Debug for Refresh<K, V, E, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").finish_non_exhaustive()
    }
}

impl<K, V, E, P, S> Refresh<K, V, E, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// Loads the key anew. Spawn it, or await it when the answer has been given.
    ///
    /// # Errors
    ///
    /// [`LoadError::Failed`] if the loader failed: the stale value stays until its time is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the right back.
    pub async fn run<F>(mut self, load: impl FnOnce() -> F) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        self.lead.reserve();
        let outcome = load().await.map(|value| (value, Life::new()));
        self.lead
            .loaded(outcome.map_err(|error| LoadError::Failed(Arc::new(error))))
    }
}

impl<K, V, E, P, S> ReadThrough<K, V, E, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// The value of `key`, which may be stale. One caller at a time gets the right to load it anew with
    /// it: at once if the value is stale, and before if `ahead` of its freshness or less is left (0 for
    /// never before). Only if there is no value at all, `load` is called and waited for.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// As [`ReadThrough::get_or_load`].
    pub async fn get_or_refresh<F>(
        &self,
        key: &K,
        ahead: Duration,
        load: impl FnOnce() -> F,
    ) -> Result<Found<K, V, E, P, S>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        let Some((value, left)) = self.shared.cache.get_with_life(key, |_| true) else {
            let living = || async { load().await.map(|value| (value, Life::new())) };
            let value = self.load(key, |_| true, living).await?;
            return Ok(Found {
                value,
                refresh: None,
            });
        };
        let due = left <= self.shared.settings.stale.saturating_add(ahead) && left != Duration::MAX;
        let lead = if due {
            self.shared.lead_alone(key)
        } else {
            None
        };
        Ok(Found {
            value,
            refresh: lead.map(|lead| Refresh { lead }),
        })
    }
}

/// How long before the end of its freshness a value should be loaded anew, by chance: XFetch (Vattani,
/// Chierichetti and Lowenstein, VLDB 2015). The earlier, the longer a load takes; of many who ask, hardly
/// two draw an early time at once. To be used as `ahead` of [`ReadThrough::get_or_refresh`].
///
/// `chance` is any number, drawn anew for each call; `eagerness` is 1 usually, more is earlier.
#[must_use]
pub fn early(load_takes: Duration, eagerness: f64, chance: u64) -> Duration {
    // 32 bits, moved by a half so that it is never 0.
    let drawn = (f64::from((chance >> 32) as u32) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let seconds = load_takes.as_secs_f64() * eagerness.max(0.0) * -drawn.ln();
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
