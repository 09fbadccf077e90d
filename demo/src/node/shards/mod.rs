//! The database as web servers and workers see it: numbered shards that take commands and answer
//! queries.

pub(crate) mod cluster;
pub(crate) mod local;

use std::sync::Arc;

use stackbeam_shard_router::{Placed, ShardId, ShardMap};

use super::{NodeContext, NodeError};
use crate::app::id::Slot;
use crate::app::store::{Read, ReadReply, Refusal, Write, WriteReply};

/// Shards of a run that has no store nodes.
const SHARDS_ALONE: u16 = 2;

/// Why a shard gave no answer. The client may try again; a write keeps its id.
#[derive(Clone, Debug, thiserror::Error)]
#[error("shard {shard}: {reason}")]
pub(crate) struct ShardsError {
    pub(crate) shard: u16,
    pub(crate) reason: String,
}

/// What a shard answered, and the position that the answer was read or written at.
pub(crate) type Answered<T> = Result<(u64, Result<T, Refusal>), ShardsError>;

/// All shards.
#[derive(Clone, Debug)]
pub(crate) enum Shards {
    /// In this process, for tests and for one server alone.
    Local(Arc<local::Local>),
    /// The store nodes of the run.
    Cluster(Arc<cluster::Cluster>),
}

/// Which shard serves which slot, by consistent hashing: the same wherever it is asked, and with one
/// shard more or less few slots move.
pub(crate) fn placed(shards: u16) -> Result<ShardMap, NodeError> {
    let equal = (0..u32::from(shards.max(1))).map(|shard| (ShardId::new(shard), 1.0));
    let placed = Placed::slot_table(equal)
        .map_err(|error| NodeError::Role(format!("the shard map: {error}")))?;
    Ok(ShardMap::new(1, placed))
}

/// The shard of a slot by this map.
pub(crate) fn home(map: &ShardMap, slot: Slot) -> u16 {
    let shard = map.shard(&u64::from(slot.0)).get();
    u16::try_from(shard).unwrap_or(u16::MAX)
}

impl Shards {
    /// The shards of a run: its store nodes; in a run without any, shards in this process.
    pub(crate) fn of(context: &NodeContext) -> Result<Self, NodeError> {
        if context.topology.borrow().shard_count() > 0 {
            return Ok(Self::Cluster(cluster::Cluster::start(context)));
        }
        let local = local::Local::new(SHARDS_ALONE)
            .map_err(|error| NodeError::Role(format!("the shards in this process: {error}")))?;
        Ok(Self::Local(Arc::new(local)))
    }

    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        match self {
            Self::Local(local) => local.count(),
            Self::Cluster(cluster) => cluster.count(),
        }
    }

    /// Carries a command out once, however often it is called with the same id.
    ///
    /// Dropping the future leaves it open whether the command is carried out.
    pub(crate) async fn write(&self, shard: u16, id: u128, command: Write) -> Answered<WriteReply> {
        match self {
            Self::Local(local) => local.write(shard, id, command).await,
            Self::Cluster(cluster) => cluster.write(shard, id, command).await,
        }
    }

    /// Asks a copy that has reached `min_lsn`.
    pub(crate) async fn read(&self, shard: u16, query: Read, min_lsn: u64) -> Answered<ReadReply> {
        match self {
            Self::Local(local) => local.read(shard, query, min_lsn).await,
            Self::Cluster(cluster) => cluster.read(shard, query, min_lsn).await,
        }
    }
}
