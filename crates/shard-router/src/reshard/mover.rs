//! What a move asks of the shards.

use std::future::Future;
use std::sync::Arc;

use crate::key::{ShardId, ShardKey};
use crate::map::ShardMap;

/// Which rows move: those that two maps place differently.
#[derive(Debug, Clone)]
pub struct Moving {
    before: Arc<ShardMap>,
    after: Arc<ShardMap>,
}

impl Moving {
    pub(super) const fn new(before: Arc<ShardMap>, after: Arc<ShardMap>) -> Self {
        Self { before, after }
    }

    /// The map that is in force when the move begins.
    #[must_use]
    pub fn before(&self) -> &ShardMap {
        &self.before
    }

    /// The map that will be.
    #[must_use]
    pub fn after(&self) -> &ShardMap {
        &self.after
    }

    /// The new map, to put it in force.
    #[must_use]
    pub fn shared_after(&self) -> Arc<ShardMap> {
        Arc::clone(&self.after)
    }

    /// Where a row goes that is on `from`; `None` if it is not there, or stays.
    pub fn target(&self, from: ShardId, key: &(impl ShardKey + ?Sized)) -> Option<ShardId> {
        let to = self.after.shard(key);
        (self.before.shard(key) == from && to != from).then_some(to)
    }
}

/// How far a copy is, in the mover's own bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "bytes and nothing else")]
pub struct Cursor(pub Vec<u8>);

/// What following a log came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mover's answer")]
pub struct Tailed {
    /// Everything up to here, and this, is applied at the targets.
    pub position: u64,
    /// How many changes the log has after it.
    pub behind: u64,
}

/// Moves rows between shards.
///
/// # What an implementor must keep true
///
/// * Every method can be called again after it failed, or after its future was dropped, with the same
///   result as if it had been called once.
/// * Each shard numbers its changes in the order in which they take effect, and keeps them from the
///   position of the first [`Mover::tail`] on.
/// * A shard takes a write only if the newest map that it knows places the key there, the request was
///   routed by no older map, and no fence is up for the key. It checks that in the same step as the
///   write.
/// * A fence, and the knowledge of the newest map, survive a crash of the shard.
pub trait Mover {
    /// Why a step did not succeed.
    type Error;

    /// Removes from `shard` every row that `keep` places elsewhere. Must be refused if `keep` is not
    /// the newest map that the shard knows: rows would be lost.
    fn purge(
        &mut self,
        shard: ShardId,
        keep: &ShardMap,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Copies the next chunk of the rows that move away from `from`, in the order of their keys, to
    /// where they go, and says where to go on; `None` when there are no more. Changes of the log are
    /// not waited for: those that come meanwhile are followed later.
    fn copy(
        &mut self,
        moving: &Moving,
        from: ShardId,
        cursor: Option<Cursor>,
    ) -> impl Future<Output = Result<Option<Cursor>, Self::Error>> + Send;

    /// Applies the changes of moving rows that the log of `from` has after a position, in their order,
    /// at most as many as suit. Without a position nothing is applied, and the end of the log is
    /// returned.
    fn tail(
        &mut self,
        moving: &Moving,
        from: ShardId,
        after: Option<u64>,
    ) -> impl Future<Output = Result<Tailed, Self::Error>> + Send;

    /// Makes `from` refuse writes of the rows that move away, or take them again, and returns the end
    /// of its log. With the fence up, that is the last change of a moving row.
    fn fence(
        &mut self,
        moving: &Moving,
        from: ShardId,
        up: bool,
    ) -> impl Future<Output = Result<u64, Self::Error>> + Send;

    /// Whether the rows that move away from `from` are the same there and where they go. No write of
    /// them is under way.
    fn verify(
        &mut self,
        moving: &Moving,
        from: ShardId,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Puts the new map durably in force and tells every shard of both maps; if a newer one is in force
    /// already, nothing happens. From the moment it is in force it must never be taken back. An error
    /// means that it may or may not be.
    fn switch(&mut self, moving: &Moving) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
