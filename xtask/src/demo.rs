//! `cargo xtask demo-check`: the demo as a user gets it.

use std::process::Command;

use crate::step::{self, cargo, root};

/// Builds the demo as the README says and runs its drills, and their negative controls.
pub(crate) fn check() -> Result<(), String> {
    step::run(
        "demo-build",
        &mut cargo(&["build", "--release", "--package", "demo"]),
    )?;
    let binary = root().join("target/release/stackbeam");
    step::run("demo-verify", Command::new(&binary).arg("verify"))?;
    // Each safety device taken out must show: else the drills above prove nothing.
    step::run(
        "demo-controls",
        Command::new(&binary).args(["verify", "--controls"]),
    )?;
    Ok(())
}
