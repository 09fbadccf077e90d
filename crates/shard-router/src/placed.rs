//! A partition by consistent hashing: shards join and leave, and only the rows that must move do.

use std::fmt;
use std::sync::Arc;

use stackbeam_consistent_hash::{
    BuildError, Jump, Member, MemberId, Members, MembersError, Placement, Rendezvous, Ring,
    SlotTable,
};

use crate::key::{Key, ShardId};
use crate::partition::Partition;

/// Shards by number and weight, placed by a slot table, a ring, rendezvous or jump hashing.
///
/// A shard's id on the ring is its number, whatever its position in the list; so the same shards in
/// any order place rows alike, and a shard that leaves gives up its rows and no other.
pub struct Placed {
    placement: Arc<dyn Placement + Send + Sync>,
    /// Which shard a position of the placement is.
    shards: Vec<ShardId>,
    kind: &'static str,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed")
            .field("kind", &self.kind)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

/// Why shards cannot be placed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacedError {
    /// A shard is listed twice, or its weight is out of bounds.
    #[error("these shards cannot be members: {0}")]
    Shards(String),
    /// There is nobody to place on, or the placement would be too large.
    #[error("these shards cannot be placed on: {0}")]
    Placement(String),
}

impl From<MembersError> for PlacedError {
    fn from(error: MembersError) -> Self {
        Self::Shards(error.to_string())
    }
}

impl From<BuildError> for PlacedError {
    fn from(error: BuildError) -> Self {
        Self::Placement(error.to_string())
    }
}

fn members(
    shards: impl IntoIterator<Item = (ShardId, f64)>,
) -> Result<(Members, Vec<ShardId>), PlacedError> {
    let members = Members::new(shards.into_iter().map(|(shard, weight)| {
        Member::new(shard.to_string())
            .with_id(MemberId::new(shard.get().into()))
            .with_weight(weight)
    }))?;
    // The id is the number, so the order of ids is the order of shards.
    let shards = members
        .iter()
        .map(|member| ShardId::new(u32::try_from(member.id().get()).unwrap_or(u32::MAX)))
        .collect();
    Ok((members, shards))
}

impl Placed {
    /// By rendezvous hashing: exact shares, a look at each shard. For up to some dozens of shards.
    ///
    /// # Errors
    ///
    /// [`PlacedError`] for a shard listed twice, a weight that is no share, or no shard with a weight.
    pub fn rendezvous(
        shards: impl IntoIterator<Item = (ShardId, f64)>,
    ) -> Result<Self, PlacedError> {
        let (members, shards) = members(shards)?;
        Ok(Self {
            placement: Arc::new(Rendezvous::new(&members)?),
            shards,
            kind: "rendezvous",
        })
    }

    /// By a table of hash slots that rendezvous fills, no shard with more than 5 % above its share: O(1),
    /// and even shares. The one to take for many shards. When a shard leaves, a few rows move between
    /// the others too, to keep shares even.
    ///
    /// # Errors
    ///
    /// As [`Placed::rendezvous`].
    pub fn slot_table(
        shards: impl IntoIterator<Item = (ShardId, f64)>,
    ) -> Result<Self, PlacedError> {
        let (members, shards) = members(shards)?;
        Ok(Self {
            placement: Arc::new(SlotTable::new(&members)?),
            shards,
            kind: "slot table",
        })
    }

    /// By a ring with 100 points for each unit of weight: O(1), shares within some ten percent.
    ///
    /// # Errors
    ///
    /// As [`Placed::rendezvous`].
    pub fn ring(shards: impl IntoIterator<Item = (ShardId, f64)>) -> Result<Self, PlacedError> {
        let (members, shards) = members(shards)?;
        Ok(Self {
            placement: Arc::new(Ring::new(&members)?),
            shards,
            kind: "ring",
        })
    }

    /// By jump hashing over shards `0..shards`: no memory, even shares, and only the last shard can go.
    ///
    /// # Errors
    ///
    /// [`PlacedError::Placement`] for no shards.
    pub fn jump(shards: u32) -> Result<Self, PlacedError> {
        Ok(Self {
            placement: Arc::new(Jump::new(shards)?),
            shards: (0..shards).map(ShardId::new).collect(),
            kind: "jump",
        })
    }
}

impl Partition for Placed {
    fn shard(&self, key: Key<'_>) -> ShardId {
        let node = self.placement.owner(key.hash());
        // A placement answers below its number of nodes, which is the length of the list.
        self.shards
            .get(node.index())
            .copied()
            .unwrap_or(ShardId::new(0))
    }

    fn shards(&self) -> Vec<ShardId> {
        self.shards.clone()
    }
}
