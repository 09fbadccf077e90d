//! Revocations in memory, bounded, with a numbered feed that any bus can carry to other servers.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use siphasher::sip::SipHasher13;
use zeroize::Zeroizing;

use super::ended::Ended;
use super::filter::Filter;
use super::known::{Held, Prefix, Sender, Shared, Writer};
use super::message::{Change, Message, Snapshot};
use super::set::Set;
use super::waiters::Waiters;
use super::{Applied, FeedError, RevocationQuery, Revocations, Verdict};
use crate::claims::SessionId;
use crate::event::event;
use crate::hash::keyed;
use crate::key::{Key, KeyError};
use crate::time::Timestamp;

/// Entries held by default.
pub const REVOCATIONS_MAX: usize = 1_000_000;
/// Senders remembered by default; the one heard of longest ago is forgotten.
pub const SENDERS_MAX: usize = 1024;
/// Most prefixes of subjects that are ended at one time.
pub const PREFIXES_MAX: usize = 16;
/// How far apart the clocks of two servers may be, when entries are forgotten.
const SKEW: Duration = Duration::from_secs(600);

/// What happens to tokens when it has not been heard for too long which sessions have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenStale {
    /// Go on with what is known: a session that was ended meanwhile is still good here.
    Continue,
    /// Refuse all tokens ([`Verdict::Unknown`]).
    Refuse,
    /// Refuse them too, but who can wait asks the log first: `AskLayer` does, or [`Sessions`](crate::Sessions) after
    /// `RevocationFeed::ask` (feature `feed`).
    AskStore,
}

/// Revocations in memory, bounded, with a numbered feed that any bus can carry to other servers.
///
/// Sessions and subjects are kept and sent as keyed 64-bit hashes (SipHash-1-3). A check takes no lock, but for a
/// subject that was ended (and seldom for another) a read lock. An entry is forgotten when no token that it could hit can be good any
/// more: one absolute lifetime and twice ten minutes, for clocks that differ, after the revocation.
///
/// To share: send the bytes that `revoke_*` return to all servers, hand what arrives to
/// [`apply`](Self::apply), send [`beat`](Self::beat) every few seconds so that a lost last message
/// shows too, and on [`Applied::Gap`] or at the start [`load`](Self::load) the
/// [`snapshot`](Self::snapshot) of another server. With [`following`](Self::following) nothing is served before the
/// first snapshot, and what happens when the feed is silent is up to you.
pub struct MemoryRevocations {
    shared: Arc<Shared>,
    capacity: usize,
    senders_max: usize,
    following: Option<(Duration, WhenStale)>,
}

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
        let hasher = |label: &[u8]| {
            let mut bytes = Zeroizing::new([0; 16]);
            keyed(&mut bytes[..], &feed_key[..], &[b"h", label]);
            SipHasher13::new_with_key(&bytes)
        };
        Ok(Self {
            shared: Arc::new(Shared {
                sessions: Set::new(),
                subjects: RwLock::default(),
                subjects_filter: Filter::new(),
                subjects_held: AtomicUsize::new(0),
                prefixes: ArcSwap::default(),
                prefixes_held: AtomicUsize::new(0),
                not_before: AtomicU64::new(0),
                current_at: AtomicU64::new(0),
                waiters: Waiters::default(),
                writer: Mutex::default(),
                origin: u64::from_le_bytes(origin),
                session_hash: hasher(b"session"),
                subject_hash: hasher(b"subject"),
                key: feed_key,
                lifetime: lifetime.saturating_add(SKEW),
            }),
            capacity: REVOCATIONS_MAX,
            senders_max: SENDERS_MAX,
            following: None,
        })
    }

    /// The most entries to hold; more revocations are refused. Defaults to [`REVOCATIONS_MAX`].
    #[must_use]
    pub fn capacity(mut self, entries: usize) -> Self {
        self.capacity = entries;
        self
    }

    /// This server follows the feed of others: every token is refused ([`Verdict::Unknown`]) until the first
    /// [`load`](Self::load) or [`mark_current`](Self::mark_current), and `when` says what happens when that was longer
    /// than `staleness_max` ago. Defaults to not following: what is known here is all there is.
    #[must_use]
    pub fn following(mut self, staleness_max: Duration, when: WhenStale) -> Self {
        self.following = Some((staleness_max, when));
        self
    }

    /// Nothing that was said before `now` is missing: every sender's last beat was in order.
    pub fn mark_current(&self, now: Timestamp) {
        self.shared
            .current_at
            .fetch_max(now.as_secs().max(1), Ordering::Relaxed);
    }

    /// How long ago it was last known that nothing is missing; `None` before the first time.
    #[must_use]
    pub fn staleness(&self, now: Timestamp) -> Option<Duration> {
        match self.shared.current_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(now.since(Timestamp::from_secs(at))),
        }
    }

    /// Whether this server [follows](Self::following) others and has not heard for too long, or never, that nothing is
    /// missing.
    #[must_use]
    pub fn is_too_old(&self, now: Timestamp) -> bool {
        self.following
            .is_some_and(|(most, _)| self.staleness(now).is_none_or(|staleness| staleness > most))
    }

    /// Ends one session. Returns the message for the other servers.
    ///
    /// # Errors
    /// [`FeedError::Full`]; nothing was revoked then.
    pub fn revoke_session(&self, session: SessionId, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        let hash = self.shared.session_hash.hash(&session.0);
        self.publish(now, || Change::Session { hash })
    }

    /// Ends every session of a subject that began before this call. Returns the message for the
    /// other servers. A login after it, even in the same second, holds.
    ///
    /// # Errors
    /// [`FeedError::Full`]; nothing was revoked then.
    pub fn revoke_subject(&self, subject: &str, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        let hash = self.shared.subject_hash.hash(subject.as_bytes());
        self.publish(now, || {
            let known = self.shared.generation(hash);
            // Time in the high bits: a generation never comes again after an entry was forgotten.
            let generation = known.saturating_add(1).max(now.as_secs() << 16);
            Change::Subject { hash, generation }
        })
    }

    /// Ends every session that authenticated at `now` or before and whose subject begins with `prefix`: a
    /// tenant, when subjects are `tenant/user`. At most 255 bytes; what is longer is cut off at that. A login in the same
    /// second is ended too.
    ///
    /// # Errors
    /// [`FeedError::Full`] when [`PREFIXES_MAX`] are held; nothing was revoked then.
    pub fn revoke_prefix(&self, prefix: &str, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        let length = u8::try_from(prefix.len()).unwrap_or(u8::MAX);
        let hash = self
            .shared
            .subject_hash
            .hash(&prefix.as_bytes()[..length.into()]);
        let before = now.after(Duration::from_secs(1));
        self.publish(now, || Change::Prefix {
            hash,
            length,
            before,
        })
    }

    /// Ends every session whose subject authenticated before `before`.
    ///
    /// # Errors
    /// Never [`FeedError::Full`]; the type leaves room.
    pub fn revoke_all(&self, before: Timestamp, now: Timestamp) -> Result<Vec<u8>, FeedError> {
        self.publish(now, || Change::Global { before })
    }

    /// A message that only says how many this server has sent.
    #[must_use]
    pub fn beat(&self, now: Timestamp) -> Vec<u8> {
        let writer = self.shared.writer.lock();
        self.message(writer.sent, None, now)
    }

    /// Takes a message of another server. Safe to repeat, in any order.
    ///
    /// # Errors
    /// [`FeedError::Malformed`] for anything else than a message under the same key;
    /// [`FeedError::Full`] when it could not be kept: take the server out of service.
    pub fn apply(&self, message: &[u8], now: Timestamp) -> Result<Applied, FeedError> {
        let message = Message::read(message, &self.shared.key)?;
        if message.origin == self.shared.origin {
            return Ok(Applied::Duplicate);
        }
        let mut writer = self.shared.writer.lock();
        if let Some(change) = message.change {
            self.merge(&mut writer, change, message.forget_at, now)?;
        }
        let (origin, number) = (message.origin, message.number);
        Ok(self.hear(&mut writer, origin, number, message.change.is_none(), now))
    }

    /// All that is known, for a server that starts or has missed messages: 25 bytes an entry.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> Vec<u8> {
        let shared = &self.shared;
        let writer = shared.writer.lock();
        let senders = writer.senders.iter().map(|(id, sender)| (*id, sender.sent));
        let senders = senders.chain([(shared.origin, writer.sent)]).collect();
        let before = Timestamp::from_secs(shared.not_before.load(Ordering::Relaxed));
        let mut changes = vec![(Change::Global { before }, now.after(shared.lifetime))];
        let sessions = shared.sessions.entries().into_iter();
        changes.extend(sessions.map(|(hash, end)| (Change::Session { hash }, end)));
        for (hash, held) in &*shared.subjects.read() {
            let (hash, generation) = (*hash, held.generation);
            changes.push((Change::Subject { hash, generation }, held.forget_at));
        }
        for prefix in shared.prefixes.load().iter() {
            let change = Change::Prefix {
                hash: prefix.hash,
                length: prefix.length,
                before: prefix.before,
            };
            changes.push((change, prefix.forget_at));
        }
        changes.retain(|(_, forget_at)| forget_at.after(SKEW) > now);
        Snapshot { senders, changes }.write(&shared.key)
    }

    /// Merges a snapshot of another server. It can only add, never bring a session back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn load(&self, snapshot: &[u8], now: Timestamp) -> Result<(), FeedError> {
        let snapshot = Snapshot::read(snapshot, &self.shared.key)?;
        let mut writer = self.shared.writer.lock();
        for (change, forget_at) in snapshot.changes {
            self.merge(&mut writer, change, forget_at, now)?;
        }
        for (origin, number) in snapshot.senders {
            if origin != self.shared.origin {
                self.remember(&mut writer, origin, number, now);
            }
        }
        self.mark_current(now);
        Ok(())
    }

    /// How many sessions and subjects are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.sessions.len() + self.shared.subjects_held.load(Ordering::Relaxed)
    }

    /// Whether nothing is revoked by session or subject.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn publish(
        &self,
        now: Timestamp,
        change: impl FnOnce() -> Change,
    ) -> Result<Vec<u8>, FeedError> {
        let mut writer = self.shared.writer.lock();
        let change = change();
        self.merge(&mut writer, change, now.after(self.shared.lifetime), now)?;
        writer.sent += 1;
        event!(info, ?change, "sessions were ended");
        Ok(self.message(writer.sent, Some(change), now))
    }

    fn message(&self, number: u64, change: Option<Change>, now: Timestamp) -> Vec<u8> {
        let message = Message {
            origin: self.shared.origin,
            number,
            change,
            forget_at: now.after(self.shared.lifetime),
        };
        message.write(&self.shared.key)
    }

    fn merge(
        &self,
        writer: &mut Writer,
        change: Change,
        forget_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        let shared = &*self.shared;
        match change {
            Change::Global { before } => {
                shared
                    .not_before
                    .fetch_max(before.as_secs(), Ordering::Release);
                shared.waiters.wake(None);
            }
            Change::Session { hash } => {
                if !shared.sessions.has(hash) {
                    self.make_room(writer, now)?;
                }
                shared.sessions.put(hash, forget_at);
                shared.waiters.wake(Some(hash));
            }
            Change::Subject { hash, generation } => {
                if !shared.subjects.read().contains_key(&hash) {
                    self.make_room(writer, now)?;
                }
                let mut subjects = shared.subjects.write();
                let known = subjects.len();
                let held = subjects.entry(hash).or_insert(Held {
                    generation,
                    forget_at,
                });
                held.generation = held.generation.max(generation);
                held.forget_at = held.forget_at.max(forget_at);
                if subjects.len() > known && !shared.subjects_filter.put(hash) {
                    shared.refill_subjects(&subjects);
                }
                shared
                    .subjects_held
                    .store(subjects.len(), Ordering::Release);
                drop(subjects);
                shared.waiters.wake(Some(hash));
            }
            Change::Prefix {
                hash,
                length,
                before,
            } => {
                let mut prefixes = Vec::clone(&shared.prefixes.load());
                prefixes.retain(|prefix| prefix.forget_at.after(SKEW) > now);
                let same = |prefix: &&mut Prefix| (prefix.hash, prefix.length) == (hash, length);
                let full = prefixes.len() >= PREFIXES_MAX;
                match prefixes.iter_mut().find(same) {
                    Some(prefix) => {
                        prefix.before = prefix.before.max(before);
                        prefix.forget_at = prefix.forget_at.max(forget_at);
                    }
                    None if full => {
                        return Err(FeedError::Full(PREFIXES_MAX));
                    }
                    None => prefixes.push(Prefix {
                        hash,
                        length,
                        before,
                        forget_at,
                    }),
                }
                let held = prefixes.len();
                shared.prefixes.store(Arc::new(prefixes));
                shared.prefixes_held.store(held, Ordering::Release);
                shared.waiters.wake(None);
            }
        }
        Ok(())
    }

    /// Room for one entry more; at the bound, what may be forgotten is, at most once a second.
    fn make_room(&self, writer: &mut Writer, now: Timestamp) -> Result<(), FeedError> {
        if self.len() < self.capacity {
            return Ok(());
        }
        if writer.swept != now {
            writer.swept = now;
            let shared = &*self.shared;
            shared.sessions.sweep(now.before(SKEW));
            let mut subjects = shared.subjects.write();
            subjects.retain(|_, held| held.forget_at.after(SKEW) > now);
            shared.refill_subjects(&subjects);
            shared
                .subjects_held
                .store(subjects.len(), Ordering::Release);
        }
        if self.len() < self.capacity {
            Ok(())
        } else {
            Err(FeedError::Full(self.capacity))
        }
    }

    fn hear(
        &self,
        writer: &mut Writer,
        origin: u64,
        number: u64,
        beat: bool,
        now: Timestamp,
    ) -> Applied {
        // A sender that is new to us may have said things before; a snapshot tells them.
        let sent = writer.senders.get(&origin).map_or(0, |sender| sender.sent);
        let next = if beat { sent } else { sent.saturating_add(1) };
        // The number stays where it is until a snapshot closes the gap.
        self.remember(writer, origin, if number <= next { number } else { 0 }, now);
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

    fn remember(&self, writer: &mut Writer, origin: u64, number: u64, now: Timestamp) {
        let senders = &mut writer.senders;
        if !senders.contains_key(&origin) && senders.len() >= self.senders_max {
            let oldest = senders.iter().min_by_key(|(_, sender)| sender.heard);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                senders.remove(&oldest);
            }
        }
        let sender = senders.entry(origin).or_insert(Sender {
            sent: 0,
            heard: now,
        });
        sender.sent = sender.sent.max(number);
        sender.heard = now;
    }
}

impl Revocations for MemoryRevocations {
    fn check(&self, token: &RevocationQuery<'_>, now: Timestamp) -> Verdict {
        if let Some((_, when)) = self.following {
            let refuses = when != WhenStale::Continue || self.staleness(now).is_none();
            if refuses && self.is_too_old(now) {
                return Verdict::Unknown;
            }
        }
        if self.shared.is_revoked(token, now) {
            Verdict::Revoked
        } else {
            Verdict::Good
        }
    }

    fn generation(&self, subject: &str, _now: Timestamp) -> u64 {
        self.shared
            .generation(self.shared.subject_hash.hash(subject.as_bytes()))
    }

    fn remembered(&self) -> Option<Duration> {
        Some(self.shared.lifetime.saturating_sub(SKEW))
    }

    fn ended(
        &self,
        token: &RevocationQuery<'_>,
        now: Timestamp,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let shared = Arc::clone(&self.shared);
        let hashes = [
            shared.session_hash.hash(&token.session.0),
            shared.subject_hash.hash(token.subject.as_bytes()),
        ];
        Ended {
            id: shared.waiters.enter(hashes),
            hashes,
            session: token.session,
            subject: token.subject.to_owned(),
            generation: token.generation,
            authenticated_at: token.authenticated_at,
            now,
            shared,
        }
    }
}

impl fmt::Debug for MemoryRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRevocations")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
