//! One placement, many readers, members that come and go.

use std::sync::atomic::{AtomicBool, Ordering};

use stackbeam_consistent_hash::{BuildError, Members, Placement, Rendezvous, Shared};

use crate::{hash, names};

#[test]
fn a_change_that_fails_leaves_what_is_in_force() {
    let shared = Shared::new(Rendezvous::new(&names(3)).unwrap());
    let failed = shared.update(|_| Rendezvous::new(&Members::default()));
    assert!(matches!(failed, Err(BuildError::NoOwner { .. })));
    assert_eq!((shared.load().epoch(), shared.load().node_count()), (0, 3));
    assert_eq!(shared.store(Rendezvous::new(&names(4)).unwrap()), 1);
    assert_eq!(shared.update(|_| Rendezvous::new(&names(5))), Ok(2));
}

#[test]
fn readers_always_see_one_whole_placement() {
    // At epoch e there are e + 1 nodes: a reader that mixed two would see it.
    let shared = Shared::new(Rendezvous::new(&names(1)).unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = shared.load();
                    let (epoch, nodes) = (snapshot.epoch(), snapshot.node_count() as u64);
                    assert_eq!(nodes, epoch + 1);
                    assert!(u64::from(snapshot.owner(hash(epoch)).get()) < nodes);
                    assert!(epoch >= last);
                    last = epoch;
                }
            });
        }
        for count in 2..120 {
            shared.update(|_| Rendezvous::new(&names(count))).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(shared.load().epoch(), 118);
}
