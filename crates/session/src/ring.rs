//! The keys that are good now, and which of them signs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::event::event;
use crate::format::{self, DerivedKey, TokenKey};
use crate::key::{Key, KeyError, KeyId};
use crate::source::{self, KeySource, PaserkKey, SourceError};
use crate::time::Timestamp;

/// Most keys in one ring. A rotation a day with a month of grace needs 31.
pub const KEYS_MAX: usize = 64;
/// Most intervals that one ring bars.
pub const BARRED_MAX: usize = 16;

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
    /// [`KEYS_MAX`] keys or [`BARRED_MAX`] intervals are there and none has expired.
    #[error("the ring is full: {KEYS_MAX} keys or {BARRED_MAX} barred intervals")]
    Full,
    /// No key of this id is in the ring.
    #[error("no such key in the ring")]
    Unknown,
    /// The keys of a derived ring follow from its master; none can be added.
    #[error("the keys of a derived ring follow from its master alone")]
    Derived,
    /// Time slots so short that the ring would hold more than [`KEYS_MAX`] keys.
    #[error("time slots of {slot:?} with a grace of {grace:?} need more than {KEYS_MAX} keys")]
    SlotTooShort {
        /// The length of a slot.
        slot: Duration,
        /// How long a retired key verifies.
        grace: Duration,
    },
}

#[derive(Clone)]
pub(crate) struct Entry<K> {
    pub(crate) id: KeyId,
    pub(crate) key: K,
    /// The footer that names the key in full.
    pub(crate) kid: Option<Arc<str>>,
    activates: Timestamp,
    /// When the next key took over; from then on it counts down its grace.
    retires: Option<Timestamp>,
    revoked: bool,
}

impl<K: TokenKey> Entry<K> {
    fn new(key: K, activates: Timestamp) -> Self {
        Self {
            id: key.key_id(),
            kid: key.kid().map(|kid| format::kid_footer(&kid).into()),
            key,
            activates,
            retires: None,
            revoked: false,
        }
    }
}

/// Tokens issued in `from..to` under `key` (or any key) are refused until `forget_at`.
#[derive(Clone, Copy)]
struct Barred {
    key: Option<KeyId>,
    from: Timestamp,
    to: Timestamp,
    forget_at: Timestamp,
}

struct Table<K> {
    /// Sorted by activation.
    entries: Vec<Entry<K>>,
    barred: Vec<Barred>,
    /// Of a derived ring: the slot that the entries were made for.
    slot: u64,
}

impl<K: Clone> Clone for Table<K> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            barred: self.barred.clone(),
            slot: self.slot,
        }
    }
}

type Derive<K> = dyn Fn(u64) -> Result<K, KeyError> + Send + Sync;

struct Derived<K> {
    slot: Duration,
    make: Box<Derive<K>>,
}

struct Inner<K> {
    /// Readers take the snapshot without a lock.
    table: ArcSwap<Table<K>>,
    change: Mutex<()>,
    grace: Duration,
    derived: Option<Derived<K>>,
}

/// A set of keys that can be changed while tokens are issued and verified; clones share it.
///
/// The type of the key says which tokens: [`Key`] for `v4.local`,
/// [`SecretKey`](crate::SecretKey) or [`PublicKey`](crate::PublicKey) for `v4.public`. Readers take an atomic snapshot
/// and never wait for a change.
pub struct KeyRing<K: TokenKey = Key>(Arc<Inner<K>>);

impl<K: TokenKey> Clone for KeyRing<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: TokenKey> KeyRing<K> {
    /// A ring of one key that signs from the beginning. A retired key verifies for `grace` more;
    /// it must not be shorter than the absolute lifetime of a session, or a rotation logs users out.
    ///
    /// # Errors
    /// [`RingError::Key`] when the key is a placeholder or fails its self-test.
    pub fn new(key: K, grace: Duration) -> Result<Self, RingError> {
        key.self_test()?;
        let entry = Entry::new(key, Timestamp::default());
        Ok(Self::of(vec![entry], grace, None))
    }

    fn of(entries: Vec<Entry<K>>, grace: Duration, derived: Option<Derived<K>>) -> Self {
        Self(Arc::new(Inner {
            table: ArcSwap::from_pointee(Table {
                entries,
                barred: Vec::new(),
                slot: u64::MAX,
            }),
            change: Mutex::new(()),
            grace,
            derived,
        }))
    }

    /// Adds a key that starts signing at `activates`; the one before it retires then.
    ///
    /// Every server needs the key before any signs with it, so give `activates` a propagation delay:
    /// ten minutes for a pushed key, days for a polled file. A time in the past means `now`. Keys past
    /// their grace are dropped.
    ///
    /// # Errors
    /// When the key fails its self-test, is there already, or the ring is full or derived.
    pub fn add(&self, key: K, activates: Timestamp, now: Timestamp) -> Result<KeyId, RingError> {
        if self.0.derived.is_some() {
            return Err(RingError::Derived);
        }
        key.self_test()?;
        let id = key.key_id();
        // In the past, the key before would have retired in the past and lose its grace.
        let activates = activates.max(now);
        self.change(|table| {
            let entries = &mut table.entries;
            if entries.iter().any(|entry| entry.id == id) {
                return Err(RingError::Duplicate);
            }
            // Revoked keys too: past its grace, a key that is unknown is refused just as well.
            let grace = self.0.grace;
            entries.retain(|entry| entry.retires.is_none_or(|at| now < at.after(grace)));
            if entries.len() >= KEYS_MAX {
                return Err(RingError::Full);
            }
            entries.push(Entry::new(key, activates));
            entries.sort_by_key(|entry| entry.activates);
            mend(entries);
            event!(info, key = ?id, ?activates, "a key was added");
            Ok(id)
        })
    }

    /// Ends a key at once: no token under it verifies any more, and it is never signed with. The newest
    /// key that is left and not revoked signs, also one that had retired; [`add`](Self::add) a new key first.
    /// In a derived ring the next slot's key signs at its time; until then, none may.
    ///
    /// # Errors
    /// [`RingError::Unknown`] when the ring has no such key.
    pub fn revoke(&self, id: KeyId) -> Result<(), RingError> {
        self.change(|table| {
            let entry = table
                .entries
                .iter_mut()
                .find(|entry| entry.id == id)
                .ok_or(RingError::Unknown)?;
            entry.revoked = true;
            event!(warn, key = ?id, "a key was revoked");
            if self.0.derived.is_none() {
                mend(&mut table.entries);
            }
            Ok(())
        })
    }

    /// Refuses every token that was issued in `from..to`, under one key or under any: for a window in
    /// which somebody else could mint tokens. Forgotten one grace after `to`, when no such token lives.
    ///
    /// # Errors
    /// [`RingError::Full`] when [`BARRED_MAX`] intervals are barred.
    pub fn revoke_issued_between(
        &self,
        from: Timestamp,
        to: Timestamp,
        key: Option<KeyId>,
        now: Timestamp,
    ) -> Result<(), RingError> {
        let forget_at = to.max(now).after(self.0.grace);
        self.change(|table| {
            table.barred.retain(|barred| barred.forget_at > now);
            if table.barred.len() >= BARRED_MAX {
                return Err(RingError::Full);
            }
            table.barred.push(Barred {
                key,
                from,
                to,
                forget_at,
            });
            Ok(())
        })
    }

    /// Every key with its state at `now`, oldest activation first.
    #[must_use]
    pub fn states(&self, now: Timestamp) -> Vec<(KeyId, KeyState)> {
        let table = self.table(now);
        let signer = signer_of(&table.entries, now);
        (table.entries.iter().enumerate())
            .map(|(at, entry)| (entry.id, self.state_in(signer, at, entry, now)))
            .collect()
    }

    /// How long a retired key still verifies.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.0.grace
    }

    fn change<R>(
        &self,
        with: impl FnOnce(&mut Table<K>) -> Result<R, RingError>,
    ) -> Result<R, RingError> {
        let _change = self.0.change.lock();
        let mut table = Table::clone(&self.0.table.load());
        let result = with(&mut table)?;
        self.0.table.store(Arc::new(table));
        Ok(result)
    }

    /// The keys, those of a derived ring made for `now`.
    fn table(&self, now: Timestamp) -> arc_swap::Guard<Arc<Table<K>>> {
        let table = self.0.table.load();
        let Some(derived) = &self.0.derived else {
            return table;
        };
        let slot = now.as_secs() / derived.slot.as_secs().max(1);
        if table.slot == slot {
            return table;
        }
        drop(table);
        // A key that cannot be made is left out: nothing verifies or signs under it.
        let _result = self.change(|table| {
            self.fill(derived, table, slot);
            Ok(())
        });
        self.0.table.load()
    }

    fn fill(&self, derived: &Derived<K>, table: &mut Table<K>, slot: u64) {
        let length = derived.slot.as_secs().max(1);
        let behind = self.0.grace.as_secs().div_ceil(length) + 1;
        let old = std::mem::take(&mut table.entries);
        for number in slot.saturating_sub(behind)..=slot.saturating_add(1) {
            let activates = Timestamp::from_secs(number.saturating_mul(length));
            let known = old.iter().find(|entry| entry.activates == activates);
            let entry = known.cloned().or_else(|| {
                let key = (derived.make)(number).ok()?;
                let mut entry = Entry::new(key, activates);
                entry.retires = Some(activates.after(derived.slot));
                Some(entry)
            });
            table.entries.extend(entry);
        }
        table.slot = slot;
    }

    fn state_in(
        &self,
        signer: Option<usize>,
        at: usize,
        entry: &Entry<K>,
        now: Timestamp,
    ) -> KeyState {
        let ended = |at: Timestamp| now >= at.after(self.0.grace);
        if entry.revoked {
            KeyState::Revoked
        } else if entry.retires.is_some_and(ended) {
            KeyState::Expired
        } else if signer == Some(at) {
            KeyState::Active
        } else if now < entry.activates {
            KeyState::Pending
        } else {
            KeyState::Retired
        }
    }

    /// Runs `with` on the key that signs.
    pub(crate) fn signer<R>(&self, now: Timestamp, with: impl FnOnce(&Entry<K>) -> R) -> Option<R> {
        let table = self.table(now);
        let at = signer_of(&table.entries, now)?;
        table.entries.get(at).map(with)
    }

    /// Runs `with` on the key of this id, when it may verify.
    pub(crate) fn verifier<R>(
        &self,
        id: KeyId,
        now: Timestamp,
        with: impl FnOnce(&K, KeyState) -> R,
    ) -> Result<R, KeyState> {
        let table = self.table(now);
        let found = table.entries.iter().enumerate();
        let Some((at, entry)) = found.into_iter().find(|(_, entry)| entry.id == id) else {
            return Err(KeyState::Expired);
        };
        let signer = signer_of(&table.entries, now);
        match self.state_in(signer, at, entry, now) {
            state @ (KeyState::Revoked | KeyState::Expired) => Err(state),
            state => Ok(with(&entry.key, state)),
        }
    }

    /// Whether a token of this key and time falls into a barred interval.
    pub(crate) fn bars(&self, id: KeyId, issued_at: Timestamp) -> bool {
        self.0.table.load().barred.iter().any(|barred| {
            barred.key.is_none_or(|key| key == id) && (barred.from..barred.to).contains(&issued_at)
        })
    }
}

impl<K: PaserkKey> KeyRing<K> {
    /// A ring of the keys of a source.
    ///
    /// # Errors
    /// [`SourceError`] says what is wrong with them.
    pub fn from_source(source: &impl KeySource, grace: Duration) -> Result<Self, SourceError> {
        let text = source.read()?.ok_or(SourceError::Count(0))?;
        let mut entries = Vec::new();
        for (key, activates) in source::parse::<K>(&text)? {
            let id = key.key_id();
            if entries.iter().all(|entry: &Entry<K>| entry.id != id) {
                entries.push(Entry::new(key, activates));
            }
        }
        entries.sort_by_key(|entry| entry.activates);
        mend(&mut entries);
        Ok(Self::of(entries, grace, None))
    }

    /// Takes over what changed at a source: keys that are new there are added, and keys that are no longer there
    /// verify nothing any more, so leave a retired key in the source until its grace is over. Returns how many were
    /// added and how many revoked.
    ///
    /// # Errors
    /// [`SourceError`] says what is wrong; the ring stays as it was.
    pub fn sync(
        &self,
        source: &impl KeySource,
        now: Timestamp,
    ) -> Result<(usize, usize), SourceError> {
        let Some(text) = source.read()? else {
            return Ok((0, 0));
        };
        let listed = source::parse::<K>(&text)?;
        let ids: Vec<_> = listed.iter().map(|(key, _)| key.key_id()).collect();
        let (mut added, mut revoked) = (0, 0);
        for (key, activates) in listed {
            match self.add(key, activates, now) {
                Ok(_) => added += 1,
                Err(RingError::Duplicate) => {}
                Err(RingError::Key(error)) => return Err(error.into()),
                Err(error) => return Err(SourceError::Unreadable(error.to_string())),
            }
        }
        for (id, state) in self.states(now) {
            if !ids.contains(&id) && state != KeyState::Revoked && self.revoke(id).is_ok() {
                revoked += 1;
            }
        }
        Ok((added, revoked))
    }
}

impl<K: DerivedKey> KeyRing<K> {
    /// A ring that makes its own keys from a master: each time slot of length `slot` has its own, by
    /// HKDF-SHA256 (RFC 5869) over the master, `purpose` and the number of the slot.
    ///
    /// Every server with the same master, purpose and slot has the same keys at the same time: nothing is
    /// distributed and nobody rotates. The key of the next slot verifies before it signs, so clocks may differ.
    /// A leak of one slot's key tells nothing of the others; a leak of the master, everything.
    ///
    /// # Errors
    /// [`RingError::Key`] when the master is a placeholder, [`RingError::SlotTooShort`] when slots and grace
    /// would need more than [`KEYS_MAX`] keys.
    pub fn derived(
        master: &Key,
        purpose: &str,
        slot: Duration,
        grace: Duration,
    ) -> Result<Self, RingError> {
        master.not_a_placeholder()?;
        let seconds = slot.as_secs();
        if seconds == 0 || grace.as_secs() / seconds > KEYS_MAX as u64 - 4 {
            return Err(RingError::SlotTooShort { slot, grace });
        }
        let hkdf =
            hkdf::Hkdf::<sha2::Sha256>::new(Some(b"stackbeam-session ring 1"), master.bytes());
        let purpose = purpose.as_bytes().to_vec();
        let make = move |number: u64| {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            let length = (purpose.len() as u64).to_le_bytes();
            let info: [&[u8]; 4] = [
                &length,
                &purpose,
                &seconds.to_le_bytes(),
                &number.to_le_bytes(),
            ];
            hkdf.expand_multi_info(&info, &mut bytes[..])
                .map_err(|_| KeyError::Malformed)?;
            K::from_derived(&bytes)
        };
        make(0)?.self_test()?;
        let derived = Derived {
            slot: Duration::from_secs(seconds),
            make: Box::new(make),
        };
        Ok(Self::of(Vec::new(), grace, Some(derived)))
    }
}

impl<K: TokenKey> fmt::Debug for KeyRing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.0.table.load();
        let entries = table.entries.iter();
        f.debug_list()
            .entries(entries.map(|entry| (entry.id, entry.activates, entry.revoked)))
            .finish()
    }
}

/// The newest key whose activation has passed; of a derived ring, the one whose slot it is.
fn signer_of<K>(entries: &[Entry<K>], now: Timestamp) -> Option<usize> {
    entries
        .iter()
        .rposition(|entry| !entry.revoked && entry.activates <= now)
        .filter(|at| entries[*at].retires.is_none_or(|retires| now < retires))
}

/// Each key retires when the next one activates that is not revoked; for a revoked key, which signs
/// nothing any more, the next of any kind.
fn mend<K>(entries: &mut [Entry<K>]) {
    let (mut next_good, mut next) = (None, None);
    for entry in entries.iter_mut().rev() {
        entry.retires = if entry.revoked { next } else { next_good };
        next = Some(entry.activates);
        if !entry.revoked {
            next_good = next;
        }
    }
}
