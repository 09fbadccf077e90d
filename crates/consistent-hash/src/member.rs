//! Members: who may own keys, how large a share, and where they stand.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Index;

use crate::error::MembersError;
use crate::{BuildError, NodeIx, mix};

/// What a member is known by for ever, whatever order or position it is listed in.
///
/// Positions on a ring, scores and slots derive from this number alone, so it is part of the wire
/// contract. By default it is the [XXH3](https://xxhash.com) 64-bit hash (seed 0) of the member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct MemberId(u64);

impl MemberId {
    /// An id chosen by hand, for members that already have a number.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The id of a name: XXH3-64, seed 0, of its bytes.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whether a member may own keys. Only [`Live`](Self::Live) members do.
///
/// The others stay listed, so that a [`NodeIx`] of theirs can still be turned into a name: a
/// draining shard is written to until its rows have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum MemberState {
    /// Known, but not yet ready to own keys.
    Joining,
    /// Owns keys in proportion to its weight.
    #[default]
    Live,
    /// Owns no keys any more; what it still holds is being moved away.
    Draining,
    /// Gone, and expected back or replaced.
    Dead,
}

/// One member: a server, a shard, a cache node.
///
/// With the feature `serde` only the name must be given; what is left out has its default. It is checked when a
/// set is made of it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Listed"))]
pub struct Member {
    id: MemberId,
    name: String,
    weight: f64,
    zone: String,
    state: MemberState,
}

impl Member {
    /// A live member of weight 1 in no zone, with the id of its name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            id: MemberId::of_name(&name),
            name,
            weight: 1.0,
            zone: String::new(),
            state: MemberState::Live,
        }
    }

    /// Sets the id by hand. Defaults to [`MemberId::of_name`]. Change it when the name may change
    /// (an address) but the keys must stay.
    #[must_use]
    pub fn with_id(mut self, id: MemberId) -> Self {
        self.id = id;
        self
    }

    /// Sets the weight: the share of keys relative to the other members. Zero owns nothing.
    /// Defaults to 1. Checked by [`Members::new`].
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Sets where the member stands, from the widest part to the narrowest: `eu/eu-1/rack-7`.
    /// Defaults to the empty path.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Sets the state. Defaults to [`MemberState::Live`].
    #[must_use]
    pub fn with_state(mut self, state: MemberState) -> Self {
        self.state = state;
        self
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The weight.
    #[must_use]
    pub const fn weight(&self) -> f64 {
        self.weight
    }

    /// The zone path.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The first `depth` parts of the zone path; the whole path if it has fewer.
    #[must_use]
    pub fn zone_prefix(&self, depth: usize) -> &str {
        if depth == 0 {
            return "";
        }
        match self.zone.match_indices('/').nth(depth - 1) {
            Some((end, _)) => &self.zone[..end],
            None => &self.zone,
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> MemberState {
        self.state
    }

    /// Whether the member may own keys: it is live and its weight is above zero.
    #[must_use]
    pub fn owns_keys(&self) -> bool {
        self.state == MemberState::Live && self.weight > 0.0
    }

    fn check(&self) -> Result<(), MembersError> {
        let bytes = self.name.len();
        if bytes == 0 || bytes > Members::NAME_BYTES_MAX {
            return Err(MembersError::NameLength {
                bytes,
                max: Members::NAME_BYTES_MAX,
            });
        }
        let weight = self.weight;
        if weight != 0.0 && !(Members::WEIGHT_MIN..=Members::WEIGHT_MAX).contains(&weight) {
            return Err(MembersError::Weight {
                name: self.name.clone(),
                weight,
                min: Members::WEIGHT_MIN,
                max: Members::WEIGHT_MAX,
            });
        }
        let (bytes, parts) = (self.zone.len(), self.zone.split('/').count());
        if bytes > Members::ZONE_BYTES_MAX || parts > Members::ZONE_PARTS_MAX {
            return Err(MembersError::Zone {
                name: self.name.clone(),
                bytes,
                parts,
                bytes_max: Members::ZONE_BYTES_MAX,
                parts_max: Members::ZONE_PARTS_MAX,
            });
        }
        Ok(())
    }
}

/// A set of members, sorted by id, so that the order in which they were listed cannot matter.
///
/// Cheap to clone. Changing a set gives a new one; the old one, and every placement built from it,
/// stays as it was. A [`NodeIx`] is a position in one set: carry a [`MemberId`] from one set to the next.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "Vec<Member>", into = "Vec<Member>")
)]
pub struct Members(Arc<[Member]>);

/// A member as it is written by hand: the id is that of the name unless it is given.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    id: Option<MemberId>,
    name: String,
    #[serde(default = "one")]
    weight: f64,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    state: MemberState,
}

#[cfg(feature = "serde")]
const fn one() -> f64 {
    1.0
}

#[cfg(feature = "serde")]
impl From<Listed> for Member {
    fn from(listed: Listed) -> Self {
        Self {
            id: listed.id.unwrap_or_else(|| MemberId::of_name(&listed.name)),
            name: listed.name,
            weight: listed.weight,
            zone: listed.zone,
            state: listed.state,
        }
    }
}

impl TryFrom<Vec<Member>> for Members {
    type Error = MembersError;

    fn try_from(list: Vec<Member>) -> Result<Self, MembersError> {
        Self::new(list)
    }
}

impl From<Members> for Vec<Member> {
    fn from(members: Members) -> Self {
        members.0.to_vec()
    }
}

impl Members {
    /// Most members in a set.
    pub const COUNT_MAX: usize = 1 << 20;
    /// Most bytes in a name.
    pub const NAME_BYTES_MAX: usize = 1024;
    /// Most bytes in a zone path.
    pub const ZONE_BYTES_MAX: usize = 1024;
    /// Most parts in a zone path.
    pub const ZONE_PARTS_MAX: usize = 8;
    /// Smallest weight above zero.
    pub const WEIGHT_MIN: f64 = 1e-6;
    /// Largest weight.
    pub const WEIGHT_MAX: f64 = 1e6;

    /// Checks and sorts the members. An empty set is a set; no placement can be built from it.
    ///
    /// # Errors
    ///
    /// [`MembersError`] names the member and the field that was refused.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Result<Self, MembersError> {
        let mut list = Vec::new();
        for member in members {
            member.check()?;
            list.push(member);
            if list.len() > Self::COUNT_MAX {
                return Err(MembersError::TooMany {
                    count: list.len(),
                    max: Self::COUNT_MAX,
                });
            }
        }
        // Stable, so that the error tells which of two came first.
        list.sort_by_key(Member::id);
        if let Some(pair) = list.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(MembersError::Duplicate {
                id: pair[0].id,
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
            });
        }
        Ok(Self(list.into()))
    }

    /// Live members of weight 1, by name.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_names<S: Into<String>>(
        names: impl IntoIterator<Item = S>,
    ) -> Result<Self, MembersError> {
        Self::new(names.into_iter().map(Member::new))
    }

    /// Members that are numbered in the order of listing: the first gets the id 0, the next 1, and so on,
    /// whatever their names, and a [`NodeIx`] is a place in the list.
    ///
    /// Only for software that looks at the order of its servers: nginx gives a point of the ring that two
    /// servers claim to the one listed first, and Maglev's turns are taken in the order of the list.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn in_order(members: impl IntoIterator<Item = Member>) -> Result<Self, MembersError> {
        Self::new(
            members
                .into_iter()
                .zip(0..)
                .map(|(member, n)| member.with_id(MemberId::new(n))),
        )
    }

    /// This set and one more.
    ///
    /// # Errors
    ///
    /// [`MembersError::Duplicate`] if the id is there already; else as [`new`](Self::new).
    pub fn with(&self, member: Member) -> Result<Self, MembersError> {
        Self::new(self.iter().cloned().chain([member]))
    }

    /// This set without one.
    ///
    /// # Errors
    ///
    /// [`MembersError::Unknown`] if the id is not there.
    pub fn without(&self, id: MemberId) -> Result<Self, MembersError> {
        let ix = self.find(id).ok_or(MembersError::Unknown { id })?;
        let rest = self
            .0
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != ix.index())
            .map(|(_, member)| member.clone());
        Ok(Self(rest.collect()))
    }

    /// This set with one member changed by `change`. Changing the id is allowed.
    ///
    /// # Errors
    ///
    /// [`MembersError::Unknown`] if the id is not there; else as [`new`](Self::new).
    pub fn update(
        &self,
        id: MemberId,
        change: impl FnOnce(Member) -> Member,
    ) -> Result<Self, MembersError> {
        let ix = self.find(id).ok_or(MembersError::Unknown { id })?;
        let mut list: Vec<Member> = self.iter().cloned().collect();
        let member = list.swap_remove(ix.index());
        list.push(change(member));
        Self::new(list)
    }

    /// The member at a position, or `None` if this set has fewer.
    #[must_use]
    pub fn member(&self, ix: NodeIx) -> Option<&Member> {
        self.0.get(ix.index())
    }

    /// The position of an id in this set.
    #[must_use]
    pub fn find(&self, id: MemberId) -> Option<NodeIx> {
        self.0
            .binary_search_by_key(&id, Member::id)
            .ok()
            .map(|i| NodeIx::new(mix::to_u32(i)))
    }

    /// The members in the order of their ids, which is the order of their positions.
    pub fn iter(&self) -> core::slice::Iter<'_, Member> {
        self.0.iter()
    }

    /// Members in the set, owning or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Positions, ids and weights of the members that may own keys.
    pub(crate) fn owning(&self) -> Result<Vec<Owning>, BuildError> {
        let owning: Vec<_> = self
            .iter()
            .enumerate()
            .filter(|(_, member)| member.owns_keys())
            .map(|(i, member)| Owning {
                node: mix::to_u32(i),
                id: member.id.get(),
                weight: member.weight,
            })
            .collect();
        if owning.is_empty() {
            Err(BuildError::NoOwner {
                members: self.len(),
            })
        } else {
            Ok(owning)
        }
    }
}

/// A member that may own keys, as the placements see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owning {
    pub(crate) node: u32,
    pub(crate) id: u64,
    pub(crate) weight: f64,
}

impl Index<NodeIx> for Members {
    type Output = Member;

    /// The member at a position that a placement over this set returned.
    ///
    /// # Panics
    ///
    /// If the position is not in this set, which only mixing up two sets can do.
    fn index(&self, ix: NodeIx) -> &Member {
        &self.0[ix.index()]
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a Member;
    type IntoIter = core::slice::Iter<'a, Member>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
