//! `cargo xtask ci`: what must hold before a change is taken.

use std::ops::AddAssign;

use crate::{
    crates, demo, services, shuttle,
    step::{self, cargo},
};

/// The counts are of the run with every feature, so that no test counts twice.
fn run_steps(quick: bool) -> Result<Counts, String> {
    step::run("fmt", &mut cargo(&["fmt", "--all", "--", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features"];
    step::run("clippy", cargo(&clippy).args(["--", "-D", "warnings"]))?;
    // The README's test command, doctests included.
    let plain = step::run("test", &mut cargo(&["test", "--workspace"]))?;
    if quick {
        return Ok(Counts::of(&plain));
    }
    step::run(
        "doc",
        cargo(&["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    let doctests = ["test", "--workspace", "--all-features", "--doc"];
    let mut counts = Counts::of(&step::run("doctest", &mut cargo(&doctests))?);
    shuttle::run(None)?;
    crates::features()?;
    crates::package()?;
    services::run()?;
    let all = ["test", "--workspace", "--all-features", "--all-targets"];
    let all = step::run("test-all", cargo(&all).args(["--", "--include-ignored"]))?;
    let all = Counts::of(&all);
    if all.ignored > 0 {
        return Err(format!(
            "{} tests were ignored where all must run",
            all.ignored
        ));
    }
    counts += all;
    demo::check()?;
    Ok(counts)
}

pub(crate) fn run(quick: bool) -> Result<(), String> {
    let counts = run_steps(quick)?;
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.ignored
    );
    Ok(())
}

/// What the test runner's closing lines add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn of(log: &str) -> Self {
        let mut sum = Self::default();
        for line in log.lines().filter(|line| line.starts_with("test result: ")) {
            let number = |what: &str| -> u64 {
                line.split(['.', ';'])
                    .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
                    .unwrap_or(0)
            };
            sum += Self {
                passed: number("passed"),
                failed: number("failed"),
                ignored: number("ignored"),
            };
        }
        sum
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let log = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            noise\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        assert_eq!(
            Counts::of(log),
            Counts {
                passed: 5,
                failed: 4,
                ignored: 1
            }
        );
    }
}
