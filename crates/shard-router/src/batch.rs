//! A batch of keys, split by shard, and the answers put back in order.

use std::collections::BTreeMap;

use crate::key::{ShardId, ShardKey};
use crate::map::ShardMap;

/// The part of a batch that goes to one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group<T> {
    /// To whom.
    pub shard: ShardId,
    /// What, in the order of the batch.
    pub items: Vec<T>,
    positions: Vec<usize>,
}

/// A batch, split. Take the groups' items, ask, and hand the answers to [`Batch::restore`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    len: usize,
    groups: Vec<Group<T>>,
}

/// Answers that do not fit the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{shard} was asked for {asked} answers and gave {given}")]
#[non_exhaustive]
pub struct RestoreError {
    /// Whose answers.
    pub shard: ShardId,
    /// How many items its group has.
    pub asked: usize,
    /// How many answers came.
    pub given: usize,
}

/// Splits `items` by the shard of their key. Groups come in ascending order of shard; within a group
/// the order of the batch is kept, and duplicates stay.
pub fn group<T: ShardKey>(map: &ShardMap, items: impl IntoIterator<Item = T>) -> Batch<T> {
    let mut groups: BTreeMap<ShardId, Group<T>> = BTreeMap::new();
    let mut len = 0;
    for (position, item) in items.into_iter().enumerate() {
        let shard = map.shard(&item);
        let group = groups.entry(shard).or_insert_with(|| Group {
            shard,
            items: Vec::new(),
            positions: Vec::new(),
        });
        group.items.push(item);
        group.positions.push(position);
        len = position + 1;
    }
    Batch {
        len,
        groups: groups.into_values().collect(),
    }
}

impl<T> Batch<T> {
    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[Group<T>] {
        &self.groups
    }

    /// How many items the batch has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts answers, one for each item of a group, back into the order of the batch. Positions of
    /// groups without answers are `None`: what is missing stays visible.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if a shard of this batch gave another number of answers than it was asked
    /// for. Answers of shards that were not asked are ignored.
    pub fn restore<R>(
        &self,
        answers: impl IntoIterator<Item = (ShardId, Vec<R>)>,
    ) -> Result<Vec<Option<R>>, RestoreError> {
        let mut out: Vec<Option<R>> = std::iter::repeat_with(|| None).take(self.len).collect();
        for (shard, answers) in answers {
            let at = self
                .groups
                .binary_search_by_key(&shard, |group| group.shard);
            let Some(group) = at.ok().and_then(|at| self.groups.get(at)) else {
                continue;
            };
            if answers.len() != group.items.len() {
                return Err(RestoreError {
                    shard,
                    asked: group.items.len(),
                    given: answers.len(),
                });
            }
            for (position, answer) in group.positions.iter().zip(answers) {
                if let Some(place) = out.get_mut(*position) {
                    *place = Some(answer);
                }
            }
        }
        Ok(out)
    }
}
