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
//! That is the core. With feature `tokio`, `Pool` lends connections by it and `Coordinator` fails over,
//! on top of an [`Engine`]: `postgres`, `sqlite`, or your own.
//!
//! Use something else when other programs share the servers (a proxy: pgdog, pgcat, pgpool-II, with Patroni
//! or repmgr for the failover), or when there is one server (deadpool, bb8, sqlx).
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
//!   a majority of the disks survives. PostgreSQL can be told to acknowledge sooner; its module says
//!   what is lost then.
//! * An [`Engine`] is a kind of server: it connects, and carries out what the core orders ([`Action`]).
//!   A `Pool` is what an application asks for a `Lease` of a connection; a `Coordinator` is what
//!   promotes. The pool works without one in its process.
//!
//! # Costs
//!
//! [`View::read`] is O(copies), allocates one small vector and takes no lock. `Pool::read` adds one lock of
//! the view and one of the copy's connections, none held while anything waits; `Pool::write` adds what
//! [`Engine::may_write`] asks of the server. [`Failover`] sends one probe a copy and interval, and so does
//! each pool. Open connections a pool: at most `connections_max` a copy.
//!
//! # Features
//!
//! None by default: the core has no runtime.
//!
//! * `metrics`: `PoolStats::report`, the counters for Prometheus and its like. Brings `tokio`.
//! * `serde`: what two processes say to each other can be serialised.
//! * `tokio`: the shells that run the cores, with `tracing` events at failovers and changed roles.
//! * `postgres`: PostgreSQL servers that replicate by streaming. Brings `tokio`.
//! * `sqlite`: a replicated SQLite database, embedded.

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

#[cfg(all(doctest, feature = "sqlite", feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
