//! What moves, exactly.

use proptest::prelude::*;
use stackbeam_consistent_hash::{BuildError, Member, MemberId, Members, Ranges, Ring, SlotTable};

use crate::{hash, names};

fn weighted() -> impl Strategy<Value = Members> {
    prop::collection::btree_map(0..20_u32, prop_oneof![Just(1.0), 0.2..3.0_f64], 1..10).prop_map(
        |all| {
            Members::new(
                all.into_iter()
                    .map(|(n, weight)| Member::new(format!("m{n}")).with_weight(weight)),
            )
            .unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_key_moves_if_and_only_if_its_range_does(before in weighted(), after in weighted(), seed in any::<u64>()) {
        let tables: [[Box<dyn Ranges>; 2]; 2] = [
            [Box::new(Ring::with_points(&before, 20).unwrap()), Box::new(Ring::with_points(&after, 20).unwrap())],
            [
                Box::new(SlotTable::with_slots(&before, 101, 0.1).unwrap()),
                Box::new(SlotTable::with_slots(&after, 64, 0.1).unwrap()),
            ],
        ];
        let ring = Ring::with_points(&before, 20).unwrap();
        let mixed = ring.diff(&*tables[1][1]);
        check(&ring, &*tables[1][1], &mixed, seed)?;
        let table = SlotTable::with_slots(&before, 101, 0.1).unwrap();
        check(&ring, &*tables[0][1], &ring.diff(&*tables[0][1]), seed)?;
        check(&table, &*tables[1][1], &table.diff(&*tables[1][1]), seed)?;
    }
}

fn check(
    old: &dyn Ranges,
    new: &dyn Ranges,
    diff: &stackbeam_consistent_hash::Diff,
    seed: u64,
) -> Result<(), TestCaseError> {
    let owners = |key| {
        (
            old.members()[old.owner(key)].id(),
            new.members()[new.owner(key)].id(),
        )
    };
    let found = |key| {
        diff.moves()
            .iter()
            .find(|range| (range.first..=range.last).contains(&key))
    };
    let edges = diff.moves().iter().flat_map(|range| {
        [
            range.first,
            range.last,
            range.first.wrapping_sub(1),
            range.last.wrapping_add(1),
        ]
    });
    for key in edges
        .chain((0..200).map(|n| hash(seed ^ n)))
        .chain([0, u64::MAX])
    {
        let (from, to) = owners(key);
        match found(key) {
            Some(range) => prop_assert_eq!((range.from, range.to), (from, to)),
            None => prop_assert_eq!(from, to),
        }
    }
    prop_assert!(
        diff.moves()
            .windows(2)
            .all(|pair| pair[0].last < pair[1].first)
    );
    let sum: f64 = diff
        .moves()
        .iter()
        .map(stackbeam_consistent_hash::RangeMove::share)
        .sum();
    prop_assert!((sum - diff.moved()).abs() < 1e-9);
    prop_assert!(diff.churn() >= 1.0 && diff.moved() >= diff.least());
    prop_assert_eq!(diff.is_empty(), diff.moved() == 0.0);
    Ok(())
}

#[test]
fn a_ring_moves_exactly_the_least_when_a_member_goes_or_comes() {
    for count in [2, 10, 100] {
        let members = names(count);
        let fewer = members.without(MemberId::of_name("node-1")).unwrap();
        let (old, new) = (Ring::new(&members).unwrap(), Ring::new(&fewer).unwrap());
        for diff in [old.diff(&new), new.diff(&old)] {
            assert_eq!(diff.churn(), 1.0);
            assert!(!diff.is_empty());
        }
        let again = old.diff(&Ring::new(&members).unwrap());
        assert!(again.is_empty());
        assert_eq!((again.churn(), again.moved()), (1.0, 0.0));
    }
}

#[test]
fn a_table_names_the_slots_that_move_and_moves_little_more_than_the_least() {
    let members = names(50);
    let gone = MemberId::of_name("node-9");
    let fewer = members.without(gone).unwrap();
    let (old, new) = (
        SlotTable::new(&members).unwrap(),
        SlotTable::new(&fewer).unwrap(),
    );
    let slots = old.diff_slots(&new).unwrap();
    for (slot, (before, after)) in (0..).zip(old.slots().zip(new.slots())) {
        let moved = slots.iter().find(|moved| moved.slot == slot);
        let (from, to) = (members[before].id(), fewer[after].id());
        match moved {
            Some(moved) => assert_eq!((moved.from, moved.to), (from, to)),
            None => assert_eq!(from, to),
        }
    }
    let diff = old.diff(&new);
    assert!(diff.churn() < 1.1, "{}", diff.churn());
    let part = f64::from(u32::try_from(slots.len()).unwrap()) / f64::from(old.slot_count());
    assert!((diff.moved() - part).abs() < 1e-9);
    assert!(
        old.diff_slots(&SlotTable::with_slots(&fewer, 64, 0.1).unwrap())
            .is_none()
    );
}

#[test]
fn the_ranges_of_slots_are_the_hashes_that_fall_there() {
    let members = names(3);
    for slots in [1, 3, 64, 101, 65_536] {
        let table = SlotTable::with_slots(&members, slots, 0.1).unwrap();
        let mut next = 0;
        for slot in 0..slots.min(200) {
            let range = table.range_of(slot).unwrap();
            assert_eq!(*range.start(), next);
            assert_eq!(
                (table.slot_of(*range.start()), table.slot_of(*range.end())),
                (slot, slot)
            );
            next = range.end().wrapping_add(1);
        }
        assert_eq!(*table.range_of(slots - 1).unwrap().end(), u64::MAX);
        assert_eq!(table.range_of(slots), None);
    }
}

#[test]
fn slots_given_out_by_hand_are_kept() {
    let members = Members::new([Member::new("a"), Member::new("b")]).unwrap();
    let ids = [MemberId::of_name("a"), MemberId::of_name("b")];
    let owners = [ids[0], ids[1], ids[1]];
    let table = SlotTable::with_owners(&members, owners).unwrap();
    let got: Vec<MemberId> = table.slots().map(|node| members[node].id()).collect();
    assert_eq!(got, owners);
    let none = SlotTable::with_owners(&members, []);
    assert!(matches!(none, Err(BuildError::Size { field: "slots", .. })));
    let stranger = SlotTable::with_owners(&members, [MemberId::of_name("c")]);
    assert!(matches!(stranger, Err(BuildError::Unknown { .. })));
}
