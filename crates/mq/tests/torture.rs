//! The short form of the crash torture, and proof that it can fail.

use stackbeam_mq::torture::{Sabotage, faults, run};

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    // Optimised builds (`cargo xtask torture mq`) run the long form.
    let states = if cfg!(debug_assertions) {
        3_000
    } else {
        100_000
    };
    let report = run(states, 1, Sabotage::None);
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
}

#[test]
fn no_fault_of_the_disk_makes_a_false_acknowledgement() {
    let report = faults(7, 80, 3);
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
}

#[test]
fn a_disk_that_skips_syncs_turns_it_red() {
    assert!(!run(20_000, 1, Sabotage::SkipSync).failures.is_empty());
    assert!(
        !run(20_000, 1, Sabotage::SkipDirectorySync)
            .failures
            .is_empty()
    );
}
