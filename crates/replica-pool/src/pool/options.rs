//! The bounds of a pool, what a read asks for, and why there may be no connection.

use std::time::Duration;

use super::stats::Busy;
use crate::evidence::{Lsn, MemberId};
use crate::view::ViewConfig;

/// Bounds of a [`Pool`](super::Pool).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct PoolOptions {
    /// Bounds of the routing, among them the lag that a replica may have.
    pub view: ViewConfig,
    /// Connections to one copy; who needs more waits in order. Defaults to 8.
    pub connections_max: usize,
    /// How many of the connections to the primary may serve reads that a replica would have done; more
    /// reads wait. So a fallen replica does not take the writers' connections. Defaults to 4.
    pub primary_reads_max: usize,
    /// Callers who may wait for a connection to one copy; more are refused. Defaults to 1 024.
    pub waiting_max: usize,
    /// How long a caller waits in all: for a copy, a position, a place, a connection. Defaults to 2 s.
    pub wait_max: Duration,
    /// How long connecting may take, and the question whether a copy may write. Defaults to 1 s.
    pub connect_max: Duration,
    /// How long a read waits for a replica to reach its position before it goes to the primary; zero
    /// goes there at once. Replicas that somebody waits for are probed every 5 ms. Defaults to 20 ms.
    pub catch_up_max: Duration,
    /// Idle connections older than this are closed. Defaults to 60 s.
    pub idle_max: Duration,
    /// Connections older than this are closed when they are idle. Defaults to 30 minutes.
    pub lifetime_max: Duration,
    /// Time between two probes of one copy. Defaults to 250 ms.
    pub probe_every: Duration,
    /// The same while nobody is known to be the primary. Defaults to 40 ms.
    pub probe_every_headless: Duration,
    /// How long a copy may take to answer a probe; then it gets nothing until it answers one. Defaults
    /// to 400 ms.
    pub probe_wait_max: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            view: ViewConfig::default(),
            connections_max: 8,
            primary_reads_max: 4,
            waiting_max: 1_024,
            wait_max: Duration::from_secs(2),
            connect_max: Duration::from_secs(1),
            catch_up_max: Duration::from_millis(20),
            idle_max: Duration::from_secs(60),
            lifetime_max: Duration::from_secs(30 * 60),
            probe_every: Duration::from_millis(250),
            probe_every_headless: Duration::from_millis(40),
            probe_wait_max: Duration::from_millis(400),
        }
    }
}

/// What a read must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Whatever a replica within the lag bound has.
    #[default]
    Any,
    /// At least this position: that of the reader's last write.
    AtLeast(Lsn),
    /// What the primary has.
    Latest,
}

/// Why there is no connection. Nothing was sent to a database in any of these cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError<E: std::error::Error + 'static> {
    /// No copy that answers claims the highest epoch, and none did for as long as the caller may wait.
    /// A failover takes less when a majority of the copies is there: look at those that do not answer.
    #[error("no copy is the primary; {ready} of {known} copies answer")]
    NoPrimary {
        /// How many copies there are.
        known: usize,
        /// How many answer.
        ready: usize,
    },
    /// No copy can serve the read.
    #[error("no copy can serve a read; {ready} of {known} copies answer")]
    Nobody {
        /// How many copies there are.
        known: usize,
        /// How many answer.
        ready: usize,
    },
    /// There is no primary, and no replica has reached the position in time. Serve without it, or try
    /// again later.
    #[error("no copy has reached position {asked}; the nearest is at {reached}")]
    Behind {
        /// What was asked for.
        asked: Lsn,
        /// Where the nearest replica is.
        reached: Lsn,
    },
    /// Refused at once: too many wait already. Shed load.
    #[error("refused: {0}")]
    Full(Busy),
    /// No connection became free in time: there are too few, or their holders are slow.
    #[error("no connection became free in time: {0}")]
    TimedOut(Busy),
    /// Connecting failed, last to this copy.
    #[error("connecting to copy {member}: {source}")]
    Connect {
        /// The copy.
        member: MemberId,
        /// Why.
        source: E,
    },
    /// The last copy that was tried accepted the connection but did not answer in time, or no longer is
    /// the primary.
    #[error("copy {member} did not answer in time, or is no longer the primary")]
    Silent {
        /// The copy.
        member: MemberId,
    },
}
