//! Entries on their way to a file and back.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use crate::cache::Cache;
use crate::life::Life;
use crate::policy::Policy;

/// An entry as it is saved: what it is, and how long it lives still.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Saved<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// How long it lives still; nothing if as long as there is room. A time to idle counts from when the
    /// entry is restored, as the cache that it is restored into says.
    pub left: Option<Duration>,
}

impl<K: Hash + Eq + Clone, V: Clone, P: Policy, S: BuildHasher> Cache<K, V, P, S> {
    /// All entries whose time is not over, the one that is to leave first at first, as far as the policy
    /// tells. Tags are not saved, nor entries that have any: what they are to be invalidated by is lost.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Saved<K, V>> {
        let now = self.time();
        let engine = self.engine();
        engine.saved(|expires| match expires {
            Duration::MAX => Some(Duration::MAX),
            _ => expires.checked_sub(now).filter(|left| !left.is_zero()),
        })
    }

    /// Inserts saved entries, in their order, so that of a greater cache's those that were to leave last are kept.
    /// Time that has passed since they were saved has to be taken off by the caller, who knows it.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = Saved<K, V>>) {
        for Saved { key, value, left } in saved {
            let life = left.map_or_else(Life::new, |left| Life::new().ttl(left));
            self.insert_with(key, value, life);
        }
    }
}
