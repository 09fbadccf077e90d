//! The tests that let shuttle schedule their threads: a build of its own, because locks and atomics are
//! shuttle's there.

use crate::step::{self, cargo, root};

/// Runs `tests/shuttle.rs` of one crate, or of each that has it.
pub(crate) fn run(name: Option<&str>) -> Result<(), String> {
    let crates = root().join("crates");
    let folders = std::fs::read_dir(&crates).map_err(|error| format!("crates: {error}"))?;
    let mut folders: Vec<String> = folders
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|folder| crates.join(folder).join("tests/shuttle.rs").is_file())
        .filter(|folder| name.is_none_or(|name| name.trim_start_matches("stackbeam-") == folder))
        .collect();
    folders.sort();
    if folders.is_empty() {
        let whose = name.unwrap_or("no crate");
        return Err(format!("{whose} has a tests/shuttle.rs: nothing to run"));
    }
    for folder in folders {
        let package = format!("stackbeam-{folder}");
        let mut test = cargo(&["test", "--all-features", "--test", "shuttle"]);
        // Beside the usual build, not in its place.
        test.args(["--package", &package, "--target-dir", "target/shuttle"])
            .env("RUSTFLAGS", "--cfg shuttle");
        step::run("shuttle", &mut test)?;
    }
    Ok(())
}
