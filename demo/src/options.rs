//! The options of `up` and `verify`, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::node::config::Without;

/// What `stackbeam up` takes.
#[derive(Clone, Debug)]
pub(crate) struct UpOptions {
    /// Where data is kept; none means a temporary folder that is removed at the end.
    pub(crate) state: Option<PathBuf>,
    /// The first port to try for the public address. Defaults to 8080.
    pub(crate) base_port: u16,
    /// Database shards, 1 to 16. Defaults to 2.
    pub(crate) shards: u16,
    /// Web servers at the start, 1 to 8. Defaults to 2.
    pub(crate) web: u16,
    /// Photo workers at the start, 1 to 4. Defaults to 1.
    pub(crate) workers: u16,
    /// Synthetic arrivals a second; 0 means no load. Defaults to 60.
    pub(crate) rps: u32,
    /// By how much replicas apply late. Defaults to nothing.
    pub(crate) lag: Duration,
    /// Safety devices taken out. Defaults to none.
    pub(crate) without: Without,
    /// Seed for everything random. Defaults to the clock.
    pub(crate) seed: u64,
    /// Say only what a program needs: one JSON line with the addresses.
    pub(crate) quiet: bool,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self {
            state: None,
            base_port: 8080,
            shards: 2,
            web: 2,
            workers: 1,
            rps: 60,
            lag: Duration::ZERO,
            without: Without::default(),
            seed: 0,
            quiet: false,
        }
    }
}

/// The most web servers a run may have.
pub(crate) const WEB_MAX: u16 = 8;
/// The most workers a run may have.
pub(crate) const WORKERS_MAX: u16 = 4;
/// The most shards a run may have.
pub(crate) const SHARDS_MAX: u16 = 16;
