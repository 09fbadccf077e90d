//! What a user of the router counts on.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stackbeam_shard_router::{
    Directory, Key, Modulo, PageError, Partition, PartitionError, Ranges, Router, ShardId,
    ShardMap, Skew, Slots, group, merge_page, scatter,
};

fn s(number: u32) -> ShardId {
    ShardId::new(number)
}

#[test]
fn modulo_divides_the_number_itself() {
    let modulo = Modulo::new(4).unwrap();
    for id in [0_u64, 1, 5, 1_000_003, u64::MAX] {
        assert_eq!(u64::from(modulo.shard(Key::Number(id)).get()), id % 4);
    }
    assert_eq!(modulo.shards(), [s(0), s(1), s(2), s(3)]);
}

#[test]
fn placement_never_changes() {
    // Golden: rows are where these say. A change here moves data of users.
    // The hashes were computed by another implementation of XXH3 (the reference library).
    assert_eq!(Key::Bytes(b"").hash(), 0x2d06_8005_38d3_94c2);
    let slots = Slots::even(16_384, 4).unwrap();
    let golden = [
        (Key::Bytes(b""), 5_314, 1),
        (Key::Bytes(b"user:42"), 13_482, 3),
        (Key::Number(42), 10_184, 2),
        (Key::Number(u64::MAX), 1_043, 0),
    ];
    for (key, slot, shard) in golden {
        assert_eq!(
            (slots.slot(key), slots.shard(key)),
            (slot, s(shard)),
            "{key:?}"
        );
    }
}

#[test]
fn bad_partitions_are_refused_by_field() {
    let refused = Modulo::new(0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "shards is 0; it must be from 1 to 65536"
    );
    assert!(Modulo::new(65_537).is_err());
    assert!(Slots::even(0, 1).is_err());
    assert!(Slots::even(4, 5).is_err());
    assert!(matches!(
        Slots::even(8, 2).unwrap().with_slot(8, s(0)),
        Err(PartitionError::NoSlot { slot: 8, .. })
    ));
    let unordered = Ranges::new(s(0), [(Key::Number(5), s(1)), (Key::Number(5), s(2))]);
    assert!(matches!(
        unordered,
        Err(PartitionError::Order { position: 1, .. })
    ));
}

#[test]
fn a_bound_belongs_to_the_range_that_it_starts() {
    let ranges = Ranges::new(s(0), [(Key::Number(100), s(1)), (Key::Bytes(b"m"), s(2))]).unwrap();
    assert_eq!(ranges.shard(Key::Number(99)), s(0));
    assert_eq!(ranges.shard(Key::Number(100)), s(1));
    assert_eq!(
        ranges.shard(Key::Bytes(b"a")),
        s(1),
        "numbers come before bytes"
    );
    assert_eq!(ranges.shard(Key::Bytes(b"m")), s(2));
    assert_eq!(ranges.shards(), [s(0), s(1), s(2)]);
}

#[test]
fn moving_one_slot_moves_only_its_keys() {
    let before = Slots::even(64, 4).unwrap();
    let after = before.clone().with_slot(10, s(9)).unwrap();
    for id in 0..10_000_u64 {
        let key = Key::Number(id);
        if before.slot(key) == 10 {
            assert_eq!(after.shard(key), s(9));
        } else {
            assert_eq!(after.shard(key), before.shard(key));
        }
    }
    assert!(after.shards().contains(&s(9)));
}

#[test]
fn a_celebrity_gets_a_shard_of_its_own_and_can_go_back() {
    let all = Modulo::new(4).unwrap();
    let listed = Directory::new(all)
        .with_entry(Key::Number(7), s(4))
        .unwrap();
    assert_eq!(listed.shard(Key::Number(7)), s(4));
    assert_eq!(listed.shard(Key::Number(8)), s(0));
    assert_eq!(listed.shards().len(), 5);
    assert_eq!(
        listed.without_entry(Key::Number(7)).shard(Key::Number(7)),
        s(3)
    );
}

#[test]
fn an_older_map_never_replaces_a_newer_one() {
    let router = Router::new(ShardMap::new(5, Modulo::new(2).unwrap()));
    let other = router.clone();
    router
        .update(ShardMap::new(7, Modulo::new(4).unwrap()))
        .unwrap();
    for late in [5, 6, 7] {
        let stale = other
            .update(ShardMap::new(late, Modulo::new(8).unwrap()))
            .unwrap_err();
        assert_eq!((stale.given, stale.current), (late, 7));
    }
    assert_eq!(other.map().shards().len(), 4);
    assert!(other.check(7).is_ok());
    assert!(other.check(8).is_ok(), "the caller may know more than we");
    assert!(other.check(6).is_err());
    let stats = router.stats();
    assert_eq!((stats.updates, stats.outdated_updates), (1, 3));
    assert_eq!(
        (stats.stale_requests, stats.version, stats.shards),
        (1, 7, 4)
    );
}

#[test]
fn two_threads_that_update_at_once_leave_the_newest() {
    for _ in 0..50 {
        let router = Router::new(ShardMap::new(0, Modulo::new(1).unwrap()));
        std::thread::scope(|scope| {
            for half in 0..2 {
                let router = router.clone();
                scope.spawn(move || {
                    for version in 1..100_u64 {
                        if version % 2 == half {
                            let map = ShardMap::new(version, Modulo::new(1).unwrap());
                            let _late = router.update(map);
                        }
                    }
                });
            }
        });
        assert_eq!(router.map().version(), 99);
    }
}

#[test]
fn answers_come_back_in_the_order_of_the_batch() {
    let map = ShardMap::new(1, Modulo::new(3).unwrap());
    let batch = group(&map, [5_u64, 4, 3, 5, 0]);
    assert_eq!(batch.len(), 5);
    let answers: Vec<_> = batch
        .groups()
        .iter()
        .map(|g| {
            (
                g.shard,
                g.items.iter().map(|id| id * 10).collect::<Vec<_>>(),
            )
        })
        .collect();
    let restored = batch.restore(answers.clone()).unwrap();
    assert_eq!(restored, [50, 40, 30, 50, 0].map(Some));
    // One shard did not answer: its places stay visible.
    let partial = batch.restore(answers.into_iter().take(1)).unwrap();
    assert_eq!(partial, [None, None, Some(30), None, Some(0)]);
    let wrong = batch.restore([(s(0), vec![1_u64])]).unwrap_err();
    assert_eq!((wrong.asked, wrong.given), (2, 1));
    assert!(group(&map, Vec::<u64>::new()).is_empty());
}

#[tokio::test]
async fn a_scatter_says_who_answered() {
    let at_once = NonZeroUsize::new(2).unwrap();
    let gathered = scatter((0..4).map(s), at_once, |shard| async move {
        if shard == s(2) {
            Err("down")
        } else {
            Ok(shard.get() * 2)
        }
    })
    .await;
    assert_eq!(gathered.answers, [(s(0), 0), (s(1), 2), (s(3), 6)]);
    let coverage = gathered.coverage();
    assert_eq!(coverage.missing, [s(2)]);
    assert!(!coverage.is_complete());
    assert!((coverage.ratio() - 0.75).abs() < 1e-9);
    let incomplete = gathered.complete().unwrap_err();
    assert_eq!(
        incomplete.to_string(),
        "1 of 4 shards did not answer; shard 2 said: down"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_shards_are_asked_at_once_than_allowed() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let gathered = scatter((0..9).map(s), NonZeroUsize::new(3).unwrap(), |_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        }
    })
    .await;
    assert_eq!(gathered.answers.len(), 9);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_scatter_asks_nobody_further() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let scattered = scatter((0..9).map(s), NonZeroUsize::MIN, move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, ()>(())
        }
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(2_500), scattered)
            .await
            .is_err()
    );
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_page_is_one_ordered_list() {
    let lists = || vec![vec![9, 6, 3], vec![8, 7], vec![]];
    let down = |a: &i32, b: &i32| b.cmp(a);
    assert_eq!(merge_page(lists(), 0, 3, 10, down).unwrap(), [9, 8, 7]);
    assert_eq!(merge_page(lists(), 3, 9, 12, down).unwrap(), [6, 3]);
    assert_eq!(
        merge_page(lists(), 50, 0, 50, down).unwrap(),
        Vec::<i32>::new()
    );
    assert!(matches!(
        merge_page(lists(), 8, 3, 10, down),
        Err(PageError::TooDeep { max: 10, .. })
    ));
    assert!(matches!(
        merge_page(lists(), usize::MAX, 3, 10, down),
        Err(PageError::TooDeep { .. })
    ));
    assert!(matches!(
        merge_page(vec![vec![1, 2]], 0, 2, 10, down),
        Err(PageError::Unordered {
            list: 0,
            position: 1,
            ..
        })
    ));
}

#[test]
fn skew_finds_the_celebrity() {
    let map = ShardMap::new(1, Modulo::new(4).unwrap());
    let even = Skew::of(&map, 0..4_000_u64);
    assert!((even.peak_to_mean - 1.0).abs() < 1e-9);
    let skewed = Skew::of(&map, (0..1_000_u64).map(|n| if n % 2 == 0 { 8 } else { n }));
    assert!(skewed.peak_to_mean > 1.9, "{skewed:?}");
    assert!((skewed.busiest_key_share - 0.5).abs() < 1e-9);
    let nothing = Skew::of(&map, Vec::<u64>::new());
    assert!(nothing.peak_to_mean.abs() < 1e-9);
}
