//! How long an entry lives.

use alloc::boxed::Box;
use core::time::Duration;

use crate::tag::{Tag, Tags};

/// How long one entry lives, where it differs from what the cache does with all.
///
/// ```
/// use stackbeam_lru_cache::{Cache, Life};
/// use std::time::Duration;
///
/// let mut cache: Cache<&str, u32> = Cache::new(10);
/// cache.insert_with("session", 7, Life::new().idle(Duration::from_secs(60)));
/// cache.advance(Duration::from_secs(50));
/// assert_eq!(cache.get("session"), Some(&7));
/// cache.advance(Duration::from_secs(100));
/// assert_eq!(cache.get("session"), Some(&7), "it was in use");
/// cache.advance(Duration::from_secs(160));
/// assert_eq!(cache.get("session"), None);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Life {
    pub(crate) ttl: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) most: Option<Duration>,
    pub(crate) tags: Tags,
}

impl Life {
    /// As the cache does with all.
    pub fn new() -> Self {
        Self::default()
    }

    const fn is_usual(&self) -> bool {
        self.ttl.is_none() && self.idle.is_none() && self.most.is_none() && self.tags.is_empty()
    }

    /// Lives so long at most (its time to live).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Lives so long after its last use at most (its time to idle).
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Lives no longer than this, nor than it would without.
    pub fn at_most(mut self, ttl: Duration) -> Self {
        self.most = Some(ttl);
        self
    }

    /// Lives until the tag is invalidated. Take the [`Tag`] **before** reading the value from the store.
    pub fn tag(mut self, tag: &Tag) -> Self {
        self.tags.add(tag);
        self
    }
}

type TtlBy<K, V> = Box<dyn Fn(&K, &V) -> Option<Duration> + Send + Sync>;

/// What a cache does with all entries.
pub(crate) struct Lives<K, V> {
    pub(crate) ttl: Option<Duration>,
    pub(crate) ttl_by: Option<TtlBy<K, V>>,
    pub(crate) idle: Option<Duration>,
    /// Hundredths by which a time to live may be shorter.
    pub(crate) jitter: u8,
    /// What has expired is to leave promptly.
    pub(crate) prompt: bool,
}

impl<K, V> Default for Lives<K, V> {
    fn default() -> Self {
        Self {
            ttl: None,
            ttl_by: None,
            idle: None,
            jitter: 0,
            prompt: false,
        }
    }
}

/// The end of an entry's life as the engine keeps it.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// When its time to live is over; [`Duration::MAX`] means never.
    pub(crate) at: Duration,
    pub(crate) idle: Option<Duration>,
    /// The time now, if it has a time to idle.
    pub(crate) now: Option<Duration>,
    pub(crate) tags: Tags,
}

impl Default for End {
    fn default() -> Self {
        Self {
            at: Duration::MAX,
            idle: None,
            now: None,
            tags: Tags::default(),
        }
    }
}

impl<K, V> Lives<K, V> {
    /// Whether entries live as long as there is room, unless they say otherwise.
    const fn are_endless(&self) -> bool {
        self.ttl.is_none() && self.ttl_by.is_none() && self.idle.is_none()
    }

    /// When this entry's time is over, if ever. `now` is asked only if that depends on it.
    #[inline]
    pub(crate) fn end(
        &self,
        key: &K,
        value: &V,
        hash: u64,
        life: Life,
        now: impl FnOnce() -> Duration,
    ) -> Option<End> {
        if self.are_endless() && life.is_usual() {
            return None;
        }
        let by = || self.ttl_by.as_ref().and_then(|ttl_by| ttl_by(key, value));
        let ttl = life.ttl.or_else(by).or(self.ttl);
        let ttl = ttl.into_iter().chain(life.most).min();
        let idle = life.idle.or(self.idle);
        let now = (ttl.is_some() || idle.is_some()).then(now);
        let at = match (ttl, now) {
            (Some(ttl), Some(now)) => now.saturating_add(self.jittered(ttl, hash, now)),
            _ => Duration::MAX,
        };
        Some(End {
            at,
            idle,
            now: now.filter(|_| idle.is_some()),
            tags: life.tags,
        })
    }

    /// Shortens a time to live. The chance is in the key's hash and the time, so it can be replayed.
    fn jittered(&self, ttl: Duration, hash: u64, now: Duration) -> Duration {
        if self.jitter == 0 {
            return ttl;
        }
        let time = u64::from(now.subsec_nanos()) | now.as_secs() << 32;
        let bits = (hash ^ time).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let share =
            f64::from((bits >> 32) as u32) / f64::from(u32::MAX) * f64::from(self.jitter) / 100.0;
        ttl - ttl.mul_f64(share.min(1.0))
    }
}
