//! `cargo xtask demo-check`: the demo as a user gets it.

use std::process::Command;

use crate::step::{self, cargo, root};

/// Builds the demo as the README says and runs its drills, once it has them.
pub(crate) fn check() -> Result<(), String> {
    step::run(
        "demo-build",
        &mut cargo(&["build", "--release", "--package", "demo"]),
    )?;
    let binary = root().join("target/release/stackbeam");
    let help = step::run("demo-help", Command::new(&binary).arg("help"))?;
    if !help.contains("stackbeam verify") {
        println!("NOTE  demo-verify  not run: this version of the demo has no drills yet");
        return Ok(());
    }
    step::run(
        "demo-verify",
        Command::new(&binary).args(["verify", "--quick"]),
    )?;
    Ok(())
}
