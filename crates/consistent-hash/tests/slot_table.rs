//! What the docs say of slot tables: a function of the members, caps that hold, bounded churn.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    BuildError, KeyHash, Member, MemberId, Members, NodeIx, Placement, SlotTable, Xxh3,
};

fn names(count: u32) -> Members {
    Members::from_names((0..count).map(|n| format!("node-{n}"))).unwrap()
}

fn slots_of(members: &Members, table: &SlotTable) -> Vec<u64> {
    let mut counts = vec![0; members.len()];
    for node in table.slots() {
        counts[node.index()] += 1;
    }
    counts
}

fn ids(members: &Members, table: &SlotTable) -> Vec<MemberId> {
    table.slots().map(|node| members[node].id()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_member_has_more_than_its_cap(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.01..50.0_f64], 1..30),
        slots in 1..3_000_u32,
        slack in prop_oneof![Just(0.0), 0.0..0.5_f64],
    ) {
        let members = Members::new(weights.iter().enumerate().map(|(n, weight)| {
            Member::new(format!("m{n}")).with_weight(*weight)
        })).unwrap();
        let total: f64 = weights.iter().sum();
        prop_assume!(total > 0.0);
        let table = SlotTable::with_slots(&members, slots, slack).unwrap();
        let counts = slots_of(&members, &table);
        prop_assert_eq!(counts.iter().sum::<u64>(), u64::from(slots));
        for (member, count) in members.iter().zip(counts) {
            let cap = (1.0 + slack) * f64::from(slots) * member.weight() / total;
            prop_assert!(f64::from(u32::try_from(count).unwrap()) < cap + 1.0 + 1e-6, "{} has {count} of {cap}", member.name());
            prop_assert!(member.weight() > 0.0 || count == 0);
        }
    }

    #[test]
    fn neither_order_nor_history_matters(count in 2..20_u32, seed in any::<u64>(), slack in 0.0..0.2_f64) {
        let members = names(count);
        let mut list: Vec<Member> = members.iter().cloned().collect();
        list.sort_by_key(|member| Xxh3::new().hash_u64(member.id().get() ^ seed));
        // Listed in another order, and reached over a member that came and went.
        let visitor = Member::new("visitor");
        let again = Members::new(list).unwrap().with(visitor.clone()).unwrap().without(visitor.id()).unwrap();
        let one = SlotTable::with_slots(&members, 1_024, slack).unwrap();
        prop_assert_eq!(one, SlotTable::with_slots(&again, 1_024, slack).unwrap());
    }

    #[test]
    fn without_caps_only_the_keys_of_the_one_that_left_move(count in 2..30_u32, pick in any::<prop::sample::Index>()) {
        let members = names(count);
        let gone = members.iter().nth(pick.index(members.len())).unwrap().id();
        let fewer = members.without(gone).unwrap();
        let before = SlotTable::with_slots(&members, 4_096, SlotTable::SLACK_NONE).unwrap();
        let after = SlotTable::with_slots(&fewer, 4_096, SlotTable::SLACK_NONE).unwrap();
        let moved = ids(&members, &before).into_iter().zip(ids(&fewer, &after)).filter(|(a, b)| a != b);
        // A slot that nobody came to in time is matched pair by pair, and may go to another.
        let others = moved.filter(|(a, _)| *a != gone).count();
        prop_assert!(others <= 8, "{others} of 4096 slots moved between others");
    }

    #[test]
    fn replicas_are_distinct_and_the_owner_is_first(count in 1..30_u32, key in any::<u64>()) {
        let members = names(count);
        let table = SlotTable::with_slots(&members, 512, 0.05).unwrap();
        let mut out = vec![NodeIx::default(); members.len() + 1];
        prop_assert_eq!(table.owners(key, &mut out), members.len());
        prop_assert_eq!(out[0], table.owner(key));
        prop_assert_eq!(Some(out[0]), table.owner_of_slot(table.slot_of(key)));
        out.truncate(members.len());
        out.sort_unstable();
        out.dedup();
        prop_assert_eq!(out.len(), members.len());
    }
}

/// Slots that moved when one of `count` members left, as a multiple of those that had to.
fn churn(count: u32, slack: f64) -> f64 {
    let members = names(count);
    let (mut moved, mut least) = (0_u32, 0_u32);
    let before = SlotTable::with_slots(&members, SlotTable::SLOTS, slack).unwrap();
    let was = ids(&members, &before);
    for n in 0..3 {
        let gone = MemberId::of_name(&format!("node-{}", n * (count / 3)));
        let fewer = members.without(gone).unwrap();
        let after = SlotTable::with_slots(&fewer, SlotTable::SLOTS, slack).unwrap();
        for (a, b) in was.iter().zip(ids(&fewer, &after)) {
            moved += u32::from(*a != b);
            least += u32::from(*a == gone);
        }
    }
    f64::from(moved) / f64::from(least)
}

#[test]
fn a_member_that_leaves_moves_little_more_than_it_must() {
    for (count, slack, most) in [
        (10, 0.05, 1.1),
        (100, 0.05, 1.1),
        (100, 0.0, 1.6),
        (1_000, 0.0, 2.6),
    ] {
        let churn = churn(count, slack);
        println!("{count} members, slack {slack}: {churn:.3} times the least");
        assert!(
            (1.0..=most).contains(&churn),
            "{count} members, slack {slack}: {churn}"
        );
    }
}

#[test]
fn bad_sizes_are_refused_by_field() {
    let members = names(3);
    for slots in [0, SlotTable::SLOTS_MAX + 1, u32::MAX] {
        let refused = SlotTable::with_slots(&members, slots, 0.0);
        assert!(
            matches!(refused, Err(BuildError::Size { field: "slots", .. })),
            "{slots}"
        );
    }
    for slack in [f64::NAN, f64::INFINITY, -0.1] {
        let refused = SlotTable::with_slots(&members, 100, slack);
        assert!(
            matches!(refused, Err(BuildError::Fraction { field: "slack", .. })),
            "{slack}"
        );
    }
    let nobody = Members::from_names(Vec::<String>::new()).unwrap();
    assert!(matches!(
        SlotTable::new(&nobody),
        Err(BuildError::NoOwner { .. })
    ));
    assert_eq!(
        SlotTable::new(&members)
            .unwrap()
            .owner_of_slot(SlotTable::SLOTS),
        None
    );
}

#[test]
fn a_table_never_changes() {
    // Golden: two processes of two releases must agree. Unequal weights and no slack take every path.
    let members = Members::new(
        (0..7_u32).map(|n| Member::new(format!("node-{n}")).with_weight(1.0 + f64::from(n) / 2.0)),
    )
    .unwrap();
    let table = SlotTable::with_slots(&members, 48, 0.0).unwrap();
    let owners: String = table
        .slots()
        .map(|node| members[node].name().replace("node-", ""))
        .collect();
    assert_eq!(owners, "405142433251566642616043626503562553511466554463");
    let table = SlotTable::new(&members).unwrap();
    let text: String = table
        .slots()
        .map(|node| members[node].name().replace("node-", ""))
        .collect();
    assert_eq!(
        Xxh3::new().hash(text.as_bytes()),
        17_505_592_791_356_170_922
    );
}

#[test]
fn every_end_of_the_hash_space_has_a_slot() {
    let table = SlotTable::with_slots(&names(3), 1_000, 0.0).unwrap();
    assert_eq!((table.slot_of(0), table.slot_of(u64::MAX)), (0, 999));
}
