//! One module for each crate. Each says above a figure which question it answers.

mod consistent_hash;
mod lb;
mod lru_cache;
mod lru_servers;
mod mq;
mod replica_pool;
mod session;
mod shard_router;

use std::error::Error;

pub use session::follow_if_asked;

use crate::kit::Report;

/// What a crate's module offers.
pub type Figures = fn(&mut Report<'_>) -> Result<(), Box<dyn Error>>;

/// The crates that are measured.
pub const ALL: &[(&str, Figures)] = &[
    ("consistent-hash", consistent_hash::figures),
    ("lb", lb::figures),
    ("lru-cache", lru_cache::figures),
    ("mq", mq::figures),
    ("replica-pool", replica_pool::figures),
    ("session", session::figures),
    ("shard-router", shard_router::figures),
];
