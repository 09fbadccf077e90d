//! Which node owns a key: consistent hashing for sharding, caches and load balancing.
//!
//! ```
//! use stackbeam_consistent_hash::{KeyHash, Members, NodeIx, Placement, Ring, Xxh3};
//!
//! let members = Members::from_names(["cache-a", "cache-b", "cache-c"])?;
//! let ring = Ring::new(&members)?;
//!
//! let hash = Xxh3::new().hash(b"user:42");
//! let owner = &members[ring.owner(hash)];
//!
//! // Two copies on two different nodes, the owner first.
//! let mut copies = [NodeIx::default(); 2];
//! assert_eq!(ring.owners(hash, &mut copies), 2);
//! assert_eq!(members[copies[0]].name(), owner.name());
//! assert_ne!(copies[0], copies[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When to use something else
//!
//! A fixed number of nodes that never changes needs a modulo. A cluster whose software places keys
//! itself (Redis Cluster, Cassandra) comes with a client that knows how; to compute the same in a proxy or
//! a batch job, take the feature `interop`.
//!
//! # Concepts
//!
//! * [`Members`] are who may own keys: each with a stable [`MemberId`], a weight, a zone and a state.
//!   The order in which they are listed does not matter.
//! * A [`Placement`] says which node owns a hash and which come next: [`SlotTable`],
//!   [`Ring`], [`Rendezvous`], [`JumpBack`] and others.
//! * A [`KeyHash`] makes the hash of a key. It has a name and never changes under it, because two
//!   processes must agree; `std::hash::Hash` gives no such promise.
//!
//! # Which one
//!
//! | | look-up | memory | who moves when a node leaves | weights |
//! | --- | --- | --- | --- | --- |
//! | [`SlotTable`] | O(1) | 2 bytes a slot | its keys, and some more where caps bind (1.3 times the least at 100 nodes with no slack) | to a slot |
//! | [`Rendezvous`] | O(nodes), 16 at a time | 16 bytes a node, 60 more for each distinct weight | its keys only | exact |
//! | [`Ring`] | O(1) expected | 11 to 14 bytes a point | its keys only | by number of points |
//! | [`MultiProbe`] | O(probes), 21 by default | 24 to 40 bytes a node | its keys only | none |
//! | [`Anchor`] | O(1) expected | 8 bytes a node | its keys only, but the order of removals matters | none |
//! | [`JumpBackAnchor`] | O(1) expected | 8 bytes a node | its keys only, but the order of removals matters | none |
//! | [`JumpBack`], [`Flip`] | O(1) expected | 4 bytes | only the last one can leave | none |
//! | [`Jump`] | O(log nodes) | 4 bytes | only the last one can leave | none |
//! | [`Modulo`] | O(1) | 4 bytes | nearly all keys | none |
//!
//! Around them: [`BoundedLoad`] sends a key past a node that has more than its share; [`Spread`] puts replicas
//! into several zones; [`Ranges::diff`] tells what moves between two placements; `to_bytes`, `from_bytes` and
//! `fingerprint` let two processes prove that they agree; `Shared` (feature `sync`) is read by many threads
//! while members change.
//!
//! # Laws
//!
//! Each is a test of that name in `tests/laws.rs`, over random members:
//!
//! * *Removing a member moves only its keys*: ring, rendezvous, multi-probe and anchor exactly; slot tables
//!   move a little more where caps bind, which is stated there and measured.
//! * *No survivor exchanges keys with a survivor*, with the same exception.
//! * *More weight only gains keys*, and *a change of weight moves the share of the change*.
//! * *The order of listing does not matter*, and *the same members by any history give the same owner*; for
//!   [`Anchor`] history matters, and it says so.
//! * *Draining excludes a member from new keys and moves no other*.
//! * *Owners are distinct, own keys, and start with the owner*.
//! * *Balance stays within the stated peak over mean*.
//! * *An anchor moves only the keys of the node that goes or comes*, and so does *a JumpBack anchor*; *one more
//!   node at the end takes keys and moves no other* for jump, JumpBack and flip.
//!
//! # Bad input
//!
//! No members, weights that are NaN, infinite, negative or out of range, an id that two members have, a name
//! of 1 MiB, sizes that would overflow: a typed error that names the setting or the member, from the call that
//! would build (*bad input is refused by field*, *nobody owns keys of no members*, *sizes that would overflow are
//! refused by field*). What was built before stays as it was; with `Shared` it stays in force (*a change that
//! fails leaves what is in force*). Bytes that are cut, damaged or made up are a [`DecodeError`] (*damaged bytes are
//! refused*, *noise is refused*; a fuzz target is in `fuzz/`). A look-up never fails, never panics and never
//! hangs, whatever the hash.
//!
//! # Costs
//!
//! Look-ups take no lock and allocate nothing. Walks (replicas, unhealthy owners) allocate only when
//! they pass more than eight nodes.
//!
//! # Features
//!
//! * `std` (default). Without it the crate needs `alloc` alone.
//! * `serde`: members, ids and moves. Placements have bytes of their own.
//! * `sync`: `Shared`, by arc-swap.
//! * `interop`: other products' hash functions (module `interop`), rings (`Ketama`), tables (`Maglev`) and
//!   `Ch3`, bit for bit.
//! * `simd` (default): vectors for rendezvous hashing, of the CPU at hand with `std`, else of the target.
#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;

mod anchor;
mod bounded;
mod bytes;
#[cfg(feature = "interop")]
mod ch3;
mod diff;
mod error;
mod fill;
mod flip;
#[cfg(feature = "interop")]
pub mod interop;
mod jump;
mod jump_back;
mod jump_back_anchor;
#[cfg(feature = "interop")]
mod ketama;
mod key;
#[cfg(feature = "interop")]
mod maglev;
mod member;
mod mix;
mod modulo;
mod multi_probe;
mod placement;
mod rendezvous;
mod ring;
#[cfg(feature = "sync")]
mod shared;
mod slot_table;
mod spread;
#[cfg(feature = "sync")]
mod sync;

pub use anchor::{Anchor, AnchorError};
pub use bounded::{BoundedLoad, BoundedLoadStats, NothingInHand, Spill};
pub use bytes::{DecodeError, FORMAT_VERSION};
#[cfg(feature = "interop")]
pub use ch3::Ch3;
pub use diff::{Diff, RangeMove, Ranges, SlotMove};
pub use error::{BuildError, MembersError};
pub use flip::Flip;
pub use jump::Jump;
pub use jump_back::JumpBack;
pub use jump_back_anchor::JumpBackAnchor;
#[cfg(feature = "interop")]
pub use ketama::{EnvoySize, Ketama, KetamaProfile};
pub use key::{KeyHash, Xxh3, Xxh64};
#[cfg(feature = "interop")]
pub use key::{Sip13, Sip24, Xxh32};
#[cfg(feature = "interop")]
pub use maglev::{Maglev, MaglevProfile};
pub use member::{Member, MemberId, MemberState, Members};
pub use modulo::Modulo;
pub use multi_probe::MultiProbe;
pub use placement::{NodeIx, Placement};
pub use rendezvous::Rendezvous;
pub use ring::Ring;
#[cfg(feature = "sync")]
pub use shared::{Shared, Snapshot};
pub use slot_table::SlotTable;
pub use spread::Spread;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
