//! Who leaves when room is needed: one file a policy.

use alloc::vec::Vec;

mod adaptive;
mod arc;
mod clock;
mod fifo;
mod gdsf;
mod ghost;
mod lfu;
mod lru;
mod queues;
mod s3fifo;
mod shadow;
mod sieve;
mod sketch;
mod two_q;
mod w_tiny_lfu;

pub use adaptive::Adaptive;
pub use arc::Arc;
pub use clock::Clock;
pub use fifo::Fifo;
pub use gdsf::Gdsf;
pub use lfu::Lfu;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;
pub use two_q::TwoQ;
pub use w_tiny_lfu::WTinyLfu;

/// What share of the requests is missed with the present capacity, with half and with twice of it, by
/// simulation over a sample of the keys. Older requests count less and less.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Outlook {
    /// Misses a request with half of the capacity, from 0 to 1.
    pub half: f64,
    /// Misses a request with the present capacity.
    pub present: f64,
    /// Misses a request with twice the capacity.
    pub double: f64,
    /// Requests of the sample that this is from, of which older ones count less.
    pub sampled: f64,
}

/// Decides who leaves. It sees slots, small numbers that stand for entries while these are cached and
/// are then used again, and the hashes of their keys.
///
/// # What the cache promises
///
/// `insert` names a slot that is not in use, and no slot is above the number of entries; `hit` and
/// `remove` name one that is; `victim` is asked only while some slot is in use.
///
/// # What an implementor must keep true
///
/// `victim` returns a slot in use, and `None` only if there is none. It does not remove it: `remove`
/// follows, with `evicted`, unless the entry could leave in no way. Memory is bounded by a constant
/// for each slot ever in use at once.
pub trait Policy: Default {
    /// An entry came in. `weight` is at least 1.
    fn insert(&mut self, slot: u32, hash: u64, weight: u64);
    /// An entry was read.
    fn hit(&mut self, slot: u32, hash: u64);
    /// An entry left: `evicted` to make room, or for another reason.
    fn remove(&mut self, slot: u32, hash: u64, evicted: bool);
    /// The entry at `from` is at `to` from now on, a slot that is not in use.
    fn moved(&mut self, from: u32, to: u32);
    /// Who should leave, for a newcomer with that hash if there is one.
    fn victim(&mut self, newcomer: Option<u64>) -> Option<u32>;

    /// Policies for the shards of one cache, each of which sees the keys of its own shard. They may share what
    /// they learn. Defaults to ones that know nothing of each other.
    fn shards(shards: usize) -> Vec<Self> {
        core::iter::repeat_with(Self::default)
            .take(shards)
            .collect()
    }

    /// Whether [`Policy::hit_shared`] ever takes a hit. Defaults to no.
    const SHARES_HITS: bool = false;

    /// An entry was read by one of several readers at once. `false` if that cannot be noted without
    /// exclusive access; then [`Policy::hit`] is called with it. Defaults to `false`.
    fn hit_shared(&self, slot: u32, hash: u64) -> bool {
        let _ = (slot, hash);
        false
    }

    /// An entry got another value and perhaps another weight. Defaults to one that leaves and one that
    /// comes.
    fn replaced(&mut self, slot: u32, hash: u64, weight: u64) {
        self.remove(slot, hash, false);
        self.insert(slot, hash, weight);
    }

    /// Who is likely to be named next, so that the entry can be fetched from memory in time. Defaults to
    /// nobody.
    fn likely_victim(&self) -> Option<u32> {
        None
    }

    /// All slots, the one to leave first at first, as far as there is such an order. Defaults to nothing,
    /// which is no order.
    fn order(&self) -> Vec<u32> {
        Vec::new()
    }

    /// What share of the requests would be missed with other capacities, if the policy simulates that.
    /// Defaults to nothing.
    fn outlook(&self) -> Option<Outlook> {
        None
    }

    /// Makes room for so many slots in all. Columns sized here waste nothing. Defaults to nothing.
    fn reserve(&mut self, slots: usize) {
        let _ = slots;
    }

    /// Bytes that the policy keeps on the heap. Defaults to 0.
    fn memory(&self) -> usize {
        0
    }
}
