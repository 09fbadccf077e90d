//! Time to live and to idle, tags, and what loading does with stale values.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stackbeam_lru_cache::load::{LoadError, ReadThrough, WriteBehind, early};
use stackbeam_lru_cache::{Cache, Life, sync};

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A clock that stands until it is moved.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }

    fn builder<V>(&self) -> sync::Builder<u32, V> {
        let (start, clock) = (t0(), self.clone());
        sync::Builder::new(100).with_clock(move || start + seconds(clock.0.load(Ordering::Relaxed)))
    }
}

#[test]
fn what_is_used_stays_and_what_idles_leaves() {
    let clock = Clock::default();
    let cache: sync::Cache<u32, u32> = clock.builder().with_idle(seconds(10)).build();
    cache.insert(1, 1);
    cache.insert(2, 2);
    cache.insert_with(3, 3, Life::new().ttl(seconds(12)));
    for at in [6, 12, 18] {
        clock.set(at);
        assert_eq!(cache.get(&1), Some(1));
        assert_eq!(
            cache.get(&3).is_some(),
            at < 12,
            "it lives for 12 seconds however used"
        );
    }
    assert_eq!(cache.get(&2), None);
    clock.set(28);
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.stats().expired, 3);
}

#[test]
fn a_negative_entry_lives_as_long_as_it_is_told() {
    let mut cache: Cache<u32, Option<u32>> = stackbeam_lru_cache::Builder::new(10)
        .with_ttl(seconds(60))
        .with_ttl_by(|_, value: &Option<u32>| value.is_none().then_some(seconds(5)))
        .build();
    cache.insert(1, Some(1));
    cache.insert(2, None);
    cache.advance(seconds(5));
    assert_eq!(cache.get(&1), Some(&Some(1)));
    assert_eq!(cache.get(&2), None);
    cache.advance(seconds(60));
    assert_eq!(cache.get(&1), None);
}

#[test]
fn jitter_shortens_and_spreads_and_can_be_replayed() {
    let ends = || {
        let mut cache: Cache<u32, ()> = stackbeam_lru_cache::Builder::new(1_000)
            .with_ttl(seconds(100))
            .with_jitter(20)
            .build();
        for key in 0..1_000 {
            cache.insert(key, ());
        }
        let mut left = Vec::new();
        for now in 79..=100 {
            cache.advance(seconds(now));
            cache.remove_expired();
            left.push(cache.len());
        }
        left
    };
    let left = ends();
    assert_eq!((left[0], left[21]), (1_000, 0));
    // A twentieth of them each second, from the eightieth on.
    assert!((400..600).contains(&left[11]), "{left:?}");
    assert_eq!(left, ends());
}

#[test]
fn lives_of_nothing_and_of_centuries_are_lives() {
    let mut cache: Cache<u32, u32> = Cache::new(10);
    cache.insert_with_ttl(1, 1, Duration::ZERO);
    cache.insert_with_ttl(2, 2, Duration::MAX);
    cache.insert_with_ttl(3, 3, seconds(300 * 365 * 86_400));
    cache.insert_with(4, 4, Life::new().idle(Duration::MAX));
    assert_eq!(cache.get(&1), None);
    cache.advance(seconds(200 * 365 * 86_400));
    for key in 2..=4 {
        assert_eq!(cache.get(&key), Some(&key));
    }
}

#[test]
fn a_tag_invalidates_its_entries_at_once_and_what_was_read_before_too() {
    let cache: sync::Cache<u32, u32> = sync::Cache::new(100);
    let (red, blue) = (cache.tag("red"), cache.tag("blue"));
    cache.insert_with(1, 1, Life::new().tag(&red));
    cache.insert_with(2, 2, Life::new().tag(&red).tag(&blue));
    cache.insert_with(3, 3, Life::new().tag(&blue));
    cache.insert(4, 4);
    cache.invalidate_tag("red");
    // Read from the store before the invalidation, inserted after it.
    cache.insert_with(5, 5, Life::new().tag(&red));
    cache.insert_with(6, 6, Life::new().tag(&cache.tag("red")));
    let there: Vec<u32> = (1..=6).filter(|key| cache.get(key).is_some()).collect();
    assert_eq!(there, [3, 4, 6]);
    assert!(!red.is_current() && blue.is_current());
    cache.invalidate_tag("green");
    assert_eq!(cache.len(), 3, "those that were looked at have left");
}

type Users = ReadThrough<u32, u32, &'static str>;

#[tokio::test]
async fn a_stale_value_is_the_answer_if_loading_fails() {
    let clock = Clock::default();
    let cache = clock.builder().with_ttl(seconds(60)).build();
    let users: Users = ReadThrough::new(cache).with_stale(seconds(40));
    assert_eq!(users.get_or_load(&1, || async { Ok(1) }).await.unwrap(), 1);
    clock.set(19);
    let fresh = users.get_or_load(&1, || async { Err("must not be asked") });
    assert_eq!(fresh.await.unwrap(), 1);
    clock.set(21);
    let stale = users.get_or_load(&1, || async { Err("the store is down") });
    assert_eq!(stale.await.unwrap(), 1);
    clock.set(60);
    let over = users.get_or_load(&1, || async { Err("the store is down") });
    assert!(matches!(over.await, Err(LoadError::Failed(_))));
    assert_eq!(users.get_or_load(&1, || async { Ok(2) }).await.unwrap(), 2);
}

#[tokio::test]
async fn a_stale_value_is_handed_out_and_one_caller_loads_it_anew() {
    let clock = Clock::default();
    let cache = clock.builder().with_ttl(seconds(60)).build();
    let users: Users = ReadThrough::new(cache).with_stale(seconds(40));
    let ask = |value| users.get_or_refresh(&1, seconds(5), move || async move { Ok(value) });
    assert!(ask(1).await.unwrap().refresh.is_none());
    clock.set(14);
    assert!(ask(9).await.unwrap().refresh.is_none());
    clock.set(16);
    let ahead = ask(9).await.unwrap();
    assert_eq!(ahead.value, 1);
    let right = ahead.refresh.expect("within five seconds of being stale");
    assert!(
        ask(9).await.unwrap().refresh.is_none(),
        "somebody has the right"
    );
    drop(right);
    clock.set(30);
    let stale = ask(9).await.unwrap();
    assert_eq!(stale.value, 1);
    let right = stale.refresh.expect("the right was given back");
    assert!(right.run(|| async { Err("down") }).await.is_err());
    let right = ask(9)
        .await
        .unwrap()
        .refresh
        .expect("a failure gives it back too");
    assert_eq!(right.run(|| async { Ok(2) }).await.unwrap(), 2);
    let fresh = ask(9).await.unwrap();
    assert_eq!((fresh.value, fresh.refresh.is_some()), (2, false));
}

#[tokio::test]
async fn an_invalidation_wins_over_a_refresh() {
    let clock = Clock::default();
    let cache = clock.builder().with_ttl(seconds(60)).build();
    let users: Users = ReadThrough::new(cache).with_stale(seconds(60));
    users.cache().insert(1, 1);
    let found = users
        .get_or_refresh(&1, Duration::ZERO, || async { Ok(9) })
        .await
        .unwrap();
    let right = found.refresh.expect("it is never fresh");
    users.cache().remove(&1);
    assert_eq!(right.run(|| async { Ok(2) }).await.unwrap(), 2);
    assert_eq!(users.cache().get(&1), None);
}

#[test]
fn early_refreshes_are_the_likelier_the_nearer_the_end() {
    let takes = Duration::from_millis(100);
    let draws: Vec<Duration> = (0..10_000_u64)
        .map(|n| early(takes, 1.0, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let beyond = |time: Duration| draws.iter().filter(|ahead| **ahead > time).count();
    // An exponential distribution whose mean is what a load takes.
    assert!((3_500..3_900).contains(&beyond(takes)), "{}", beyond(takes));
    assert!(
        (400..600).contains(&beyond(takes * 3)),
        "{}",
        beyond(takes * 3)
    );
    assert_eq!(early(takes, 0.0, 1), Duration::ZERO);
    assert!(early(Duration::MAX, 1e300, 0) == Duration::MAX);
}

#[tokio::test]
async fn many_keys_are_one_load_and_join_those_under_way() {
    let users: Users = ReadThrough::new(sync::Cache::new(100));
    users.cache().insert(1, 10);
    let slow = tokio::spawn({
        let users = users.clone();
        async move {
            let load = || async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(20)
            };
            users.get_or_load(&2, load).await
        }
    });
    tokio::task::yield_now().await;
    let mut asked = Vec::new();
    let values = users
        .get_many(&[1, 2, 3, 4, 3], |keys| {
            asked.push(keys.clone());
            async move {
                let known: HashMap<u32, u32> = [(3, 30), (7, 70)].into();
                let pairs = known.into_iter().filter(|(key, _)| keys.contains(key));
                Ok(pairs.collect())
            }
        })
        .await
        .unwrap();
    assert_eq!(values, [Some(10), Some(20), Some(30), None, Some(30)]);
    assert_eq!(asked, [[3, 4]]);
    assert_eq!(slow.await.unwrap().unwrap(), 20);
    assert_eq!(users.cache().get(&3), Some(30));
    assert_eq!((users.cache().get(&4), users.loads_under_way()), (None, 0));
}

#[tokio::test]
async fn two_who_ask_for_many_keys_do_not_wait_for_each_other_in_a_ring() {
    let users: Users = ReadThrough::new(sync::Cache::new(100));
    let ask = |keys: [u32; 3]| {
        let users = users.clone();
        tokio::spawn(async move {
            let load = |keys: Vec<u32>| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(keys.into_iter().map(|key| (key, key * 10)).collect())
            };
            users.get_many(&keys, load).await
        })
    };
    let (one, other) = (ask([1, 2, 3]), ask([3, 1, 4]));
    let both = async { (one.await.unwrap().unwrap(), other.await.unwrap().unwrap()) };
    let (one, other) = tokio::time::timeout(seconds(5), both).await.unwrap();
    assert_eq!(one, [Some(10), Some(20), Some(30)]);
    assert_eq!(other, [Some(30), Some(10), Some(40)]);
}

#[tokio::test]
async fn when_who_asked_for_many_is_dropped_the_waiters_load_for_themselves() {
    let users: Users = ReadThrough::new(sync::Cache::new(100));
    let hanging = tokio::spawn({
        let users = users.clone();
        async move { users.get_many(&[1, 2], |_| std::future::pending()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(users.loads_under_way(), 2);
    let waiting = tokio::spawn({
        let users = users.clone();
        async move { users.get_or_load(&2, || async { Ok(5) }).await }
    });
    tokio::task::yield_now().await;
    hanging.abort();
    assert_eq!(waiting.await.unwrap().unwrap(), 5);
    assert_eq!(users.loads_under_way(), 0);
}

#[tokio::test]
async fn a_loader_that_never_returns_blocks_its_key_for_the_deadline_only() {
    let clock = Clock::default();
    let users: Users = ReadThrough::new(clock.builder().build())
        .with_deadline(seconds(5))
        .with_flights_max(1);
    let hanging = tokio::spawn({
        let users = users.clone();
        async move { users.get_or_load(&1, std::future::pending).await }
    });
    tokio::task::yield_now().await;
    let busy = users.get_or_load(&2, || async { Ok(2) }).await;
    assert!(
        matches!(busy, Err(LoadError::Busy { flights: 1 })),
        "{busy:?}"
    );
    clock.set(6);
    assert_eq!(users.get_or_load(&1, || async { Ok(7) }).await.unwrap(), 7);
    hanging.abort();
    let gone = hanging.await;
    assert!(gone.unwrap_err().is_cancelled());
    assert_eq!(users.cache().get(&1), Some(7));
}

#[test]
fn a_thread_does_not_wait_longer_than_it_is_willing_to() {
    let users: Users = ReadThrough::new(sync::Cache::new(100));
    let (begin, began) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let users = &users;
        scope.spawn(move || {
            let slow = users.get_or_load_blocking(&1, || {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                Ok(3)
            });
            assert_eq!(slow.unwrap(), 3);
        });
        began.recv().unwrap();
        let hasty = users.get_or_load_blocking_within(&1, Duration::from_millis(5), || Ok(9));
        assert!(matches!(hasty, Err(LoadError::TimedOut)), "{hasty:?}");
        end.send(()).unwrap();
    });
    assert_eq!(users.cache().get(&1), Some(3));
}

#[tokio::test]
async fn loads_under_way_count_against_the_capacity() {
    let cache: sync::Cache<u32, u32> = sync::Cache::new(10);
    (0..10).for_each(|key| cache.insert(key, key));
    let users: Users = ReadThrough::new(cache.clone()).with_load_weight(3);
    let load = users.get_or_load(&77, || async {
        assert_eq!(
            (cache.len(), cache.weight()),
            (7, 10),
            "three have made room"
        );
        Ok(77)
    });
    assert_eq!(load.await.unwrap(), 77);
    assert_eq!((cache.len(), cache.weight()), (8, 8));
}

#[tokio::test]
async fn a_write_that_fails_or_is_dropped_leaves_nothing_in_doubt() {
    let users: Users = ReadThrough::new(sync::Cache::new(100));
    let write = |value, outcome: Result<(), &'static str>| {
        users.write_through(&1, value, move |_, _| async move { outcome })
    };
    write(1, Ok(())).await.unwrap();
    assert_eq!(users.cache().get(&1), Some(1));
    assert_eq!(write(2, Err("refused")).await, Err("refused"));
    assert_eq!(users.cache().get(&1), None);
    write(3, Ok(())).await.unwrap();
    {
        let mut hanging =
            Box::pin(users.write_through(&1, 4, |_, _| std::future::pending::<Result<(), ()>>()));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(hanging.as_mut().poll(&mut context).is_pending());
    }
    assert_eq!(users.cache().get(&1), None);
}

#[test]
fn writes_behind_keep_the_last_value_and_are_lost_to_no_failure() {
    let behind: WriteBehind<u32, u32> = WriteBehind::new(2);
    behind.put(1, 1).unwrap();
    behind.put(1, 2).unwrap();
    behind.put(2, 1).unwrap();
    let full = behind.put(3, 1).unwrap_err();
    assert_eq!((full.key, full.value, full.pending), (3, 1, 2));
    drop(behind.batch(10));
    let batch = behind.batch(10);
    let mut writes: Vec<(u32, u32)> = batch.writes().map(|(key, value)| (*key, *value)).collect();
    writes.sort_unstable();
    assert_eq!(writes, [(1, 2), (2, 1)]);
    behind.put(1, 3).unwrap();
    assert_eq!(
        behind.batch(10).writes().len(),
        0,
        "one write of a key at a time"
    );
    batch.done();
    assert_eq!(
        (behind.pending(), behind.get(&1), behind.get(&2)),
        (1, Some(3), None)
    );
    let last = behind.batch(10);
    assert_eq!(last.writes().collect::<Vec<_>>(), [(&1, &3)]);
    last.done();
    assert_eq!(behind.pending(), 0);
}
