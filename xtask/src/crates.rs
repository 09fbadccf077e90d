//! What is asked of each crate by itself: its features, its package, its torture test.

use std::process::Command;

use serde_json::Value;

use crate::step::{self, cargo, root};

/// A package of the workspace.
struct Package {
    name: String,
    version: String,
    features: Vec<String>,
    published: bool,
    /// The workspace's packages that it needs to be built.
    needs: Vec<String>,
}

fn packages() -> Result<Vec<Package>, String> {
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    let output = cargo(&arguments)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let list = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(list
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            features: package["features"]
                .as_object()
                .map(|features| features.keys().cloned().collect())
                .unwrap_or_default(),
            // `publish = false` is an empty list of registries; anything goes is null.
            published: package["publish"].is_null(),
            needs: package["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|needed| needed["path"].is_string() && needed["kind"] != "dev")
                .map(|needed| text(&needed["name"]))
                .collect(),
        })
        .collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Each published crate with no feature, with each feature alone, and with all of them. Development
/// dependencies are left out, because they would switch features on.
pub(crate) fn features() -> Result<(), String> {
    for package in packages()?.iter().filter(|package| package.published) {
        let mut sets: Vec<Vec<&str>> = vec![vec![]];
        sets.extend(
            package
                .features
                .iter()
                .map(|feature| vec!["--features", feature.as_str()]),
        );
        sets.push(vec!["--all-features"]);
        for set in sets {
            // Clippy, because it fails on a warning without rebuilding what the crate depends on.
            let mut check = cargo(&[
                "clippy",
                "--package",
                &package.name,
                "--no-default-features",
            ]);
            check.args(set).args(["--", "-D", "warnings"]);
            step::run("features", &mut check)?;
        }
    }
    Ok(())
}

/// Packs every published crate and builds it from what the package contains. One invocation,
/// because the crates need each other and none is on the registry yet.
pub(crate) fn package() -> Result<(), String> {
    let mut command = cargo(&["package", "--workspace", "--allow-dirty", "--quiet"]);
    let packages = packages()?;
    for package in packages.iter().filter(|package| !package.published) {
        command.args(["--exclude", &package.name]);
    }
    step::run("package", &mut command)?;
    for package in packages.iter().filter(|package| package.published) {
        for needed in &package.needs {
            let known = packages
                .iter()
                .any(|other| other.published && other.name == *needed);
            if !known {
                return Err(format!(
                    "{} needs {needed}, which is not published",
                    package.name
                ));
            }
        }
        let file = format!("target/package/{}-{}.crate", package.name, package.version);
        if !root().join(&file).is_file() {
            return Err(format!("{} was not packed: no {file}", package.name));
        }
    }
    Ok(())
}

/// A crate's long random test under faults, where it has one.
pub(crate) fn torture(name: &str) -> Result<(), String> {
    let folder = name.strip_prefix("stackbeam-").unwrap_or(name);
    let test = root().join("crates").join(folder).join("tests/torture.rs");
    if !test.is_file() {
        return Err(format!("{folder} has no tests/torture.rs: nothing to run"));
    }
    let package = format!("stackbeam-{folder}");
    let with = ["--release", "--package", &package, "--all-features"];
    let mut test = cargo(&["test"]);
    test.args(with).args(["--test", "torture", "--"]);
    run(test.args(["--include-ignored", "--nocapture"]), folder)?;
    // What is too long for a test is a program of its own.
    let long = format!("{folder}-torture");
    let source = format!("crates/{folder}/src/bin/{long}.rs");
    if root().join(source).is_file() {
        run(cargo(&["run"]).args(with).args(["--bin", &long]), folder)?;
    }
    Ok(())
}

fn run(command: &mut Command, folder: &str) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("the torture of {folder} failed ({status})"))
}
