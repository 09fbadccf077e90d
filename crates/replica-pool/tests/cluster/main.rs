//! A simulated cluster under random crashes, partitions, lost and late answers, driven by `Failover`.
#![expect(
    clippy::panic_in_result_fn,
    reason = "a broken law ends the test wherever it shows"
)]
#![expect(
    clippy::collapsible_match,
    reason = "what to do and whether are two thoughts"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a simulation needs one instant to start from"
)]

#[cfg(feature = "tokio")]
mod coordinate;
#[cfg(feature = "tokio")]
mod pool;
mod sim;

use std::time::{Duration, Instant};

use stackbeam_replica_pool::{Action, Evidence, Failover, FailoverConfig, Failure, Role};

use sim::World;

const SEEDS: u64 = 300;
const STEPS: u64 = 800;

/// Runs one seed; panics when a law is broken. Returns how many writes and reigns there were.
fn run(seed: u64, fencing: bool) -> (usize, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut now = Instant::now();
    let config = FailoverConfig {
        fencing,
        ..FailoverConfig::default()
    };
    let mut world = World::new(fencing);
    let mut coordinator = Failover::new(config, [0, 1, 2], seed, now);
    let mut late: Vec<(Action, Result<Evidence, Failure>)> = Vec::new();
    for step in 0..STEPS {
        now += Duration::from_millis(rng.u64(1..30));
        while let Some(action) = coordinator.poll(now) {
            let cut = world.cut[usize::from(action.member())];
            let outcome = if cut || rng.u8(..) < 8 {
                Err(Failure::Lost)
            } else {
                world.perform(&action)
            };
            // Carried out, but the answer is lost, or comes late.
            let outcome = if rng.u8(..) < 8 {
                Err(Failure::Lost)
            } else {
                outcome
            };
            if rng.u8(..) < 64 {
                late.push((action, outcome));
            } else {
                coordinator.answered(&action, outcome, now);
            }
        }
        while !late.is_empty() && rng.bool() {
            let (action, outcome) = late.swap_remove(rng.usize(..late.len()));
            coordinator.answered(&action, outcome, now);
        }
        for _ in 0..3 {
            match rng.u8(..6) {
                0 | 1 => world.write(rng.usize(..3)),
                _ => world.pull(rng.usize(..3), rng.u8(..) > 16),
            }
        }
        if rng.u8(..) < 6 {
            world.crash(rng.usize(..3));
        }
        if rng.u8(..) < 20 {
            world.copies[rng.usize(..3)].up = true;
        }
        if rng.u8(..) < 6 {
            world.cut[rng.usize(..3)] = true;
        }
        if rng.u8(..) < 20 {
            world.cut[rng.usize(..3)] = false;
        }
        if step % 400 == 399 {
            // The coordinator is killed and starts again, knowing nothing.
            coordinator = Failover::new(config, [0, 1, 2], seed ^ step, now);
            late.clear();
        }
        let holders = world
            .copies
            .iter()
            .filter(|copy| copy.log.starts_with(&world.acknowledged))
            .count();
        assert!(
            holders >= 2,
            "an acknowledged record is on {holders} copies"
        );
    }
    let stats = coordinator.stats();
    assert!(stats.fencings >= stats.promotions);
    (world.acknowledged.len(), world.reigned.len())
}

#[test]
fn no_acknowledged_write_is_lost_and_no_epoch_has_two_primaries() {
    let (mut writes, mut reigns) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed, true));
        let Ok((acknowledged, reigned)) = outcome else {
            panic!("seed {seed} breaks a law");
        };
        writes += acknowledged;
        reigns += reigned;
    }
    // Safety by doing nothing would be no merit.
    assert!(
        writes > 300 * 50 && reigns > 300 * 3,
        "{writes} writes in {reigns} reigns"
    );
}

#[test]
fn without_epochs_the_same_schedules_lose_acknowledged_writes() {
    let broken = (0..SEEDS)
        .filter(|seed| std::panic::catch_unwind(|| run(*seed, false)).is_err())
        .count();
    assert!(broken > 0, "the test cannot fail, so it proves nothing");
}

#[test]
fn a_dead_primary_is_replaced_within_half_a_second_of_probes() {
    let start = Instant::now();
    let mut world = World::new(true);
    let mut coordinator = Failover::new(FailoverConfig::default(), [0, 1, 2], 1, start);
    let drive = |world: &mut World, coordinator: &mut Failover, now: Instant| {
        while let Some(action) = coordinator.poll(now) {
            let outcome = world.perform(&action);
            coordinator.answered(&action, outcome, now);
        }
        for id in 0..3 {
            world.pull(id, true);
        }
    };
    let mut now = start;
    for _ in 0..50 {
        now += Duration::from_millis(10);
        drive(&mut world, &mut coordinator, now);
    }
    let first = coordinator.primary().expect("a primary reigns");
    world.crash(usize::from(first));
    let dead = now;
    while coordinator.primary().is_none_or(|primary| primary == first) {
        now += Duration::from_millis(10);
        drive(&mut world, &mut coordinator, now);
        assert!(now - dead < Duration::from_millis(500), "no new primary");
    }
}

#[test]
fn a_copy_that_cannot_be_repointed_is_told_again_with_the_next_probe_only() {
    let mut now = Instant::now();
    let mut coordinator = Failover::new(FailoverConfig::default(), [0, 1], 1, now);
    let mut told = 0;
    for _ in 0..10 {
        for _ in 0..100 {
            let Some(action) = coordinator.poll(now) else {
                break;
            };
            let role = match action.member() {
                0 => Role::Primary,
                _ => Role::Replica,
            };
            let outcome = match action {
                Action::Follow { .. } => {
                    told += 1;
                    Err(Failure::Lost)
                }
                _ => Ok(Evidence::new(role, 1)),
            };
            coordinator.answered(&action, outcome, now);
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(coordinator.primary(), Some(0));
    assert!(
        (5..=10).contains(&told),
        "told {told} times in ten intervals"
    );
}

#[test]
fn answers_from_before_a_promotion_do_not_undo_it() {
    let mut now = Instant::now();
    let mut coordinator = Failover::new(FailoverConfig::default(), [0], 1, now);
    let mut before = Evidence::new(Role::Replica, 0);
    before.voter = false;
    let mut late = Vec::new();
    for _ in 0..20 {
        while let Some(action) = coordinator.poll(now) {
            match action {
                Action::Fence {
                    epoch, claimant, ..
                } => {
                    (before.epoch, before.claimant) = (epoch, claimant);
                    coordinator.answered(&action, Ok(before.clone()), now);
                    late.push((action, before.clone()));
                }
                Action::Promote { epoch, .. } => {
                    // A probe that goes out now is answered with the state before the promotion.
                    now += Duration::from_millis(200);
                    while let Some(probe) = coordinator.poll(now) {
                        late.push((probe, before.clone()));
                    }
                    let reigning = Evidence::new(Role::Primary, epoch);
                    coordinator.answered(&action, Ok(reigning.clone()), now);
                    for (action, evidence) in late.drain(..) {
                        coordinator.answered(&action, Ok(evidence), now);
                    }
                    before = reigning;
                }
                _ => coordinator.answered(&action, Ok(before.clone()), now),
            }
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(coordinator.primary(), Some(0));
    assert_eq!(
        (coordinator.stats().fencings, coordinator.stats().promotions),
        (1, 1)
    );
}
