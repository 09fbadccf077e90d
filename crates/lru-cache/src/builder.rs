//! The settings of a cache: those that both faces have, and each face's own.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use foldhash::fast::FixedState;

use crate::life::Lives;

pub(crate) type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send + Sync>;

/// Settings of a [`Cache`](crate::Cache).
pub type Builder<K, V, S = FixedState> = Settings<K, V, S, Own>;

/// Settings of a cache; `F` is the face. To be named as [`Builder`] or `sync::Builder`.
pub struct Settings<K, V, S, F> {
    pub(crate) capacity: u64,
    pub(crate) lives: Lives<K, V>,
    pub(crate) weigher: Option<Weigher<K, V>>,
    pub(crate) hasher: S,
    pub(crate) face: F,
}

/// The face for one owner, which has no settings of its own.
#[derive(Debug)]
#[non_exhaustive]
pub struct Own;

impl<K, V, S, F: fmt::Debug> fmt::Debug for Settings<K, V, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("ttl", &self.lives.ttl)
            .field("face", &self.face)
            .finish_non_exhaustive()
    }
}

impl<K, V> Builder<K, V> {
    /// A cache whose weights sum up to at most `capacity`. With 0 it keeps nothing.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self::of(capacity, FixedState::default(), Own)
    }
}

impl<K, V, S, F> Settings<K, V, S, F> {
    pub(crate) fn of(capacity: u64, hasher: S, face: F) -> Self {
        Self {
            capacity,
            lives: Lives::default(),
            weigher: None,
            hasher,
            face,
        }
    }

    /// Sets how long entries live unless they say otherwise. Defaults to for ever.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.lives.ttl = Some(ttl);
        self
    }

    /// Sets how long an entry lives from what it is; `None` is as [`with_ttl`](Self::with_ttl) says. So *negative*
    /// entries, which say that the store has nothing, may get a short time of their own. Defaults to
    /// `None` for all.
    #[must_use]
    pub fn with_ttl_by(
        mut self,
        ttl_by: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.lives.ttl_by = Some(Box::new(ttl_by));
        self
    }

    /// Sets how long entries live after their last use. Defaults to for ever. With it, hits of a shared
    /// cache need exclusive access, and read the clock.
    #[must_use]
    pub fn with_idle(mut self, idle: Duration) -> Self {
        self.lives.idle = Some(idle);
        self
    }

    /// Sets by how many hundredths a time to live may be shorter, by chance, so that what came together
    /// does not end together. At most 100. Defaults to 0.
    #[must_use]
    pub fn with_jitter(mut self, hundredths: u8) -> Self {
        self.lives.jitter = hundredths.min(100);
        self
    }

    /// Lets what has expired leave promptly, before it takes the place of something else: each insertion first lets go
    /// up to four entries whose time is over, and `expire` more of them, found by a timer wheel. It takes 10
    /// bytes an entry more. Times are told apart to about a millisecond; what is idle, or more than
    /// two years away, may be looked at several times. Defaults to no: what has expired leaves when it is looked at, or
    /// when the policy lets it go.
    #[must_use]
    pub const fn with_prompt_expiry(mut self) -> Self {
        self.lives.prompt = true;
        self
    }

    /// Sets what an entry counts against the capacity. It is asked once, at insertion and outside any
    /// lock; 0 counts as 1, so that their number is bounded too. Defaults to 1 for each.
    #[must_use]
    pub fn with_weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets the hasher. Defaults to foldhash, for a shared cache seeded at random, else with a fixed
    /// seed: fast, but with keys chosen by an adversary give it one that is seeded at random.
    #[must_use]
    pub fn with_hasher<T>(self, hasher: T) -> Settings<K, V, T, F> {
        Settings {
            capacity: self.capacity,
            lives: self.lives,
            weigher: self.weigher,
            hasher,
            face: self.face,
        }
    }
}
