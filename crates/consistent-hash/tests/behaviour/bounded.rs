//! Never above the cap, never without an answer, and few nodes looked at.

use proptest::prelude::*;
use stackbeam_consistent_hash::{
    Anchor, BoundedLoad, BuildError, Jump, Member, Members, MultiProbe, NodeIx, Placement,
    Rendezvous, Ring, SlotTable, Spill,
};

use crate::{hash, names};

fn all(members: &Members) -> Vec<Box<dyn Placement>> {
    let count = u32::try_from(members.len()).unwrap();
    vec![
        Box::new(Ring::new(members).unwrap()),
        Box::new(Rendezvous::new(members).unwrap()),
        Box::new(SlotTable::with_slots(members, 512, 0.1).unwrap()),
        Box::new(MultiProbe::new(members).unwrap()),
        Box::new(Jump::new(count).unwrap()),
        Box::new(Anchor::new(count).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_node_is_ever_above_its_cap_and_what_is_taken_adds_up(
        nodes in 1..20_u32,
        slack in 0.01..2.0_f64,
        walk in any::<bool>(),
        weights in prop::collection::vec(0.1..5.0_f64, 20),
        steps in prop::collection::vec((any::<bool>(), 0..4_u64, any::<prop::sample::Index>()), 1..200),
    ) {
        let members = names(nodes);
        let spill = if walk { Spill::Walk } else { Spill::Jump };
        for placement in all(&members) {
            let room = placement.node_count();
            let weight = |node: NodeIx| weights[node.index()];
            let bounded = BoundedLoad::with_weights(placement, slack, weight).unwrap().with_spill(spill);
            let mut in_hand: Vec<NodeIx> = Vec::new();
            for (take, key, pick) in &steps {
                if *take || in_hand.is_empty() {
                    let node = bounded.take(hash(*key));
                    in_hand.push(node);
                    prop_assert!(bounded.load(node) <= bounded.cap_of(node, in_hand.len()));
                } else {
                    bounded.give_back(in_hand.swap_remove(pick.index(in_hand.len()))).unwrap();
                }
                let stats = bounded.stats();
                prop_assert_eq!(stats.in_hand, in_hand.len());
                prop_assert!(stats.looked_at >= stats.taken && stats.taken >= stats.fell_back);
            }
            for n in 0..u32::try_from(room).unwrap() {
                let node = NodeIx::new(n);
                let wanted = in_hand.iter().filter(|held| **held == node).count();
                prop_assert_eq!(bounded.load(node), wanted);
                if wanted == 0 {
                    prop_assert!(bounded.give_back(node).is_err());
                }
            }
        }
    }
}

#[test]
fn a_key_stays_with_its_owner_while_there_is_room() {
    let members = names(10);
    let placement = Rendezvous::new(&members).unwrap();
    let bounded = BoundedLoad::new(&placement, 0.25).unwrap();
    // The first thing of all fits anywhere.
    for n in 0..200 {
        let node = bounded.take(hash(n));
        assert_eq!(node, placement.owner(hash(n)));
        bounded.give_back(node).unwrap();
    }
}

#[test]
fn few_nodes_are_looked_at_however_many_there_are() {
    // At a slack of 0.25 at most 4 of 5 nodes are full: five looks on average, were all keys new.
    for count in [10, 100, 1_000] {
        let members = names(count);
        for spill in [Spill::Jump, Spill::Walk] {
            let placement = SlotTable::with_slots(&members, 65_536, 0.05).unwrap();
            let bounded = BoundedLoad::new(placement, 0.25).unwrap().with_spill(spill);
            let keys = 20 * u64::from(count);
            for n in 0..keys {
                let _node = bounded.take(hash(n));
            }
            let stats = bounded.stats();
            let small = |n| f64::from(u32::try_from(n).unwrap());
            let looks = small(stats.looked_at) / small(stats.taken);
            println!(
                "{count} nodes, {spill:?}: {looks:.2} looks, {} fell back",
                stats.fell_back
            );
            assert!(looks < 5.0, "{count} {spill:?} {looks}");
            assert!(stats.fell_back <= keys / 1_000);
        }
    }
}

#[test]
fn one_hot_key_spreads_over_as_many_nodes_as_it_needs() {
    let members = names(8);
    let bounded = BoundedLoad::new(Rendezvous::new(&members).unwrap(), 0.5).unwrap();
    for _ in 0..800 {
        let _node = bounded.take(hash(7));
    }
    let loads: Vec<usize> = (0..8).map(|n| bounded.load(NodeIx::new(n))).collect();
    assert_eq!(loads.iter().sum::<usize>(), 800);
    assert!(loads.iter().all(|load| *load <= 150), "{loads:?}");
}

#[test]
fn threads_that_take_and_give_back_leave_nothing_and_pass_no_cap() {
    let members = names(5);
    let bounded = BoundedLoad::new(Rendezvous::new(&members).unwrap(), 0.1).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let bounded = &bounded;
            scope.spawn(move || {
                for n in 0..3_000 {
                    let nodes = [bounded.take(hash(n % 7)), bounded.take(hash(thread + n))];
                    for node in nodes {
                        // At most six things are in hand at any moment.
                        assert!(bounded.load(node) <= bounded.cap_of(node, 6));
                        bounded.give_back(node).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(bounded.stats().in_hand, 0);
    assert!((0..5).all(|n| bounded.load(NodeIx::new(n)) == 0));
}

#[test]
fn bad_settings_are_refused_by_field() {
    let members = Members::new([Member::new("a")]).unwrap();
    let placement = Rendezvous::new(&members).unwrap();
    for slack in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e6] {
        let refused = BoundedLoad::new(&placement, slack).unwrap_err();
        assert!(matches!(
            refused,
            BuildError::Fraction { field: "slack", .. }
        ));
    }
    for weight in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let refused = BoundedLoad::with_weights(&placement, 0.2, |_| weight).unwrap_err();
        assert!(matches!(
            refused,
            BuildError::Fraction {
                field: "weight",
                ..
            }
        ));
    }
    let bounded = BoundedLoad::new(&placement, 0.2).unwrap();
    assert!(bounded.give_back(NodeIx::new(77)).is_err());
}
