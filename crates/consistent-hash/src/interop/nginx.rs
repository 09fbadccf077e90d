//! nginx's `hash` without `consistent`: a modulo over weights. The ring of `hash ... consistent` is
//! [`KetamaProfile::Nginx`](crate::KetamaProfile::Nginx).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::ops::ControlFlow;

use crate::error::check_size;
use crate::mix;
use crate::placement::walk_by_rehash;
use crate::{BuildError, Members, NodeIx, Placement};

/// The hash of a key: fifteen bits of its CRC32, as `Cache::Memcached` has it.
#[must_use]
pub fn hash(key: &[u8]) -> u32 {
    super::hashkit::crc(key)
}

key_hash! {
    /// [`hash()`] as a [`KeyHash`](crate::KeyHash), for [`PlainHash`] as a [`Placement`].
    Crc32Nginx = "nginx-crc32-15/1", |key| u64::from(hash(key))
}

/// Servers as `hash $key;` chooses among them: each has a share of the numbers below the sum of the weights.
///
/// The order of the list counts, and nearly all keys move when it changes: take [`Members::in_order`], with the
/// servers in the order of the configuration.
///
/// *Costs*: 16 bytes a server; O(log n) a look-up.
///
/// ```
/// use stackbeam_consistent_hash::interop::nginx::PlainHash;
/// use stackbeam_consistent_hash::{Member, Members};
///
/// // upstream { hash $uri; server 127.0.0.11:1; server 127.0.0.12:1 weight=2; }
/// let members = Members::in_order([
///     Member::new("127.0.0.11:1"),
///     Member::new("127.0.0.12:1").with_weight(2.0),
/// ])?;
/// let servers = PlainHash::new(&members)?;
/// println!("{}", members[servers.owner_of(b"/index.html")].name());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PlainHash {
    members: Members,
    /// Of each server the first number that is not its own any more, ascending.
    ends: Vec<(u64, u32)>,
    total: u64,
}

impl PlainHash {
    /// Rounds after which nginx takes its servers in turn.
    pub const TRIES: usize = 21;
    /// Largest weight of a server, as [`Members::WEIGHT_MAX`].
    pub const WEIGHT_MAX: u64 = 1_000_000;

    /// Over the members that may own keys. nginx knows whole weights only; others are rounded.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoOwner`] if there is none; [`BuildError::Size`] for a weight that is rounded to zero.
    pub fn new(members: &Members) -> Result<Self, BuildError> {
        let mut ends = Vec::new();
        let mut total = 0;
        for member in members.owning()? {
            let weight = mix::round(member.weight);
            check_size("weight", weight, 1, Self::WEIGHT_MAX)?;
            total += weight;
            ends.push((total, member.node));
        }
        Ok(Self {
            members: members.clone(),
            ends,
            total,
        })
    }

    /// The members that it was built from.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.members
    }

    /// The server of a key. (With a single server, or for an empty key, nginx does not hash at all.)
    #[must_use]
    pub fn owner_of(&self, key: &[u8]) -> NodeIx {
        self.owner(u64::from(hash(key)))
    }

    /// Whom nginx asks, one after the other, while servers are down, [`TRIES`](Self::TRIES) in all; nodes may
    /// come again, and nginx passes over those that it asked already. To the hash are added those of `1key`,
    /// `2key` and so on.
    pub fn tries_of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = NodeIx> + 'a {
        let mut text = String::new();
        let mut sum = 0;
        (0..Self::TRIES).map(move |n| {
            let mut crc = crc32fast::Hasher::new();
            if n > 0 {
                text.clear();
                // Writing to a string cannot fail.
                let _ = write!(text, "{n}");
                crc.update(text.as_bytes());
            }
            crc.update(key);
            sum += u64::from(crc.finalize() >> 16 & 0x7fff);
            self.owner(sum)
        })
    }
}

impl Placement for PlainHash {
    fn node_count(&self) -> usize {
        self.members.len()
    }

    fn owner(&self, hash: u64) -> NodeIx {
        let number = hash % self.total;
        let at = self.ends.partition_point(|(end, _)| *end <= number);
        NodeIx::new(self.ends[at].1)
    }

    fn walk(&self, hash: u64, visit: &mut dyn FnMut(NodeIx) -> ControlFlow<()>) {
        let owning = self.ends.iter().map(|(_, node)| NodeIx::new(*node));
        walk_by_rehash(self, owning, hash, visit);
    }
}
