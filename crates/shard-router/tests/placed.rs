//! Partitions by consistent hashing.
#![cfg(feature = "consistent-hash")]

use stackbeam_shard_router::{Key, Partition, Placed, PlacedError, ShardId};

fn s(number: u32) -> ShardId {
    ShardId::new(number)
}

#[test]
fn a_shard_that_leaves_gives_up_its_rows_and_no_other() {
    for make in [
        Placed::ring as fn(Vec<(ShardId, f64)>) -> _,
        Placed::rendezvous,
    ] {
        let before = make((0..5).map(|n| (s(n * 10), 1.0)).collect()).unwrap();
        let after = make([0, 1, 3, 4].map(|n| (s(n * 10), 1.0)).to_vec()).unwrap();
        let mut moved = 0;
        for id in 0..10_000 {
            let (was, is) = (before.shard(Key::Number(id)), after.shard(Key::Number(id)));
            assert!(was == is || was == s(20));
            moved += u32::from(was != is);
        }
        assert!((1_000..3_500).contains(&moved), "{moved}");
        assert_eq!(after.shards(), [s(0), s(10), s(30), s(40)]);
    }
}

#[test]
fn the_order_of_listing_does_not_matter() {
    let one = Placed::ring([(s(1), 1.0), (s(2), 2.0)]).unwrap();
    let two = Placed::ring([(s(2), 2.0), (s(1), 1.0)]).unwrap();
    assert!((0..1_000).all(|id| one.shard(Key::Number(id)) == two.shard(Key::Number(id))));
}

#[test]
fn one_more_shard_takes_from_all_with_jump() {
    let (four, five) = (Placed::jump(4).unwrap(), Placed::jump(5).unwrap());
    for id in 0..5_000 {
        let (was, is) = (four.shard(Key::Number(id)), five.shard(Key::Number(id)));
        assert!(was == is || is == s(4));
    }
}

#[test]
fn shards_that_cannot_be_placed_are_refused() {
    assert!(matches!(
        Placed::ring([(s(1), 1.0), (s(1), 1.0)]),
        Err(PlacedError::Shards(_))
    ));
    assert!(matches!(Placed::ring([]), Err(PlacedError::Placement(_))));
    assert!(matches!(
        Placed::rendezvous([(s(1), f64::NAN)]),
        Err(PlacedError::Shards(_))
    ));
    assert!(Placed::jump(0).is_err());
}
