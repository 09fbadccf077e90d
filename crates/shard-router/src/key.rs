//! What rows are placed by, and the names of shards.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// A shard's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// The shard with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// A shard key as partitions see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a key is a number or bytes; a third kind would change where rows are"
)]
pub enum Key<'a> {
    /// A number, such as a user id.
    Number(u64),
    /// Bytes, such as a name.
    Bytes(&'a [u8]),
}

impl Key<'_> {
    /// XXH3-64 with seed 0 of the bytes, or of the number's eight bytes in little endian. This never
    /// changes: rows are where it says.
    #[must_use]
    pub fn hash(self) -> u64 {
        match self {
            Self::Number(number) => xxh3_64(&number.to_le_bytes()),
            Self::Bytes(bytes) => xxh3_64(bytes),
        }
    }
}

/// Something that a row can be placed by.
///
/// # What an implementor must keep true
///
/// Equal rows give equal keys in every process and every release.
pub trait ShardKey {
    /// The key.
    fn shard_key(&self) -> Key<'_>;
}

impl ShardKey for Key<'_> {
    fn shard_key(&self) -> Key<'_> {
        *self
    }
}

impl<T: ShardKey + ?Sized> ShardKey for &T {
    fn shard_key(&self) -> Key<'_> {
        (**self).shard_key()
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl ShardKey for $number {
            fn shard_key(&self) -> Key<'_> {
                Key::Number(u64::from(*self))
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64);

macro_rules! bytes {
    ($($bytes:ty),*) => {$(
        impl ShardKey for $bytes {
            fn shard_key(&self) -> Key<'_> {
                Key::Bytes(self.as_ref())
            }
        }
    )*};
}
bytes!(str, String, [u8], Vec<u8>);

impl<const N: usize> ShardKey for [u8; N] {
    fn shard_key(&self) -> Key<'_> {
        Key::Bytes(self)
    }
}
