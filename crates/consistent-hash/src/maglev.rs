//! Maglev: the tables of Envoy, Cilium and katran, slot for slot.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh64::xxh64;

use crate::error::check_size;
use crate::interop::murmur::murmur3_128;
use crate::member::Owning;
use crate::rendezvous::Rendezvous;
use crate::{BuildError, Members, NodeIx, Placement, SlotTable, mix};

/// Whose table. Members take turns in the order of their list: take [`Members::in_order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MaglevProfile {
    /// Envoy's `maglev`: offset and step from XXH64 of the name with the seeds 0 and 1. The weight of a
    /// host in a weighted locality is that of the locality times its share there.
    Envoy,
    /// Cilium's, with the first four bytes of its `hash-seed` as a number (`0x24b7ef82` by default, see
    /// [`CILIUM_SEED`](Self::CILIUM_SEED)): Murmur3 of the name, and turns in the order of the names
    /// whatever that of the list. Weights are whole numbers. Cilium's name of a backend is
    /// `[10.0.0.1:80/TCP,State:active]`.
    Cilium {
        /// The seed of Murmur3.
        seed: u32,
    },
    /// katran's first version. A member's name is the 64-bit hash that katran made of its address, in decimal
    /// digits; any other name is hashed by XXH3. The first turn takes as many slots as the weight says, every
    /// other turn one.
    KatranV1,
    /// katran's second version: a member waits until its weights add up to the largest.
    KatranV2,
}

impl MaglevProfile {
    /// The seed that Cilium takes from its default `hash-seed`, `JLfvgnHc2kaSUFaI`.
    pub const CILIUM_SEED: u32 = 0x24b7_ef82;
}

/// The table of Maglev (Eisenbud and others, NSDI 2016), as other products fill it.
///
/// For compatibility: where nothing has to agree with another product a [`SlotTable`] moves fewer keys when
/// a member goes, and does not look at the order of the list.
///
/// *Costs*: as a [`SlotTable`]; a lookup takes a remainder.
///
/// ```
/// use stackbeam_consistent_hash::{Maglev, MaglevProfile, Member, Members};
///
/// let members = Members::in_order([
///     Member::new("127.0.0.1:90"),
///     Member::new("127.0.0.1:91").with_weight(2.0),
/// ])?;
/// let table = Maglev::new(MaglevProfile::Envoy, &members, 17)?;
/// let slots: Vec<u32> = table.slots().map(|node| node.get()).collect();
/// assert_eq!(slots, [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Maglev {
    table: SlotTable,
}

/// A member's turn: where it goes on, and how much it is owed.
struct Turn {
    node: u32,
    weight: f64,
    offset: u64,
    skip: u64,
    next: u64,
    owed: f64,
}

impl Maglev {
    /// Slots by default in Envoy and katran, a prime.
    pub const SLOTS: u32 = 65_537;

    /// A table of `slots` slots over the members that may own keys.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if no member may own keys; [`BuildError::Size`] unless there are 2 to
    /// [`SlotTable::SLOTS_MAX`] slots; [`BuildError::NotPrime`] unless their number is prime, without which
    /// the steps of a member would not reach all of them.
    pub fn new(profile: MaglevProfile, members: &Members, slots: u32) -> Result<Self, BuildError> {
        check_size(
            "slots",
            u64::from(slots),
            2,
            u64::from(SlotTable::SLOTS_MAX),
        )?;
        if !is_prime(slots) {
            return Err(BuildError::NotPrime {
                field: "slots",
                value: u64::from(slots),
            });
        }
        let owning = members.owning()?;
        let mut order: Vec<&Owning> = owning.iter().collect();
        if let MaglevProfile::Cilium { .. } = profile {
            order.sort_by_key(|member| members[NodeIx::new(member.node)].name());
        }
        let turns = order
            .iter()
            .map(|member| turn(profile, members, member, u64::from(slots)))
            .collect();
        let nodes = match profile {
            MaglevProfile::Cilium { .. } => fill_by_slot(turns, slots),
            _ => fill(profile, turns, slots),
        };
        let order = Rendezvous::over(members, owning);
        Ok(Self {
            table: SlotTable::from_nodes(nodes, order),
        })
    }

    /// The table. Its own `owner` takes slots by ranges of the hash; these products take the remainder, as
    /// [`owner`](Placement::owner) here does.
    #[must_use]
    pub const fn table(&self) -> &SlotTable {
        &self.table
    }

    /// The owners of all slots, in order.
    #[must_use]
    pub fn slots(&self) -> impl ExactSizeIterator<Item = NodeIx> + '_ {
        self.table.slots()
    }

    /// The slot of a hash: its remainder.
    #[inline]
    #[must_use]
    pub const fn slot_of(&self, hash: u64) -> u32 {
        mix::low32(hash % self.table.slot_count() as u64)
    }

    /// Whom Envoy asks on a retry with a host predicate: attempt 0 is the owner.
    #[must_use]
    pub fn owner_on(&self, hash: u64, attempt: u32) -> NodeIx {
        let hash = if attempt == 0 {
            hash
        } else {
            hash ^ (u64::MAX - u64::from(attempt) + 1)
        };
        self.owner(hash)
    }
}

fn turn(profile: MaglevProfile, members: &Members, member: &Owning, m: u64) -> Turn {
    let name = members[NodeIx::new(member.node)].name();
    let katran = |second: u64, seed: u32| {
        let hash = name.parse().unwrap_or_else(|_| xxh3_64(name.as_bytes()));
        let mut words = [0; 16];
        words[..8].copy_from_slice(&u64::to_le_bytes(hash));
        words[8..].copy_from_slice(&second.to_le_bytes());
        murmur3_128(&words, seed).0
    };
    let (first, second) = match profile {
        MaglevProfile::Envoy => (xxh64(name.as_bytes(), 0), xxh64(name.as_bytes(), 1)),
        MaglevProfile::Cilium { seed } => murmur3_128(name.as_bytes(), seed),
        MaglevProfile::KatranV1 | MaglevProfile::KatranV2 => {
            (katran(42, 0), katran(2_718_281_828, 2_307))
        }
    };
    Turn {
        node: member.node,
        weight: member.weight,
        offset: first % m,
        skip: second % (m - 1) + 1,
        next: 0,
        owed: 0.0,
    }
}

/// Round after round, every member that it is the turn of takes its next free slot.
fn fill(profile: MaglevProfile, mut turns: Vec<Turn>, slots: u32) -> Vec<u32> {
    let mut table = alloc::vec![NOBODY; slots as usize];
    let mut left = slots;
    let largest = turns.iter().map(|turn| turn.weight).fold(0.0, f64::max);
    let mut round = 0.0;
    loop {
        round += 1.0;
        for turn in &mut turns {
            let times = match profile {
                MaglevProfile::KatranV1 if round == 1.0 => mix::floor(turn.weight).max(1),
                MaglevProfile::KatranV1 => 1,
                MaglevProfile::KatranV2 => {
                    turn.owed += turn.weight;
                    let now = turn.owed >= largest;
                    turn.owed -= if now { largest } else { 0.0 };
                    u64::from(now)
                }
                MaglevProfile::Envoy | MaglevProfile::Cilium { .. } => {
                    let waits = round * turn.weight < turn.owed;
                    turn.owed += if waits { 0.0 } else { largest };
                    u64::from(!waits)
                }
            };
            for _ in 0..times {
                take(&mut table, turn, |sum| match profile {
                    // katran adds in 32 bits, and what runs over is lost.
                    MaglevProfile::KatranV1 | MaglevProfile::KatranV2 => u64::from(mix::low32(sum)),
                    MaglevProfile::Envoy | MaglevProfile::Cilium { .. } => sum,
                });
                left -= 1;
                if left == 0 {
                    return table;
                }
            }
        }
    }
}

/// Cilium's: the turns go round by slots, and who must wait passes the turn on.
fn fill_by_slot(mut turns: Vec<Turn>, slots: u32) -> Vec<u32> {
    let mut table = alloc::vec![NOBODY; slots as usize];
    let total: f64 = turns.iter().map(|turn| turn.weight).sum();
    let count = turns.len();
    let count_f64 = mix::to_f64(count as u64);
    let weighted = mix::floor(total / count_f64) > 1;
    for turn in &mut turns {
        turn.owed = turn.weight / count_f64;
    }
    for n in 0..slots {
        let mut at = n as usize % count;
        // The sum of what is owed is less than that of the weights so far, so that somebody need not wait.
        while weighted
            && f64::from(n + 1) * turns[at].weight < mix::to_f64(mix::floor(turns[at].owed))
        {
            at = (at + 1) % count;
        }
        turns[at].owed += total;
        take(&mut table, &mut turns[at], |sum| sum);
    }
    table
}

const NOBODY: u32 = u32::MAX;

/// Takes the next slot of a member's steps that is free.
fn take(table: &mut [u32], turn: &mut Turn, sum: impl Fn(u64) -> u64) {
    let m = table.len() as u64;
    loop {
        let slot = mix::ix(sum(turn.offset + turn.next * turn.skip) % m);
        turn.next += 1;
        if table[slot] == NOBODY {
            table[slot] = turn.node;
            return;
        }
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2
        && (2..)
            .take_while(|k| k * k <= n)
            .all(|k| !n.is_multiple_of(k))
}

impl Placement for Maglev {
    fn node_count(&self) -> usize {
        self.table.node_count()
    }

    #[inline]
    fn owner(&self, hash: u64) -> NodeIx {
        self.table.owner_in(self.slot_of(hash))
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        self.table.walk_slot(self.slot_of(hash), visit);
    }
}
