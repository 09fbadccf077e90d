//! What happened so far, and why entries left.

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

    /// Counts an entry that left.
    pub(crate) const fn left(&mut self, cause: Cause) {
        match cause {
            Cause::Evicted => self.evicted += 1,
            Cause::Expired => self.expired += 1,
            Cause::Replaced => self.replaced += 1,
            Cause::Removed => self.removed += 1,
        }
    }
}
