//! What users of the shared cache count on.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use stackbeam_lru_cache::load::{LoadError, ReadThrough};
use stackbeam_lru_cache::{Cache, Cause, Lru, sync};

type Users = ReadThrough<u32, u64, String>;

fn users() -> Users {
    ReadThrough::new(sync::Cache::new(100))
}

#[test]
fn a_heavy_entry_is_handed_back_and_the_old_value_is_gone() {
    let cache: sync::Cache<u32, Vec<u8>> = sync::Builder::new(10)
        .with_weigher(|_, value: &Vec<u8>| value.len() as u64)
        .build();
    cache.insert(1, vec![0; 4]);
    let refused = cache.try_insert(1, vec![0; 11]).unwrap_err();
    assert_eq!((refused.key, refused.weight, refused.capacity), (1, 11, 10));
    assert_eq!(cache.get(&1), None);
    // As heavy as the whole cache is fine, in one of sixteen shards.
    cache.insert(2, vec![0; 1]);
    cache.try_insert(3, vec![0; 10]).unwrap();
    assert_eq!((cache.get(&2), cache.weight()), (None, 10));
    assert_eq!(cache.stats().refused, 1);
}

#[test]
fn a_cache_of_nothing_keeps_nothing() {
    let cache: sync::Cache<u32, u32> = sync::Cache::new(0);
    cache.insert(1, 1);
    assert_eq!(cache.get(&1), None);
    let mut cache: Cache<u32, u32> = Cache::new(0);
    assert!(cache.try_insert(1, 1).is_err());
}

#[test]
fn the_weight_is_never_above_the_capacity_with_many_threads() {
    let cache: sync::Cache<u32, u32> = sync::Builder::new(64)
        .with_weigher(|_, value| u64::from(*value))
        .build();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let cache = cache.clone();
            scope.spawn(move || {
                for n in 0..5_000_u32 {
                    let key = n.wrapping_mul(2_654_435_761).wrapping_add(thread) % 97;
                    match n % 5 {
                        0 => drop(cache.remove(&key)),
                        1 => drop(cache.get(&key)),
                        _ => cache.insert(key, 1 + key % 64),
                    }
                    assert!(cache.weight() <= 64);
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.weight, cache.weight());
    assert_eq!(
        stats.inserted,
        stats.entries + stats.evicted + stats.expired + stats.replaced + stats.removed
    );
}

#[test]
fn the_listener_hears_every_cause_and_may_use_the_cache() {
    let heard = Arc::new(parking_lot_free::List::default());
    let log = Arc::clone(&heard);
    let cache: sync::Cache<u32, u32, Lru> = sync::Builder::new(2)
        .with_shards(1)
        .with_listener(move |key, _, cause| log.push((key, cause)))
        .build();
    cache.insert(1, 1);
    cache.insert(1, 2);
    cache.insert(2, 2);
    cache.insert(3, 3);
    cache.remove(&3);
    cache.insert_with_ttl(4, 4, Duration::ZERO);
    assert_eq!(cache.get(&4), None);
    assert_eq!(
        heard.take(),
        [
            (1, Cause::Replaced),
            (1, Cause::Evicted),
            (3, Cause::Removed),
            (4, Cause::Expired)
        ]
    );
}

mod parking_lot_free {
    use std::sync::Mutex;

    use stackbeam_lru_cache::Cause;

    #[derive(Default)]
    pub(crate) struct List(Mutex<Vec<(u32, Cause)>>);

    impl List {
        pub(crate) fn push(&self, item: (u32, Cause)) {
            self.0.lock().unwrap().push(item);
        }

        pub(crate) fn take(&self) -> Vec<(u32, Cause)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }
}

#[test]
fn a_value_read_before_an_invalidation_is_never_stored_after_it() {
    let cache: sync::Cache<u32, &str> = sync::Cache::new(10);
    let lease = cache.lease(&1);
    let read = "old";
    cache.remove(&1);
    assert!(cache.fill(&lease, 1, read).is_err());
    assert_eq!(cache.get(&1), None);
    let lease = cache.lease(&1);
    assert!(lease.is_current());
    cache.insert(1, "written");
    assert!(!lease.is_current());
    assert!(cache.fill(&lease, 1, read).is_err());
    assert_eq!(cache.get(&1), Some("written"));
    let lease = cache.lease(&2);
    assert!(cache.fill(&lease, 3, "for another key").is_err());
    cache.fill(&lease, 2, "two").unwrap();
    let lease = cache.lease(&4);
    cache.remove_where(|_, _| false);
    assert!(cache.fill(&lease, 4, "late").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_ask_at_once_cause_one_load() {
    let users = users();
    let loads = Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let (users, loads) = (users.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                users
                    .get_or_load(&7, || async {
                        loads.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(49)
                    })
                    .await
                    .unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 49);
    }
    let stats = users.cache().stats();
    assert_eq!(stats.hits + stats.misses, 1_000, "one look-up a caller");
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_is_not_kept() {
    let users = users();
    let fail = |users: Users| async move {
        users
            .get_or_load(&1, || async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Err("no database".to_owned())
            })
            .await
    };
    let (one, two) = tokio::join!(fail(users.clone()), fail(users.clone()));
    for failure in [one, two] {
        assert!(matches!(failure, Err(LoadError::Failed(error)) if *error == "no database"));
    }
    assert_eq!(users.get_or_load(&1, || async { Ok(1) }).await.unwrap(), 1);
}

#[tokio::test]
async fn when_the_leader_is_dropped_the_next_one_leads() {
    let users = users();
    let mut leader = Box::pin(users.get_or_load(&1, || async {
        std::future::pending::<()>().await;
        Ok(1)
    }));
    let mut context = Context::from_waker(Waker::noop());
    assert!(leader.as_mut().poll(&mut context).is_pending());
    let waiter = tokio::spawn({
        let users = users.clone();
        async move { users.get_or_load(&1, || async { Ok(2) }).await.unwrap() }
    });
    tokio::task::yield_now().await;
    drop(leader);
    assert_eq!(waiter.await.unwrap(), 2);
    assert_eq!(users.cache().get(&1), Some(2));
}

#[tokio::test]
async fn when_everybody_is_dropped_nothing_is_left_behind() {
    let users = users();
    let mut context = Context::from_waker(Waker::noop());
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut askers: Vec<_> = (0..3)
            .map(|_| {
                let users = users.clone();
                Some(Box::pin(async move {
                    let pending = || async {
                        std::future::pending::<()>().await;
                        Ok(1)
                    };
                    users.get_or_load(&1, pending).await
                }))
            })
            .collect();
        for asker in askers.iter_mut().flatten() {
            assert!(asker.as_mut().poll(&mut context).is_pending());
        }
        for index in order {
            askers[index] = None;
        }
        let fresh = users.get_or_load(&1, || async { Ok(5) });
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(5), fresh)
                .await
                .unwrap()
                .unwrap(),
            5
        );
        users.cache().remove(&1);
    }
}

#[tokio::test]
async fn a_panic_is_an_error_to_the_others_and_poisons_nothing() {
    let users = users();
    let panicking = tokio::spawn({
        let users = users.clone();
        async move {
            let load = || async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                panic!("a bug in the loader")
            };
            users.get_or_load(&1, load).await
        }
    });
    tokio::task::yield_now().await;
    let told = users.get_or_load(&1, || async { Ok(9) }).await;
    assert!(matches!(told, Err(LoadError::Panicked)), "{told:?}");
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(users.get_or_load(&1, || async { Ok(3) }).await.unwrap(), 3);
}

#[tokio::test]
async fn an_invalidation_during_a_load_wins() {
    let users = users();
    let load = tokio::spawn({
        let users = users.clone();
        async move {
            let slow = || async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(1)
            };
            users.get_or_load(&1, slow).await.unwrap()
        }
    });
    tokio::task::yield_now().await;
    users.cache().remove(&1);
    // Whoever asks after the invalidation must not get what was read before it.
    let after = users.get_or_load(&1, || async { Ok(2) }).await.unwrap();
    assert_eq!(after, 2);
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(users.cache().get(&1), Some(2));
}

#[tokio::test]
async fn a_value_that_is_too_old_for_one_reader_is_loaded_anew() {
    let users = users();
    users.cache().insert(1, 10);
    let at_least = |version: u64, loaded: u64| {
        let users = users.clone();
        async move {
            let load = move || async move { Ok(loaded) };
            users
                .get_or_load_if(&1, move |v| *v >= version, load)
                .await
                .unwrap()
        }
    };
    assert_eq!(at_least(10, 99).await, 10);
    assert_eq!(at_least(11, 12).await, 12);
    assert_eq!(at_least(12, 99).await, 12);
    // What one loads oneself is returned without asking.
    assert_eq!(at_least(50, 13).await, 13);
}

#[test]
fn threads_that_block_share_one_load() {
    let users = users();
    let loads = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let value = users.get_or_load_blocking(&1, || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    Ok(4)
                });
                assert_eq!(value.unwrap(), 4);
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_small_shared_cache_forgets_in_the_policys_order() {
    let cache: sync::Cache<u32, u32, Lru> = sync::Cache::new(100);
    for key in 0..250 {
        cache.insert(key, key);
    }
    for key in 0..250 {
        assert_eq!(cache.get(&key).is_some(), key >= 150, "key {key}");
    }
}
