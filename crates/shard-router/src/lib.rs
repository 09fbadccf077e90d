//! Which shard holds this row: versioned shard maps, batches and scatter-gather.
//!
//! ```
//! use stackbeam_shard_router::{Modulo, Router, ShardMap};
//!
//! // `user_id % 4`, the honest beginning.
//! let router = Router::new(ShardMap::new(1, Modulo::new(4)?));
//! let route = router.route(&1_001_u64);
//! assert_eq!(route.shard.get(), 1);
//!
//! // Later, while requests run: a new version of the map.
//! router.update(ShardMap::new(2, Modulo::new(8)?))?;
//! assert!(router.check(route.version).is_err(), "the caller looks the key up again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When to use something else
//!
//! A database that shards itself (Vitess, Citus, CockroachDB), or a proxy that does (pgdog), needs no
//! router in the service. One
//! database that is merely slow needs an index or a replica first: sharding costs joins and
//! transactions.
//!
//! # Concepts
//!
//! * A [`ShardKey`] is what a row is placed by: a number or bytes, never `Hash`, because processes and
//!   releases must agree on it.
//! * A [`Partition`] says which shard a key belongs to: [`Modulo`], [`Ranges`], [`Slots`] (a fixed
//!   number of hash slots, each assigned to a shard) or [`Directory`] (some keys by name, as celebrities
//!   need it, the others by another partition); and `Placed`, by consistent hashing.
//! * A [`ShardMap`] is a partition with a version. It never changes; a change is a new map.
//! * A [`Router`] holds the newest map. Readers take a snapshot without a lock; an older map never
//!   replaces a newer one; a shard that is asked with an outdated version can say so.
//! * [`group`] splits a batch by shard and [`Batch::restore`] puts the answers back in order.
//! * [`scatter`] asks many shards at once and says which of them answered ([`Coverage`]);
//!   [`merge_page`] makes one ordered page of their lists.
//! * [`reshard`] moves rows to the shards of a new map while they are read and written.
//! * [`Skew`] tells whether a candidate for a shard key spreads evenly.
//!
//! # Costs
//!
//! A look-up is a few instructions for [`Modulo`] and [`Slots`], a binary search for [`Ranges`] and a
//! hash look-up for [`Directory`]; no lock, no allocation. [`Slots`] take 4 bytes a slot. A batch of n
//! keys over s shards is grouped in O(n log s). A page of l rows at offset o from s lists is O((o + l) s).
//!
//! # Features
//!
//! * `consistent-hash`: `Placed`, a partition by `stackbeam-consistent-hash`.
//! * `metrics`: `RouterStats::report`, for the `metrics` facade.
//! * `tracing`: events when a map comes into force, and when rows begin to move, stand still, go back or
//!   have arrived.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod gather;
mod key;
mod map;
mod merge;
#[cfg(feature = "metrics")]
mod metrics;
mod partition;
#[cfg(feature = "consistent-hash")]
mod placed;
pub mod reshard;
mod skew;

pub use batch::{Batch, Group, RestoreError, group};
pub use gather::{Coverage, Gathered, Incomplete, scatter};
pub use key::{Key, ShardId, ShardKey};
pub use map::{Route, Router, RouterStats, ShardMap, StaleMap};
pub use merge::{PageError, merge_page};
pub use partition::{Directory, Modulo, Partition, PartitionError, Ranges, Slots};
#[cfg(feature = "consistent-hash")]
pub use placed::{Placed, PlacedError};
pub use skew::{ShardLoad, Skew};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
