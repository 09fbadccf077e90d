//! Replicas over zones.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    Member, MemberState, Members, NodeIx, Placement, Rendezvous, Ring, SlotTable, Spread,
};

use crate::hash;

fn members() -> impl Strategy<Value = Members> {
    let state = prop_oneof![6 => Just(MemberState::Live), 1 => Just(MemberState::Dead)];
    prop::collection::btree_map(0..40_u32, (0..3_u32, 0..3_u32, state), 1..20).prop_map(|all| {
        Members::new(all.into_iter().map(|(n, (region, rack, state))| {
            Member::new(format!("m{n}"))
                .with_zone(format!("r{region}/k{rack}"))
                .with_state(state)
        }))
        .unwrap()
    })
}

fn zones<'a>(members: &'a Members, nodes: &[NodeIx], depth: usize) -> BTreeMap<&'a str, usize> {
    let mut zones = BTreeMap::new();
    for node in nodes {
        *zones.entry(members[*node].zone_prefix(depth)).or_default() += 1;
    }
    zones
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_are_distinct_the_owner_is_first_and_zones_are_as_stated(
        members in members(), key in any::<u64>(), depth in 0..3_usize, wanted in 1..8_usize,
        zones_min in 1..6_usize, per_zone_max in 1..4_usize,
    ) {
        let owning: Vec<NodeIx> = (0..).map(NodeIx::new).zip(&members)
            .filter(|(_, member)| member.owns_keys()).map(|(node, _)| node).collect();
        prop_assume!(!owning.is_empty());
        let there = zones(&members, &owning, depth);
        let spread = Spread::new(&members, depth).zones_min(zones_min).per_zone_max(per_zone_max);
        prop_assert_eq!(spread.zone_count(), there.len());
        let placements: [Box<dyn Placement>; 3] = [
            Box::new(Ring::with_points(&members, 30).unwrap()),
            Box::new(Rendezvous::new(&members).unwrap()),
            Box::new(SlotTable::with_slots(&members, 64, 0.5).unwrap()),
        ];
        for placement in placements {
            let mut out = vec![NodeIx::default(); wanted];
            let count = spread.owners(&placement, key, &mut out);
            out.truncate(count);
            prop_assert_eq!(out[0], placement.owner(key));
            let mut distinct = out.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), count);
            prop_assert!(out.iter().all(|node| members[*node].owns_keys()));
            let got = zones(&members, &out, depth);
            prop_assert!(got.values().all(|replicas| *replicas <= per_zone_max));
            // As many as the caps leave room for, in as many zones as asked for where there are so many.
            let room: usize = there.values().map(|nodes| (*nodes).min(per_zone_max)).sum();
            prop_assert!(count <= room.min(wanted));
            prop_assert!(got.len() >= zones_min.min(there.len()).min(count));
            if zones_min == 1 {
                prop_assert_eq!(count, room.min(wanted));
            }
        }
    }
}

#[test]
fn a_part_is_taken_by_whole_words() {
    let members = Members::new([
        Member::new("a").with_zone("eu/1"),
        Member::new("b").with_zone("eu-west/1"),
        Member::new("c").with_zone("eu"),
    ])
    .unwrap();
    let placement = Rendezvous::new(&members).unwrap();
    let mut out = [NodeIx::default(); 3];
    for n in 0..50 {
        let count = Spread::new(&members, 2)
            .within("eu")
            .owners(&placement, hash(n), &mut out);
        let mut names: Vec<&str> = out[..count]
            .iter()
            .map(|node| members[*node].name())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "c"]);
    }
    assert_eq!(
        Spread::new(&members, 1)
            .within("us")
            .owners(&placement, 1, &mut out),
        0
    );
    assert_eq!(Spread::new(&members, 1).owners(&placement, 1, &mut []), 0);
}

#[test]
fn the_unhealthy_are_passed_over() {
    let members =
        Members::new((0..9).map(|n| Member::new(format!("m{n}")).with_zone(format!("z{}", n % 3))))
            .unwrap();
    let placement = Rendezvous::new(&members).unwrap();
    let spread = Spread::new(&members, 1);
    for n in 0..100 {
        let down = placement.owner(hash(n));
        let mut out = [NodeIx::default(); 3];
        let count = spread.owners_where(&placement, hash(n), &mut out, &mut |node| node != down);
        assert_eq!(count, 3);
        assert!(!out.contains(&down));
        assert_eq!(zones(&members, &out, 1).len(), 3);
    }
}
