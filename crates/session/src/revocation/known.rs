//! What is known of ended sessions, as a check reads it: without a lock where nothing was ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use siphasher::sip::SipHasher13;
use zeroize::Zeroizing;

use super::RevocationQuery;
use super::filter::Filter;
use super::set::Set;
use super::waiters::Waiters;
use crate::time::Timestamp;

pub(super) struct Sender {
    pub(super) sent: u64,
    pub(super) heard: Timestamp,
}

/// What is changed by one writer at a time.
#[derive(Default)]
pub(super) struct Writer {
    /// Our own number of the last message; numbers follow changes.
    pub(super) sent: u64,
    pub(super) senders: HashMap<u64, Sender>,
    pub(super) swept: Timestamp,
}

#[derive(Clone, Copy)]
pub(super) struct Held {
    /// The lowest generation that still holds.
    pub(super) generation: u64,
    pub(super) forget_at: Timestamp,
}

#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub(super) hash: u64,
    pub(super) length: u8,
    pub(super) before: Timestamp,
    pub(super) forget_at: Timestamp,
}

pub(super) struct Shared {
    pub(super) sessions: Set,
    pub(super) subjects: RwLock<HashMap<u64, Held>>,
    /// So that a check takes a lock only for a subject that was ended.
    pub(super) subjects_filter: Filter,
    pub(super) subjects_held: AtomicUsize,
    pub(super) prefixes: ArcSwap<Vec<Prefix>>,
    /// So that a check does not even look when there is none.
    pub(super) prefixes_held: AtomicUsize,
    /// Sessions that authenticated before this have ended.
    pub(super) not_before: AtomicU64,
    /// When it was last known that nothing is missing; zero before the first snapshot.
    pub(super) current_at: AtomicU64,
    pub(super) waiters: Waiters,
    pub(super) writer: Mutex<Writer>,
    pub(super) origin: u64,
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) session_hash: SipHasher13,
    pub(super) subject_hash: SipHasher13,
    pub(super) lifetime: Duration,
}

impl Shared {
    pub(super) fn refill_subjects(&self, subjects: &HashMap<u64, Held>) {
        self.subjects_filter
            .refill(subjects.len(), subjects.keys().copied());
    }

    pub(super) fn generation(&self, subject: u64) -> u64 {
        if !self.subjects_filter.may_hold(subject) {
            return 0;
        }
        self.subjects
            .read()
            .get(&subject)
            .map_or(0, |held| held.generation)
    }

    /// An entry stops counting before it is forgotten, so that a login on a server that has
    /// forgotten it already, or never knew it, holds on one whose clock is behind.
    #[inline]
    pub(super) fn is_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool {
        token.authenticated_at.as_secs() < self.not_before.load(Ordering::Acquire)
            || self
                .sessions
                .counts(self.session_hash.hash(&token.session.0), now)
            || self.is_subject_revoked(token, now)
            || self.is_prefix_revoked(token, now)
    }

    pub(super) fn is_subject_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool {
        if self.subjects_held.load(Ordering::Acquire) == 0 {
            return false;
        }
        let hash = self.subject_hash.hash(token.subject.as_bytes());
        if !self.subjects_filter.may_hold(hash) {
            return false;
        }
        let subjects = self.subjects.read();
        let held = subjects.get(&hash).filter(|held| held.forget_at > now);
        held.is_some_and(|held| token.generation < held.generation)
    }

    pub(super) fn is_prefix_revoked(&self, token: &RevocationQuery<'_>, now: Timestamp) -> bool {
        if self.prefixes_held.load(Ordering::Acquire) == 0 {
            return false;
        }
        let prefixes = self.prefixes.load();
        prefixes.iter().any(|prefix| {
            let start = token.subject.as_bytes().get(..prefix.length.into());
            prefix.forget_at > now
                && token.authenticated_at < prefix.before
                && start.is_some_and(|start| self.subject_hash.hash(start) == prefix.hash)
        })
    }
}
