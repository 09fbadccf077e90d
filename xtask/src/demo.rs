//! `cargo xtask demo-check`: the demo as a user gets it.

use crate::step::{self, cargo, root};

/// Builds the demo as the README says and runs its drills.
pub(crate) fn check() -> Result<(), String> {
    step::run(
        "demo-build",
        &mut cargo(&["build", "--release", "--package", "demo"]),
    )?;
    let mut verify = std::process::Command::new(root().join("target/release/stackbeam"));
    verify.args(["verify", "--quick"]);
    step::run("demo-verify", &mut verify)?;
    Ok(())
}
