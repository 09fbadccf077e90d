//! A durable queue to embed: work handed over on disk and done later by workers.
//!
//! ```
//! use stackbeam_mq::{Message, Queue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let queue = Queue::open(dir)?;
//! let photos = queue.topic("photos")?;
//! // Acknowledged means on disk. Async code writes `photos.publish(..).await?`.
//! photos.publish_blocking(Message::new("resize 17").dedup_id("17"))?;
//!
//! let workers = photos.group("workers")?;
//! for lease in workers.take_blocking(10, None)? {
//!     assert_eq!(lease.message().body().as_ref(), b"resize 17");
//!     lease.ack_blocking()?; // or nack (with a delay), release, bury; a dropped lease comes back
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # When to use something else
//!
//! Take NATS `JetStream`, `RabbitMQ` or Kafka when several machines must share a queue or copies on several
//! machines are needed: the embedded queue keeps one copy, in one directory of one machine (with an [`engine`] this
//! crate's traits run on a broker). Take a Postgres table with `SKIP LOCKED` when work must be enqueued in the
//! transaction of your SQL data; the `postgres` engine is one. Take a channel
//! (`crossbeam-channel`, `tokio::sync::mpsc`) when work may die with the process.
//!
//! # Concepts
//!
//! A [`Queue`] owns a directory. A [`Topic`] takes messages; each consumer [`Group`] of the topic gets every
//! message, and the consumers of one group compete. A take gives [`Lease`]s: the message is hidden from others
//! until it is settled or the lease ends. A message that uses up its deliveries goes to a dead-letter topic with
//! the reason ([`dead_header`]); [`Topic::redrive`] sends it back. Groups and topics are made on first use.
//!
//! Everything that changes the state is a record in one log, and takes effect when its frame is written. One
//! committer thread writes what has come up meanwhile as one frame with one `fdatasync`, so many publishers share
//! a sync and nobody waits for a timer. Frames carry checksums that bind them to file, position and generation.
//!
//! For fan-out (each process gets every message) use [`TopicOptions::fan_out`] and [`GroupOptions::broadcast`].
//!
//! To share a queue among processes use the `server` feature: `net::Server` and `net::Client`.
//!
//! # Costs
//!
//! A synced publish is one write and one `fdatasync`, shared by all who wait; it takes at least 4 KiB of log. A
//! waiting message costs no memory of its own: neighbours are kept as runs, about 100 bytes for each 64 KiB of log
//! (or for each message, where lone messages of several topics alternate). A message with a priority, key or delay
//! costs about 150 bytes, one that is leased or was delivered before 70 to 180. Bodies stay on disk, and in a 4 MiB
//! cache of recent frames. Take and ack are O(log n) under one lock, timers O(1). An open replays at most two segments, one
//! in memory at a time. A segment goes when nothing in it is live; one that is less than a quarter live is emptied
//! into newer ones, so a stuck message pins nothing.
//!
//! # Features
//!
//! * `cli`: the tool `stackbeam-mq` (inspect, verify, tail, stats, repair, redrive, bench), and `check`.
//! * `conformance`: the suite that every [`Engine`] passes.
//! * `postgres`, `redis`: the queue in a broker or database, see [`engine`].
//! * `metrics`: `Stats::report`, the counters for Prometheus and its like.
//! * `tokio`: [`bridge`], [`prefetch`], and [`worker`], a pool of handlers with heartbeat, retries and drain, which can follow an
//!   [`autoscale::Autoscaler`].
//! * `server`: `net`, a server and client over TCP or a unix socket.
//! * `torture`: the crash torture, as a function and as the binary `mq-torture`.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod autoscale;
#[cfg(feature = "tokio")]
pub mod bridge;
#[cfg(feature = "cli")]
pub mod check;
pub mod engine;
mod error;
mod group;
mod lease;
mod log;
mod message;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod queue;
mod shell;
mod state;
mod stats;
mod storage;
mod sync;
mod traits;
mod weak;

#[cfg(feature = "server")]
pub mod net;
#[cfg(feature = "tokio")]
pub mod prefetch;
pub mod sim;
#[cfg(feature = "torture")]
pub mod torture;
pub mod wheel;
#[cfg(feature = "tokio")]
pub mod worker;

pub use engine::{Capabilities, Engine};
pub use error::{OpenError, PublishError, SettleError, TakeError, TopicError};
pub use group::{Group, Seek, Take};
pub use lease::{Lease, Settle};
pub use log::recover::{Damage, Progress, Recovery};
pub use message::{Message, MessageId, Receipt, dead_header};
pub use options::{Durability, GroupOptions, Start, TopicOptions, WhenFull};
pub use queue::{Options, Publish, PublishOne, Queue, Topic};
pub use stats::{GroupStats, Stats, TopicStats};
pub use storage::{DiskStorage, Storage, StorageFile};
pub use traits::{Consumer, Delivery, Producer};

/// Reasons, rejected ways and sources.
#[doc = include_str!("../DESIGN.md")]
pub mod design {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
