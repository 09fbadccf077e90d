//! The database as web servers and workers see it: numbered shards that take commands and answer
//! queries.

pub(crate) mod local;

use std::sync::Arc;

use crate::app::store::{Read, ReadReply, Refusal, Write, WriteReply};

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
}

impl Shards {
    /// How many shards there are.
    pub(crate) fn count(&self) -> u16 {
        match self {
            Self::Local(local) => local.count(),
        }
    }

    /// Carries a command out once, however often it is called with the same id.
    ///
    /// Dropping the future leaves it open whether the command is carried out.
    pub(crate) async fn write(&self, shard: u16, id: u128, command: Write) -> Answered<WriteReply> {
        match self {
            Self::Local(local) => local.write(shard, id, command).await,
        }
    }

    /// Asks a copy that has reached `min_lsn`.
    pub(crate) async fn read(&self, shard: u16, query: Read, min_lsn: u64) -> Answered<ReadReply> {
        match self {
            Self::Local(local) => local.read(shard, query, min_lsn).await,
        }
    }
}
