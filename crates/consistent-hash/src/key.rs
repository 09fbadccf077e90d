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

    /// XXH3-128, of which the reference prints the upper half first. Another function, not this one with more bits.
    #[must_use]
    pub fn hash_128(&self, key: &[u8]) -> u128 {
        xxh3::xxh3_128_with_seed(key, self.seed)
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

/// XXH32: 32 bits, for software that hashes with it (HAProxy's and LZ4's tools among others).
#[cfg(feature = "interop")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Xxh32 {
    seed: u32,
}

#[cfg(feature = "interop")]
impl Xxh32 {
    /// With seed 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { seed: 0 }
    }

    /// With a seed of the caller's.
    #[must_use]
    pub const fn with_seed(seed: u32) -> Self {
        Self { seed }
    }
}

#[cfg(feature = "interop")]
impl KeyHash for Xxh32 {
    const NAME: &'static str = "xxh32/1";

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        u64::from(xxhash_rust::xxh32::xxh32(key, self.seed))
    }
}

/// SipHash-2-4 with a secret key of 128 bits: for keys that strangers choose, who could otherwise
/// send all of theirs to one node.
#[cfg(feature = "interop")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sip24 {
    key: [u8; 16],
}

/// SipHash-1-3: as [`Sip24`], with fewer rounds and some more speed. What Rust's and Python's own maps use.
#[cfg(feature = "interop")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sip13 {
    key: [u8; 16],
}

#[cfg(feature = "interop")]
macro_rules! sip {
    ($sip:ident, $name:literal, $function:path, $function_128:path) => {
        impl $sip {
            /// With the key of zeros.
            #[must_use]
            pub const fn new() -> Self {
                Self { key: [0; 16] }
            }

            /// With a key of the caller's.
            #[must_use]
            pub const fn with_key(key: [u8; 16]) -> Self {
                Self { key }
            }

            /// The variant with 128 bits, as the bytes that the reference prints: little endian, the first half
            /// first.
            #[must_use]
            pub fn hash_128(&self, key: &[u8]) -> [u8; 16] {
                <$function_128>::new_with_key(&self.key)
                    .hash(key)
                    .as_bytes()
            }
        }

        impl KeyHash for $sip {
            const NAME: &'static str = $name;

            #[inline]
            fn hash(&self, key: &[u8]) -> u64 {
                <$function>::new_with_key(&self.key).hash(key)
            }
        }
    };
}
#[cfg(feature = "interop")]
sip!(
    Sip24,
    "siphash-2-4/1",
    siphasher::sip::SipHasher24,
    siphasher::sip128::SipHasher24
);
#[cfg(feature = "interop")]
sip!(
    Sip13,
    "siphash-1-3/1",
    siphasher::sip::SipHasher13,
    siphasher::sip128::SipHasher13
);
