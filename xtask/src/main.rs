//! The project's automation: `cargo xtask <command>`.

// A command-line tool: it prints, and it times its steps by the real clock.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]
#![expect(clippy::print_stderr, reason = "a command complains on standard error")]
#![expect(
    clippy::disallowed_methods,
    reason = "steps are timed by the real clock"
)]

mod bench;
mod ci;
mod conduit;
mod crates;
mod curves;
mod demo;
mod plot;
mod services;
mod shuttle;
mod step;

use std::{env, process::ExitCode};

const HELP: &str = "\
cargo xtask <command>

  ci [--quick]              everything that CI runs, in order; stops at the first failure.
                            --quick: formatting, clippy and the tests that need no server
  services                  finds or installs (Debian) the servers that tests start
  features                  checks each crate with no feature, each feature alone, and all
  package                   builds the package of every published crate from what it contains
  demo-check                builds the demo and runs its drills
  conduit <folder>          runs the RealWorld API suite in <folder> against the demo: plainly,
                            with late replicas, and while web servers are killed
  figures [crate] [--json]  measures each crate beside its rivals, one row a figure
  bench-report [--again]    measures, and writes docs/benchmarks.md with its plots;
                            --again: from the rows that were measured last
  shuttle [crate]           runs tests/shuttle.rs, whose threads shuttle schedules
  torture <crate>           runs a crate's tests/torture.rs in release mode, and its long form
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["ci"] => ci::run(false),
        ["ci", "--quick"] => ci::run(true),
        ["services"] => services::run(),
        ["features"] => crates::features(),
        ["package"] => crates::package(),
        ["demo-check"] => demo::check(),
        ["conduit", folder] => conduit::run(folder),
        ["figures", rest @ ..] => bench::figures(rest),
        ["bench-report"] => bench::report(false),
        ["bench-report", "--again"] => bench::report(true),
        ["shuttle"] => shuttle::run(None),
        ["shuttle", name] => shuttle::run(Some(name)),
        ["torture", name] => crates::torture(name),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("no such command: {}\n\n{HELP}", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
