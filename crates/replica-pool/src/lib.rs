//! Which copy of the database to ask, and what to do when one dies.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use stackbeam_replica_pool::{Evidence, Need, Role, Rotate, Route, View, ViewConfig};
//!
//! let now = Instant::now();
//! let mut view = View::new(ViewConfig::default(), [0, 1, 2]);
//! view.observe(0, Evidence::new(Role::Primary, 1).with_positions(7, 7), now);
//! view.observe(1, Evidence::new(Role::Replica, 1).with_positions(7, 7), now);
//! view.observe(2, Evidence::new(Role::Replica, 1).with_positions(7, 3), now);
//! assert_eq!(view.primary(), Some(0));
//! // A reader who wrote at position 5 is sent to the replica that has it.
//! let need = Need { at_least: 5, ..Need::default() };
//! assert_eq!(view.read(&need, &mut Rotate::default(), now), Route::Serve(1));
//! // When that one dies the primary takes over for the time being.
//! view.fail(1, now);
//! assert_eq!(view.read(&need, &mut Rotate::default(), now), Route::Serve(0));
//! ```
//!
//! If one PostgreSQL cluster behind a proxy is all you have, Patroni with HAProxy, or pgdog, is the
//! better-known way; this crate is for programs that route and fail over by themselves.
//!
//! # Concepts
//!
//! * A *copy* is the *primary* (takes writes) or a *replica*. [`View`] is what a client believes about
//!   the copies; it routes reads and writes. [`Failover`] is what one coordinator does about a dead
//!   primary. Both are plain values: time goes in, decisions come out.
//! * An *epoch* numbers the reigns of primaries. A copy promises an epoch durably and from then on
//!   takes nothing from an earlier one, so a deposed primary can never again gather a majority.
//! * A *position* is the number of the last record (`lsn`). A reader who shows the position of its last
//!   write gets a copy that has *applied* at least that; promotion goes by what is durably *received*,
//!   compared by (epoch of the last record, lsn).
//! * A write is acknowledged when a majority of the copies has it durably. A promotion needs the
//!   promises of a majority. The two always share a copy, so an acknowledged write is never lost while
//!   a majority of the disks survives.
//!
//! # Costs
//!
//! [`View::read`] is O(copies), allocates one small vector and takes no lock. [`Failover`] sends one probe
//! a copy and interval.
//!
//! # Features
//!
//! * `serde`: what two processes say to each other can be serialised.
//! * `postgres`: PostgreSQL servers that replicate by streaming (`postgres` module). Brings `tokio`.
//! * `sqlite`: a replicated SQLite database, embedded (`sqlite` module).
//! * `tokio`: the shells that run the cores.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod claims;
#[cfg(feature = "tokio")]
mod coordinate;
mod elect;
mod engine;
mod evidence;
mod failover;
#[cfg(feature = "tokio")]
mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod view;

pub use claims::{Claims, Standing};
#[cfg(feature = "tokio")]
pub use coordinate::{Coordinator, CoordinatorOptions, CopyStatus, Ended, Situation, Watch};
pub use elect::{Candidate, ElectRules, Election, NoElection, Rejection, elect};
pub use engine::Engine;
pub use evidence::{Epoch, Evidence, Lsn, MemberId, Role};
pub use failover::{Action, Failover, FailoverConfig, FailoverStats, Failure, Notice};
#[cfg(feature = "tokio")]
pub use pool::{
    Busy, CopyStats, Freshness, Lease, Outcome, Pool, PoolError, PoolOptions, PoolStats,
};
pub use view::{Choose, Need, Rotate, Route, View, ViewConfig};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
