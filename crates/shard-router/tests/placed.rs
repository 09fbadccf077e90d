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

type Make = fn(Vec<(ShardId, f64)>) -> Result<Placed, PlacedError>;

#[test]
fn the_order_of_listing_does_not_matter() {
    for make in [Placed::ring as Make, Placed::rendezvous, Placed::slot_table] {
        let one = make(vec![(s(1), 1.0), (s(2), 2.0)]).unwrap();
        let two = make(vec![(s(2), 2.0), (s(1), 1.0)]).unwrap();
        assert!((0..1_000).all(|id| one.shard(Key::Number(id)) == two.shard(Key::Number(id))));
    }
}

#[test]
fn a_slot_table_is_even_and_a_shard_that_leaves_moves_hardly_any_other_row() {
    let before = Placed::slot_table((0..8).map(|n| (s(n), 1.0))).unwrap();
    let after = Placed::slot_table((0..7).map(|n| (s(n), 1.0))).unwrap();
    let mut counts = [0_u32; 8];
    let mut between_others = 0;
    for id in 0..40_000 {
        let (was, is) = (before.shard(Key::Number(id)), after.shard(Key::Number(id)));
        counts[was.get() as usize] += 1;
        between_others += u32::from(was != s(7) && was != is);
    }
    // 5000 each; 5 % by the table's cap and some more by the chance of the sample.
    assert!(
        counts.iter().all(|count| (4_500..=5_500).contains(count)),
        "{counts:?}"
    );
    assert!(between_others < 400, "{between_others} of 35000");
}

#[test]
fn where_rows_are_placed_never_changes() {
    // Golden: rows of users are where these say.
    let shards = || (0..5).map(|n| (s(n), 1.0 + f64::from(n % 2)));
    let at = |placed: Placed| -> Vec<u32> {
        let numbers = (0..6).map(|id| placed.shard(Key::Number(id)).get());
        numbers
            .chain([placed.shard(Key::Bytes(b"user:42")).get()])
            .collect()
    };
    assert_eq!(
        at(Placed::rendezvous(shards()).unwrap()),
        [2, 4, 4, 1, 0, 3, 3],
        "rendezvous"
    );
    assert_eq!(
        at(Placed::slot_table(shards()).unwrap()),
        [3, 1, 1, 3, 3, 4, 0],
        "slot table"
    );
    assert_eq!(
        at(Placed::ring(shards()).unwrap()),
        [1, 1, 2, 0, 4, 1, 3],
        "ring"
    );
    assert_eq!(at(Placed::jump(5).unwrap()), [1, 3, 4, 2, 4, 1, 1], "jump");
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
