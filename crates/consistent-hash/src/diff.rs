//! What moves between two placements: from whom, to whom, and how much more than it must.

use alloc::vec::Vec;

use crate::{MemberId, Members, NodeIx, Placement, Ring, SlotTable};

/// A placement whose owners are ranges of hashes, so that two of them can be compared exactly.
///
/// # What an implementor must keep true
///
/// `ranges` visits the whole hash space in order: each range ends where the next begins, the last at
/// `u64::MAX`, and `owner` is the node of the range for every hash in it.
pub trait Ranges: Placement {
    /// The members that the placement was built from.
    fn members(&self) -> &Members;

    /// Visits the last hash of each range and its owner, in order. Two ranges side by side may have one
    /// owner.
    fn ranges(&self, visit: &mut dyn FnMut(u64, NodeIx));

    /// What moves when this placement is replaced by another.
    ///
    /// *Costs*: one pass over both, and 48 bytes for each range that moves.
    ///
    /// ```
    /// use stackbeam_consistent_hash::{MemberId, Members, Ranges, Ring};
    ///
    /// let before = Members::from_names(["a", "b", "c"])?;
    /// let after = before.without(MemberId::of_name("b"))?;
    /// let diff = Ring::new(&before)?.diff(&Ring::new(&after)?);
    /// assert!(diff.moves().iter().all(|range| range.from == MemberId::of_name("b")));
    /// assert_eq!(diff.churn(), 1.0); // not one key more than must move
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn diff(&self, other: &dyn Ranges) -> Diff
    where
        Self: Sized,
    {
        Diff::between(self, other)
    }
}

impl Ranges for Ring {
    fn members(&self) -> &Members {
        self.members()
    }

    fn ranges(&self, visit: &mut dyn FnMut(u64, NodeIx)) {
        let mut last = None;
        for (end, node) in self.points() {
            visit(end, node);
            last = Some(end);
        }
        // What lies behind the last point is the first one's.
        if last != Some(u64::MAX)
            && let Some((_, node)) = self.points().next()
        {
            visit(u64::MAX, node);
        }
    }
}

impl Ranges for SlotTable {
    fn members(&self) -> &Members {
        self.members()
    }

    fn ranges(&self, visit: &mut dyn FnMut(u64, NodeIx)) {
        for (slot, node) in (0..).zip(self.slots()) {
            visit(self.last_of(slot), node);
        }
    }
}

/// A range of hashes that goes from one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RangeMove {
    /// The first hash.
    pub first: u64,
    /// The last hash.
    pub last: u64,
    /// Who owned it.
    pub from: MemberId,
    /// Who owns it now.
    pub to: MemberId,
}

impl RangeMove {
    /// The part of the hash space, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        share(u128::from(self.last - self.first) + 1)
    }
}

/// A slot that goes from one member to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SlotMove {
    /// The slot.
    pub slot: u32,
    /// Who owned it.
    pub from: MemberId,
    /// Who owns it now.
    pub to: MemberId,
}

/// What moves between two placements. See [`Ranges::diff`].
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    moves: Vec<RangeMove>,
    moved: u128,
    least: u128,
}

impl Diff {
    fn between(before: &dyn Ranges, after: &dyn Ranges) -> Self {
        let (old, new) = (collect(before), collect(after));
        let mut moves: Vec<RangeMove> = Vec::new();
        // What each member gains or loses on the whole.
        let mut balance: Vec<(MemberId, i128)> = Vec::new();
        let (mut first, mut moved) = (0_u64, 0_u128);
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        while let (Some(&&(old_end, from)), Some(&&(new_end, to))) = (old.peek(), new.peek()) {
            let last = old_end.min(new_end);
            if from != to {
                let length = u128::from(last - first) + 1;
                moved += length;
                balance.push((from, -length.cast_signed()));
                balance.push((to, length.cast_signed()));
                match moves.last_mut() {
                    Some(before)
                        if (before.from, before.to) == (from, to)
                            && before.last.checked_add(1) == Some(first) =>
                    {
                        before.last = last;
                    }
                    _ => moves.push(RangeMove {
                        first,
                        last,
                        from,
                        to,
                    }),
                }
            }
            if old_end == last {
                old.next();
            }
            if new_end == last {
                new.next();
            }
            first = last.wrapping_add(1);
        }
        balance.sort_unstable_by_key(|entry| entry.0);
        let least = balance
            .chunk_by(|x, y| x.0 == y.0)
            .map(|member| member.iter().map(|entry| entry.1).sum::<i128>())
            .filter(|gain| *gain > 0)
            .sum::<i128>()
            .unsigned_abs();
        Self {
            moves,
            moved,
            least,
        }
    }

    /// The ranges that move, in order; ranges side by side with the same members are one.
    #[must_use]
    pub fn moves(&self) -> &[RangeMove] {
        &self.moves
    }

    /// Whether nothing moves.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// The part of the hash space that moves, from 0 to 1.
    #[must_use]
    pub fn moved(&self) -> f64 {
        share(self.moved)
    }

    /// The part that must move at least, for every member to have the share that it has afterwards.
    #[must_use]
    pub fn least(&self) -> f64 {
        share(self.least)
    }

    /// What moves, as a multiple of what must: 1 is the best there is. 1 if nothing moves, and infinite if
    /// nothing would have to.
    #[must_use]
    pub fn churn(&self) -> f64 {
        if self.moved == self.least {
            1.0
        } else {
            self.moved() / self.least()
        }
    }
}

/// The ranges with the ids of their owners; neighbours of one owner are one.
fn collect(placement: &dyn Ranges) -> Vec<(u64, MemberId)> {
    let members = placement.members();
    let mut ranges: Vec<(u64, MemberId)> = Vec::new();
    placement.ranges(&mut |end, node| {
        let id = members[node].id();
        match ranges.last_mut() {
            Some(last) if last.1 == id => last.0 = end,
            _ => ranges.push((end, id)),
        }
    });
    ranges
}

impl SlotTable {
    /// The slots that move when this table is replaced by another with as many slots, in order. `None` if
    /// they have not as many; then [`diff`](Ranges::diff) tells the ranges.
    #[must_use]
    pub fn diff_slots(&self, other: &Self) -> Option<Vec<SlotMove>> {
        if self.slot_count() != other.slot_count() {
            return None;
        }
        let owners = self.slots().zip(other.slots());
        let ids = owners.map(|(from, to)| (self.members()[from].id(), other.members()[to].id()));
        Some(
            (0..)
                .zip(ids)
                .filter(|(_, (from, to))| from != to)
                .map(|(slot, (from, to))| SlotMove { slot, from, to })
                .collect(),
        )
    }
}

/// Of 2^64.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share, which 53 bits are enough for"
)]
fn share(hashes: u128) -> f64 {
    hashes as f64 / 18_446_744_073_709_551_616.0
}
