//! Schedules of loaders, leases and the shards' one budget: `cargo xtask shuttle lru-cache`.
//!
//! A failure prints the schedule that it came from, for `shuttle::replay`.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;
use stackbeam_lru_cache::load::{LoadError, ReadThrough};
use stackbeam_lru_cache::{Fifo, sync};

const SCHEDULES: usize = 2_000;

/// The same in every schedule.
type Fixed = BuildHasherDefault<DefaultHasher>;
type Cache = sync::Cache<u64, u64, Fifo, Fixed>;
type Through = ReadThrough<u64, u64, (), Fifo, Fixed>;

fn check(body: fn()) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

fn cache(capacity: u64, shards: usize) -> Cache {
    sync::Builder::new(capacity)
        .with_hasher(Fixed::default())
        .with_weigher(|_, weight| *weight)
        .with_shards(shards)
        .build()
}

#[test]
fn whoever_asks_at_once_gets_the_value_of_one_load() {
    check(|| {
        let through: Through = ReadThrough::new(cache(8, 1));
        let loads = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (through, loads) = (through.clone(), Arc::clone(&loads));
                thread::spawn(move || {
                    let load = || {
                        let number = loads.fetch_add(1, Ordering::SeqCst) + 1;
                        thread::yield_now();
                        Ok(number)
                    };
                    assert_eq!(through.get_or_load_blocking(&7, load).unwrap(), 1);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert_eq!(through.loads_under_way(), 0);
    });
}

#[test]
fn a_leader_that_leaves_or_fails_hands_the_lead_on_and_nobody_hangs() {
    check(|| {
        let through: Through = ReadThrough::new(cache(8, 1));
        let leaver = {
            let through = through.clone();
            thread::spawn(move || {
                // Leads or waits, and leaves half-way in both.
                let mut context = Context::from_waker(Waker::noop());
                let mut hanging = pin!(through.get_or_load(&7, std::future::pending));
                let _pending = hanging.as_mut().poll(&mut context);
            })
        };
        let failing = {
            let through = through.clone();
            thread::spawn(move || {
                let outcome = through.get_or_load_blocking(&7, || Err(()));
                assert!(matches!(outcome, Ok(5) | Err(LoadError::Failed(_))));
            })
        };
        let loading = {
            let through = through.clone();
            thread::spawn(move || {
                let outcome = through.get_or_load_blocking(&7, || Ok(5));
                assert!(matches!(outcome, Ok(5) | Err(LoadError::Failed(_))));
            })
        };
        for thread in [leaver, failing, loading] {
            thread.join().unwrap();
        }
        assert_eq!(through.loads_under_way(), 0);
        assert_eq!(through.get_or_load_blocking(&7, || Ok(5)).unwrap(), 5);
    });
}

#[test]
fn nothing_read_before_an_invalidation_is_stored_after_it() {
    check(|| {
        let through: Through = ReadThrough::new(cache(8, 1));
        let store = Arc::new(AtomicU64::new(1));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (through, store) = (through.clone(), Arc::clone(&store));
                thread::spawn(move || {
                    let load = || Ok(store.load(Ordering::SeqCst));
                    let _old_or_new = through.get_or_load_blocking(&7, load).unwrap();
                })
            })
            .collect();
        let by_hand = {
            let (cache, store) = (through.cache().clone(), Arc::clone(&store));
            thread::spawn(move || {
                let lease = cache.lease(&7);
                let read = store.load(Ordering::SeqCst);
                let _outdated = cache.fill(&lease, 7, read);
            })
        };
        store.store(2, Ordering::SeqCst);
        through.cache().remove(&7);
        let asked_after = through
            .get_or_load_blocking(&7, || Ok(store.load(Ordering::SeqCst)))
            .unwrap();
        assert_eq!(asked_after, 2);
        for reader in readers {
            reader.join().unwrap();
        }
        by_hand.join().unwrap();
        assert!(matches!(through.cache().peek(&7), None | Some(2)));
    });
}

#[test]
fn the_shards_together_never_hold_more_than_the_capacity() {
    check(|| {
        const CAPACITY: u64 = 5;
        let cache = cache(CAPACITY, 2);
        let writers: Vec<_> = [[(1, 2), (2, 3), (3, 1)], [(4, 4), (1, 1), (5, 5)]]
            .into_iter()
            .map(|entries| {
                let cache = cache.clone();
                thread::spawn(move || {
                    for (key, weight) in entries {
                        cache.insert(key, weight);
                        assert!(cache.weight() <= CAPACITY);
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            assert!(cache.weight() <= CAPACITY);
            thread::yield_now();
        }
        for writer in writers {
            writer.join().unwrap();
        }
        let held: u64 = (1..=5).filter_map(|key| cache.peek(&key)).sum();
        assert_eq!(
            held,
            cache.weight(),
            "weight is neither lost nor given twice"
        );
        assert_eq!(cache.stats().weight, cache.weight());
    });
}
