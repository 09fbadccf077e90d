//! Who leaves next: whom the policy picks and who is not pinned, or whose time is over.

use alloc::boxed::Box;
#[cfg(feature = "std")]
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hash};
#[cfg(feature = "std")]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use core::time::Duration;

use super::{Engine, NEVER, nanos};
use crate::list::slot_at;
use crate::policy::Policy;

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher> Engine<K, V, P, S> {
    /// Whom the policy would let go.
    #[inline]
    pub(crate) fn victim(&mut self, newcomer: Option<u64>) -> Option<u32> {
        let victim = self.policy.victim(newcomer);
        if self.pins.is_empty() {
            return victim;
        }
        self.unpinned_victim(victim?, newcomer)
    }

    /// The next victim that is not pinned. One that is counts as new and often used from now on.
    fn unpinned_victim(&mut self, mut victim: u32, newcomer: Option<u64>) -> Option<u32> {
        const USES: usize = 8;
        const TRIES: usize = 32;
        for _ in 0..TRIES {
            if !self.is_pinned(victim) {
                return Some(victim);
            }
            let hash = self.hash(&self.entries[victim as usize].0);
            self.policy.remove(victim, hash, false);
            self.policy.insert(victim, hash, self.weight(victim));
            for _ in 0..USES {
                self.policy.hit(victim, hash);
            }
            victim = self.policy.victim(newcomer)?;
        }
        // Nearly all that it likes to let go are pinned: anybody else then.
        let after = (0..slot_at(self.entries.len()))
            .cycle()
            .skip(victim as usize);
        let mut all = after.take(self.entries.len());
        all.find(|slot| !self.is_pinned(*slot))
    }

    fn is_pinned(&self, slot: u32) -> bool {
        self.pins.get(slot as usize).copied().unwrap_or(false)
    }

    /// The weight of who is pinned, in all shards.
    pub(crate) fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Counts the weight of who is pinned together with another shard.
    #[cfg(feature = "std")]
    pub(crate) fn share_pinned(&mut self, pinned: &Arc<AtomicU64>) {
        self.pinned = Arc::clone(pinned);
    }

    /// Pins an entry, if no more than `pinned_max` is pinned then, and says whether it is pinned.
    pub(crate) fn pin(&mut self, slot: u32, pinned_max: u64) -> bool {
        if self.is_pinned(slot) {
            return true;
        }
        let weight = self.weight(slot);
        let more = |pinned: u64| pinned.checked_add(weight).filter(|sum| *sum <= pinned_max);
        let fits = self
            .pinned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok();
        if fits {
            self.plain = false;
            self.pins.resize(self.entries.len(), false);
            self.pins[slot as usize] = true;
        }
        fits
    }

    /// Unpins an entry and says whether it was pinned.
    pub(crate) fn unpin(&mut self, slot: u32) -> bool {
        let was = self.is_pinned(slot);
        if was {
            self.pinned.fetch_sub(self.weight(slot), Ordering::Relaxed);
            self.pins[slot as usize] = false;
        }
        was
    }

    /// Unpins all.
    pub(crate) fn unpin_all(&mut self) {
        for slot in 0..slot_at(self.pins.len()) {
            self.unpin(slot);
        }
        self.pins = Vec::new();
    }

    /// Keeps in mind from now on who expires when.
    pub(crate) fn expire_promptly(&mut self) {
        self.wheel = Some(Box::default());
    }

    pub(crate) const fn expires_promptly(&self) -> bool {
        self.wheel.is_some()
    }

    /// An entry whose time is over, after looking at no more than `looks`, which are counted down.
    pub(crate) fn overdue(&mut self, now: Duration, looks: &mut usize) -> Option<u32> {
        let wheel = self.wheel.as_mut()?;
        let now = nanos(now);
        while *looks > 0 {
            *looks -= 1;
            let slot = wheel.next(now)?;
            match self.ends.get(slot as usize).copied().unwrap_or(NEVER) {
                end if end <= now => return Some(slot),
                // It is further down the wheel, or was used.
                end => wheel.place(slot, end),
            }
        }
        None
    }
}
