//! CH3: mcrouter's consistent hash of keys, for servers that are only ever appended.

use core::ops::ControlFlow;

use crate::error::check_size;
use crate::interop::murmur::murmur2_64a;
use crate::placement::{all, walk_by_rehash};
use crate::{BuildError, NodeIx, Placement};

/// The place of a key among `n` servers as mcrouter's `Ch3` (`furc_hash`) gives it, in production at Meta.
///
/// Going from n to n + 1 servers moves one key in n + 1, all to the new one; only the last can go.
/// [`owner_of`](Self::owner_of) takes the key's bytes, as mcrouter does. As a [`Placement`] it takes a
/// hash, and gives what mcrouter gives for a key of the eight bytes of it, little endian.
///
/// *Costs*: 4 bytes; O(log n) bits drawn from hashes of the key, about 2 log n expected.
///
/// ```
/// use stackbeam_consistent_hash::Ch3;
///
/// let pool = Ch3::new(1_000)?;
/// assert_eq!(pool.owner_of(b"foo").get(), 478);
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ch3 {
    nodes: u32,
}

impl Ch3 {
    /// Most nodes: what the published function allows.
    pub const NODES_MAX: u32 = 1 << SHIFT;

    /// Over `nodes` nodes.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] for zero nodes or more than [`NODES_MAX`](Self::NODES_MAX).
    pub fn new(nodes: u32) -> Result<Self, BuildError> {
        check_size("nodes", u64::from(nodes), 1, u64::from(Self::NODES_MAX))?;
        Ok(Self { nodes })
    }

    /// The owner of a key.
    #[must_use]
    pub fn owner_of(&self, key: &[u8]) -> NodeIx {
        NodeIx::new(ch3(key, self.nodes))
    }
}

const SHIFT: u32 = 23;
const SEED: u64 = 4_193_360_111;
/// After so many draws outside of the pool the first place is taken.
const TRIES: u32 = 32;

/// Hashes of a key that are kept while its place is drawn; most draws end before.
const WORDS: usize = 16;

/// Bits of a key: of its hash, of the hash of that hash, and so on.
struct Bits<'a> {
    key: &'a [u8],
    words: [u64; WORDS],
    known: usize,
}

impl<'a> Bits<'a> {
    const fn new(key: &'a [u8]) -> Self {
        Self {
            key,
            words: [0; WORDS],
            known: 0,
        }
    }

    fn bit(&mut self, at: u32) -> u32 {
        let word = at as usize / 64;
        let last = word.min(WORDS - 1);
        while self.known <= last {
            self.words[self.known] = match self.known {
                0 => murmur2_64a(self.key, SEED),
                n => next(self.words[n - 1]),
            };
            self.known += 1;
        }
        let bits = (last..word).fold(self.words[last], |bits, _| next(bits));
        u32::from(bits >> (at % 64) & 1 == 1)
    }
}

fn next(word: u64) -> u64 {
    murmur2_64a(&word.to_le_bytes(), SEED)
}

/// The published function.
pub(crate) fn ch3(key: &[u8], nodes: u32) -> u32 {
    if nodes <= 1 {
        return 0;
    }
    let mut bits = Bits::new(key);
    // A coin for each power of two, from the top: heads, and the place is between that power's half and it.
    let mut power = u32::BITS - (nodes - 1).leading_zeros();
    let mut at = power;
    for _ in 0..TRIES {
        while bits.bit(at) == 0 {
            power -= 1;
            if power == 0 {
                return 0;
            }
            at = power;
        }
        at += SHIFT;
        let mut place = 1;
        for _ in 1..power {
            place = place << 1 | bits.bit(at);
            at += SHIFT;
        }
        if place < nodes {
            return place;
        }
    }
    0
}

impl Placement for Ch3 {
    fn node_count(&self) -> usize {
        self.nodes as usize
    }

    fn owner(&self, hash: u64) -> NodeIx {
        self.owner_of(&hash.to_le_bytes())
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        walk_by_rehash(self, all(self.nodes), hash, visit);
    }
}
