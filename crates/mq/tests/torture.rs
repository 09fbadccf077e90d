//! The short form of the torture, and proof that it can fail. `cargo xtask torture mq` runs the long one.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod processes;

use stackbeam_mq::torture::{Damaging, Report, Sabotage, crashes, damage, faults};

fn green(report: &Report, states: u64) {
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert!(report.states >= states, "only {} states", report.states);
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let states = if cfg!(debug_assertions) {
        40_000
    } else {
        100_000
    };
    green(&crashes(states, 1, Sabotage::None), states);
}

#[test]
fn no_fault_of_the_disk_makes_a_false_acknowledgement() {
    green(&faults(7, 80, 5, Sabotage::None), 500);
}

#[test]
fn every_kind_of_damage_is_found_and_the_rest_is_salvaged() {
    green(&damage(Damaging::Bits, 41, Sabotage::None), 10_000);
    green(&damage(Damaging::Cuts, 41, Sabotage::None), 1_500);
    green(&damage(Damaging::Blocks, 1, Sabotage::None), 360);
}

fn red(report: &Report, sabotage: Sabotage) {
    assert!(!report.failures.is_empty(), "{sabotage:?} goes unnoticed");
}

#[test]
fn a_disk_or_a_queue_without_one_of_the_safeguards_turns_it_red() {
    use Sabotage::{IgnoreShortWrite, ReuseEpoch, SkipDirectorySync, SkipSync};
    // Leftovers fit where the next generation writes in few lives: seed 31 has one early.
    for (sabotage, seed) in [
        (SkipSync, 1),
        (SkipDirectorySync, 1),
        (IgnoreShortWrite, 1),
        (ReuseEpoch, 31),
    ] {
        red(&crashes(20_000, seed, sabotage), sabotage);
    }
    red(&faults(1, 120, 1, Sabotage::RetrySync), Sabotage::RetrySync);
    let unbound = Sabotage::UnboundChecksum;
    red(&damage(Damaging::Blocks, 1, unbound), unbound);
}

#[test]
#[ignore = "200 kills take most of a minute: cargo xtask ci, or 1 000 in cargo xtask torture mq"]
fn processes_that_are_killed_and_stopped_lose_nothing_that_was_acknowledged() {
    processes::survive(if cfg!(debug_assertions) { 200 } else { 1_000 });
}

#[test]
fn processes_that_are_killed_a_few_times_lose_nothing_that_was_acknowledged() {
    processes::survive(8);
}
