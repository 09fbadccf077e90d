//! `figures [crate...] [--json]`: one row a figure; the machine is named on standard error.

use std::{alloc::System, process::ExitCode};

use benches::{
    figures,
    kit::{Report, machine},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    if let Some(followed) = figures::follow_if_asked() {
        return match followed {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("figures: a server that follows: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let json = words.iter().any(|word| word == "--json");
    let wanted: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| *word != "--json")
        .collect();
    for word in &wanted {
        if !figures::ALL.iter().any(|(name, _)| name == word) {
            let known: Vec<&str> = figures::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!(
                "figures: no crate {word} is measured; there are: {}",
                known.join(", ")
            );
            return ExitCode::FAILURE;
        }
    }
    eprintln!("# {}", machine());
    let mut report = if json {
        Report::json()
    } else {
        Report::lines()
    };
    for (name, figures) in figures::ALL {
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        report.start(name);
        if let Err(error) = figures(&mut report) {
            eprintln!("figures: {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    let short = report
        .rows()
        .iter()
        .filter(|row| row.holds == Some(false))
        .count();
    eprintln!(
        "# {} figures, {short} of them fall short of their goal",
        report.rows().len()
    );
    ExitCode::SUCCESS
}
