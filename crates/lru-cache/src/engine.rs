//! The engine under both faces: a slab of entries, a hash table of slot numbers, a policy.

use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
use core::time::Duration;

use equivalent::Equivalent;
use hashbrown::HashTable;

use crate::policy::Policy;

/// Why an entry left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Room was needed.
    Evicted,
    /// Its time was over.
    Expired,
    /// The same key was inserted again.
    Replaced,
    /// The caller removed it.
    Removed,
}

/// Counters. `inserted = entries + evicted + expired + replaced + removed`, and
/// `lookups = hits + misses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Entries put in.
    pub inserted: u64,
    /// Entries that made room.
    pub evicted: u64,
    /// Entries that left because their time was over.
    pub expired: u64,
    /// Entries that gave way to a new value of their key.
    pub replaced: u64,
    /// Entries that the caller removed.
    pub removed: u64,
    /// Entries refused because they were heavier than the whole cache.
    pub refused: u64,
    /// Entries there are now, some of which may have expired unnoticed.
    pub entries: u64,
    /// The sum of their weights.
    pub weight: u64,
}

impl Stats {
    /// Adds another part's counters to this one's.
    #[must_use]
    pub const fn plus(mut self, other: &Self) -> Self {
        self.hits += other.hits;
        self.misses += other.misses;
        self.inserted += other.inserted;
        self.evicted += other.evicted;
        self.expired += other.expired;
        self.replaced += other.replaced;
        self.removed += other.removed;
        self.refused += other.refused;
        self.entries += other.entries;
        self.weight += other.weight;
        self
    }
}

/// An entry and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
    pub(crate) hash: u64,
    pub(crate) weight: u64,
    /// When it ends, on the owner's time line; [`Duration::MAX`] means never.
    pub(crate) expires: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Engine<K, V, P, S> {
    table: HashTable<u32>,
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    policy: P,
    hasher: S,
    pub(crate) stats: Stats,
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Engine<K, V, P, S> {
    pub(crate) fn new(hasher: S) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            policy: P::default(),
            hasher,
            stats: Stats::default(),
        }
    }

    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn find<Q: Equivalent<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<u32> {
        self.table
            .find(hash, |slot| {
                self.slots
                    .get(*slot as usize)
                    .and_then(Option::as_ref)
                    .is_some_and(|entry| entry.hash == hash && key.equivalent(&entry.key))
            })
            .copied()
    }

    fn entry(&self, slot: u32) -> Option<&Entry<K, V>> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// The entry of a key, if it is there, whether or not its time is over. Counts nothing.
    pub(crate) fn peek<Q: Equivalent<K> + ?Sized>(
        &self,
        hash: u64,
        key: &Q,
    ) -> Option<&Entry<K, V>> {
        self.entry(self.find(hash, key)?)
    }

    /// Whether the entry of a key can expire: only then a clock has to be read.
    #[cfg(feature = "std")]
    pub(crate) fn can_expire<Q: Equivalent<K> + ?Sized>(&self, hash: u64, key: &Q) -> bool {
        self.peek(hash, key)
            .is_some_and(|entry| entry.expires != Duration::MAX)
    }

    /// Looks a key up and counts it. An entry whose time is over leaves and is handed out apart.
    pub(crate) fn get<Q: Equivalent<K> + ?Sized>(
        &mut self,
        hash: u64,
        key: &Q,
        now: Duration,
    ) -> (Option<&mut V>, Option<Entry<K, V>>) {
        let Some(slot) = self.find(hash, key) else {
            self.stats.misses += 1;
            return (None, None);
        };
        let over = self.entry(slot).is_some_and(|entry| entry.expires <= now);
        if over {
            self.stats.misses += 1;
            return (None, self.take(slot, Cause::Expired));
        }
        self.stats.hits += 1;
        self.policy.hit(slot);
        let entry = self.slots.get_mut(slot as usize).and_then(Option::as_mut);
        (entry.map(|entry| &mut entry.value), None)
    }

    /// Puts an entry in. The key must not be there, and there must be room.
    pub(crate) fn put(&mut self, entry: Entry<K, V>) {
        let hash = entry.hash;
        self.stats.inserted += 1;
        self.stats.entries += 1;
        self.stats.weight += entry.weight;
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = Some(entry);
            }
            slot
        } else {
            self.slots.push(Some(entry));
            // 2^32 entries of at least 40 bytes: memory ends first.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, slot, |slot| {
            slots
                .get(*slot as usize)
                .and_then(Option::as_ref)
                .map_or(0, |entry| entry.hash)
        });
        self.policy.insert(slot, hash);
    }

    /// Takes the entry of a key out.
    pub(crate) fn remove<Q: Equivalent<K> + ?Sized>(
        &mut self,
        hash: u64,
        key: &Q,
        cause: Cause,
    ) -> Option<Entry<K, V>> {
        let slot = self.find(hash, key)?;
        self.take(slot, cause)
    }

    /// Takes out whoever the policy would let go. It counts as expired if its time is over.
    pub(crate) fn evict(&mut self, now: Duration) -> Option<(Entry<K, V>, Cause)> {
        let slot = self.policy.victim()?;
        let cause = if self.entry(slot)?.expires <= now {
            Cause::Expired
        } else {
            Cause::Evicted
        };
        Some((self.take(slot, cause)?, cause))
    }

    fn take(&mut self, slot: u32, cause: Cause) -> Option<Entry<K, V>> {
        let hash = self.entry(slot)?.hash;
        if let Ok(found) = self.table.find_entry(hash, |at| *at == slot) {
            found.remove();
        }
        self.policy.remove(slot);
        self.free.push(slot);
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        self.stats.entries -= 1;
        self.stats.weight -= entry.weight;
        match cause {
            Cause::Evicted => self.stats.evicted += 1,
            Cause::Expired => self.stats.expired += 1,
            Cause::Replaced => self.stats.replaced += 1,
            Cause::Removed => self.stats.removed += 1,
        }
        Some(entry)
    }

    /// Takes out every entry that `doomed` names.
    pub(crate) fn remove_where(
        &mut self,
        cause: Cause,
        mut doomed: impl FnMut(&Entry<K, V>) -> bool,
    ) -> Vec<Entry<K, V>> {
        let slots: Vec<u32> = self
            .table
            .iter()
            .copied()
            .filter(|slot| self.entry(*slot).is_some_and(&mut doomed))
            .collect();
        slots
            .into_iter()
            .filter_map(|slot| self.take(slot, cause))
            .collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<K, V>> {
        self.slots.iter().flatten()
    }
}
