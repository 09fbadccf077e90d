//! replica-pool: what a routing decision costs.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use stackbeam_replica_pool::{Evidence, MemberId, Need, Role, Rotate, Route, View, ViewConfig};

use crate::kit::{Duel, Goal, Report};

/// A decision must not show beside the question itself: a thousandth of the quickest round trip there is,
/// some 50 us over the loopback.
const NOTHING: Goal = Goal::AtMost(50.0);

/// Decisions in one batch.
const READS: u64 = 1_000;

#[expect(clippy::disallowed_methods, reason = "what is measured is a shell")]
fn now() -> Instant {
    Instant::now()
}

/// A primary and replicas that have applied everything up to 100.
fn view(replicas: MemberId) -> (View, Instant) {
    let now = now();
    let mut view = View::new(ViewConfig::default(), 0..=replicas);
    let evidence = |role| Evidence::new(role, 1).with_positions(100, 100);
    view.observe(0, evidence(Role::Primary), now);
    for replica in 1..=replicas {
        view.observe(replica, evidence(Role::Replica), now);
    }
    (view, now)
}

/// What does it cost to choose the copy for a read, and for a read of one's own write? The rival takes
/// turns over the replicas and knows nothing of health, lag or positions.
pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    for replicas in [2, 8] {
        for (figure, at_least) in [("a read", 0), ("a read of one's own write", 100)] {
            let (view, at) = view(replicas);
            let need = Need {
                at_least,
                ..Need::default()
            };
            let mut rotate = Rotate::default();
            let mut missed = 0_u64;
            let list: Vec<MemberId> = (1..=replicas).collect();
            let mut next = 0_usize;
            Duel::new(format!("route {figure}, {replicas} replicas"), READS, || {
                for _ in 0..READS {
                    let route = black_box(view.read(&need, &mut rotate, at));
                    missed += u64::from(!matches!(route, Route::Serve(id) if id > 0));
                }
            })
            .against("round robin over a Vec", || {
                for _ in 0..READS {
                    next = next.wrapping_add(1);
                    black_box(list.get(next % list.len()));
                }
            })
            .goal(NOTHING)
            .how("the rival knows nothing of health, lag or positions; the goal is a thousandth of a round trip over the loopback")
            .run(report);
            if missed > 0 {
                return Err(format!("{missed} reads did not go to a replica").into());
            }
        }
        let (view, _) = view(replicas);
        Duel::new(format!("route a write, {replicas} replicas"), READS, || {
            for _ in 0..READS {
                black_box(view.primary());
            }
        })
        .goal(NOTHING)
        .how("the goal is a thousandth of a round trip over the loopback")
        .run(report);
    }
    Ok(())
}
