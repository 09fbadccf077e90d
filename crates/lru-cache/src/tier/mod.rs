//! A second level behind the memory of this process: cache servers that many processes share.
//!
//! ```
//! use std::time::Duration;
//! use stackbeam_lru_cache::load::ReadThrough;
//! use stackbeam_lru_cache::{Lru, sync, tier};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let memory: sync::Cache<u64, String, Lru> = sync::Cache::new(1_000);
//! let codec = tier::codec(
//!     |user: &u64| format!("user:{user}").into_bytes(),
//!     |name: &String| name.clone().into_bytes(),
//!     |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok(),
//! );
//! // In a service: `tier::Memcached` or `tier::Redis`, several of them in a `tier::Pool`.
//! let servers = tier::Memory::new(1_000_000);
//! let memory: ReadThrough<_, _, std::io::Error, _> = ReadThrough::new(memory);
//! let users = tier::Tiered::new(memory, servers, codec).with_ttl(Duration::from_secs(600));
//!
//! let name = users.get_or_load(&7, || async { Ok("from the database".to_owned()) }).await.unwrap();
//! assert_eq!(name, "from the database");
//! // The database has changed: out of the servers, then out of the memory, here and elsewhere.
//! users.invalidate(&7).await.unwrap();
//! # }
//! ```
//!
//! # What is promised
//!
//! * A tier that is dead, slow, full or talks nonsense costs no error: the value comes from the store.
//! * A value that was read from the store before an invalidation is stored after it neither in memory
//!   nor in the tier: [leases](TierLease) at both levels.
//! * An invalidation that a server could not be told is an error, or (in a `Pool`) a debt that is paid
//!   before that server is asked again. What others may still read there ends with its time to live.

mod codec;
mod error;
#[cfg(feature = "memcached")]
mod memcached;
mod memory;
#[cfg(feature = "pool")]
mod pool;
#[cfg(feature = "redis")]
mod redis;
mod tiered;

use std::future::Future;
use std::time::Duration;

pub use codec::{Codec, codec};
pub use error::TierError;
#[cfg(feature = "memcached")]
pub use memcached::Memcached;
#[cfg(all(feature = "memcached", fuzzing))]
pub use memcached::fuzz_replies;
pub use memory::Memory;
#[cfg(feature = "pool")]
pub use pool::{NoPool, Pool, PoolBuilder, ServerState};
#[cfg(feature = "redis")]
pub use redis::Redis;
pub use tiered::{TierStats, Tiered};

/// How long who found nothing has for reading the store, unless told otherwise.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// The right to fill a key of a tier with what is being read from the store. It ends when the key is
/// removed or filled, or after a time that the tier states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierLease {
    number: u64,
    /// Which run of a server has given it.
    pub(crate) run: u64,
    /// Which server of a pool has.
    pub(crate) server: u32,
}

impl TierLease {
    /// A lease of this number, which the tier knows again.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self {
            number,
            run: 0,
            server: 0,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// What a tier has of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Looked {
    /// A value.
    Value {
        /// What was filled in.
        bytes: Vec<u8>,
        /// How long the tier keeps it still, at most; nothing if the tier does not say.
        left: Option<Duration>,
    },
    /// Nothing. With a lease, the caller may fill in what it reads from the store from now on; without,
    /// the tier does not want it.
    Nothing(Option<TierLease>),
}

/// A second level: bytes under bytes, in other processes.
///
/// # What an implementor must keep true
///
/// * Every call ends, after a timeout at the latest.
/// * After [`remove`](Tier::remove) of a key has succeeded, no call that begins later finds what was
///   filled in before, and every lease drawn before is void, whoever has it.
/// * A lease that is not void lets one `fill` succeed, or several of the same reading: leases that were
///   drawn with no removal in between may stand for each other.
/// * No call allocates more than a stated bound for what a server answers.
/// * A dropped future leaves nothing half-written that another call could read.
pub trait Tier: Send + Sync {
    /// Looks a key up and, if there is nothing, draws a lease.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Looked, TierError>> + Send;

    /// Stores a value under a lease for `ttl` at most, and says whether it did.
    fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, TierError>> + Send;

    /// Removes a key, and voids its leases.
    fn remove(&self, key: &[u8]) -> impl Future<Output = Result<(), TierError>> + Send;

    /// Removes everything that was filled in, and voids all leases.
    fn clear(&self) -> impl Future<Output = Result<(), TierError>> + Send;
}

impl<T: Tier> Tier for std::sync::Arc<T> {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        (**self).get(key).await
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        (**self).fill(key, lease, value, ttl).await
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        (**self).remove(key).await
    }

    async fn clear(&self) -> Result<(), TierError> {
        (**self).clear().await
    }
}
