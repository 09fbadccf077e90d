//! The keys that are good now, and which of them signs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::key::{Key, KeyError, KeyId};
use crate::paseto;
use crate::time::Timestamp;

/// Most keys in one ring. A rotation a day with a month of grace needs 31.
pub const KEYS_MAX: usize = 64;

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// Known, so that its tokens verify, but not signing yet: other servers may not have it.
    Pending,
    /// The newest key whose activation has passed; it signs.
    Active,
    /// Verifies only; tokens under it are issued anew.
    Retired,
    /// Its grace has passed; it verifies nothing.
    Expired,
    /// Taken out by hand; it verifies nothing.
    Revoked,
}

/// Why a ring refused a change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The key did not pass its self-test.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of this id is there already.
    #[error("the ring has this key already")]
    Duplicate,
    /// [`KEYS_MAX`] keys are there and none has expired.
    #[error("the ring holds {KEYS_MAX} keys and none has expired")]
    Full,
    /// No key of this id is in the ring.
    #[error("no such key in the ring")]
    Unknown,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: KeyId,
    pub(crate) key: Key,
    activates: Timestamp,
    /// When the next key took over; from then on it counts down its grace.
    retires: Option<Timestamp>,
    revoked: bool,
}

struct Inner {
    /// Sorted by activation. Readers take the snapshot without a lock.
    table: ArcSwap<Vec<Entry>>,
    change: Mutex<()>,
    grace: Duration,
}

/// A set of keys that can be changed while tokens are issued and verified; clones share it.
///
/// Readers take an atomic snapshot and never wait for a change.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

impl KeyRing {
    /// A ring of one key that signs from the beginning. A retired key verifies for `grace` more;
    /// it must not be shorter than the absolute lifetime of a session, or a rotation logs users out.
    ///
    /// # Errors
    /// [`RingError::Key`] when the key fails its self-test.
    pub fn new(key: Key, grace: Duration) -> Result<Self, RingError> {
        check(&key)?;
        let entry = Entry {
            id: key.id(),
            key,
            activates: Timestamp::default(),
            retires: None,
            revoked: false,
        };
        Ok(Self(Arc::new(Inner {
            table: ArcSwap::from_pointee(vec![entry]),
            change: Mutex::new(()),
            grace,
        })))
    }

    /// Adds a key that starts signing at `activates`; the one before it retires then.
    ///
    /// Every server needs the key before any signs with it, so give `activates` a propagation delay:
    /// ten minutes for a pushed key, days for a polled file. A time in the past means `now`. Keys past
    /// their grace are dropped.
    ///
    /// # Errors
    /// When the key fails its self-test, is there already, or the ring is full.
    pub fn add(&self, key: Key, activates: Timestamp, now: Timestamp) -> Result<KeyId, RingError> {
        check(&key)?;
        let id = key.id();
        // In the past, the key before would have retired in the past and lose its grace.
        let activates = activates.max(now);
        let _change = self.0.change.lock();
        let mut table = Vec::clone(&self.0.table.load());
        if table.iter().any(|entry| entry.id == id) {
            return Err(RingError::Duplicate);
        }
        // Revoked keys too: past its grace, a key that is unknown is refused just as well.
        let grace = self.0.grace;
        table.retain(|entry| entry.retires.is_none_or(|at| now < at.after(grace)));
        if table.len() >= KEYS_MAX {
            return Err(RingError::Full);
        }
        table.push(Entry {
            id,
            key,
            activates,
            retires: None,
            revoked: false,
        });
        table.sort_by_key(|entry| entry.activates);
        mend(&mut table);
        self.0.table.store(Arc::new(table));
        Ok(id)
    }

    /// Ends a key at once: no token under it verifies any more, and it is never signed with. The newest
    /// key that is left and not revoked signs, also one that had retired; [`add`](Self::add) a new key first.
    ///
    /// # Errors
    /// [`RingError::Unknown`] when the ring has no such key.
    pub fn revoke(&self, id: KeyId) -> Result<(), RingError> {
        let _change = self.0.change.lock();
        let mut table = Vec::clone(&self.0.table.load());
        let entry = table
            .iter_mut()
            .find(|entry| entry.id == id)
            .ok_or(RingError::Unknown)?;
        entry.revoked = true;
        mend(&mut table);
        self.0.table.store(Arc::new(table));
        Ok(())
    }

    /// Every key with its state at `now`, oldest activation first.
    #[must_use]
    pub fn states(&self, now: Timestamp) -> Vec<(KeyId, KeyState)> {
        let table = self.0.table.load();
        let signer = table_signer(&table, now);
        table
            .iter()
            .map(|entry| (entry.id, self.state_in(&signer, entry, now)))
            .collect()
    }

    /// How long a retired key still verifies.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.0.grace
    }

    fn state_in(&self, signer: &Option<KeyId>, entry: &Entry, now: Timestamp) -> KeyState {
        if entry.revoked {
            KeyState::Revoked
        } else if entry
            .retires
            .is_some_and(|at| now >= at.after(self.0.grace))
        {
            KeyState::Expired
        } else if *signer == Some(entry.id) {
            KeyState::Active
        } else if now < entry.activates {
            KeyState::Pending
        } else {
            KeyState::Retired
        }
    }

    pub(crate) fn signer(&self, now: Timestamp) -> Option<Entry> {
        let table = self.0.table.load();
        let id = table_signer(&table, now)?;
        table.iter().find(|entry| entry.id == id).cloned()
    }

    /// Runs `with` on the key of this id, when it may verify.
    pub(crate) fn verifier<R>(
        &self,
        id: KeyId,
        now: Timestamp,
        with: impl FnOnce(&Key, KeyState) -> R,
    ) -> Result<R, KeyState> {
        let table = self.0.table.load();
        let Some(entry) = table.iter().find(|entry| entry.id == id) else {
            return Err(KeyState::Expired);
        };
        match self.state_in(&table_signer(&table, now), entry, now) {
            state @ (KeyState::Revoked | KeyState::Expired) => Err(state),
            state => Ok(with(&entry.key, state)),
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.load();
        f.debug_list()
            .entries(
                table
                    .iter()
                    .map(|entry| (entry.id, entry.activates, entry.revoked)),
            )
            .finish()
    }
}

fn check(key: &Key) -> Result<(), KeyError> {
    if paseto::self_test(key) {
        Ok(())
    } else {
        Err(KeyError::SelfTest)
    }
}

fn table_signer(table: &[Entry], now: Timestamp) -> Option<KeyId> {
    table
        .iter()
        .rev()
        .find(|entry| !entry.revoked && entry.activates <= now)
        .map(|entry| entry.id)
}

/// Each key retires when the next one activates that is not revoked; for a revoked key, which signs
/// nothing any more, the next of any kind.
fn mend(table: &mut [Entry]) {
    let (mut next_good, mut next) = (None, None);
    for entry in table.iter_mut().rev() {
        entry.retires = if entry.revoked { next } else { next_good };
        next = Some(entry.activates);
        if !entry.revoked {
            next_good = next;
        }
    }
}
