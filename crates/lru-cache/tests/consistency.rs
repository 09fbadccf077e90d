//! Versions, invalidations that travel, sweeps, snapshots, and what more memory would buy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stackbeam_lru_cache::sync::{self, Invalidation, NotInserted};
use stackbeam_lru_cache::{Cache, Life, Lru, S3Fifo};

#[test]
fn the_newest_version_stays_in_whatever_order_they_come() {
    let cache: sync::Cache<&str, u32> = sync::Cache::new(10);
    let set = |version: u32| cache.insert_if("key", version, move |old| *old < version);
    assert_eq!(set(2), Ok(()));
    let refused = set(1);
    assert_eq!(
        refused,
        Err(NotInserted::Older {
            key: "key",
            value: 1
        })
    );
    assert_eq!(set(3), Ok(()));
    assert_eq!(cache.get("key"), Some(3));
    let heavy: sync::Cache<&str, u32> = sync::Builder::new(10)
        .with_weigher(|_, weight| u64::from(*weight))
        .build();
    let refused = heavy.insert_if("key", 11, |_| true);
    assert!(matches!(refused, Err(NotInserted::TooHeavy(entry)) if entry.value == 11));
}

#[test]
fn versions_set_by_many_threads_end_at_the_newest() {
    let cache: sync::Cache<u32, u64> = sync::Cache::new(8);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                for step in 0..2_000 {
                    let version = step * 4 + thread;
                    let _older = cache.insert_if(1, version, |old| *old < version);
                    assert!(cache.get(&1).is_some_and(|now| now >= version));
                }
            });
        }
    });
    assert_eq!(cache.get(&1), Some(7_999));
}

#[test]
fn servers_stay_in_step_and_nothing_goes_round() {
    let stream: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&stream);
    let here: sync::Cache<String, u32> = sync::Builder::new(10)
        .with_invalidations(move |invalidation| {
            let line = match invalidation {
                Invalidation::Key(key) => format!("key {key}"),
                Invalidation::Tag(group) => format!("tag {group}"),
                _ => "all".to_owned(),
            };
            told.lock().expect("not poisoned").push(line);
        })
        .build();
    let there: sync::Cache<String, u32> = sync::Cache::new(10);
    for cache in [&here, &there] {
        cache.insert("a".to_owned(), 1);
        cache.insert_with("b".to_owned(), 2, Life::new().tag(&cache.tag("red")));
        cache.insert("c".to_owned(), 3);
    }
    let lease = there.lease("a");
    here.invalidate(&"a".to_owned());
    here.invalidate(&"unknown here".to_owned());
    here.invalidate_tag("red");
    let lines = std::mem::take(&mut *stream.lock().expect("not poisoned"));
    assert_eq!(lines, ["key a", "key unknown here", "tag red"]);
    there.apply(Invalidation::Key(&"a".to_owned()));
    there.apply(Invalidation::Tag("red"));
    assert!(
        !lease.is_current(),
        "what was read before may not come in after"
    );
    for cache in [&here, &there] {
        let left = ["a", "b", "c"].map(|key| cache.get(key).is_some());
        assert_eq!(left, [false, false, true]);
    }
    here.apply(Invalidation::All);
    assert!(here.is_empty());
    assert!(stream.lock().expect("not poisoned").is_empty());
}

#[test]
fn a_sweep_looks_at_everything_a_few_at_a_time_while_others_go_on() {
    let cache: sync::Cache<u32, u32> = sync::Builder::new(10_000).with_shards(4).build();
    (0..1_000).for_each(|key| cache.insert(key, key));
    let lease = cache.lease(&10);
    let mut sweep = cache.sweep();
    let (mut slices, mut looked) = (0, 0);
    loop {
        let mut in_slice = 0;
        let more = sweep.next(16, |key, _| {
            in_slice += 1;
            key % 10 == 0
        });
        assert!(in_slice <= 16);
        slices += 1;
        looked += in_slice;
        // Somebody removes and inserts meanwhile.
        cache.remove(&(slices * 7 + 1));
        cache.insert(100_000 + slices * 10 + 1, 0);
        if !more {
            break;
        }
    }
    assert!(
        slices >= 60 && looked >= 850,
        "{slices} slices, {looked} looks"
    );
    assert!((0..1_000).all(|key| key % 10 != 0 || cache.get(&key).is_none()));
    assert!(!lease.is_current());
    let stats = cache.stats();
    assert_eq!(stats.weight, cache.weight());
    assert_eq!(stats.entries, cache.len() as u64);
}

#[test]
fn a_sweep_takes_expired_entries_and_those_of_invalidated_groups_along() {
    let cache: sync::Cache<u32, u32> = sync::Cache::new(100);
    let red = cache.tag("red");
    cache.insert_with(1, 1, Life::new().tag(&red));
    cache.insert_with_ttl(2, 2, Duration::ZERO);
    cache.insert(3, 3);
    cache.invalidate_tag("red");
    let mut sweep = cache.sweep();
    while sweep.next(100, |_, _| false) {}
    assert_eq!((cache.len(), cache.stats().expired), (1, 2));
}

#[test]
fn a_snapshot_restored_into_a_smaller_cache_keeps_what_was_to_leave_last() {
    let mut cache: Cache<u32, u32, Lru> = Cache::new(10);
    for key in 0..10 {
        cache.insert(key, key);
    }
    cache.insert_with_ttl(9, 9, Duration::from_secs(60));
    cache.get(&0);
    cache.get(&1);
    cache.advance(Duration::from_secs(20));
    let saved = cache.snapshot();
    let keys: Vec<u32> = saved.iter().map(|saved| saved.key).collect();
    assert_eq!(keys, [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    assert_eq!(saved[7].left, Some(Duration::from_secs(40)));
    let mut small: Cache<u32, u32, Lru> = Cache::new(3);
    small.restore(saved);
    assert_eq!(
        [9, 0, 1].map(|key| small.peek(&key).copied()),
        [Some(9), Some(0), Some(1)]
    );
    small.advance(Duration::from_secs(41));
    assert_eq!(small.get(&9), None);
}

#[test]
fn every_entry_is_in_a_snapshot_once_whatever_the_policy() {
    let mut cache: Cache<u32, u32, S3Fifo> = Cache::new(100);
    for key in (0..150).chain(30..60).chain(100..170) {
        if cache.get(&key).is_none() {
            cache.insert(key, key);
        }
    }
    let mut keys: Vec<u32> = cache.snapshot().iter().map(|saved| saved.key).collect();
    let mut there: Vec<u32> = cache.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    there.sort_unstable();
    assert_eq!(keys, there);
    assert_eq!(keys.len(), 100);
}

#[test]
fn the_outlook_tells_what_twice_the_memory_would_buy() {
    // A loop over 300 keys: they all fit into twice the capacity, and few are hit with less.
    let mut cache: Cache<u32, u32> = Cache::new(200);
    assert_eq!(cache.outlook(), None, "nothing was seen yet");
    let mut misses = 0;
    for request in 0..200_000 {
        let key = request % 300;
        if cache.get(&key).is_none() {
            misses += u32::from(request >= 100_000);
            cache.insert(key, key);
        }
    }
    let outlook = cache.outlook().expect("the default policy simulates");
    assert!(outlook.double < 0.01, "{outlook:?}");
    assert!(
        outlook.half > outlook.present && outlook.present > 0.3,
        "{outlook:?}"
    );
    let real = f64::from(misses) / 100_000.0;
    assert!((outlook.present - real).abs() < 0.1, "{real}: {outlook:?}");
}
