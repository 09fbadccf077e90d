//! Keeping the caches of many servers in step, and a cache in step with its store.

use std::hash::{BuildHasher, Hash};

use super::Cache;
use super::shards::Refusal;
use crate::cache::TooHeavy;
use crate::life::Life;
use crate::policy::Policy;
use crate::stats::Cause;

/// What was invalidated here and is to be invalidated elsewhere; see
/// [`Builder::with_invalidations`](super::Builder::with_invalidations).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation<'a, K> {
    /// One key.
    Key(&'a K),
    /// A group.
    Tag(&'a str),
    /// Everything.
    All,
}

/// Why [`Cache::insert_if`] inserted nothing; the entry comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotInserted<K, V> {
    /// The entry that is there is to stay.
    #[error("the entry that is there is newer")]
    Older {
        /// The key that was to be inserted.
        key: K,
        /// The value that was to be inserted.
        value: V,
    },
    /// It is heavier than the whole cache.
    #[error(transparent)]
    TooHeavy(#[from] TooHeavy<K, V>),
}

impl<K: Hash + Eq, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// Invalidates a key and tells the listener of invalidations, whether or not the key is here: it may
    /// be elsewhere. Leases on it become outdated.
    pub fn invalidate(&self, key: &K) {
        self.remove(key);
        self.shards.announce(Invalidation::Key(key));
    }

    /// Invalidates all entries of a group and tells the listener of invalidations, in O(1): they are
    /// never returned again, and leave, as expired ones do, when they are looked at, swept, or when
    /// room is needed.
    pub fn invalidate_tag(&self, group: &str) {
        self.shards.invalidate(group);
        self.shards.announce(Invalidation::Tag(group));
    }

    /// Invalidates everything and tells the listener of invalidations. O(entries).
    pub fn invalidate_all(&self) {
        self.remove_where(|_, _| true);
        self.shards.announce(Invalidation::All);
    }

    /// Does what was done elsewhere, without telling the listener of invalidations: it would go round.
    pub fn apply(&self, invalidation: Invalidation<'_, K>) {
        match invalidation {
            Invalidation::Key(key) => drop(self.remove(key)),
            Invalidation::Tag(group) => self.shards.invalidate(group),
            Invalidation::All => self.remove_where(|_, _| true),
        }
    }

    /// Inserts an entry unless the key has one that `gives_way` says no to: for values with versions,
    /// of which the newest is to stay in whatever order they come. `gives_way` runs under the shard's
    /// lock, perhaps more than once: keep it short, and do not use the cache in it.
    ///
    /// # Errors
    ///
    /// [`NotInserted`], with the entry.
    pub fn insert_if(
        &self,
        key: K,
        value: V,
        gives_way: impl Fn(&V) -> bool,
    ) -> Result<(), NotInserted<K, V>> {
        let placed = self
            .shards
            .place(key, value, Life::new(), None, Some(&gives_way));
        match placed {
            Ok(()) => Ok(()),
            Err(Refusal::TooHeavy(refused)) => Err(refused.into()),
            Err(Refusal::Outdated { key, value }) => Err(NotInserted::Older { key, value }),
        }
    }

    /// Looks at all entries for some to remove, a few at a time.
    #[must_use]
    pub fn sweep(&self) -> Sweep<K, V, P, S> {
        Sweep {
            cache: self.clone(),
            part: 0,
            below: None,
        }
    }
}

/// A walk through all entries that were there when it began; what comes in meanwhile is not looked at.
/// It counts as no use, and blocks a shard for one slice only.
#[derive(Debug)]
pub struct Sweep<K, V, P, S> {
    cache: Cache<K, V, P, S>,
    part: usize,
    /// Slots of the present part from here on were looked at.
    below: Option<u32>,
}

impl<K: Hash + Eq, V: Clone, P: Policy, S: BuildHasher> Sweep<K, V, P, S> {
    /// Looks at the next entries, `slice` at most, removes those that `doomed` names and those whose
    /// time is over, and says whether there is more to look at. Removed keys' leases become outdated, but
    /// a load under way of a key that is not there is not known here: invalidate a
    /// [tag](Cache::invalidate_tag) if that matters.
    pub fn next(&mut self, slice: usize, mut doomed: impl FnMut(&K, &V) -> bool) -> bool {
        let shards = &self.cache.shards;
        let Some(part) = shards.iter().nth(self.part) else {
            return false;
        };
        let now = shards.now();
        let mut left = super::shards::Left::new();
        {
            let mut shard = part.shard.write();
            let len = crate::list::slot_at(shard.engine.len());
            let above = self.below.map_or(len, |below| below.min(len));
            let slice = u32::try_from(slice.max(1)).unwrap_or(u32::MAX);
            let from = above.saturating_sub(slice);
            // From the end: what takes the place of one that left has been looked at.
            for slot in (from..above).rev() {
                let over = shard.engine.expires(slot) <= now;
                let (key, value) = shard.engine.entry(slot);
                let named = !over && doomed(key, value);
                if over || named {
                    let hash = shards.hasher.hash_one(key);
                    let cause = if over { Cause::Expired } else { Cause::Removed };
                    let gone = shard.engine.take(slot, cause);
                    if named {
                        shard.leases.outdate(hash);
                    }
                    shards.release(gone.weight);
                    left.push(gone, cause);
                }
            }
            self.below = Some(from);
            if from == 0 {
                self.part += 1;
                self.below = None;
            }
        }
        shards.tell(left);
        self.part < shards.len()
    }
}
