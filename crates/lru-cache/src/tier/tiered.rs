//! Memory, then the tier, then the store.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Codec, Looked, Tier, TierError, TierLease};
use crate::life::Life;
use crate::load::{LoadError, ReadThrough};
use crate::policy::{Adaptive, Policy};

/// How long a tier keeps a value, unless told otherwise.
const TTL: Duration = Duration::from_secs(3600);

/// A cache of two levels: the memory of this process, and a tier that it shares with others. Clones
/// share it.
///
/// A missing key is asked of the tier once, however many ask at the same time, and then loaded once. In
/// memory, what came from the tier lives no longer than the tier says, and no longer than the memory
/// lets anything live. When the memory's time is over the tier is asked again: the two times to live add
/// up if nothing is invalidated.
///
/// Memory that is written directly ([`ReadThrough::cache`]) is not written to the tier; write to the
/// store and [`invalidate`](Tiered::invalidate).
pub struct Tiered<K, V, E, T, C, P = Adaptive, S = RandomState>
where
    K: Hash + Eq,
    P: Policy,
    S: BuildHasher,
{
    memory: ReadThrough<K, V, E, P, S>,
    shared: Arc<Shared<T, C>>,
    ttl: Duration,
}

struct Shared<T, C> {
    tier: T,
    codec: C,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    unreadable: AtomicU64,
    fills: AtomicU64,
    fills_outdated: AtomicU64,
    fills_failed: AtomicU64,
}

/// What a tier was asked and what came of it. `hits + misses + failures` are the questions, `unreadable`
/// is a part of the hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TierStats {
    /// Values found.
    pub hits: u64,
    /// Nothing found.
    pub misses: u64,
    /// No answer that is of use: unreachable, too late, nonsense.
    pub failures: u64,
    /// Values found that the codec could not read.
    pub unreadable: u64,
    /// Values stored.
    pub fills: u64,
    /// Values that were not stored because their lease was void.
    pub fills_outdated: u64,
    /// Values that could not be stored.
    pub fills_failed: u64,
}

impl<K, V, E, T, C, P, S> Clone for Tiered<K, V, E, T, C, P, S>
where
    K: Hash + Eq,
    P: Policy,
    S: BuildHasher,
{
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            shared: Arc::clone(&self.shared),
            ttl: self.ttl,
        }
    }
}

impl<K, V, E, T, C, P, S> fmt::Debug for Tiered<K, V, E, T, C, P, S>
where
    K: Hash + Eq,
    P: Policy,
    S: BuildHasher,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("memory", &self.memory)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl<K, V, E, T, C, P, S> Tiered<K, V, E, T, C, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    T: Tier,
    C: Codec<K, V>,
    P: Policy,
    S: BuildHasher,
{
    /// Puts a tier behind a memory.
    #[must_use]
    pub fn new(memory: ReadThrough<K, V, E, P, S>, tier: T, codec: C) -> Self {
        let counters = Counters::default();
        Self {
            memory,
            shared: Arc::new(Shared {
                tier,
                codec,
                counters,
            }),
            ttl: TTL,
        }
    }

    /// Sets how long the tier keeps a value: the longest that a value may be found there whose
    /// invalidation was lost, with a process that died for one. Clones made earlier keep what they
    /// have. Defaults to an hour.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The memory, with its own settings.
    #[must_use]
    pub const fn memory(&self) -> &ReadThrough<K, V, E, P, S> {
        &self.memory
    }

    /// The tier.
    #[must_use]
    pub fn tier(&self) -> &T {
        &self.shared.tier
    }

    /// The value of `key`: from memory, from a load under way, from the tier, or from `load`. A tier that
    /// fails costs at most the time that it takes for that.
    ///
    /// # Errors
    ///
    /// As [`ReadThrough::get_or_load`]; what goes wrong in the tier is none.
    ///
    /// # Cancel safety
    ///
    /// As [`ReadThrough::get_or_load`]. What was loaded may then not get into the tier.
    pub async fn get_or_load<F>(&self, key: &K, load: impl FnOnce() -> F) -> Result<V, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        // Set by the one who leads: what it is to fill in when the others have got their value.
        let mut due = None;
        let fills_in = &mut due;
        let through = move || async move {
            let name = self.shared.codec.key(key);
            let lease = match self.ask(&name).await {
                Ok(found) => return Ok(found),
                Err(lease) => lease,
            };
            let value = load().await?;
            if let Some(lease) = lease {
                *fills_in = Some((name, lease, self.shared.codec.encode(&value)));
            }
            Ok((value, Life::new()))
        };
        let value = self.memory.get_or_load_with(key, through).await?;
        if let Some((name, lease, bytes)) = due {
            self.fill(&name, lease, &bytes).await;
        }
        Ok(value)
    }

    /// What the tier has, or the lease to fill it.
    async fn ask(&self, name: &[u8]) -> Result<(V, Life), Option<TierLease>> {
        let Shared {
            tier,
            codec,
            counters,
        } = &*self.shared;
        match tier.get(name).await {
            Ok(Looked::Value { bytes, left }) => {
                count(&counters.hits);
                if let Some(value) = codec.decode(&bytes) {
                    let life = left.map_or_else(Life::new, |left| Life::new().at_most(left));
                    return Ok((value, life));
                }
                count(&counters.unreadable);
                // Whoever asks next gets a lease. If it stays, it is as unreadable as it was.
                let _told = tier.remove(name).await;
                Err(None)
            }
            Ok(Looked::Nothing(lease)) => {
                count(&counters.misses);
                Err(lease)
            }
            Err(_) => {
                count(&counters.failures);
                Err(None)
            }
        }
    }

    async fn fill(&self, name: &[u8], lease: TierLease, bytes: &[u8]) {
        let counters = &self.shared.counters;
        match self.shared.tier.fill(name, lease, bytes, self.ttl).await {
            Ok(true) => count(&counters.fills),
            Ok(false) => count(&counters.fills_outdated),
            Err(_) => count(&counters.fills_failed),
        }
    }

    /// Removes a key from the tier and the memory, after the store has changed, and tells the memory's
    /// listener of [invalidations](crate::sync::Builder::with_invalidations), which carries it to the
    /// memories of other processes.
    ///
    /// When it has succeeded, nobody who asks this process gets a value that was read from the store
    /// before; so it is in other processes when the listener's message has arrived there.
    ///
    /// # Errors
    ///
    /// What the tier says: whoever has nothing in memory may find the old value there until its time is
    /// over. Try again. A `Pool` does that by itself, and is not asked for the key before it is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the key from memory and tells the listener; whether the tier has
    /// done it is not known.
    pub async fn invalidate(&self, key: &K) -> Result<(), TierError> {
        let cache = self.memory.cache();
        cache.remove(key);
        // Again at the end: meanwhile somebody may have taken the old value from the tier.
        let _end = OnDrop(|| cache.invalidate(key));
        self.shared.tier.remove(&self.shared.codec.key(key)).await
    }

    /// Removes everything from the tier and the memory, as [`invalidate`](Tiered::invalidate) does one key.
    ///
    /// # Errors
    ///
    /// As [`Tiered::invalidate`].
    ///
    /// # Cancel safety
    ///
    /// As [`Tiered::invalidate`].
    pub async fn invalidate_all(&self) -> Result<(), TierError> {
        let cache = self.memory.cache();
        cache.remove_where(|_, _| true);
        let _end = OnDrop(|| cache.invalidate_all());
        self.shared.tier.clear().await
    }

    /// What the tier was asked so far.
    #[must_use]
    pub fn tier_stats(&self) -> TierStats {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TierStats {
            hits: read(&counters.hits),
            misses: read(&counters.misses),
            failures: read(&counters.failures),
            unreadable: read(&counters.unreadable),
            fills: read(&counters.fills),
            fills_outdated: read(&counters.fills_outdated),
            fills_failed: read(&counters.fills_failed),
        }
    }
}

/// Does something when it goes out of scope, also when the future that holds it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
