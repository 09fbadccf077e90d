//! The laws that the docs claim, over random members and keys, and golden values.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    Anchor, BuildError, Flip, Jump, JumpBack, JumpBackAnchor, KeyHash, Member, MemberId,
    MemberState, Members, MembersError, Modulo, MultiProbe, NodeIx, Placement, Rendezvous, Ring,
    SlotTable, Xxh3,
};

fn hash(n: u64) -> u64 {
    Xxh3::new().hash_u64(n)
}

/// Names with weights; some own nothing.
fn members() -> impl Strategy<Value = Members> {
    let weight = prop_oneof![4 => Just(1.0), 2 => 0.1..4.0_f64, 1 => Just(0.0)];
    let state = prop_oneof![
        6 => Just(MemberState::Live),
        1 => Just(MemberState::Draining),
        1 => Just(MemberState::Joining),
        1 => Just(MemberState::Dead),
    ];
    prop::collection::btree_map(0..40_u32, (weight, state), 0..14).prop_map(|all| {
        Members::new(all.into_iter().map(|(n, (weight, state))| {
            Member::new(format!("m{n}"))
                .with_weight(weight)
                .with_state(state)
        }))
        .unwrap()
    })
}

fn both(members: &Members) -> Result<[Box<dyn Placement>; 2], BuildError> {
    Ok([
        Box::new(Ring::with_points(members, 40)?),
        Box::new(Rendezvous::new(members)?),
    ])
}

/// Placements over numbered nodes, of which only the last can go.
fn appended(nodes: u32) -> [Box<dyn Placement>; 3] {
    [
        Box::new(Jump::new(nodes).unwrap()),
        Box::new(JumpBack::new(nodes).unwrap()),
        Box::new(Flip::new(nodes).unwrap()),
    ]
}

fn owning(members: &Members) -> usize {
    members.iter().filter(|member| member.owns_keys()).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn owners_are_distinct_own_keys_and_start_with_the_owner(members in members(), key in any::<u64>()) {
        match both(&members) {
            Err(error) => {
                let none = matches!(error, BuildError::NoOwner { members: count, .. } if count == members.len());
                prop_assert!(none);
            }
            Ok(all) => for placement in all {
                let mut out = vec![NodeIx::default(); members.len() + 2];
                let count = placement.owners(key, &mut out);
                prop_assert_eq!(count, owning(&members));
                prop_assert_eq!(out[0], placement.owner(key));
                let distinct: BTreeSet<_> = out[..count].iter().collect();
                prop_assert_eq!(distinct.len(), count);
                prop_assert!(out[..count].iter().all(|node| members[*node].owns_keys()));
                for wanted in 0..count {
                    let mut fewer = vec![NodeIx::default(); wanted];
                    prop_assert_eq!(placement.owners(key, &mut fewer), wanted);
                    prop_assert_eq!(&fewer[..], &out[..wanted]);
                }
            },
        }
    }

    #[test]
    fn removing_a_member_moves_only_its_keys(members in members(), pick in any::<prop::sample::Index>()) {
        prop_assume!(owning(&members) > 1);
        let gone = members.iter().nth(pick.index(members.len())).unwrap().id();
        let fewer = members.without(gone).unwrap();
        prop_assume!(owning(&fewer) > 0);
        for (old, new) in both(&members).unwrap().iter().zip(both(&fewer).unwrap()) {
            for n in 0..300 {
                let before = members[old.owner(hash(n))].id();
                let after = fewer[new.owner(hash(n))].id();
                prop_assert!(before == after || before == gone);
            }
        }
    }

    #[test]
    fn more_weight_only_gains_keys(members in members(), pick in any::<prop::sample::Index>()) {
        prop_assume!(owning(&members) > 1);
        let id = members.iter().nth(pick.index(members.len())).unwrap().id();
        let more = members.update(id, |member| { let w = member.weight(); member.with_weight(w + 1.0) }).unwrap();
        for (old, new) in both(&members).unwrap().iter().zip(both(&more).unwrap()) {
            for n in 0..300 {
                let before = members[old.owner(hash(n))].id();
                let after = more[new.owner(hash(n))].id();
                prop_assert!(before == after || after == id);
            }
        }
    }

    #[test]
    fn the_order_of_listing_does_not_matter(members in members(), seed in any::<u64>()) {
        prop_assume!(owning(&members) > 0);
        let mut list: Vec<Member> = members.iter().cloned().collect();
        list.sort_by_key(|member| hash(member.id().get() ^ seed));
        let again = Members::new(list).unwrap();
        for (one, two) in both(&members).unwrap().iter().zip(both(&again).unwrap()) {
            for n in 0..100 {
                prop_assert_eq!(one.owner(hash(n)), two.owner(hash(n)));
            }
        }
    }

    #[test]
    fn the_next_healthy_one_is_the_first_healthy_of_the_walk(
        members in members(), key in any::<u64>(), down in any::<u64>(), probes in 0..12_usize,
    ) {
        prop_assume!(owning(&members) > 0);
        for placement in both(&members).unwrap() {
            let up = |node: NodeIx| down >> (node.get() % 64) & 1 == 0;
            let mut all = vec![NodeIx::default(); members.len()];
            let count = placement.owners(key, &mut all);
            let wanted = all[..count].iter().take(probes).copied().find(|node| up(*node));
            let mut asked = 0;
            let got = placement.owner_where(key, probes, &mut |node| { asked += 1; up(node) });
            prop_assert_eq!(got, wanted);
            prop_assert!(asked <= probes);
        }
    }

    #[test]
    fn one_more_node_at_the_end_takes_keys_and_moves_no_other(nodes in 1..500_u32, key in any::<u64>()) {
        for (before, after) in appended(nodes).iter().zip(appended(nodes + 1)) {
            let (before, after) = (before.owner(key), after.owner(key));
            prop_assert!(after == before || after.get() == nodes);
        }
    }

    #[test]
    fn an_anchor_moves_only_the_keys_of_the_node_that_goes_or_comes(
        nodes in 1..60_u32, room in 0..20_u32, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 1..60),
    ) {
        let mut anchor = Anchor::with_capacity(nodes, nodes + room).unwrap();
        let keys: Vec<u64> = (0..200).map(hash).collect();
        let mut owners: Vec<NodeIx> = keys.iter().map(|key| anchor.owner(*key)).collect();
        for (remove, pick) in steps {
            let node = if remove {
                let node = NodeIx::new(pick % anchor.capacity());
                let working = anchor.is_working(node) && anchor.working() > 1;
                prop_assert_eq!(anchor.remove(node).is_ok(), working);
                if !working { continue }
                node
            } else {
                anchor.add().unwrap()
            };
            for (key, owner) in keys.iter().zip(&mut owners) {
                let now = anchor.owner(*key);
                prop_assert!(anchor.is_working(now));
                let moved = if remove { *owner == node } else { now == node };
                prop_assert!(moved == (now != *owner));
                *owner = now;
            }
            let again = Anchor::restore(anchor.capacity(), anchor.base(), anchor.removed().iter().copied());
            prop_assert_eq!(again.unwrap(), anchor.clone());
        }
        let mut out = vec![NodeIx::default(); anchor.capacity() as usize];
        prop_assert_eq!(anchor.owners(7, &mut out), anchor.working());
    }

    #[test]
    fn a_jump_back_anchor_moves_only_the_keys_of_the_node_that_goes_or_comes(
        nodes in 1..60_u32, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 1..60),
    ) {
        let mut anchor = JumpBackAnchor::new(nodes).unwrap();
        let keys: Vec<u64> = (0..200).map(hash).collect();
        let mut owners: Vec<NodeIx> = keys.iter().map(|key| anchor.owner(*key)).collect();
        for (remove, pick) in steps {
            let node = if remove {
                let node = NodeIx::new(pick % anchor.capacity());
                let working = anchor.is_working(node) && anchor.working() > 1;
                prop_assert_eq!(anchor.remove(node).is_ok(), working);
                if !working { continue }
                node
            } else {
                anchor.add().unwrap()
            };
            for (key, owner) in keys.iter().zip(&mut owners) {
                let now = anchor.owner(*key);
                prop_assert!(anchor.is_working(now));
                let moved = if remove { *owner == node } else { now == node };
                prop_assert!(moved == (now != *owner));
                *owner = now;
            }
            let again = JumpBackAnchor::restore(anchor.capacity(), anchor.removed().iter().copied());
            prop_assert_eq!(again.unwrap(), anchor.clone());
        }
        let mut out = vec![NodeIx::default(); anchor.capacity() as usize];
        prop_assert_eq!(anchor.owners(7, &mut out), anchor.working());
    }

    #[test]
    fn a_walk_over_numbered_nodes_visits_each_once(nodes in 1..40_u32, key in any::<u64>()) {
        for placement in appended(nodes) {
            let mut out = vec![NodeIx::default(); nodes as usize + 1];
            prop_assert_eq!(placement.owners(key, &mut out), nodes as usize);
            prop_assert_eq!(out[0], placement.owner(key));
            let distinct: BTreeSet<_> = out[..nodes as usize].iter().collect();
            prop_assert_eq!(distinct.len(), nodes as usize);
            prop_assert!(out.iter().all(|node| node.get() < nodes));
        }
    }

    #[test]
    fn a_batch_says_what_single_look_ups_say(keys in prop::collection::vec(any::<u64>(), 0..40)) {
        let members = Members::from_names(["a", "b", "c"]).unwrap();
        for placement in both(&members).unwrap() {
            let mut out = vec![NodeIx::default(); keys.len()];
            prop_assert_eq!(placement.owner_batch(&keys, &mut out), keys.len());
            for (key, node) in keys.iter().zip(out) {
                prop_assert_eq!(node, placement.owner(*key));
            }
        }
    }
}

#[test]
fn an_anchor_shares_evenly_after_growth_and_removals() {
    let mut anchor = Anchor::with_capacity(6, 8).unwrap();
    for _ in 0..10 {
        anchor.add().unwrap();
    }
    for node in [3, 11, 0, 15, 7] {
        anchor.remove(NodeIx::new(node)).unwrap();
    }
    let mut counts = [0_u32; 16];
    for n in 0..110_000 {
        counts[anchor.owner(hash(n)).index()] += 1;
    }
    for (node, count) in counts.iter().enumerate() {
        let wanted = if [3, 11, 0, 15, 7].contains(&node) {
            0
        } else {
            10_000
        };
        assert!(count.abs_diff(wanted) < 500, "node {node} has {count}");
    }
}

#[test]
fn shares_follow_weights() {
    let members = Members::new([
        Member::new("a"),
        Member::new("b").with_weight(2.0),
        Member::new("c").with_weight(0.5),
    ])
    .unwrap();
    let share = |placement: &dyn Placement, name: &str| {
        let id = MemberId::of_name(name);
        let hits = (0..50_000)
            .filter(|n| members[placement.owner(hash(*n))].id() == id)
            .count();
        f64::from(u32::try_from(hits).unwrap()) / 50_000.0
    };
    let rendezvous = Rendezvous::new(&members).unwrap();
    let ring = Ring::with_points(&members, 2_000).unwrap();
    for (name, weight) in [("a", 1.0), ("b", 2.0), ("c", 0.5)] {
        let wanted = weight / 3.5;
        assert!((share(&rendezvous, name) - wanted).abs() < 0.01, "{name}");
        assert!((share(&ring, name) - wanted).abs() < 0.03, "{name}");
    }
}

#[test]
fn bad_input_is_refused_by_field() {
    for weight in [f64::NAN, f64::INFINITY, -1.0, 1e-9, 1e9] {
        let refused = Members::new([Member::new("a").with_weight(weight)]).unwrap_err();
        assert!(matches!(refused, MembersError::Weight { .. }), "{weight}");
    }
    assert!(matches!(
        Members::from_names(["a", "a"]).unwrap_err(),
        MembersError::Duplicate { .. }
    ));
    assert!(matches!(
        Members::from_names(["x".repeat(1 << 20)]).unwrap_err(),
        MembersError::NameLength {
            bytes: 0x10_0000,
            ..
        }
    ));
    let none = Members::from_names(Vec::<String>::new()).unwrap();
    assert!(matches!(Ring::new(&none), Err(BuildError::NoOwner { .. })));
    let one = Members::from_names(["a"]).unwrap();
    assert!(matches!(
        Ring::with_points(&one, 0),
        Err(BuildError::Size {
            field: "points",
            ..
        })
    ));
    let heavy = Members::new([Member::new("a").with_weight(1e6)]).unwrap();
    assert!(matches!(
        Ring::with_points(&heavy, 1_000),
        Err(BuildError::Size {
            field: "points in all",
            ..
        })
    ));
    assert!(Jump::new(0).is_err());
    assert!(one.without(MemberId::of_name("b")).is_err());
    assert!(one.with(Member::new("a")).is_err());
}

#[test]
fn the_first_token_may_be_one_of_a_member_that_owns_nothing() {
    let draining = Member::new("a").with_state(MemberState::Draining);
    let members = Members::new([draining, Member::new("b")]).unwrap();
    let tokens = [("a", 1), ("b", 2)].map(|(name, token)| (MemberId::of_name(name), token));
    let ring = Ring::with_tokens(&members, tokens).unwrap();
    assert_eq!(members[ring.owner(0)].name(), "b");
}

#[test]
fn nobody_owns_keys_of_no_members() {
    let nobody = [
        Members::default(),
        Members::new([Member::new("a").with_weight(0.0)]).unwrap(),
        Members::new([Member::new("a").with_state(MemberState::Draining)]).unwrap(),
    ];
    for members in nobody {
        for built in [
            Ring::new(&members).map(drop),
            Ring::with_tokens(&members, [(MemberId::of_name("a"), 7)]).map(drop),
            Rendezvous::new(&members).map(drop),
            SlotTable::new(&members).map(drop),
            MultiProbe::new(&members).map(drop),
        ] {
            let refused = built.unwrap_err();
            let expected = match members.find(MemberId::of_name("a")) {
                None => matches!(
                    refused,
                    BuildError::NoOwner { .. } | BuildError::Unknown { .. }
                ),
                Some(_) => matches!(refused, BuildError::NoOwner { members: 1, .. }),
            };
            assert!(expected, "{refused}");
        }
    }
    let same = [
        Member::new("a"),
        Member::new("b").with_id(MemberId::of_name("a")),
    ];
    let refused = Members::new(same).unwrap_err();
    assert!(
        matches!(refused, MembersError::Duplicate { first, second, .. } if first == "a" && second == "b")
    );
}

#[test]
fn one_node_owns_everything() {
    let one = Members::from_names(["a"]).unwrap();
    for placement in both(&one).unwrap() {
        for key in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(placement.owner(key), NodeIx::new(0));
        }
    }
    let ring = Ring::with_points(&one, 1).unwrap();
    assert_eq!(
        (ring.owner(0), ring.owner(u64::MAX)),
        (NodeIx::new(0), NodeIx::new(0))
    );
}

/// Every placement over members; numbered ones have as many nodes as there are members.
fn everything(members: &Members) -> Vec<(&'static str, Box<dyn Placement>)> {
    let nodes = u32::try_from(members.len()).unwrap();
    vec![
        ("Ring", Box::new(Ring::new(members).unwrap())),
        ("Rendezvous", Box::new(Rendezvous::new(members).unwrap())),
        (
            "SlotTable",
            Box::new(SlotTable::with_slots(members, 4_096, 0.05).unwrap()),
        ),
        ("MultiProbe", Box::new(MultiProbe::new(members).unwrap())),
        ("Anchor", Box::new(Anchor::new(nodes).unwrap())),
        (
            "JumpBackAnchor",
            Box::new(JumpBackAnchor::new(nodes).unwrap()),
        ),
        ("Jump", Box::new(Jump::new(nodes).unwrap())),
        ("JumpBack", Box::new(JumpBack::new(nodes).unwrap())),
        ("Flip", Box::new(Flip::new(nodes).unwrap())),
        ("Modulo", Box::new(Modulo::new(nodes).unwrap())),
    ]
}

fn named(count: u32) -> Members {
    Members::from_names((0..count).map(|n| format!("node-{n}"))).unwrap()
}

#[test]
fn balance_stays_within_the_stated_peak_over_mean() {
    // 1 000 keys a node: random choice alone gives some 1.06 at 20 nodes.
    let members = named(20);
    for (name, placement) in everything(&members) {
        let mut counts = [0_u32; 20];
        for n in 0..20_000 {
            counts[placement.owner(hash(n)).index()] += 1;
        }
        let peak = f64::from(*counts.iter().max().unwrap()) / 1_000.0;
        let stated = match name {
            "Ring" => 1.35,
            "MultiProbe" => 1.3,
            _ => 1.12,
        };
        assert!(peak < stated, "{name}: {peak}");
    }
}

#[test]
fn no_survivor_exchanges_keys_with_a_survivor() {
    let (before, gone) = (named(20), MemberId::of_name("node-3"));
    let after = before.without(gone).unwrap();
    let pairs = everything(&before).into_iter().zip(everything(&after));
    for ((name, old), (_, new)) in pairs.take(4) {
        let exchanged = (0..4_000)
            .filter(|n| {
                let from = before[old.owner(hash(*n))].id();
                from != gone && after[new.owner(hash(*n))].id() != from
            })
            .count();
        // Tables are the exception that is stated: a few hashes in a thousand where caps bind.
        let stated = if name == "SlotTable" { 40 } else { 0 };
        assert!(exchanged <= stated, "{name}: {exchanged} of 4000");
    }
}

#[test]
fn a_change_of_weight_moves_the_share_of_the_change() {
    // From weight 1 to w of ten: the shares are 1/10 and w/(9 + w).
    for weight in [0.5, 2.0, 4.0] {
        let before = named(10);
        let id = MemberId::of_name("node-4");
        let after = before
            .update(id, |member| member.with_weight(weight))
            .unwrap();
        let share = (weight / (9.0 + weight) - 0.1).abs();
        let rendezvous = [&before, &after].map(|members| Rendezvous::new(members).unwrap());
        let rings = [&before, &after].map(|members| Ring::with_points(members, 400).unwrap());
        let tables =
            [&before, &after].map(|members| SlotTable::with_slots(members, 8_192, 0.05).unwrap());
        let moved = |old: &dyn Placement, new: &dyn Placement| {
            let moved = (0..10_000)
                .filter(|n| before[old.owner(hash(*n))].id() != after[new.owner(hash(*n))].id());
            f64::from(u32::try_from(moved.count()).unwrap()) / 10_000.0
        };
        for (name, part) in [
            ("Rendezvous", moved(&rendezvous[0], &rendezvous[1])),
            ("Ring", moved(&rings[0], &rings[1])),
            ("SlotTable", moved(&tables[0], &tables[1])),
        ] {
            assert!(
                (part - share).abs() < 0.15 * share + 0.004,
                "{name} {weight}: {part} for {share}"
            );
        }
    }
}

#[test]
fn draining_excludes_a_member_from_new_keys_and_moves_no_other() {
    let before = named(9);
    let id = MemberId::of_name("node-2");
    for state in [
        MemberState::Draining,
        MemberState::Dead,
        MemberState::Joining,
    ] {
        let after = before
            .update(id, |member| member.with_state(state))
            .unwrap();
        let without = before.without(id).unwrap();
        let placements = |members: &Members| everything(members).into_iter().take(4);
        for ((name, drained), (_, gone)) in placements(&after).zip(placements(&without)) {
            for n in 0..300 {
                let owner = after[drained.owner(hash(n))].id();
                assert_ne!(owner, id, "{name}");
                assert_eq!(owner, without[gone.owner(hash(n))].id(), "{name}");
            }
        }
    }
}

#[test]
fn the_same_members_by_any_history_give_the_same_owner() {
    let wanted = named(12);
    let mut other = Members::default();
    for n in [7, 3, 99, 11, 0, 5, 8, 1, 98, 2, 10, 4, 6, 9] {
        other = other.with(Member::new(format!("node-{n}"))).unwrap();
    }
    for gone in [99, 98] {
        other = other
            .without(MemberId::of_name(&format!("node-{gone}")))
            .unwrap();
    }
    let heavy = |member: Member| member.with_weight(9.0);
    let light = |member: Member| member.with_weight(1.0);
    let id = MemberId::of_name("node-5");
    other = other.update(id, heavy).unwrap().update(id, light).unwrap();
    assert_eq!(other, wanted);
    for ((name, one), (_, two)) in everything(&wanted).into_iter().zip(everything(&other)) {
        for n in 0..300 {
            assert_eq!(one.owner(hash(n)), two.owner(hash(n)), "{name}");
        }
    }
}

#[test]
fn sizes_that_would_overflow_are_refused_by_field() {
    let one = named(1);
    let size = |result: Result<(), BuildError>, wanted: &str| match result {
        Err(BuildError::Size { field, .. }) => assert_eq!(field, wanted),
        other => panic!("{wanted}: {other:?}"),
    };
    size(
        SlotTable::with_slots(&one, u32::MAX, 0.0).map(drop),
        "slots",
    );
    size(SlotTable::with_slots(&one, 0, 0.0).map(drop), "slots");
    size(Ring::with_points(&one, u32::MAX).map(drop), "points");
    size(MultiProbe::with_probes(&one, u32::MAX).map(drop), "probes");
    size(Jump::new(u32::MAX).map(drop), "nodes");
    size(Modulo::new(0).map(drop), "nodes");
    size(JumpBack::new(0).map(drop), "nodes");
    size(Flip::new(0).map(drop), "nodes");
    assert!(JumpBackAnchor::new(0).is_err() && JumpBackAnchor::new(u32::MAX).is_err());
    assert!(Anchor::new(0).is_err() && Anchor::new(u32::MAX).is_err());
    assert!(Anchor::with_capacity(5, 4).is_err());
    for slack in [f64::NAN, f64::INFINITY, -0.1] {
        let refused = SlotTable::with_slots(&one, 64, slack).unwrap_err();
        assert!(matches!(
            refused,
            BuildError::Fraction { field: "slack", .. }
        ));
    }
    // The largest and the smallest weight together: shares are still shares.
    let far = Members::new([
        Member::new("a").with_weight(Members::WEIGHT_MAX),
        Member::new("b").with_weight(Members::WEIGHT_MIN),
    ])
    .unwrap();
    for placement in [
        Box::new(Rendezvous::new(&far).unwrap()) as Box<dyn Placement>,
        Box::new(SlotTable::with_slots(&far, 512, 0.05).unwrap()),
    ] {
        for n in 0..100 {
            assert_eq!(far[placement.owner(hash(n))].name(), "a");
        }
    }
}
