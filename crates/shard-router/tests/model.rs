//! Laws of partitions, batches and pages against naive twins.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use proptest::prelude::*;
use stackbeam_shard_router::{
    Directory, Key, Modulo, Partition, Ranges, ShardId, ShardMap, Slots, group, merge_page,
};

/// One of each kind, over shards that it names itself.
fn partition() -> impl Strategy<Value = Box<dyn Partition>> {
    let modulo = (1..9_u32).prop_map(|n| Box::new(Modulo::new(n).unwrap()) as Box<dyn Partition>);
    let slots = (1..64_u32, 1..9_u32).prop_map(|(slots, shards)| {
        Box::new(Slots::even(slots, shards.min(slots)).unwrap()) as Box<dyn Partition>
    });
    let ranges = prop::collection::btree_map(any::<u64>(), 0..5_u32, 0..6).prop_map(|bounds| {
        let bounds = bounds
            .into_iter()
            .map(|(n, s)| (Key::Number(n), ShardId::new(s)));
        Box::new(Ranges::new(ShardId::new(9), bounds).unwrap()) as Box<dyn Partition>
    });
    let directory = prop::collection::vec((0..50_u64, 0..12_u32), 0..6).prop_map(|entries| {
        let start = Directory::new(Modulo::new(3).unwrap());
        let directory = entries.into_iter().fold(start, |directory, (n, s)| {
            directory
                .with_entry(Key::Number(n), ShardId::new(s))
                .unwrap()
        });
        Box::new(directory) as Box<dyn Partition>
    });
    prop_oneof![modulo, slots, ranges, directory, placed()]
}

#[cfg(feature = "consistent-hash")]
fn placed() -> impl Strategy<Value = Box<dyn Partition>> {
    use stackbeam_shard_router::Placed;

    let shards = prop::collection::btree_map(0..40_u32, 0.5..4.0_f64, 1..8);
    (shards, 0..3_u8).prop_map(|(shards, kind)| {
        let count = u32::try_from(shards.len()).unwrap();
        let shards = shards
            .into_iter()
            .map(|(n, weight)| (ShardId::new(n), weight));
        let placed = match kind {
            0 => Placed::rendezvous(shards),
            1 => Placed::ring(shards),
            // A slot table takes long to build without optimisation; tests/placed.rs has it.
            _ => Placed::jump(count),
        };
        Box::new(placed.unwrap()) as Box<dyn Partition>
    })
}

#[cfg(not(feature = "consistent-hash"))]
fn placed() -> impl Strategy<Value = Box<dyn Partition>> {
    Just(()).prop_map(|()| Box::new(Modulo::new(1).unwrap()) as Box<dyn Partition>)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_key_is_on_a_listed_shard(
        partition in partition(),
        numbers in prop::collection::vec(any::<u64>(), 1..50),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let shards = partition.shards();
        prop_assert!(shards.is_sorted_by(|a, b| a < b), "ascending and each once");
        for number in numbers {
            prop_assert!(shards.contains(&partition.shard(Key::Number(number))));
        }
        prop_assert!(shards.contains(&partition.shard(Key::Bytes(&bytes))));
    }

    #[test]
    fn a_batch_loses_nothing_and_keeps_order(
        partition in partition(),
        keys in prop::collection::vec(0..100_u64, 0..60),
    ) {
        let map = ShardMap::new(1, partition);
        let batch = group(&map, keys.clone());
        for part in batch.groups() {
            prop_assert!(part.items.iter().all(|key| map.shard(key) == part.shard));
        }
        let answers: Vec<_> = batch.groups().iter().map(|g| (g.shard, g.items.clone())).collect();
        let restored: Option<Vec<u64>> = batch.restore(answers).unwrap().into_iter().collect();
        prop_assert_eq!(restored, Some(keys));
    }

    #[test]
    fn a_page_is_a_slice_of_everything_sorted(
        mut lists in prop::collection::vec(prop::collection::vec(0..1_000_u32, 0..20), 0..6),
        offset in 0..30_usize,
        limit in 0..30_usize,
    ) {
        for list in &mut lists {
            list.sort_unstable();
        }
        let mut all: Vec<u32> = lists.concat();
        all.sort_unstable();
        let wanted: Vec<u32> = all.into_iter().skip(offset).take(limit).collect();
        // Each shard sends no more than it must.
        for list in &mut lists {
            list.truncate(offset + limit);
        }
        prop_assert_eq!(merge_page(lists, offset, limit, 60, Ord::cmp).unwrap(), wanted);
    }

    #[test]
    fn skew_counts_every_access_once(
        partition in partition(),
        sample in prop::collection::vec(0..30_u64, 0..200),
    ) {
        let map = ShardMap::new(1, partition);
        let skew = stackbeam_shard_router::Skew::of(&map, sample.iter().copied());
        let naive = |shard: ShardId| sample.iter().filter(|key| map.shard(*key) == shard).count() as u64;
        for load in &skew.shards {
            prop_assert_eq!(load.accesses, naive(load.shard));
        }
        prop_assert_eq!(skew.shards.len(), map.shards().len());
        prop_assert_eq!(skew.shards.iter().map(|load| load.accesses).sum::<u64>(), sample.len() as u64);
    }

    #[test]
    fn answers_of_some_shards_fill_exactly_their_places(
        partition in partition(),
        keys in prop::collection::vec(0..100_u64, 0..60),
        silent in any::<u64>(),
    ) {
        let map = ShardMap::new(1, partition);
        let batch = group(&map, keys.clone());
        let answers = |shard: ShardId| silent >> (shard.get() % 64) & 1 == 0;
        let given = batch.groups().iter().filter(|g| answers(g.shard)).map(|g| (g.shard, g.items.clone()));
        let restored = batch.restore(given).unwrap();
        let wanted: Vec<Option<u64>> = keys.iter().map(|key| answers(map.shard(key)).then_some(*key)).collect();
        prop_assert_eq!(restored, wanted);
    }

    #[test]
    fn doubling_a_modulo_moves_a_row_only_to_its_new_twin(id in any::<u64>(), n in 1..100_u32) {
        let before = Modulo::new(n).unwrap().shard(Key::Number(id)).get();
        let after = Modulo::new(2 * n).unwrap().shard(Key::Number(id)).get();
        prop_assert!(after == before || after == before + n);
    }
}
