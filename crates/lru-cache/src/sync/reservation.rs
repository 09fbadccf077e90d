//! Weight that is held for what is about to be loaded.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::shards::Shards;
use crate::policy::Policy;

/// Weight of the budget, given back when dropped.
pub(crate) struct Reservation<K: Hash + Eq, V, P: Policy, S: BuildHasher> {
    pub(super) shards: Arc<Shards<K, V, P, S>>,
    pub(super) weight: u64,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Drop for Reservation<K, V, P, S> {
    fn drop(&mut self) {
        self.shards.release(self.weight);
    }
}
