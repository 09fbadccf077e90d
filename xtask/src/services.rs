//! `cargo xtask services`: the servers that tests start.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::step;

/// A program that tests start, and the Debian package that has it.
const SERVICES: [(&str, &str); 6] = [
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("redis-server", "redis-server"),
    ("memcached", "memcached"),
    ("nats-server", "nats-server"),
    ("nginx", "nginx-light"),
];

pub(crate) fn run() -> Result<(), String> {
    let absent: Vec<&str> = SERVICES
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !absent.is_empty() {
        if find("apt-get").is_none() {
            return Err(format!(
                "not on this machine, and there is no apt-get to install them: {}",
                absent.join(", ")
            ));
        }
        println!("installing from Debian's packages: {}", absent.join(", "));
        step::run("apt-update", &mut apt(&["update"]))?;
        let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
        step::run("apt-install", install.args(&absent))?;
    }
    for (program, package) in SERVICES {
        match find(program) {
            Some(file) => println!("found {program}: {}", file.display()),
            None => return Err(format!("{package} is installed and has no {program}")),
        }
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Installing a server would start it; tests start their own.
        .env("RUNLEVEL", "1");
    command
}

/// Looks where `test-support` looks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let postgres = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"));
    postgres
        .chain(env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file: &PathBuf| Path::is_file(file))
}
