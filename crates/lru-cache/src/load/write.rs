//! Writing to the store through the cache, and behind it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hash};

use crate::lock::Mutex;

use super::ReadThrough;
use crate::policy::Policy;
use crate::sync::Cache;

/// Takes a key out of the cache when dropped half-way.
struct Doubt<'a, K: Hash + Eq, V: Clone, P: Policy, S: BuildHasher> {
    cache: &'a Cache<K, V, P, S>,
    key: &'a K,
    over: bool,
}

impl<K: Hash + Eq, V: Clone, P: Policy, S: BuildHasher> Drop for Doubt<'_, K, V, P, S> {
    fn drop(&mut self) {
        if !self.over {
            self.cache.remove(self.key);
        }
    }
}

impl<K, V, E, P, S> ReadThrough<K, V, E, P, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    P: Policy,
    S: BuildHasher,
{
    /// Writes to the store, and to the cache when that has succeeded (write-through). If it fails, the
    /// key leaves the cache: nobody knows what the store has. Loads under way when the write ends are
    /// not stored. Two writers of one key must be put in order by the store; to be safe against their
    /// answers crossing, [`remove`](Cache::remove) the key after the write instead (cache-aside).
    ///
    /// # Errors
    ///
    /// What `write` says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the write, and the key leaves the cache.
    pub async fn write_through<F, W>(
        &self,
        key: &K,
        value: V,
        write: impl FnOnce(&K, &V) -> F,
    ) -> Result<(), W>
    where
        F: Future<Output = Result<(), W>>,
    {
        let mut doubt = Doubt {
            cache: &self.shared.cache,
            key,
            over: false,
        };
        write(key, &value).await?;
        doubt.over = true;
        self.shared.cache.insert(key.clone(), value);
        Ok(())
    }
}

/// A write that was not taken because too many are waiting; handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{pending} writes are waiting, as many as allowed")]
#[non_exhaustive]
pub struct Full<K, V> {
    /// The key that was to be written.
    pub key: K,
    /// The value that was to be written.
    pub value: V,
    /// Keys waiting to be written.
    pub pending: usize,
}

/// Writes that go to the store later (write-behind): the last value of each key, so many keys at most.
///
/// The caller puts values in, along with the cache, and takes [batches](WriteBehind::batch) out, on a
/// thread or task of its own. A batch whose write failed comes back. **Loss window**: what was put and not
/// yet [`done`](Batch::done) is lost if the process ends; so at shutdown take batches until
/// [`WriteBehind::pending`] is 0. A key that leaves the cache meanwhile must be looked up here before the store:
/// [`WriteBehind::get`].
pub struct WriteBehind<K, V> {
    dirty: Mutex<HashMap<K, Dirty<V>>>,
    keys_max: usize,
}

struct Dirty<V> {
    value: V,
    /// Put so often; tells whether a batch has the last value.
    version: u64,
    /// A batch has it.
    under_way: bool,
}

impl<K, V> fmt::Debug for WriteBehind<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("keys_max", &self.keys_max)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> WriteBehind<K, V> {
    /// Takes writes of at most so many keys.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            dirty: Mutex::new(HashMap::new()),
            keys_max,
        }
    }

    /// Takes a write; an earlier one of the same key that no batch has is replaced.
    ///
    /// # Errors
    ///
    /// [`Full`], with the write, if as many keys as allowed are waiting and this is not one of them:
    /// write it through, or take a batch first.
    pub fn put(&self, key: K, value: V) -> Result<(), Full<K, V>> {
        let mut dirty = self.dirty.lock();
        let pending = dirty.len();
        match dirty.entry(key) {
            Entry::Occupied(mut entry) => {
                let entry = entry.get_mut();
                entry.value = value;
                entry.version += 1;
                Ok(())
            }
            Entry::Vacant(entry) if pending < self.keys_max => {
                entry.insert(Dirty {
                    value,
                    version: 0,
                    under_way: false,
                });
                Ok(())
            }
            Entry::Vacant(entry) => Err(Full {
                key: entry.into_key(),
                value,
                pending,
            }),
        }
    }

    /// The value of a key that is not written yet.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.dirty.lock().get(key).map(|dirty| dirty.value.clone())
    }

    /// Keys that are not written yet, those in batches included.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.dirty.lock().len()
    }

    /// Takes at most so many writes that no other batch has, in no particular order. Of a key, one
    /// write at a time is under way, so that the store gets them in order. O(keys waiting).
    #[must_use]
    pub fn batch(&self, writes_max: usize) -> Batch<'_, K, V> {
        let mut dirty = self.dirty.lock();
        let writes = dirty
            .iter_mut()
            .filter(|(_, dirty)| !dirty.under_way)
            .take(writes_max)
            .map(|(key, dirty)| {
                dirty.under_way = true;
                (key.clone(), dirty.value.clone(), dirty.version)
            })
            .collect();
        Batch {
            behind: self,
            writes,
        }
    }
}

/// Writes on their way to the store. Dropped without [`Batch::done`], they wait again.
pub struct Batch<'a, K: Hash + Eq + Clone, V: Clone> {
    behind: &'a WriteBehind<K, V>,
    writes: Vec<(K, V, u64)>,
}

impl<K: Hash + Eq + Clone, V: Clone> fmt::Debug for Batch<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Batch<'_, K, V> {
    /// What is to be written.
    #[must_use]
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.writes.iter().map(|(key, value, _)| (key, value))
    }

    /// The store has them. A key that was put again meanwhile waits for the next batch.
    pub fn done(mut self) {
        self.end(true);
    }

    fn end(&mut self, written: bool) {
        let mut dirty = self.behind.dirty.lock();
        for (key, _, version) in self.writes.drain(..) {
            if let Entry::Occupied(mut entry) = dirty.entry(key) {
                if written && entry.get().version == version {
                    entry.remove();
                } else {
                    entry.get_mut().under_way = false;
                }
            }
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Batch<'_, K, V> {
    fn drop(&mut self) {
        self.end(false);
    }
}
