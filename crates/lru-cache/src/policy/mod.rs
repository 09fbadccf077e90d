//! Who leaves when room is needed: one file a policy.

mod fifo;
mod lfu;
mod lru;
mod s3fifo;
mod sieve;

pub use fifo::Fifo;
pub use lfu::Lfu;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

/// Decides who leaves. It sees slots, small numbers that stand for entries while these are cached and
/// are then used again, and the hashes of their keys.
///
/// # What the cache promises
///
/// `insert` names a slot that is not in use; `hit` and `remove` one that is; `victim` is asked only
/// while some slot is in use.
///
/// # What an implementor must keep true
///
/// `victim` returns a slot in use, and `None` only if there is none. It does not remove it: `remove`
/// follows. Memory is bounded by a constant for each slot ever in use at once.
pub trait Policy: Default {
    /// An entry came in.
    fn insert(&mut self, slot: u32, hash: u64);
    /// An entry was read.
    fn hit(&mut self, slot: u32);
    /// An entry left, for whatever reason.
    fn remove(&mut self, slot: u32);
    /// Who should leave.
    fn victim(&mut self) -> Option<u32>;
}
