//! Entries that are not evicted, and copies of all.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use stackbeam_lru_cache::{
    Adaptive, Arc as ArcPolicy, Builder, Cache, Cause, Clock, Fifo, Gdsf, Lfu, Lru, Policy, S3Fifo,
    Sieve, TwoQ, WTinyLfu, sync,
};

/// Key, weight, and what to do.
type Step = (u8, u8, u8);

fn pins_hold<P: Policy>(steps: &[Step]) {
    let mut cache: Cache<u8, u64, P> = Builder::new(40).with_weigher(|_, weight| *weight).build();
    let evicted = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&evicted);
    let shared: sync::Cache<u8, u64, P> = sync::Builder::new(40)
        .with_shards(2)
        .with_weigher(|_, weight| *weight)
        .with_listener(move |key, _, cause| {
            if cause == Cause::Evicted {
                log.lock().unwrap().push(key);
            }
        })
        .build();
    let (mut pinned, mut pinned_shared) = (HashSet::new(), HashSet::new());
    for (key, weight, what) in steps {
        match what % 6 {
            0 => {
                if cache.pin(key) {
                    pinned.insert(*key);
                }
                if shared.pin(key) {
                    pinned_shared.insert(*key);
                }
            }
            1 => {
                assert_eq!(cache.unpin(key), pinned.remove(key));
                assert_eq!(shared.unpin(key), pinned_shared.remove(key));
            }
            2 if *what > 200 => {
                pinned.remove(key);
                pinned_shared.remove(key);
                cache.remove(key);
                shared.remove(key);
            }
            3 if *what > 240 => {
                let capacity = u64::from(*weight);
                cache.resize(capacity);
                shared.resize(capacity);
                assert!(cache.weight() <= capacity && shared.weight() <= capacity);
                cache.resize(40);
                shared.resize(40);
                pinned.clear();
                pinned_shared.clear();
                for key in 0..=u8::MAX {
                    cache.unpin(&key);
                    shared.unpin(&key);
                }
                evicted.lock().unwrap().clear();
            }
            _ => {
                pinned.remove(key);
                pinned_shared.remove(key);
                cache.insert(*key, u64::from(*weight));
                shared.insert(*key, u64::from(*weight));
            }
        }
        assert!(cache.weight() <= 40 && shared.weight() <= 40);
        for key in &pinned {
            assert!(cache.peek(key).is_some(), "{key} was pinned");
        }
        for key in evicted.lock().unwrap().drain(..) {
            assert!(!pinned_shared.contains(&key), "{key} was pinned");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_pinned_is_not_evicted_whatever_the_policy(
        steps in prop::collection::vec((0..24_u8, 0..45_u8, any::<u8>()), 1..200),
    ) {
        pins_hold::<Adaptive>(&steps);
        pins_hold::<ArcPolicy>(&steps);
        pins_hold::<Clock>(&steps);
        pins_hold::<Fifo>(&steps);
        pins_hold::<Gdsf>(&steps);
        pins_hold::<Lfu>(&steps);
        pins_hold::<Lru>(&steps);
        pins_hold::<S3Fifo>(&steps);
        pins_hold::<Sieve>(&steps);
        pins_hold::<TwoQ>(&steps);
        pins_hold::<WTinyLfu>(&steps);
    }
}

#[test]
fn no_more_than_half_can_be_pinned_and_what_has_no_room_is_refused() {
    let cache: sync::Cache<u32, u32, Lru> = sync::Cache::new(10);
    assert!(!cache.pin(&0), "it is not there");
    for key in 0..10 {
        cache.insert(key, key);
    }
    let pinned = (0..10).filter(|key| cache.pin(key)).count();
    assert_eq!(pinned, 5);
    for key in 100..200 {
        cache.insert(key, key);
    }
    assert!((0..5).all(|key| cache.peek(&key).is_some()));
    assert!(cache.unpin(&0) && !cache.unpin(&0));
    cache.insert_with_ttl(1, 1, Duration::ZERO);
    assert!(!cache.pin(&1), "replaced, and its time is over");
    let heavy: sync::Cache<u32, u64> = sync::Builder::new(10)
        .with_weigher(|_, weight| *weight)
        .build();
    heavy.insert(1, 5);
    assert!(heavy.pin(&1));
    assert!(heavy.try_insert(2, 6).is_err());
    heavy.try_insert(1, 10).unwrap();
    assert_eq!(heavy.weight(), 10);
}

#[test]
fn a_shared_cache_is_walked_saved_and_restored_into_another_size() {
    let cache: sync::Cache<u32, u32, Lru> = sync::Builder::new(1_000).with_shards(4).build();
    for key in 0..1_000 {
        cache.insert(key, key * 2);
    }
    cache.insert_with_ttl(5, 10, Duration::ZERO);
    for key in 900..1_000 {
        assert!(cache.get(&key).is_some());
    }
    let mut walked: Vec<_> = cache.iter().collect();
    walked.sort_unstable();
    let there = (0..1_000).filter(|key| cache.peek(key).is_some());
    assert_eq!(walked, there.map(|key| (key, key * 2)).collect::<Vec<_>>());
    let saved = cache.snapshot();
    assert_eq!(saved.len(), walked.len());
    // Into a tenth: those that were to leave last.
    let small: sync::Cache<u32, u32, Lru> = sync::Builder::new(100).with_shards(1).build();
    small.restore(saved.clone());
    let kept = small.iter().filter(|(key, _)| *key >= 880).count();
    assert!(kept > 90, "{kept}");
    let back: sync::Cache<u32, u32> = sync::Cache::new(10_000);
    back.restore(saved);
    assert_eq!(back.len(), walked.len());
}

#[cfg(feature = "serde")]
#[test]
fn what_is_saved_comes_back_from_json_with_its_time() {
    let mut cache: Cache<String, u32, Lru> = Cache::new(10);
    cache.insert("for ever".to_owned(), 1);
    cache.insert_with_ttl("a minute".to_owned(), 2, Duration::from_secs(60));
    cache.advance(Duration::from_secs(20));
    let text = serde_json::to_string(&cache.snapshot()).unwrap();
    let saved: Vec<stackbeam_lru_cache::Saved<String, u32>> = serde_json::from_str(&text).unwrap();
    let mut back: Cache<String, u32, Lru> = Cache::new(10);
    back.restore(saved);
    back.advance(Duration::from_secs(39));
    assert_eq!(
        (back.peek("for ever"), back.peek("a minute")),
        (Some(&1), Some(&2))
    );
    back.advance(Duration::from_secs(41));
    assert_eq!(
        (back.peek("for ever"), back.peek("a minute")),
        (Some(&1), None)
    );
}
