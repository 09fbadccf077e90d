//! The slot table: a key hashes to a slot, and the table says who owns the slot.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{ControlFlow, RangeInclusive};

use crate::error::{check_fraction, check_size};
use crate::fill::capped_rendezvous;
use crate::mix::{self, mix};
use crate::rendezvous::Rendezvous;
use crate::{BuildError, MemberId, Members, NodeIx, Placement};

/// A table of slots, filled by capped weighted rendezvous. The placement for many nodes.
///
/// Slot `s` of `m` holds the hashes from `s * 2^64 / m` on, so slots are ranges of the hash space that
/// can be moved one by one. Every member gets slots in proportion to its weight, at most `1 + slack`
/// times its share (rounded up). Which slots is a function of the members, weights, slot count and
/// slack alone: neither order nor history matters.
///
/// A member that leaves gives up its slots; a few others may move as well, because room under the
/// caps moved. With 65 536 slots, up to 100 members and the default slack of 0.05 hardly any do; with no
/// slack 1.3 times the least moves at 100 members and 2.4 times at 1 000 (`tests/slot_table.rs` prints
/// and bounds these). With a slack of [`SLACK_NONE`](Self::SLACK_NONE) no cap binds, and balance is that
/// of random choice.
///
/// The fill follows the greedy (and therefore unique) stable matching between slots and members that
/// rank each other by one shared score; see the design notes.
///
/// *Costs*: 2 bytes a slot (4 above 65 536 members) and 12 to 20 a member; a lookup is one
/// multiplication and one read; replicas after the first are found by rendezvous of the slot, O(n).
///
/// ```
/// use stackbeam_consistent_hash::{KeyHash, Members, Placement, SlotTable, Xxh3};
///
/// let members = Members::from_names(["cache-1", "cache-2", "cache-3"])?;
/// let table = SlotTable::new(&members)?;
/// let node = table.owner(Xxh3::new().hash(b"user:42"));
/// println!("ask {}", members[node].name());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SlotTable {
    slots: Slots,
    slot_count: u32,
    order: Rendezvous,
}

#[derive(Debug, Clone, PartialEq)]
enum Slots {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

impl SlotTable {
    /// The function and its version, as two processes would compare it. What it gives never changes under this
    /// name: `tests/golden` holds it in place.
    pub const NAME: &'static str = "stackbeam-slot-table/1";

    /// Slots by default.
    pub const SLOTS: u32 = 65_536;
    /// Most slots in a table.
    pub const SLOTS_MAX: u32 = 1 << 24;
    /// Slack by default: no member has more than 1.05 times its share.
    pub const SLACK: f64 = 0.05;
    /// So much slack that no cap ever binds.
    pub const SLACK_NONE: f64 = 1e9;

    /// With [`SLOTS`](Self::SLOTS) slots and [`SLACK`](Self::SLACK).
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys.
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        Self::with_slots(members, Self::SLOTS, Self::SLACK)
    }

    /// With a number of slots and a slack. At least 100 slots for each member keep rounding below one
    /// per cent; with fewer slots than members some members own nothing.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys; [`BuildError::Size`] unless there are 1 to
    /// [`SLOTS_MAX`](Self::SLOTS_MAX) slots; [`BuildError::Fraction`] unless the slack is 0 or more and
    /// at most [`SLACK_NONE`](Self::SLACK_NONE).
    pub fn with_slots(members: &Members, slots: u32, slack: f64) -> Result<Self, BuildError> {
        check_size("slots", u64::from(slots), 1, u64::from(Self::SLOTS_MAX))?;
        check_fraction("slack", slack, 0.0, Self::SLACK_NONE)?;
        let owning = members.owning()?;
        let owners = capped_rendezvous(&owning, slots, slack);
        let order = Rendezvous::over(members, owning.clone());
        let nodes: Vec<u32> = owners
            .into_iter()
            .map(|at| owning[at as usize].node)
            .collect();
        Ok(Self::from_nodes(nodes, order))
    }

    pub(crate) fn from_nodes(nodes: Vec<u32>, order: Rendezvous) -> Self {
        let slot_count = mix::to_u32(nodes.len());
        let narrow: Result<Vec<u16>, _> = nodes.iter().map(|node| u16::try_from(*node)).collect();
        let slots = match narrow {
            Ok(narrow) => Slots::Narrow(narrow.into()),
            Err(_) => Slots::Wide(nodes.into()),
        };
        Self {
            slots,
            slot_count,
            order,
        }
    }

    /// Slots in the table.
    #[must_use]
    pub const fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// The slot of a hash: the high bits of `hash * slot_count`.
    #[inline]
    #[must_use]
    pub const fn slot_of(&self, hash: u64) -> u32 {
        mix::reduce(hash, self.slot_count)
    }

    /// The hashes of a slot: the first and the last. `None` if there is no such slot.
    #[must_use]
    pub fn range_of(&self, slot: u32) -> Option<RangeInclusive<u64>> {
        if slot >= self.slot_count {
            return None;
        }
        let first = match slot {
            0 => 0,
            slot => self.last_of(slot - 1) + 1,
        };
        Some(first..=self.last_of(slot))
    }

    /// The last hash of a slot that there is.
    pub(crate) fn last_of(&self, slot: u32) -> u64 {
        let end = (u128::from(slot) + 1) << 64;
        mix::low64(end.div_ceil(u128::from(self.slot_count)) - 1)
    }

    /// The members that the table was built from.
    #[must_use]
    pub const fn members(&self) -> &Members {
        self.order.members()
    }

    /// A table whose slots were given out by something else: a shard map that moves slots one by one.
    /// Slots may belong to members that own no new keys, as long as these drain.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] unless there are 1 to [`SLOTS_MAX`](Self::SLOTS_MAX) slots;
    /// [`BuildError::Unknown`] for an owner who is no member; [`BuildError::NoOwner`] if no member may own
    /// keys.
    pub fn with_owners(
        members: &Members,
        owners: impl IntoIterator<Item = MemberId>,
    ) -> Result<Self, BuildError> {
        let mut nodes = Vec::new();
        for id in owners {
            let node = members.find(id).ok_or(BuildError::Unknown { id })?;
            nodes.push(node.get());
            check_size("slots", nodes.len() as u64, 1, u64::from(Self::SLOTS_MAX))?;
        }
        check_size("slots", nodes.len() as u64, 1, u64::from(Self::SLOTS_MAX))?;
        let order = Rendezvous::over(members, members.owning()?);
        Ok(Self::from_nodes(nodes, order))
    }

    /// The owner of a slot, for callers that number slots in their own way (Redis Cluster's
    /// `CRC16 mod 16384`, say). `None` if there is no such slot.
    #[inline]
    #[must_use]
    pub fn owner_of_slot(&self, slot: u32) -> Option<NodeIx> {
        let node = match &self.slots {
            Slots::Narrow(slots) => u32::from(*slots.get(slot as usize)?),
            Slots::Wide(slots) => *slots.get(slot as usize)?,
        };
        Some(NodeIx::new(node))
    }

    /// The owner of a slot that there is.
    #[inline]
    pub(crate) fn owner_in(&self, slot: u32) -> NodeIx {
        let slot = slot as usize;
        NodeIx::new(match &self.slots {
            Slots::Narrow(slots) => u32::from(slots[slot]),
            Slots::Wide(slots) => slots[slot],
        })
    }

    pub(crate) fn walk_slot(&self, slot: u32, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let owner = self.owner_in(slot);
        if visit(owner).is_break() {
            return;
        }
        // All keys of a slot share their replicas, so that a slot moves as a whole.
        self.order.walk(mix(u64::from(slot)), &mut |node| {
            if node == owner {
                ControlFlow::Continue(())
            } else {
                visit(node)
            }
        });
    }

    /// The owners of all slots, in order.
    #[must_use]
    pub fn slots(&self) -> impl ExactSizeIterator<Item = NodeIx> + '_ {
        (0..self.slot_count as usize).map(|slot| self.owner_in(mix::to_u32(slot)))
    }
}

impl Placement for SlotTable {
    fn node_count(&self) -> usize {
        self.order.node_count()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        self.owner_in(self.slot_of(hash))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        self.walk_slot(self.slot_of(hash), visit);
    }
}
