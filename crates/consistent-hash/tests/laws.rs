//! The laws that the docs claim, over random members and keys, and golden values.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    Anchor, BuildError, Flip, Jump, JumpBack, KeyHash, Member, MemberId, MemberState, Members,
    MembersError, NodeIx, Placement, Rendezvous, Ring, Xxh3,
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
fn jump_is_the_published_function() {
    let file: serde_json::Value = serde_json::from_str(include_str!("vectors/jump.json")).unwrap();
    let cases = file["groups"].as_array().unwrap().iter();
    let mut checked = 0;
    for case in cases.flat_map(|group| group["cases"].as_array().unwrap()) {
        let key = case["key"].as_str().unwrap().parse().unwrap();
        // A row has one number of buckets, or a table of several.
        let rows: Vec<(u32, u64)> = match case["buckets"].as_object() {
            None => vec![(
                u32::try_from(case["buckets"].as_u64().unwrap()).unwrap(),
                case["bucket"].as_u64().unwrap(),
            )],
            Some(table) => table
                .iter()
                .map(|(buckets, bucket)| (buckets.parse().unwrap(), bucket.as_u64().unwrap()))
                .collect(),
        };
        for (buckets, bucket) in rows {
            let owner = Jump::new(buckets).unwrap().owner(key);
            assert_eq!(u64::from(owner.get()), bucket, "key {key} of {buckets}");
            checked += 1;
        }
    }
    assert_eq!(checked, 73 + 30 * 30);
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
