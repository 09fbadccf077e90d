//! Which sessions have been ended before their time, and telling the other servers.
//!
//! Changes form a merge: each is a maximum over what is known, so the order and the number of times
//! they arrive does not matter. Only a missing one does, and sequence numbers show it.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::claims::SessionId;
use crate::hash::keyed;
use crate::key::{Key, KeyError};
use crate::time::Timestamp;

/// What [`Sessions`](crate::Sessions) asks about each token. Called for every request: no blocking.
pub trait Revocations: Send + Sync + 'static {
    /// Whether the session of a token that is otherwise good has been ended.
    fn is_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool;
    /// The generation that a login of `subject` gets.
    fn generation(&self, subject: &str, now: Timestamp) -> u64;
    /// For how long a revocation is remembered at least; `None` when forever.
    /// [`Sessions::new`](crate::Sessions::new) refuses less than the absolute lifetime.
    fn remembered(&self) -> Option<Duration> {
        None
    }
}

/// Nothing is ever revoked: tokens end by time alone.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a unit value that callers write")]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn is_revoked(&self, _: &RevocationQuery<'_>, _: Timestamp) -> bool {
        false
    }
    fn generation(&self, _: &str, _: Timestamp) -> u64 {
        0
    }
}

impl<R: Revocations> Revocations for std::sync::Arc<R> {
    fn is_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool {
        (**self).is_revoked(token, now)
    }
    fn generation(&self, subject: &str, now: Timestamp) -> u64 {
        (**self).generation(subject, now)
    }
    fn remembered(&self) -> Option<Duration> {
        (**self).remembered()
    }
}

/// The claims of a token that revocation looks at.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RevocationQuery<'a> {
    /// The session.
    pub session: SessionId,
    /// Who it belongs to.
    pub subject: &'a str,
    /// The subject's generation when it logged in.
    pub generation: u64,
    /// When the subject logged in or was last authenticated anew.
    pub authenticated_at: Timestamp,
}

impl fmt::Debug for RevocationQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationQuery")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A revocation that could not be taken, or a message of the feed that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The bound on entries is reached and none may be forgotten yet. The revocation did not happen.
    #[error("{0} revocations are held and none may be forgotten yet")]
    Full(usize),
    /// Not a message of this feed: another key, another version, or damaged.
    #[error("not a message of this feed")]
    Malformed,
}

/// What a message of the feed brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// The next message of its sender, or one of a sender not met before.
    InOrder,
    /// Known already.
    Duplicate,
    /// Messages before it are missing: ask any server for a snapshot. It was applied all the same.
    Gap {
        /// How many are missing.
        missing: u64,
    },
}

const VERSION: u8 = 1;
const TAG: usize = 16;
const SESSION: u8 = 0;
const SUBJECT: u8 = 1;
const GLOBAL: u8 = 2;
const BEAT: u8 = 3;

#[derive(Clone, Copy)]
struct Held {
    /// For a subject: the lowest generation that still holds. For a session: zero.
    generation: u64,
    forget_at: Timestamp,
}

struct Sender {
    sent: u64,
    heard: Timestamp,
}

#[derive(Default)]
struct Table {
    entries: HashMap<(u8, u64), Held>,
    /// Sessions that authenticated before this have ended.
    not_before: Timestamp,
    senders: HashMap<u64, Sender>,
    swept: Timestamp,
}

/// Revocations in memory, bounded, with a numbered feed that any bus can carry to other servers.
///
/// Sessions and subjects are kept and sent as keyed 64-bit hashes. An entry is forgotten when no
/// token that it could hit can be good any more: one absolute lifetime and twice ten minutes, for
/// clocks that differ, after the revocation.
///
/// To share: send the bytes that `revoke_*` return to all servers, hand what arrives to
/// [`apply`](Self::apply), send [`beat`](Self::beat) every few seconds so that a lost last message
/// shows too, and on [`Applied::Gap`] or at the start [`load`](Self::load) the
/// [`snapshot`](Self::snapshot) of another server.
pub struct MemoryRevocations {
    table: RwLock<Table>,
    /// Our own number of the last message. Held while a change is made, so numbers follow changes.
    sent: Mutex<u64>,
    origin: u64,
    key: Zeroizing<[u8; 32]>,
    lifetime: Duration,
    capacity: usize,
    senders_max: usize,
}

/// Entries held by default.
pub const REVOCATIONS_MAX: usize = 1_000_000;
/// Senders remembered by default; the one heard of longest ago is forgotten.
pub const SENDERS_MAX: usize = 1024;
/// How far apart the clocks of two servers may be, when entries are forgotten.
const SKEW: Duration = Duration::from_secs(600);

impl MemoryRevocations {
    /// An empty set. All servers that share a feed give the same `key` and the same `lifetime`,
    /// the absolute lifetime of a session; see [`Policy::absolute`](crate::Policy::absolute).
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness, [`KeyError::Placeholder`].
    pub fn new(key: &Key, lifetime: Duration) -> Result<Self, KeyError> {
        let mut origin = [0; 8];
        crate::random::system(&mut origin)?;
        key.not_a_placeholder()?;
        let mut feed_key = Zeroizing::new([0; 32]);
        let label = b"stackbeam-session revocation feed 1";
        keyed(&mut feed_key[..], key.bytes(), &[label]);
        Ok(Self {
            table: RwLock::default(),
            sent: Mutex::new(0),
            origin: u64::from_le_bytes(origin),
            key: feed_key,
            lifetime: lifetime.saturating_add(SKEW),
            capacity: REVOCATIONS_MAX,
            senders_max: SENDERS_MAX,
        })
    }

    /// The most entries to hold; more revocations are refused. Defaults to [`REVOCATIONS_MAX`].
    #[must_use]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// Ends one session. Returns the message for the other servers.
    ///
    /// # Errors
    /// [`FeedError::Full`]; nothing was revoked then.
    pub fn revoke_session(&self, session: SessionId, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        let hash = self.hash(SESSION, &session.0);
        self.publish(now, |_| (SESSION, hash, 0))
    }

    /// Ends every session of a subject that began before this call. Returns the message for the
    /// other servers. A login after it, even in the same second, holds.
    ///
    /// # Errors
    /// [`FeedError::Full`]; nothing was revoked then.
    pub fn revoke_subject(&self, subject: &str, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        let hash = self.hash(SUBJECT, subject.as_bytes());
        self.publish(now, |table| {
            let known = table
                .entries
                .get(&(SUBJECT, hash))
                .map_or(0, |held| held.generation);
            // Time in the high bits: a generation never comes again after an entry was forgotten.
            (
                SUBJECT,
                hash,
                known.saturating_add(1).max(now.as_secs() << 16),
            )
        })
    }

    /// Ends every session whose subject authenticated before `before`.
    ///
    /// # Errors
    /// Never [`FeedError::Full`]; the type leaves room.
    pub fn revoke_all(&self, before: Timestamp, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        self.publish(now, |_| (GLOBAL, 0, before.as_secs()))
    }

    /// A message that only says how many this server has sent.
    #[must_use]
    pub fn beat(&self, now: Timestamp) -> Vec<u8> {
        let sent = self.sent.lock();
        self.encode(*sent, BEAT, 0, 0, now.after(self.lifetime))
    }

    /// Takes a message of another server. Safe to repeat, in any order.
    ///
    /// # Errors
    /// [`FeedError::Malformed`] for anything else than a message under the same key;
    /// [`FeedError::Full`] when it could not be kept: take the server out of service.
    pub fn apply(&self, message: &[u8], now: Timestamp) -> Result<Applied, FeedError> {
        let (body, tag) = message
            .split_last_chunk::<TAG>()
            .ok_or(FeedError::Malformed)?;
        if !bool::from(self.tag(body).ct_eq(tag)) || body.len() != 42 || body[0] != VERSION {
            return Err(FeedError::Malformed);
        }
        let (origin, number, kind) = (read(body, 1), read(body, 9), body[17]);
        let (hash, value, forget_at) = (
            read(body, 18),
            read(body, 26),
            Timestamp::from_secs(read(body, 34)),
        );
        if origin == self.origin {
            return Ok(Applied::Duplicate);
        }
        let mut table = self.table.write();
        if kind != BEAT {
            self.merge(&mut table, kind, hash, value, forget_at, now)?;
        }
        Ok(self.hear(&mut table, origin, number, kind == BEAT, now))
    }

    /// All that is known, for a server that starts or has missed messages.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Vec<u8> {
        let sent = self.sent.lock();
        let table = self.table.read();
        let mut body = vec![VERSION, b'S'];
        body.extend_from_slice(&table.not_before.as_secs().to_le_bytes());
        body.extend_from_slice(&((table.senders.len() + 1) as u64).to_le_bytes());
        let own = (&self.origin, *sent);
        for (origin, number) in table
            .senders
            .iter()
            .map(|(id, sender)| (id, sender.sent))
            .chain([own])
        {
            body.extend_from_slice(&origin.to_le_bytes());
            body.extend_from_slice(&number.to_le_bytes());
        }
        for ((kind, hash), held) in table
            .entries
            .iter()
            .filter(|(_, held)| held.forget_at.after(SKEW) > now)
        {
            body.push(*kind);
            for number in [*hash, held.generation, held.forget_at.as_secs()] {
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
        let tag = self.tag(&body);
        body.extend_from_slice(&tag);
        body
    }

    /// Merges a snapshot of another server. It can only add, never bring a session back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn load(&self, snapshot: &[u8], now: Timestamp) -> Result<(), FeedError> {
        let (body, tag) = snapshot
            .split_last_chunk::<TAG>()
            .ok_or(FeedError::Malformed)?;
        if !bool::from(self.tag(body).ct_eq(tag)) || body.len() < 18 || body[..2] != [VERSION, b'S']
        {
            return Err(FeedError::Malformed);
        }
        let senders = usize::try_from(read(body, 10)).map_err(|_| FeedError::Malformed)?;
        let entries_at = senders
            .checked_mul(16)
            .and_then(|bytes| bytes.checked_add(18));
        let entries_at = entries_at
            .filter(|at| *at <= body.len())
            .ok_or(FeedError::Malformed)?;
        let entries = body[entries_at..].chunks_exact(25);
        if !entries.remainder().is_empty() {
            return Err(FeedError::Malformed);
        }
        let mut table = self.table.write();
        table.not_before = table.not_before.max(Timestamp::from_secs(read(body, 2)));
        for entry in entries {
            let forget_at = Timestamp::from_secs(read(entry, 17));
            self.merge(
                &mut table,
                entry[0],
                read(entry, 1),
                read(entry, 9),
                forget_at,
                now,
            )?;
        }
        for sender in body[18..entries_at].chunks_exact(16) {
            let (origin, number) = (read(sender, 0), read(sender, 8));
            if origin != self.origin {
                self.remember(&mut table, origin, number, now);
            }
        }
        Ok(())
    }

    /// How many revocations are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().entries.len()
    }

    /// Whether nothing is revoked by session or subject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish(
        &self,
        now: Timestamp,
        change: impl FnOnce(&Table) -> (u8, u64, u64),
    ) -> Result<Vec<u8>, FeedError> {
        let mut sent = self.sent.lock();
        let mut table = self.table.write();
        let forget_at = now.after(self.lifetime);
        let (kind, hash, value) = change(&table);
        self.merge(&mut table, kind, hash, value, forget_at, now)?;
        *sent += 1;
        Ok(self.encode(*sent, kind, hash, value, forget_at))
    }

    fn encode(
        &self,
        number: u64,
        kind: u8,
        hash: u64,
        value: u64,
        forget_at: Timestamp,
    ) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend_from_slice(&self.origin.to_le_bytes());
        body.extend_from_slice(&number.to_le_bytes());
        body.push(kind);
        for number in [hash, value, forget_at.as_secs()] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        let tag = self.tag(&body);
        body.extend_from_slice(&tag);
        body
    }

    fn merge(
        &self,
        table: &mut Table,
        kind: u8,
        hash: u64,
        value: u64,
        forget_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        match kind {
            GLOBAL => table.not_before = table.not_before.max(Timestamp::from_secs(value)),
            SESSION | SUBJECT => {
                if table.entries.len() >= self.capacity && table.swept != now {
                    table.swept = now;
                    table
                        .entries
                        .retain(|_, held| held.forget_at.after(SKEW) > now);
                }
                let full = table.entries.len() >= self.capacity;
                match table.entries.get_mut(&(kind, hash)) {
                    Some(held) => {
                        held.generation = held.generation.max(value);
                        held.forget_at = held.forget_at.max(forget_at);
                    }
                    None if full => return Err(FeedError::Full(self.capacity)),
                    None => {
                        table.entries.insert(
                            (kind, hash),
                            Held {
                                generation: value,
                                forget_at,
                            },
                        );
                    }
                }
            }
            _ => return Err(FeedError::Malformed),
        }
        Ok(())
    }

    fn hear(
        &self,
        table: &mut Table,
        origin: u64,
        number: u64,
        beat: bool,
        now: Timestamp,
    ) -> Applied {
        // A sender that is new to us may have said things before; a snapshot tells them.
        let sent = table.senders.get(&origin).map_or(0, |sender| sender.sent);
        let next = if beat { sent } else { sent.saturating_add(1) };
        // The number stays where it is until a snapshot closes the gap.
        self.remember(table, origin, if number <= next { number } else { 0 }, now);
        if number > next {
            Applied::Gap {
                missing: number - next,
            }
        } else if number <= sent && !beat {
            Applied::Duplicate
        } else {
            Applied::InOrder
        }
    }

    fn remember(&self, table: &mut Table, origin: u64, number: u64, now: Timestamp) {
        if !table.senders.contains_key(&origin) && table.senders.len() >= self.senders_max {
            let oldest = table
                .senders
                .iter()
                .min_by_key(|(_, sender)| sender.heard)
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                table.senders.remove(&oldest);
            }
        }
        let sender = table.senders.entry(origin).or_insert(Sender {
            sent: 0,
            heard: now,
        });
        sender.sent = sender.sent.max(number);
        sender.heard = now;
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> u64 {
        let mut hash = [0; 8];
        keyed(&mut hash, &self.key[..], &[&[b'h', kind], bytes]);
        u64::from_le_bytes(hash)
    }

    fn tag(&self, body: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        keyed(&mut tag, &self.key[..], &[b"t", body]);
        tag
    }
}

impl Revocations for MemoryRevocations {
    fn is_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool {
        let session = (SESSION, self.hash(SESSION, &token.session.0));
        let subject = (SUBJECT, self.hash(SUBJECT, token.subject.as_bytes()));
        let table = self.table.read();
        // An entry stops counting before it is forgotten, so that a login on a server that has
        // forgotten it already, or never knew it, holds on one whose clock is behind.
        let counts = |held: &&Held| held.forget_at > now;
        let (session, subject) = (table.entries.get(&session), table.entries.get(&subject));
        token.authenticated_at < table.not_before
            || session.filter(counts).is_some()
            || subject
                .filter(counts)
                .is_some_and(|held| token.generation < held.generation)
    }

    fn generation(&self, subject: &str, _now: Timestamp) -> u64 {
        let subject = (SUBJECT, self.hash(SUBJECT, subject.as_bytes()));
        self.table
            .read()
            .entries
            .get(&subject)
            .map_or(0, |held| held.generation)
    }

    fn remembered(&self) -> Option<Duration> {
        Some(self.lifetime.saturating_sub(SKEW))
    }
}

impl fmt::Debug for MemoryRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRevocations")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn read(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
