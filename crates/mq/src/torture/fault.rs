//! Every call to the disk fails, once and then for a while.

use super::book::Page;
use super::crash::verify;
use super::world::open;
use super::{Report, Sabotage};
use crate::sim::{Crash, Directory, Fault, SimDisk};

/// Lets every `every`th call of a workload fail in each way, once and until it was met three times. No promise
/// may be broken then or after a crash, and a publish must be confirmed when the cause is gone.
#[must_use]
pub fn faults(seed: u64, steps: usize, every: u64, sabotage: Sabotage) -> Report {
    let _weak = sabotage.weaken();
    let mut report = Report::default();
    let whole = SimDisk::new(Directory::Ordered);
    if let Ok(mut world) = open(&whole, false) {
        world.work(&whole, seed, steps, 1, &mut Vec::new());
    }
    let calls = whole.calls();
    for fault in [Fault::Eio, Fault::Enospc, Fault::Eintr, Fault::Short] {
        for sticky in [false, true] {
            if fault == Fault::Eintr && sticky {
                // A call that is interrupted for ever never ends, by contract.
                continue;
            }
            let mut call = 1 + seed % every.max(1);
            while call <= calls {
                let place = format!("seed {seed}, {fault:?} at call {call}, sticky {sticky}");
                one(
                    &mut report,
                    seed,
                    steps,
                    (call, fault, sticky),
                    sabotage,
                    &place,
                );
                if report.failures.len() >= 20 {
                    return report;
                }
                call += every.max(1);
            }
        }
    }
    report
}

fn one(
    report: &mut Report,
    seed: u64,
    steps: usize,
    (call, fault, sticky): (u64, Fault, bool),
    sabotage: Sabotage,
    place: &str,
) {
    let disk = SimDisk::new(Directory::Ordered);
    disk.lie(sabotage.lie());
    disk.fail(call, fault, sticky);
    let mut events = Vec::new();
    let opened = open(&disk, false);
    if let Ok(mut world) = opened {
        let resumed = world.work(&disk, seed, steps, 3, &mut events);
        report.check(
            if resumed {
                Ok(())
            } else {
                Err("service does not resume when the cause is gone".into())
            },
            || place.to_owned(),
        );
    }
    disk.heal();
    let mut page = Page::default();
    events.iter().for_each(|e| page.apply(e));
    for (how, salt) in [
        (Crash::KeepAll, 0),
        (Crash::LoseAll, 0),
        (Crash::Random, call),
    ] {
        report.check(verify(&disk.crash(how, salt), &page, how).map(drop), || {
            format!("{place}, then {how:?}")
        });
    }
}
