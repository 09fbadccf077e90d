//! What has expired leaves promptly, if it is to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stackbeam_lru_cache::{Adaptive, Builder, Cache, Gdsf, Lfu, Life, Lru, Policy, sync};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn dead_before_living<P: Policy>() {
    let mut cache: Cache<u32, u32, P> = Builder::new(100).with_prompt_expiry().build();
    for key in 0..50 {
        cache.insert(key, key);
        cache.insert_with_ttl(key + 100, key, seconds(u64::from(key) + 1));
    }
    cache.advance(seconds(60));
    for key in 200..250 {
        cache.insert(key, key);
    }
    let stats = cache.stats();
    assert_eq!((stats.expired, stats.evicted, cache.len()), (50, 0, 100));
    assert!((0..50).all(|key| cache.peek(&key).is_some()));
}

#[test]
fn the_dead_leave_before_the_living() {
    dead_before_living::<Adaptive>();
    dead_before_living::<Gdsf>();
    dead_before_living::<Lfu>();
    dead_before_living::<Lru>();
}

#[test]
fn each_call_does_a_bounded_part_and_nobody_leaves_before_the_time() {
    let mut cache: Cache<u32, u32, Lru> = Builder::new(10_000).with_prompt_expiry().build();
    for key in 0..1_000 {
        cache.insert_with_ttl(key, key, seconds(1_000_000 + u64::from(key)));
    }
    cache.advance(seconds(1_000_499));
    let mut gone = 0;
    while gone < 500 {
        let now = cache.expire(10);
        assert!(now <= 10);
        gone += now;
    }
    assert_eq!((cache.expire(100_000), cache.len()), (0, 500));
    cache.advance(Duration::MAX);
    assert_eq!(cache.expire(100_000), 500);
}

#[test]
fn what_is_used_stays_and_what_is_replaced_or_pinned_lives_as_it_is_told() {
    let clock = Arc::new(AtomicU64::new(0));
    let start = {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        std::time::Instant::now()
    };
    let time = Arc::clone(&clock);
    let cache: sync::Cache<u32, u32> = sync::Builder::new(1_000)
        .with_clock(move || start + seconds(time.load(Ordering::Relaxed)))
        .with_prompt_expiry()
        .build();
    for key in 0..100 {
        cache.insert_with(key, key, Life::new().idle(seconds(10)));
        cache.insert_with_ttl(key + 100, key, seconds(10));
    }
    cache.insert(100, 0);
    cache.insert_with_ttl(101, 0, seconds(100));
    cache.remove(&102);
    assert!(cache.pin(&103));
    let expire = || {
        let before = cache.stats().expired;
        cache.expire(1_000);
        cache.stats().expired - before
    };
    clock.store(9, Ordering::Relaxed);
    assert_eq!(expire(), 0);
    assert!((0..50).all(|key| cache.get(&key).is_some()));
    clock.store(11, Ordering::Relaxed);
    // Fifty that idled, and a hundred but for three.
    assert_eq!(expire(), 50 + 97);
    assert_eq!(cache.len(), 50 + 2);
    clock.store(50, Ordering::Relaxed);
    assert_eq!(expire(), 50);
    assert_eq!(
        (cache.peek(&100), cache.peek(&101), cache.weight()),
        (Some(0), Some(0), 2)
    );
}

#[test]
fn it_costs_nothing_where_it_is_not_wanted() {
    let bytes = |prompt: bool| {
        let builder = Builder::new(10_000).with_ttl(seconds(60));
        let builder = if prompt {
            builder.with_prompt_expiry()
        } else {
            builder
        };
        let mut cache: Cache<u64, u64, Lru> = builder.build();
        for key in 0..10_000 {
            cache.insert(key, key);
        }
        assert_eq!(cache.expire(10), 0);
        cache.memory_used()
    };
    let more = bytes(true) - bytes(false);
    assert!((100_000..220_000).contains(&more), "{more}");
}
