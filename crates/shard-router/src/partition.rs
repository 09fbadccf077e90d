//! Which shard a key belongs to.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::key::{Key, ShardId};

/// Places keys on shards.
///
/// # What an implementor must keep true
///
/// The same key gives the same shard for ever, and that shard is among [`Partition::shards`].
pub trait Partition: fmt::Debug + Send + Sync {
    /// The shard of a key.
    fn shard(&self, key: Key<'_>) -> ShardId;

    /// All shards, in ascending order, each once.
    fn shards(&self) -> Vec<ShardId>;
}

impl<P: Partition + ?Sized> Partition for Box<P> {
    fn shard(&self, key: Key<'_>) -> ShardId {
        (**self).shard(key)
    }

    fn shards(&self) -> Vec<ShardId> {
        (**self).shards()
    }
}

/// Why a partition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// A count is outside its bounds.
    #[error("{field} is {value}; it must be from {min} to {max}")]
    #[non_exhaustive]
    Count {
        /// Which setting.
        field: &'static str,
        /// What it was.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// Bounds of ranges are not strictly ascending.
    #[error("range bound {position} is not above the one before it")]
    #[non_exhaustive]
    Order {
        /// Index of the bound.
        position: usize,
    },
    /// A slot number is not below the number of slots.
    #[error("slot {slot} does not exist; there are {slots}")]
    #[non_exhaustive]
    NoSlot {
        /// The slot that was named.
        slot: u32,
        /// How many there are.
        slots: u32,
    },
}

const fn count(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), PartitionError> {
    if value >= min && value <= max {
        Ok(())
    } else {
        Err(PartitionError::Count {
            field,
            value,
            min,
            max,
        })
    }
}

/// Shards a partition may have.
const SHARDS_MAX: u32 = 1 << 16;

/// `key % shards`; bytes by their hash.
///
/// Simple, even, and nearly every row moves when the number of shards changes; with a multiple of the
/// old number only the rows that must. For numbers it is the number itself that is divided, so that
/// `user_id % 4` in SQL says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modulo {
    shards: u32,
}

impl Modulo {
    /// Over shards `0..shards`.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Count`] for none or more than 65 536.
    pub fn new(shards: u32) -> Result<Self, PartitionError> {
        count("shards", shards.into(), 1, SHARDS_MAX.into())?;
        Ok(Self { shards })
    }
}

/// The remainder as a shard number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder is below its 32-bit divisor"
)]
const fn remainder(number: u64, divisor: u32) -> u32 {
    (number % divisor as u64) as u32
}

impl Partition for Modulo {
    fn shard(&self, key: Key<'_>) -> ShardId {
        let number = match key {
            Key::Number(number) => number,
            Key::Bytes(_) => key.hash(),
        };
        ShardId::new(remainder(number, self.shards))
    }

    fn shards(&self) -> Vec<ShardId> {
        (0..self.shards).map(ShardId::new).collect()
    }
}

/// A key as a range bound owns it. Numbers come before bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Number(u64),
    Bytes(Vec<u8>),
}

impl From<Key<'_>> for Bound {
    fn from(key: Key<'_>) -> Self {
        match key {
            Key::Number(number) => Self::Number(number),
            Key::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl Bound {
    const fn as_key(&self) -> Key<'_> {
        match self {
            Self::Number(number) => Key::Number(*number),
            Self::Bytes(bytes) => Key::Bytes(bytes.as_slice()),
        }
    }
}

/// Ordered ranges: neighbours stay together, so range scans touch few shards; but ever-growing keys
/// all go to the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    first: ShardId,
    /// From this key on (inclusive), this shard.
    bounds: Vec<(Bound, ShardId)>,
}

impl Ranges {
    /// Keys below the first bound belong to `first`; each bound starts the range of its shard and is
    /// part of it. A shard may own several ranges.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Order`] unless the bounds are strictly ascending, [`PartitionError::Count`]
    /// for more than 65 536 bounds.
    #[expect(
        single_use_lifetimes,
        reason = "`Key<'_>` is not allowed inside `impl Trait` here"
    )]
    pub fn new<'a>(
        first: ShardId,
        bounds: impl IntoIterator<Item = (Key<'a>, ShardId)>,
    ) -> Result<Self, PartitionError> {
        let bounds: Vec<(Bound, ShardId)> = bounds
            .into_iter()
            .map(|(key, shard)| (Bound::from(key), shard))
            .collect();
        count("bounds", bounds.len() as u64, 0, SHARDS_MAX.into())?;
        for (before, pair) in bounds.windows(2).enumerate() {
            if let [left, right] = pair
                && left.0 >= right.0
            {
                return Err(PartitionError::Order {
                    position: before + 1,
                });
            }
        }
        Ok(Self { first, bounds })
    }
}

impl Partition for Ranges {
    fn shard(&self, key: Key<'_>) -> ShardId {
        let after = self
            .bounds
            .partition_point(|(bound, _)| bound.as_key() <= key);
        after
            .checked_sub(1)
            .and_then(|index| self.bounds.get(index))
            .map_or(self.first, |(_, shard)| *shard)
    }

    fn shards(&self) -> Vec<ShardId> {
        let all: BTreeSet<ShardId> = self
            .bounds
            .iter()
            .map(|(_, shard)| *shard)
            .chain([self.first])
            .collect();
        all.into_iter().collect()
    }
}

/// A fixed number of hash slots, each assigned to a shard: rows move slot by slot.
///
/// The slot of a key is its [`Key::hash`] modulo the number of slots, and never changes; which shard
/// has a slot does. This is how Redis Cluster reshards (with its own hash and 16 384 slots).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    owners: Vec<ShardId>,
}

impl Slots {
    /// The most slots.
    pub const SLOTS_MAX: u32 = 1 << 20;

    /// `slots` slots dealt out to shards `0..shards` in runs of nearly equal length.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Count`] for no slots or more than [`Slots::SLOTS_MAX`], no shards, or more
    /// shards than slots.
    pub fn even(slots: u32, shards: u32) -> Result<Self, PartitionError> {
        count("slots", slots.into(), 1, Self::SLOTS_MAX.into())?;
        count("shards", shards.into(), 1, slots.min(SHARDS_MAX).into())?;
        let owners = (0..u64::from(slots))
            .map(|slot| slot * u64::from(shards) / u64::from(slots))
            .map(|shard| ShardId::new(u32::try_from(shard).unwrap_or(u32::MAX)))
            .collect();
        Ok(Self { owners })
    }

    /// How many slots there are.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        u32::try_from(self.owners.len()).unwrap_or(u32::MAX)
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot(&self, key: Key<'_>) -> u32 {
        remainder(key.hash(), self.slot_count())
    }

    /// The shard that has a slot; `None` for a slot that does not exist.
    #[must_use]
    pub fn owner(&self, slot: u32) -> Option<ShardId> {
        self.owners.get(slot as usize).copied()
    }

    /// The same slots with one assigned to another shard: the next version of the map.
    ///
    /// # Errors
    ///
    /// [`PartitionError::NoSlot`] for a slot that does not exist.
    pub fn with_slot(mut self, slot: u32, shard: ShardId) -> Result<Self, PartitionError> {
        let slots = self.slot_count();
        let owner = self
            .owners
            .get_mut(slot as usize)
            .ok_or(PartitionError::NoSlot { slot, slots })?;
        *owner = shard;
        Ok(self)
    }
}

impl Partition for Slots {
    fn shard(&self, key: Key<'_>) -> ShardId {
        // The slot is below the length by construction; there is at least one slot.
        self.owner(self.slot(key)).unwrap_or(ShardId::new(0))
    }

    fn shards(&self) -> Vec<ShardId> {
        let all: BTreeSet<ShardId> = self.owners.iter().copied().collect();
        all.into_iter().collect()
    }
}

/// Some keys by name, the others by another partition: a celebrity gets a shard of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory<P> {
    // Two maps, so that a key of bytes is looked up as it is. Both are hashed with secret keys: who may
    // choose keys cannot make look-ups slow.
    numbers: HashMap<u64, ShardId>,
    bytes: HashMap<Box<[u8]>, ShardId>,
    others: P,
}

impl<P: Partition> Directory<P> {
    /// The most keys that are listed by name.
    pub const ENTRIES_MAX: usize = 1 << 20;

    /// No key by name yet.
    #[must_use]
    pub fn new(others: P) -> Self {
        Self {
            numbers: HashMap::new(),
            bytes: HashMap::new(),
            others,
        }
    }

    /// How many keys are listed by name.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.numbers.len() + self.bytes.len()
    }

    /// Places one key by name. Naming it again moves it.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Count`] above [`Directory::ENTRIES_MAX`] keys.
    pub fn with_entry(mut self, key: Key<'_>, shard: ShardId) -> Result<Self, PartitionError> {
        match key {
            Key::Number(number) => self.numbers.insert(number, shard),
            Key::Bytes(bytes) => self.bytes.insert(bytes.into(), shard),
        };
        let entries = self.entry_count() as u64;
        count("entries", entries, 0, Self::ENTRIES_MAX as u64)?;
        Ok(self)
    }

    /// Lets the other partition place a key again.
    #[must_use]
    pub fn without_entry(mut self, key: Key<'_>) -> Self {
        match key {
            Key::Number(number) => self.numbers.remove(&number),
            Key::Bytes(bytes) => self.bytes.remove(bytes),
        };
        self
    }
}

impl<P: Partition> Partition for Directory<P> {
    fn shard(&self, key: Key<'_>) -> ShardId {
        let listed = match key {
            Key::Number(number) => self.numbers.get(&number),
            Key::Bytes(bytes) => self.bytes.get(bytes),
        };
        listed.copied().unwrap_or_else(|| self.others.shard(key))
    }

    fn shards(&self) -> Vec<ShardId> {
        let listed = self.numbers.values().chain(self.bytes.values()).copied();
        let all: BTreeSet<ShardId> = listed.chain(self.others.shards()).collect();
        all.into_iter().collect()
    }
}
