//! The long form of the crash torture: `mq-torture --states N [--seed N]`. Exit code 1 on any failure.

use std::io::Write;
use std::process::ExitCode;

use stackbeam_mq::torture::{Sabotage, faults, run};

fn main() -> ExitCode {
    let (mut states, mut seed) = (100_000, 1);
    let mut args = std::env::args().skip(1);
    let mut out = std::io::stdout().lock();
    while let Some(name) = args.next() {
        let value = args.next().and_then(|v| v.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--states", Some(n)) => states = n,
            ("--seed", Some(n)) => seed = n,
            _ => {
                drop(writeln!(out, "usage: mq-torture [--states N] [--seed N]"));
                return ExitCode::from(2);
            }
        }
    }
    let mut bad = false;
    for (what, report) in [
        ("crash states", run(states, seed, Sabotage::None)),
        ("faults", faults(seed, 200, 1)),
    ] {
        drop(writeln!(
            out,
            "{what}: {} checked, {} failures",
            report.states,
            report.failures.len()
        ));
        for failure in &report.failures {
            drop(writeln!(out, "  {failure}"));
        }
        bad |= !report.failures.is_empty();
    }
    for sabotage in [Sabotage::SkipSync, Sabotage::SkipDirectorySync] {
        let report = run(20_000, seed, sabotage);
        drop(writeln!(
            out,
            "negative control {sabotage:?}: {} failures in {} states",
            report.failures.len(),
            report.states
        ));
        bad |= report.failures.is_empty();
    }
    ExitCode::from(u8::from(bad))
}
