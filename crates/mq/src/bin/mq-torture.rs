//! The long form of the torture: `mq-torture [--states N] [--seed N] [--every N]`. Exit code 1 on any failure.

use std::io::Write;
use std::process::ExitCode;

use stackbeam_mq::torture::{Damaging, Report, Sabotage, crashes, damage, faults};

fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

fn main() -> ExitCode {
    let (mut states, mut seed, mut every) = (1_000_000, 1, 1);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().and_then(|v| v.parse::<u64>().ok());
        match (name.as_str(), value) {
            ("--states", Some(n)) => states = n,
            ("--seed", Some(n)) => seed = n,
            ("--every", Some(n)) => every = n,
            _ => {
                say("usage: mq-torture [--states N] [--seed N] [--every N]");
                return ExitCode::from(2);
            }
        }
    }
    let stride = usize::try_from(every).unwrap_or(1);
    let all = Sabotage::None;
    let mut bad = false;
    let mut green = |what: &str, report: Report| {
        let (n, wrong) = (report.states, report.failures.len());
        say(&format!("{what}: {n} states, {wrong} failures"));
        report.failures.iter().for_each(|f| say(&format!("  {f}")));
        bad |= wrong > 0;
    };
    green("crashes", crashes(states, seed, all));
    green("faults", faults(seed, 200, every, all));
    green("bit flips", damage(Damaging::Bits, stride, all));
    green("truncations", damage(Damaging::Cuts, stride, all));
    green("moved blocks", damage(Damaging::Blocks, 1, all));
    for sabotage in [
        Sabotage::SkipSync,
        Sabotage::SkipDirectorySync,
        Sabotage::IgnoreShortWrite,
        Sabotage::RetrySync,
        Sabotage::ReuseEpoch,
        Sabotage::UnboundChecksum,
    ] {
        let report = match sabotage {
            Sabotage::RetrySync => faults(seed, 120, 1, sabotage),
            Sabotage::UnboundChecksum => damage(Damaging::Blocks, 1, sabotage),
            _ => crashes(200_000, seed, sabotage),
        };
        let (n, wrong) = (report.states, report.failures.len());
        say(&format!(
            "control {sabotage:?}: {wrong} failures in {n} states"
        ));
        report
            .failures
            .iter()
            .take(2)
            .for_each(|f| say(&format!("  as it must: {f}")));
        bad |= wrong == 0;
    }
    ExitCode::from(u8::from(bad))
}
