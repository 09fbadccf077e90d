//! `cargo xtask services`: the servers that tests start.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::step;

/// A program that tests start, or a header that they compile against, and the Debian package that has it.
const SERVICES: [(&str, &str); 10] = [
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("redis-server", "redis-server"),
    ("memcached", "memcached"),
    ("memccapable", "libmemcached-tools"),
    ("nats-server", "nats-server"),
    ("nginx", "nginx"),
    ("chromium", "chromium"),
    ("gcc", "gcc"),
    ("/usr/include/libmemcached/memcached.h", "libmemcached-dev"),
];

/// Where Debian asks whether a package's installation may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub(crate) fn run() -> Result<(), String> {
    let absent: Vec<&str> = SERVICES
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !absent.is_empty() {
        install(&absent)?;
    }
    for (program, package) in SERVICES {
        match find(program) {
            Some(file) if absent.contains(&package) => {
                println!(
                    "installed {program}: {} (package {package})",
                    file.display()
                );
            }
            Some(file) => println!("found {program}: {}", file.display()),
            None => return Err(format!("{package} is installed and has no {program}")),
        }
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<(), String> {
    if find("apt-get").is_none() {
        return Err(format!(
            "not on this machine, and there is no apt-get to install them: {}",
            packages.join(", ")
        ));
    }
    let _policy = NoStart::new()?;
    step::run("apt-update", &mut apt(&["update"]))?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    step::run("apt-install", install.args(packages)).map(drop)
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While this lives, installing a server does not start it: tests start their own. A policy that the
/// machine has already is left as it is.
struct NoStart {
    ours: bool,
}

impl NoStart {
    fn new() -> Result<Self, String> {
        let say = |error: io::Error| format!("{POLICY}: {error}; run this as root");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                let policy = Self { ours: true };
                // 101: the action is forbidden by policy.
                file.write_all(b"#!/bin/sh\nexit 101\n").map_err(say)?;
                Ok(policy)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(say(error)),
        }
    }
}

impl Drop for NoStart {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            println!("NOTE  could not remove {POLICY}: with it, no package starts its service");
        }
    }
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
