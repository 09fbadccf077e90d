//! Connections that wait for the end of their session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// Wakers by the hash of a session and of a subject. One entry for each future that is waited for.
#[derive(Default)]
pub(super) struct Waiters {
    held: Mutex<Held>,
    /// So that a revocation with nobody waiting takes no lock.
    count: AtomicUsize,
}

#[derive(Default)]
struct Held {
    next: u64,
    wakers: HashMap<u64, Waker>,
    /// Sessions and subjects, in one map: the hashes have different keys.
    by_hash: HashMap<u64, Vec<u64>>,
}

impl Waiters {
    /// A number for a new waiter of these hashes.
    pub(super) fn enter(&self, hashes: [u64; 2]) -> u64 {
        let mut held = self.held.lock();
        held.next += 1;
        let id = held.next;
        for hash in hashes {
            held.by_hash.entry(hash).or_default().push(id);
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        id
    }

    pub(super) fn wait(&self, id: u64, waker: &Waker) {
        self.held.lock().wakers.insert(id, waker.clone());
    }

    pub(super) fn leave(&self, id: u64, hashes: [u64; 2]) {
        let mut held = self.held.lock();
        held.wakers.remove(&id);
        for hash in hashes {
            if let Some(ids) = held.by_hash.get_mut(&hash) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    held.by_hash.remove(&hash);
                }
            }
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes those of a hash, or all.
    pub(super) fn wake(&self, hash: Option<u64>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut held = self.held.lock();
        let woken: Vec<_> = match hash {
            None => held.wakers.drain().map(|(_, waker)| waker).collect(),
            Some(hash) => {
                let ids = held.by_hash.get(&hash).cloned().unwrap_or_default();
                ids.iter().filter_map(|id| held.wakers.remove(id)).collect()
            }
        };
        drop(held);
        for waker in woken {
            waker.wake();
        }
    }
}
