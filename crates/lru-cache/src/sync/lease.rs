//! Who may still fill a key with what was read from the store.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::shards::Shards;
use crate::policy::Policy;

/// For the keys that somebody is loading: who may still fill them. By hash: a collision refuses a fill
/// that would have been fine, which is harmless.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leased: HashMap<u64, Leased>,
    next: u64,
}

#[derive(Debug, Default)]
struct Leased {
    /// Leases given before this number are outdated.
    valid_from: u64,
    /// How many leases are out.
    out: u32,
}

impl Leases {
    fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn take(&mut self, hash: u64) -> u64 {
        self.leased.entry(hash).or_default().out += 1;
        self.draw()
    }

    fn give_back(&mut self, hash: u64) {
        if let Some(leased) = self.leased.get_mut(&hash) {
            leased.out -= 1;
            if leased.out == 0 {
                self.leased.remove(&hash);
            }
        }
    }

    pub(super) fn is_current(&self, hash: u64, number: u64) -> bool {
        self.leased
            .get(&hash)
            .is_some_and(|leased| leased.valid_from <= number)
    }

    /// The key was written or invalidated.
    #[inline]
    pub(super) fn outdate(&mut self, hash: u64) {
        if self.leased.is_empty() {
            return;
        }
        let number = self.draw();
        if let Some(leased) = self.leased.get_mut(&hash) {
            leased.valid_from = number;
        }
    }

    pub(super) fn outdate_all(&mut self) {
        let number = self.draw();
        for leased in self.leased.values_mut() {
            leased.valid_from = number;
        }
    }
}

/// The right to fill a key with what is being read from the store; see [`Cache::lease`](super::Cache::lease).
pub struct Lease<K: Hash + Eq, V, P: Policy, S: BuildHasher> {
    pub(super) shards: Arc<Shards<K, V, P, S>>,
    pub(super) hash: u64,
    pub(super) number: u64,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> fmt::Debug for Lease<K, V, P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Lease<K, V, P, S> {
    /// Whether a fill would still be taken: nobody wrote or invalidated the key since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let shard = self.shards.of(self.hash).shard.read();
        shard.leases.is_current(self.hash, self.number)
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Drop for Lease<K, V, P, S> {
    fn drop(&mut self) {
        let mut shard = self.shards.of(self.hash).shard.write();
        shard.leases.give_back(self.hash);
    }
}

/// A fill that came too late: the key was written or invalidated while its value was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key was written or invalidated while its value was being read")]
#[non_exhaustive]
pub struct Outdated;
