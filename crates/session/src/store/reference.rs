//! Sessions behind an opaque reference, which can be replaced at any time without losing anybody.
//!
//! A reference is base64url of: version byte 1, 160 random bits, the number of its replacements (4 bytes), and a
//! keyed tag (16). The store knows the random bits only as a keyed hash, so a leaked table logs nobody in; the
//! tag refuses garbage without asking the store; and the successor of a reference follows from it, so everybody
//! who replaces the same one gets the same successor.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::{ATTEMPTS_MAX, NewRecord, Store, StoreError, StoreKey, SubjectKey};
use crate::event::event;
use crate::hash::keyed;
use crate::key::{Key, KeyError};
use crate::policy::Policy;
use crate::time::Timestamp;

const VERSION: u8 = 1;
const FAMILY: usize = 20;
const TAG: usize = 16;
const RAW: usize = 1 + FAMILY + 4 + TAG;
/// Length of a reference in characters.
pub const REFERENCE_CHARS: usize = 55;
/// In front of the application's data: number of replacements, time of the last, absolute end.
const FRONT: usize = 4 + 8 + 8;

/// Why a reference was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Not a reference of ours; the store was not asked.
    #[error("not a reference of ours")]
    NotAuthentic,
    /// The session is over.
    #[error("the session is over")]
    Ended,
    /// It was replaced longer ago than the grace: somebody has a copy. The session has been ended.
    #[error("a reference was used after it had been replaced; the session has been ended")]
    Reused,
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ReferenceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gone => Self::Ended,
            error => Self::Store(error),
        }
    }
}

/// A reference that was replaced.
#[non_exhaustive]
pub struct Renewed {
    /// The reference from now on. The old one is good until the grace ends.
    pub reference: String,
    /// Whether another request had replaced it already; this is the same successor.
    pub redelivered: bool,
    /// What the application stored.
    pub data: Vec<u8>,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed")
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}

/// Sessions in a [`Store`] behind opaque references: refresh tokens that rotate, or session ids.
///
/// Replacing is one compare-and-swap: of a thousand requests that replace the same reference at once, one does,
/// and all are given the same successor. A reference that comes again after the grace ends the session, for then
/// two parties have it.
pub struct References<S> {
    store: S,
    key: Key,
    policy: Policy,
    grace: Duration,
}

struct Parsed {
    family: [u8; FAMILY],
    number: u32,
    key: StoreKey,
}

struct State {
    number: u32,
    replaced_at: Timestamp,
    ends_at: Timestamp,
}

impl State {
    fn read(data: &[u8]) -> Result<(Self, &[u8]), StoreError> {
        let (front, rest) = data
            .split_first_chunk::<FRONT>()
            .ok_or_else(|| StoreError::Unavailable("a record that is not ours".to_owned()))?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&front[at..at + 8]);
            Timestamp::from_secs(u64::from_be_bytes(bytes))
        };
        let mut replaced = [0; 4];
        replaced.copy_from_slice(&front[..4]);
        let state = Self {
            number: u32::from_be_bytes(replaced),
            replaced_at: number(4),
            ends_at: number(12),
        };
        Ok((state, rest))
    }

    fn write(&self, data: &[u8]) -> Vec<u8> {
        let mut all = Vec::with_capacity(FRONT + data.len());
        all.extend_from_slice(&self.number.to_be_bytes());
        all.extend_from_slice(&self.replaced_at.as_secs().to_be_bytes());
        all.extend_from_slice(&self.ends_at.as_secs().to_be_bytes());
        all.extend_from_slice(data);
        all
    }
}

impl<S: Store> References<S> {
    /// References into `store`, made under `key`, which all servers share. Sessions live as `policy` says.
    ///
    /// # Errors
    /// [`KeyError::Placeholder`].
    pub fn new(store: S, key: Key, policy: Policy) -> Result<Self, KeyError> {
        key.not_a_placeholder()?;
        Ok(Self {
            store,
            key,
            policy,
            grace: Duration::from_secs(30),
        })
    }

    /// How long a reference that was replaced is still good. Defaults to 30 s, at most five minutes: long
    /// enough for requests in flight and answers that got lost.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(Duration::from_secs(300));
        self
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Begins a session and gives its first reference.
    ///
    /// # Errors
    /// [`ReferenceError::Store`].
    ///
    /// # Cancel safety
    /// A record that nobody can name may be left; it expires.
    pub async fn begin(
        &self,
        subject: &str,
        data: &[u8],
        now: Timestamp,
    ) -> Result<String, ReferenceError> {
        let mut family = [0; FAMILY];
        crate::random::pooled(&mut family).map_err(StoreError::Key)?;
        let state = State {
            number: 0,
            replaced_at: now,
            ends_at: now.after(self.policy.absolute()),
        };
        let record = NewRecord {
            subject: SubjectKey::new(&self.key, subject),
            data: state.write(data),
            expires_at: now.after(self.policy.idle()),
        };
        let key = StoreKey::of_reference(&self.key, &family);
        self.store.create(key, record, now).await?;
        Ok(self.text(&family, 0))
    }

    /// What the application stored, and the name of the record. Reads once, and writes at most once in half of
    /// the idle time.
    ///
    /// # Errors
    /// [`ReferenceError`] says why not.
    ///
    /// # Cancel safety
    /// Safe: the session may or may not have been extended or, when reused, ended.
    pub async fn load(
        &self,
        reference: &str,
        now: Timestamp,
    ) -> Result<(StoreKey, Vec<u8>), ReferenceError> {
        let parsed = self.parse(reference)?;
        let record = self.store.load(parsed.key, now).await?;
        let (state, data) = State::read(&record.data)?;
        self.still_good(&parsed, &state, now).await?;
        let until = now.after(self.policy.idle()).min(state.ends_at);
        if until.since(record.expires_at) >= self.policy.idle() / 2 {
            self.store.touch(parsed.key, until, now).await?;
        }
        Ok((parsed.key, data.to_vec()))
    }

    /// Changes the application's data, and loses no other change: see [`Store::modify`].
    ///
    /// # Errors
    /// [`ReferenceError`] says why not.
    ///
    /// # Cancel safety
    /// The change has happened or not.
    pub async fn modify(
        &self,
        reference: &str,
        now: Timestamp,
        mut change: impl FnMut(&mut Vec<u8>) + Send,
    ) -> Result<(), ReferenceError> {
        let (key, _) = self.load(reference, now).await?;
        let change = |data: &mut Vec<u8>| {
            if let Some((front, rest)) = data.split_first_chunk::<FRONT>() {
                let (front, mut rest) = (*front, rest.to_vec());
                change(&mut rest);
                *data = [&front[..], &rest].concat();
            }
        };
        self.store.modify(key, now, change).await?;
        Ok(())
    }

    /// Replaces a reference. Inside the grace, everybody who comes with the old one gets the same successor.
    ///
    /// # Errors
    /// [`ReferenceError::Reused`] after the grace: the session has been ended, for the thief and the owner.
    ///
    /// # Cancel safety
    /// The reference may have been replaced; the old one gets the successor inside the grace.
    pub async fn renew(&self, reference: &str, now: Timestamp) -> Result<Renewed, ReferenceError> {
        let parsed = self.parse(reference)?;
        for _ in 0..ATTEMPTS_MAX {
            let record = self.store.load(parsed.key, now).await?;
            let (state, data) = State::read(&record.data)?;
            self.still_good(&parsed, &state, now).await?;
            if parsed.number < state.number {
                return Ok(Renewed {
                    reference: self.text(&parsed.family, state.number),
                    redelivered: true,
                    data: data.to_vec(),
                });
            }
            // First: a crash between the two then leaves the record longer, not shorter.
            let until = now.after(self.policy.idle()).min(state.ends_at);
            self.store.touch(parsed.key, until, now).await?;
            let next = State {
                number: parsed.number.saturating_add(1),
                replaced_at: now,
                ends_at: state.ends_at,
            };
            let update = next.write(data);
            match self
                .store
                .update(parsed.key, record.version, update, now)
                .await
            {
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    return Ok(Renewed {
                        reference: self.text(&parsed.family, next.number),
                        redelivered: false,
                        data: data.to_vec(),
                    });
                }
            }
        }
        Err(ReferenceError::Store(StoreError::Unavailable(
            "too many changes at once".to_owned(),
        )))
    }

    /// Ends the session of a reference, also of one that was replaced; whether there was one.
    ///
    /// # Errors
    /// [`ReferenceError::NotAuthentic`], [`ReferenceError::Store`].
    ///
    /// # Cancel safety
    /// The session has ended or not.
    pub async fn end(&self, reference: &str, now: Timestamp) -> Result<bool, ReferenceError> {
        let parsed = self.parse(reference)?;
        Ok(self.store.delete(parsed.key, now).await?)
    }

    /// The present reference, or the one before it inside the grace. One ahead of the record is good as well: it is
    /// authentic, and a store that failed over may have lost the write that made it.
    async fn still_good(
        &self,
        parsed: &Parsed,
        state: &State,
        now: Timestamp,
    ) -> Result<(), ReferenceError> {
        if now >= state.ends_at {
            return Err(ReferenceError::Ended);
        }
        let in_grace = parsed.number.saturating_add(1) == state.number
            && now < state.replaced_at.after(self.grace);
        if parsed.number >= state.number || in_grace {
            return Ok(());
        }
        self.store.delete(parsed.key, now).await?;
        event!(warn, session = %parsed.key.tag(), "a reference was used after it had been replaced; its session has been ended");
        Err(ReferenceError::Reused)
    }

    fn parse(&self, reference: &str) -> Result<Parsed, ReferenceError> {
        if reference.len() != REFERENCE_CHARS {
            return Err(ReferenceError::NotAuthentic);
        }
        let raw = URL_SAFE_NO_PAD
            .decode(reference)
            .ok()
            .filter(|raw| raw.len() == RAW && raw[0] == VERSION)
            .ok_or(ReferenceError::NotAuthentic)?;
        let (front, tag) = raw.split_at(RAW - TAG);
        if !bool::from(self.tag(front).ct_eq(tag)) {
            return Err(ReferenceError::NotAuthentic);
        }
        let (mut family, mut number) = ([0; FAMILY], [0; 4]);
        family.copy_from_slice(&front[1..=FAMILY]);
        number.copy_from_slice(&front[1 + FAMILY..]);
        Ok(Parsed {
            key: StoreKey::of_reference(&self.key, &family),
            family,
            number: u32::from_be_bytes(number),
        })
    }

    fn text(&self, family: &[u8; FAMILY], number: u32) -> String {
        let mut raw = Vec::with_capacity(RAW);
        raw.push(VERSION);
        raw.extend_from_slice(family);
        raw.extend_from_slice(&number.to_be_bytes());
        let tag = self.tag(&raw);
        raw.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(&raw)
    }

    fn tag(&self, front: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        let label = b"stackbeam-session reference tag 1";
        keyed(&mut tag, self.key.bytes(), &[label, front]);
        tag
    }
}

impl<S> fmt::Debug for References<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("References")
            .field("policy", &self.policy)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}
