//! Schedules of readers and writers of a shared placement:
//! `cargo xtask shuttle consistent-hash`.
//!
//! A failure prints the schedule that it came from, for `shuttle::replay`.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use shuttle::thread;
use stackbeam_consistent_hash::{Modulo, Placement, Shared};

const SCHEDULES: usize = 5_000;

fn check(body: fn()) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

#[test]
fn no_change_is_lost_and_epochs_go_one_by_one() {
    check(|| {
        let shared = Arc::new(Shared::new(Modulo::new(1).unwrap()));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for _ in 0..2 {
                        // One node more than whatever is in force.
                        let one_more = |now: &Modulo| Modulo::new(now.node_count() as u32 + 1);
                        shared.update(one_more).unwrap();
                    }
                })
            })
            .collect();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..4 {
                    let snapshot = shared.load();
                    // The epoch belongs to the placement, and never goes back.
                    assert_eq!(snapshot.node_count() as u64, snapshot.epoch() + 1);
                    assert!(snapshot.epoch() >= last);
                    last = snapshot.epoch();
                }
            })
        };
        for thread in writers {
            thread.join().unwrap();
        }
        reader.join().unwrap();
        assert_eq!(shared.load().node_count(), 5);
        assert_eq!(shared.load().epoch(), 4);
    });
}

#[test]
fn a_snapshot_stays_as_it_was() {
    check(|| {
        let shared = Arc::new(Shared::new(Modulo::new(3).unwrap()));
        let snapshot = shared.load();
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.store(Modulo::new(9).unwrap()))
        };
        // Whoever loads meanwhile sees the old one or the new one, each with its epoch.
        let meanwhile = shared.load();
        let seen = (meanwhile.epoch(), meanwhile.node_count());
        assert!(seen == (0, 3) || seen == (1, 9), "{seen:?}");
        assert_eq!(writer.join().unwrap(), 1);
        assert_eq!((snapshot.epoch(), snapshot.node_count()), (0, 3));
        assert_eq!(shared.load().node_count(), 9);
    });
}
