//! Who is asking: stateless tokens that any server can check, and end.
//!
//! ```
//! use std::time::Duration;
//! use stackbeam_session::{Key, KeyRing, MemoryRevocations, Policy, Sessions, Timestamp, VerifyError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::aal2();
//! let key = Key::generate()?;
//! let revocations = MemoryRevocations::new(&key, policy.absolute())?;
//! let ring = KeyRing::new(key, policy.absolute())?;
//! let sessions = Sessions::<(), _>::new(ring, "login", "example.org", policy, revocations)?;
//!
//! let now = Timestamp::now();
//! let token = sessions.issue("user-42", (), now)?;
//! assert_eq!(sessions.verify(&token, now)?.claims.subject, "user-42");
//!
//! // Log the user out everywhere. `message` goes to the other servers over any bus.
//! let message = sessions.revocations().revoke_subject("user-42", now)?;
//! assert_eq!(sessions.verify(&token, now).err(), Some(VerifyError::Revoked));
//! # drop(message);
//! # Ok(())
//! # }
//! ```
//!
//! # When to use something else
//!
//! To check tokens that another party issues as JWT, use `jsonwebtoken`. For server-side sessions
//! behind an id, with ready stores, use `tower-sessions`.
//!
//! # Concepts
//!
//! - A **token** is PASETO `v4.local`: encrypted and authenticated, one text for one token, no choice
//!   of algorithms. Its footer names the key. Purpose and audience are authenticated without being sent.
//!   The type of the key decides: [`SecretKey`] signs `v4.public` tokens, which those who have only the
//!   [`PublicKey`] can verify; `CompactKey` makes short ones for cookies.
//! - [`paseto`] and [`paserk`] are the formats alone, to speak with other implementations.
//! - The [`KeyRing`] holds pending, active, retired and revoked keys; it changes without a lock for readers.
//! - The [`Policy`] bounds a session by idle time and absolute lifetime; there is no unlimited value.
//! - [`Revocations`] end a session, a subject's sessions, or all, at once.
//! - A [`Store`] keeps state that does not fit a token. Only `create` makes a record, so a request in
//!   flight cannot bring a deleted session back. There are [`MemoryStore`], `RedisStore`, `PostgresStore`,
//!   `MemcachedStore` and `SqliteStore`, and `conformance` checks any other.
//! - [`References`] are opaque names of sessions in a store: refresh tokens that rotate and detect reuse.
//! - `SessionLayer` (feature `tower`) brings it to a web server, from `Authorization: <scheme> <token>` or a `__Host-`
//!   cookie, with a guard against requests that other sites send. Handlers of axum (feature `axum`) ask for `Session`,
//!   `Authenticated`, `Fresh<300>` or `AtLeast<Aal2>`.
//!
//! # Costs
//!
//! Issuing takes 48 random bytes from a generator that the system seeds every 64 KiB; verifying takes no lock (a read lock
//! for a subject that was ended, and seldom for another), and allocates the decoded token and its claims. Revocations are bounded by
//! [`REVOCATIONS_MAX`] entries of 20 to 50 bytes (27 for a million sessions) and forgotten after the absolute
//! lifetime.
//!
//! # Features
//!
//! `std` (default): all but [`paseto`], [`paserk`], [`Claims`] and [`Verifier`], which need `alloc` alone.
//! `tower`: the layer over `http` requests. `axum`: extractors for axum 0.8. `cache`: tokens
//! that were verified a moment ago are not verified again. `metrics`: [`SessionStats`]
//! through the `metrics` facade. `tracing`: events at target `stackbeam_session`, ids as keyed hashes alone. `compact`: short tokens, by
//! aws-lc-rs. `aws-lc-rs`: signing twice as fast. `password`: PASERK keys under a password.
//! `redis`, `postgres`, `memcached`, `sqlite`: stores. `conformance`: the suite that every store passes.
//! `feed`: [`MemoryRevocations`] kept the same on all servers over a log; with `redis`, over a stream of a Redis.
//! `jwt`: reading tokens of others. `legacy`: reading Fernet tokens and private cookies. `vectors`: for
//! tests alone.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "cache")]
mod cache;
mod claims;
#[cfg(feature = "compact")]
mod compact;
#[cfg(feature = "std")]
mod event;
mod format;
mod hash;
#[cfg(feature = "jwt")]
pub mod jwt;
mod key;
mod keypair;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod paserk;
pub mod paseto;
mod policy;
#[cfg(feature = "std")]
mod random;
#[cfg(feature = "std")]
mod revocation;
#[cfg(feature = "std")]
mod ring;
#[cfg(feature = "std")]
mod sessions;
#[cfg(feature = "std")]
mod source;
#[cfg(feature = "std")]
mod stats;
#[cfg(feature = "std")]
mod store;
mod text;
mod time;
mod verify;
#[cfg(feature = "tower")]
mod web;
mod wipe;

pub use claims::{Claims, Level, SessionId};
#[cfg(feature = "compact")]
pub use compact::CompactKey;
pub use format::{DerivedKey, IssuingKey, TokenKey};
pub use key::{Key, KeyError, KeyId};
pub use keypair::{PublicKey, SecretKey};
pub use policy::{LEEWAY_MAX, Policy};
#[cfg(feature = "redis")]
pub use revocation::RedisLog;
#[cfg(feature = "std")]
pub use revocation::{
    Applied, FeedError, MemoryRevocations, NoRevocations, PREFIXES_MAX, REVOCATIONS_MAX,
    RevocationQuery, Revocations, SENDERS_MAX, Verdict, WhenStale,
};
#[cfg(feature = "feed")]
pub use revocation::{
    FeedFailure, LOG_WAIT, LogEntry, LogError, MemoryLog, RevocationFeed, RevocationLog,
};
#[cfg(feature = "std")]
pub use ring::{BARRED_MAX, KEYS_MAX, KeyRing, KeyState, RingError};
#[cfg(feature = "std")]
pub use sessions::{ConfigError, End, IssueError, Sessions, Verified, VerifiedShared};
#[cfg(feature = "std")]
pub use source::{KeySource, KeysInEnv, KeysInFile, PaserkKey, SOURCE_BYTES_MAX, SourceError};
#[cfg(feature = "std")]
pub use stats::SessionStats;
#[cfg(feature = "memcached")]
pub use store::MemcachedStore;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
#[cfg(feature = "redis")]
pub use store::RedisStore;
#[cfg(feature = "sqlite")]
pub use store::SqliteStore;
#[cfg(feature = "conformance")]
pub use store::conformance;
#[cfg(feature = "std")]
pub use store::{
    ATTEMPTS_MAX, MemoryStore, NewRecord, RECORD_BYTES_MAX, RECORDS_MAX, REFERENCE_CHARS, Record,
    ReferenceError, References, Renewed, Store, StoreError, StoreKey, SubjectIndex, SubjectKey,
    fresh_version,
};
pub use time::Timestamp;
pub use verify::{Binding, TOKEN_BYTES_MAX, Verifier, VerifyError};
#[cfg(feature = "axum")]
pub use web::{Aal2, Aal3, AtLeast, AtLeastLevel, Authenticated, Fresh, Rejected, Session};
#[cfg(feature = "tower")]
pub use web::{Adopted, Refusal, SameSite, SessionFuture, SessionLayer, SessionService, claims_of};
#[cfg(all(feature = "feed", feature = "tower"))]
pub use web::{AskFuture, AskLayer, AskService};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
