//! Tokens that were verified a moment ago: found by a keyed hash, checked for all that can have changed.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip128::{Hasher128, SipHasher13};
use stackbeam_lru_cache::{Lru, sync};

use crate::claims::Claims;
use crate::key::{KeyError, KeyId};

/// The name of a token: a keyed 128-bit hash of its text, so that who reads the memory finds no token.
type Name = u128;

pub(crate) struct Cached<T> {
    pub(crate) claims: Arc<Claims<T>>,
    pub(crate) key: KeyId,
}

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Self {
            claims: Arc::clone(&self.claims),
            key: self.key,
        }
    }
}

/// Successes alone. Each hit still checks the times, the key and the revocations.
pub(crate) struct TokenCache<T> {
    entries: sync::Cache<Name, Cached<T>, Lru>,
    hasher: SipHasher13,
    capacity: u64,
}

impl<T> TokenCache<T> {
    /// As large, with nothing in it.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            entries: sync::Cache::new(self.capacity),
            hasher: self.hasher,
            capacity: self.capacity,
        }
    }
}

impl<T: Send + Sync> TokenCache<T> {
    pub(crate) fn new(entries: usize) -> Result<Self, KeyError> {
        let mut key = [0; 16];
        crate::random::system(&mut key)?;
        Ok(Self {
            entries: sync::Cache::new(entries as u64),
            hasher: SipHasher13::new_with_key(&key),
            capacity: entries as u64,
        })
    }

    pub(crate) fn name(&self, token: &str) -> Name {
        let mut hasher = self.hasher;
        hasher.write(token.as_bytes());
        hasher.finish128().as_u128()
    }

    pub(crate) fn find(&self, name: Name) -> Option<Cached<T>> {
        self.entries.get(&name)
    }

    pub(crate) fn keep(&self, name: Name, claims: Arc<Claims<T>>, key: KeyId) {
        self.entries.insert(name, Cached { claims, key });
    }
}

impl<T> fmt::Debug for TokenCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}
