//! One point a node, and still an even load.

use stackbeam_consistent_hash::{BuildError, MemberId, Members, MultiProbe, NodeIx, Placement};

use crate::{hash, names};

#[test]
fn the_busiest_of_a_hundred_has_little_more_than_the_mean() {
    let members = names(100);
    let placement = MultiProbe::new(&members).unwrap();
    let mut counts = vec![0_u32; members.len()];
    for n in 0..300_000 {
        counts[placement.owner(hash(n)).index()] += 1;
    }
    let peak = f64::from(*counts.iter().max().unwrap()) / 3_000.0;
    assert!(peak < 1.16, "{peak}");
}

#[test]
fn an_owner_is_the_nearest_point_after_any_look() {
    // A naive twin: the walk without the owner is the walk of the members without it.
    let members = names(30);
    let placement = MultiProbe::new(&members).unwrap();
    for n in 0..200 {
        let mut order = vec![NodeIx::default(); 30];
        assert_eq!(placement.owners(hash(n), &mut order), 30);
        assert_eq!(order[0], placement.owner(hash(n)));
        let mut left = members.clone();
        for node in &order[..4] {
            let now = MultiProbe::new(&left).unwrap();
            assert_eq!(left[now.owner(hash(n))].id(), members[*node].id());
            left = left.without(members[*node].id()).unwrap();
        }
    }
}

#[test]
fn a_member_that_goes_moves_its_keys_only() {
    let members = names(40);
    let gone = MemberId::of_name("node-7");
    let fewer = members.without(gone).unwrap();
    let (old, new) = (
        MultiProbe::new(&members).unwrap(),
        MultiProbe::new(&fewer).unwrap(),
    );
    for n in 0..3_000 {
        let (before, after) = (
            members[old.owner(hash(n))].id(),
            fewer[new.owner(hash(n))].id(),
        );
        assert!(before == after || before == gone);
    }
}

#[test]
fn probes_are_bounded_and_one_node_owns_everything() {
    let one = Members::from_names(["a"]).unwrap();
    for probes in [0, 257] {
        let refused = MultiProbe::with_probes(&one, probes).unwrap_err();
        assert!(matches!(
            refused,
            BuildError::Size {
                field: "probes",
                ..
            }
        ));
    }
    let placement = MultiProbe::with_probes(&one, 1).unwrap();
    for key in [0, 1, u64::MAX] {
        assert_eq!(placement.owner(key), NodeIx::new(0));
        assert_eq!(placement.owners(key, &mut [NodeIx::default(); 3]), 1);
    }
}
