//! A tier in the memory of this process: for tests, and to say what a tier does.

use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{LEASE, Looked, Tier, TierError, TierLease};
use crate::cache::Cache;
use crate::policy::Lru;

/// A [`Tier`] in the memory of this process. It never fails.
pub struct Memory {
    slots: Mutex<Slots>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    start: Instant,
}

struct Slots {
    cache: Cache<Vec<u8>, Slot, Lru>,
    drawn: u64,
}

enum Slot {
    Leased(u64),
    /// A value, and when its time is over.
    Value(Vec<u8>, Duration),
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the default clock of this tier; a parameter replaces it"
)]
fn system_clock() -> Instant {
    Instant::now()
}

impl Memory {
    /// Keeps at most so many keys, those that were leased included.
    #[must_use]
    pub fn new(keys_max: u64) -> Self {
        Self::with_clock(keys_max, system_clock)
    }

    /// As [`Memory::new`], with a clock of one's own.
    #[must_use]
    pub fn with_clock(keys_max: u64, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            slots: Mutex::new(Slots {
                cache: Cache::new(keys_max),
                drawn: 0,
            }),
            start: clock(),
            clock: Box::new(clock),
        }
    }

    fn at_work<T>(&self, work: impl FnOnce(&mut Slots, Duration) -> T) -> T {
        let now = (self.clock)().saturating_duration_since(self.start);
        let mut slots = self.slots.lock();
        slots.cache.advance(now);
        work(&mut slots, now)
    }
}

impl Tier for Memory {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        Ok(self.at_work(|slots, now| match slots.cache.get(key) {
            Some(Slot::Value(bytes, end)) => Looked::Value {
                bytes: bytes.clone(),
                left: Some(end.saturating_sub(now)),
            },
            Some(Slot::Leased(number)) => Looked::Nothing(Some(TierLease::new(*number))),
            None => {
                slots.drawn += 1;
                let slot = Slot::Leased(slots.drawn);
                slots.cache.insert_with_ttl(key.to_vec(), slot, LEASE);
                Looked::Nothing(Some(TierLease::new(slots.drawn)))
            }
        }))
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        Ok(self.at_work(|slots, now| {
            let is_leased = matches!(slots.cache.peek(key),
                Some(Slot::Leased(number)) if *number == lease.number());
            if is_leased {
                let slot = Slot::Value(value.to_vec(), now.saturating_add(ttl));
                slots.cache.insert_with_ttl(key.to_vec(), slot, ttl);
            }
            is_leased
        }))
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        self.at_work(|slots, _| slots.cache.remove(key));
        Ok(())
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.at_work(|slots, _| slots.cache.clear());
        Ok(())
    }
}
