//! What clients and stores say to each other, and how copies are numbered.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stackbeam_replica_pool::MemberId;

use super::state::Reply;
use crate::app::store::{Read, ReadReply, Refusal};
use crate::node::config::{NodeInfo, Topology};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WriteAnswer {
    pub(crate) lsn: u64,
    pub(crate) reply: Reply,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadQuestion {
    pub(crate) query: Read,
    /// The answer must contain at least this.
    pub(crate) min_lsn: u64,
    /// How long the copy may wait to get there.
    pub(crate) wait_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadAnswer {
    pub(crate) lsn: u64,
    pub(crate) reply: Result<ReadReply, Refusal>,
}

/// Why a store did not do what it was asked to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) why: String,
    /// Where the copy is, if it is behind.
    #[serde(default)]
    pub(crate) applied: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lag {
    pub(crate) ms: u64,
}

/// The number of a copy: `store-3b` is copy 1 of shard 3.
pub(crate) fn member_of(id: &str) -> Option<MemberId> {
    let letter = id.bytes().last().filter(u8::is_ascii_lowercase)?;
    Some(MemberId::from(letter - b'a'))
}

/// The copy of a shard with this number.
pub(crate) fn node_of(topology: &Topology, shard: u16, member: MemberId) -> Option<&NodeInfo> {
    topology
        .copies(shard)
        .find(|node| member_of(&node.id) == Some(member))
}

pub(crate) fn addr_of(topology: &Topology, shard: u16, member: MemberId) -> Option<SocketAddr> {
    node_of(topology, shard, member).map(|node| node.addr)
}
