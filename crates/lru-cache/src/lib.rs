//! What to keep in memory: eviction caches with expiry, weights and read-through.
//!
//! ```
//! use stackbeam_lru_cache::{Cache, Lru};
//!
//! let mut cache: Cache<String, u32, Lru> = Cache::new(2);
//! cache.insert("a".to_owned(), 1);
//! cache.insert("b".to_owned(), 2);
//! assert_eq!(cache.get("a"), Some(&1));
//! cache.insert("c".to_owned(), 3);
//! assert_eq!(cache.get("b"), None, "the least recently used one has made room");
//! ```
//!
//! Shared between threads, loaded once however many ask:
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use stackbeam_lru_cache::{Lru, load::ReadThrough, sync};
//!
//! let cache: sync::Cache<u64, String, Lru> = sync::Cache::new(10_000);
//! let users: ReadThrough<u64, String, std::io::Error, Lru> = ReadThrough::new(cache);
//! let user = users.get_or_load_blocking(&7, || Ok("from the database".to_owned()))?;
//! assert_eq!(user, "from the database");
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When to use something else
//!
//! A map that never has to forget is a `HashMap`. A cache that must survive the process, or that many
//! machines share, is memcached or Redis, with or without this one before it. Tried-out alternatives in this field: `moka` (many features),
//! `quick_cache` (throughput), `foyer` (memory and disk).
//!
//! # Concepts
//!
//! * A [`Policy`] decides who leaves. The default, [`Adaptive`], has the queues of S3-FIFO and chooses
//!   their settings by simulating others on a sample of the keys. There are also [`Fifo`], [`Lru`],
//!   [`Lfu`], [`Clock`], [`Sieve`], [`S3Fifo`], [`TwoQ`], [`Arc`] and [`WTinyLfu`], and [`Gdsf`] for
//!   entries of very different weights. Your own is five methods.
//! * A *pinned* entry is not evicted ([`Cache::pin`]).
//! * *Weight*: what an entry counts against the capacity, 1 unless a weigher says otherwise. The sum of
//!   weights never exceeds the capacity, at no instant. An entry heavier than the whole cache is
//!   refused and handed back.
//! * *Expiry*: a time to live and a time to idle, for all entries or for one ([`Life`]), with jitter.
//!   Expired entries are never returned; they leave when they are looked at, by
//!   [`Cache::remove_expired`], or when room is needed; or promptly, if a timer wheel is asked for
//!   ([`Settings::with_prompt_expiry`]).
//! * A [`Tag`] is a group of entries that is invalidated in one step, however many they are.
//! * [`Cache`] is for one owner (`&mut self`, no clock: time is an argument where it matters);
//!   `sync::Cache` is the same engine in shards behind locks, with a clock.
//! * A *lease* (`sync::Lease`) is taken before reading from the store; a fill under it is refused if
//!   the key was written or invalidated meanwhile. So a value read before an invalidation can never be
//!   stored after it.
//! * *Invalidation*: by key, by tag, of everything, or of what a predicate names (a prefix, say), at once
//!   or a few entries at a time (`sync::Sweep`). `sync::Invalidation`s travel to other servers.
//! * The *outlook* says what half and twice the memory would miss. A *snapshot* is the entries in the
//!   order in which they would leave ([`Saved`]).
//! * A *tier* (`tier::Tier`) is a second level that processes share: memcached, Redis, or a pool of several
//!   of them. `tier::Tiered` asks memory, then the tier, then the store.
//! * *Read-through* (`load::ReadThrough`) loads what is missing, once for all who ask at the same time,
//!   also many keys with one load; it can hand out stale values while they are loaded anew, or if that fails. It writes
//!   through; `load::WriteBehind` keeps what is to be written later.
//!
//! # Costs
//!
//! All operations are O(1) but what the policy or the operation says otherwise: growing (amortised),
//! [`Lfu`]'s and [`WTinyLfu`]'s ageing (amortised), [`Gdsf`] (logarithmic). Keys and values are in one
//! dense vector, without a byte between them; an entry takes 7 bytes for the index besides, and what the
//! policy says: 8 for [`Lru`], 16 for [`Adaptive`] with its memory of departures. Weights
//! take 8 bytes an entry if there is a weigher, expiry 8 from the first entry on that can
//! expire (16 more with a time to idle, 8 with tags).
//! [`Cache::memory_used`] counts them. An eviction hashes the key that leaves.
//!
//! A hit of `sync::Cache` takes one shard's lock for reading, if the policy allows it, and clones the
//! value: put large values behind an `Arc`. The clock is read only for entries that can expire.
//!
//! # Features
//!
//! * `memcached`, `redis`: `tier::Memcached` and `tier::Redis`, over tokio.
//! * `metrics`: `Stats::report`, the counters for Prometheus and its like.
//! * `pool`: `tier::Pool`, several servers placed by consistent hashing, over tokio.
//! * `serde`: the entries of a snapshot can be serialized.
//! * `std` (default): `sync` and `load`. Without it the crate needs `alloc` alone.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod builder;
mod cache;
mod engine;
mod index;
mod life;
mod list;
#[cfg(feature = "std")]
pub mod load;
#[cfg(feature = "std")]
mod lock;
#[cfg(feature = "metrics")]
mod metrics;
mod policy;
mod saved;
mod stats;
#[cfg(feature = "std")]
pub mod sync;
mod tag;
#[cfg(feature = "std")]
pub mod tier;
mod wheel;

pub use builder::{Builder, Own, Settings};
pub use cache::{Cache, TooHeavy};
pub use life::Life;
pub use policy::{
    Adaptive, Arc, Clock, Fifo, Gdsf, Lfu, Lru, Outlook, Policy, S3Fifo, Sieve, TwoQ, WTinyLfu,
};
pub use saved::Saved;
pub use stats::{Cause, Stats};
pub use tag::Tag;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
