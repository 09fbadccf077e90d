//! Hashing keys: functions with a name and a version, because two processes must agree on them.

use xxhash_rust::{xxh3, xxh64};

/// A hash of keys that has a name, and never changes under that name.
///
/// `std::hash::Hash` with the default hasher may differ between two releases of Rust, and an upgrade of
/// one process then sends keys elsewhere. So nothing here takes `K: Hash`: a key is bytes.
pub trait KeyHash {
    /// The name and version, as two processes would compare it.
    const NAME: &'static str;

    /// The hash of a key.
    fn hash(&self, key: &[u8]) -> u64;

    /// The hash of a number: that of its eight bytes, little endian.
    fn hash_u64(&self, key: u64) -> u64 {
        self.hash(&key.to_le_bytes())
    }
}

/// XXH3-64, the default: fast for every length, and published test vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Xxh3 {
    seed: u64,
}

impl Xxh3 {
    /// With seed 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { seed: 0 }
    }

    /// With a seed of the caller's: another seed is another placement.
    #[must_use]
    pub const fn with_seed(seed: u64) -> Self {
        Self { seed }
    }
}

impl KeyHash for Xxh3 {
    const NAME: &'static str = "xxh3-64/1";

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        xxh3::xxh3_64_with_seed(key, self.seed)
    }
}

/// XXH64, as Envoy's ring and Maglev balancers hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Xxh64 {
    seed: u64,
}

impl Xxh64 {
    /// With seed 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { seed: 0 }
    }

    /// With a seed of the caller's.
    #[must_use]
    pub const fn with_seed(seed: u64) -> Self {
        Self { seed }
    }
}

impl KeyHash for Xxh64 {
    const NAME: &'static str = "xxh64/1";

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        xxh64::xxh64(key, self.seed)
    }
}
