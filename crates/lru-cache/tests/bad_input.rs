//! Input that nobody should give: what happens then. A tier that is bad is in `tiers/bad_servers.rs`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stackbeam_lru_cache::load::{LoadError, ReadThrough};
use stackbeam_lru_cache::{
    Adaptive, Arc as ArcPolicy, Builder, Cache, Clock, Fifo, Gdsf, Lfu, Life, Lru, Policy, S3Fifo,
    Sieve, TwoQ, WTinyLfu, sync,
};

/// Calls a generic function with every policy.
macro_rules! with_every_policy {
    ($check:ident) => {
        $check::<Adaptive>();
        $check::<ArcPolicy>();
        $check::<Clock>();
        $check::<Fifo>();
        $check::<Gdsf>();
        $check::<Lfu>();
        $check::<Lru>();
        $check::<S3Fifo>();
        $check::<Sieve>();
        $check::<TwoQ>();
        $check::<WTinyLfu>();
    };
}

fn a_capacity_of_zero<P: Policy + Send + Sync + 'static>() {
    let mut own: Cache<u32, u32, P> = Cache::new(0);
    let shared: sync::Cache<u32, u32, P> = sync::Cache::new(0);
    for key in 0..10 {
        assert!(own.try_insert(key, key).is_err() && shared.try_insert(key, key).is_err());
        assert!(!own.pin(&key) && !shared.pin(&key));
        assert_eq!((own.get(&key), shared.get(&key)), (None, None));
        let lease = shared.lease(&key);
        shared.fill(&lease, key, key).unwrap();
    }
    assert_eq!(
        (own.weight(), shared.weight(), own.len(), shared.len()),
        (0, 0, 0, 0)
    );
    let through: ReadThrough<_, _, String, P> = ReadThrough::new(shared).with_load_weight(1);
    assert_eq!(through.get_or_load_blocking(&1, || Ok(7)).unwrap(), 7);
}

#[test]
fn a_capacity_of_zero_keeps_nothing_and_loads_all_the_same() {
    with_every_policy!(a_capacity_of_zero);
}

fn weights_of_nothing_and_of_all<P: Policy + Send + Sync + 'static>() {
    for capacity in [1, 10, u64::MAX] {
        let mut own: Cache<u32, u64, P> = Builder::new(capacity)
            .with_weigher(|_, weight| *weight)
            .build();
        let shared: sync::Cache<u32, u64, P> = sync::Builder::new(capacity)
            .with_weigher(|_, weight| *weight)
            .build();
        for (key, weight) in [0, u64::MAX, u64::MAX - 1, 1, 0, u64::MAX]
            .into_iter()
            .enumerate()
        {
            let key = u32::try_from(key).unwrap();
            let fits = weight.max(1) <= capacity;
            assert_eq!(own.try_insert(key, weight).is_ok(), fits);
            assert_eq!(shared.try_insert(key, weight).is_ok(), fits);
            assert!(own.weight() <= capacity && shared.weight() <= capacity);
            assert_eq!(
                (own.get(&key).is_some(), shared.get(&key).is_some()),
                (fits, fits)
            );
        }
        shared.resize(1);
        own.resize(1);
        assert!(own.weight() <= 1 && shared.weight() <= 1);
    }
}

#[test]
fn weights_of_nothing_and_of_all_are_weights() {
    with_every_policy!(weights_of_nothing_and_of_all);
}

fn lives_of_nothing_and_of_centuries<P: Policy + Send + Sync + 'static>() {
    let century = Duration::from_secs(100 * 365 * 86_400);
    let lives = [
        Duration::ZERO,
        Duration::from_nanos(1),
        century,
        century * 100,
        Duration::MAX,
    ];
    for ttl in lives {
        for idle in lives {
            let builder = Builder::new(10)
                .with_ttl(ttl)
                .with_idle(idle)
                .with_jitter(100);
            let mut own: Cache<u32, u32, P> = builder.build();
            let shared: sync::Cache<u32, u32, P> =
                sync::Builder::new(10).with_ttl(ttl).with_idle(idle).build();
            for key in 0..20 {
                own.insert(key, key);
                own.insert_with(
                    key + 100,
                    key,
                    Life::new().ttl(ttl).idle(idle).at_most(century),
                );
                shared.insert_with(key, key, Life::new().at_most(ttl));
                if ttl.min(idle).is_zero() {
                    assert_eq!((own.get(&key), shared.get(&key)), (None, None));
                } else if ttl.min(idle) >= century {
                    assert_eq!(shared.get(&key), Some(key));
                }
            }
            own.advance(Duration::MAX);
            own.remove_expired();
            assert!(own.iter().count() == own.len());
            assert!(own.is_empty() || ttl.min(idle) > century);
        }
    }
}

#[test]
fn lives_of_nothing_and_of_centuries_are_lives() {
    with_every_policy!(lives_of_nothing_and_of_centuries);
}

#[test]
fn a_weigher_that_panics_harms_nobody_else() {
    let weigh = |_: &u32, value: &u32| {
        assert_ne!(*value, 13, "the weigher panics");
        1
    };
    let mut own: Cache<u32, u32, Lru> = Builder::new(5).with_weigher(weigh).build();
    let shared: sync::Cache<u32, u32> = sync::Builder::new(5).with_weigher(weigh).build();
    for key in 0..20 {
        assert!(catch_unwind(AssertUnwindSafe(|| own.insert(key, 13))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| shared.insert(key, 13))).is_err());
        own.insert(key, key % 13);
        shared.insert(key, key % 13);
        assert_eq!(
            (own.get(&key), shared.get(&key)),
            (Some(&(key % 13)), Some(key % 13))
        );
    }
    assert_eq!((own.weight(), shared.weight()), (5, 5));
    // In a load, the waiters are told.
    let through: ReadThrough<_, _, String> = ReadThrough::new(shared);
    let load = || through.get_or_load_blocking(&99, || Ok(13));
    assert!(catch_unwind(AssertUnwindSafe(load)).is_err());
    assert_eq!(through.loads_under_way(), 0);
    assert_eq!(through.get_or_load_blocking(&99, || Ok(1)).unwrap(), 1);
}

#[test]
fn a_listener_that_panics_leaks_nothing_and_blocks_nobody() {
    let told = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&told);
    let cache: sync::Cache<u32, Arc<()>> = sync::Builder::new(5)
        .with_listener(move |_, _, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            panic!("the listener panics");
        })
        .build();
    let value = Arc::new(());
    for key in 0..100 {
        let inserted = catch_unwind(AssertUnwindSafe(|| cache.insert(key, Arc::clone(&value))));
        assert_eq!(inserted.is_err(), key >= 5);
        assert_eq!(cache.len(), 5.min(key as usize + 1));
    }
    assert_eq!(told.load(Ordering::Relaxed), 95);
    assert_eq!(Arc::strong_count(&value), 6, "what left was dropped");
    assert!(catch_unwind(AssertUnwindSafe(|| cache.remove_where(|_, _| true))).is_err());
    assert_eq!(
        (cache.len(), cache.weight(), Arc::strong_count(&value)),
        (0, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_never_returns_blocks_nobody_for_longer_than_was_set() {
    let through: ReadThrough<u32, u32, String> = ReadThrough::new(sync::Cache::new(10));
    let through = through.with_flights_max(1);
    let hanging = tokio::spawn({
        let through = through.clone();
        async move { through.get_or_load(&1, std::future::pending).await }
    });
    tokio::task::yield_now().await;
    let other = through.get_or_load(&2, || async { Ok(2) }).await;
    assert!(matches!(other, Err(LoadError::Busy { flights: 1 })));
    let waiting = through.get_or_load(&1, || async { Ok(1) });
    assert!(
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
    );
    hanging.abort();
    assert!(hanging.await.is_err());
    assert_eq!(through.loads_under_way(), 0);
    assert_eq!(
        through.get_or_load(&1, || async { Ok(1) }).await.unwrap(),
        1
    );
}

/// Equal to all, and of another hash each time.
#[derive(Clone, Debug)]
struct Liar(Arc<AtomicU32>);

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

impl PartialEq for Liar {
    fn eq(&self, other: &Self) -> bool {
        (self.0.load(Ordering::Relaxed) + other.0.load(Ordering::Relaxed)).is_multiple_of(3)
    }
}

impl Eq for Liar {}

fn keys_that_lie<P: Policy + Send + Sync + 'static>() {
    let alive = Arc::new(());
    let mut own: Cache<Liar, Arc<()>, P> = Cache::new(20);
    let shared: sync::Cache<Liar, Arc<()>, P> = sync::Builder::new(20).with_shards(2).build();
    for seed in 0..500 {
        let key = Liar(Arc::new(AtomicU32::new(seed)));
        own.insert(key.clone(), Arc::clone(&alive));
        shared.insert(key.clone(), Arc::clone(&alive));
        let _found = (own.get(&key), shared.get(&key));
        if seed % 7 == 0 {
            own.remove(&key);
            shared.remove(&key);
        }
        assert!(own.weight() <= 20 && shared.weight() <= 20);
    }
    assert_eq!(Arc::strong_count(&alive), own.len() + shared.len() + 1);
    drop((own, shared));
    assert_eq!(Arc::strong_count(&alive), 1, "no leak");
}

#[test]
fn keys_whose_hash_and_equality_disagree_leak_nothing_and_end() {
    with_every_policy!(keys_that_lie);
}
