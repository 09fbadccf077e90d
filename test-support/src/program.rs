//! Finds programs, and the user to run them as.

use std::{env, fs, os::unix::fs::MetadataExt, path::PathBuf, process::Command};

use crate::Error;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

impl Program {
    /// Looks among Debian's Postgres versions, in `PATH`, and in the system's folders for servers.
    pub(crate) fn find(self) -> Result<PathBuf, Error> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Debian's Postgres first, so that all its programs are of one version.
        postgres_folders()
            .into_iter()
            .chain(env::split_paths(&path))
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|folder| folder.join(self.name))
            .find(|file| file.is_file())
            .ok_or(Error::Absent {
                program: self.name,
                package: self.package,
            })
    }
}

/// Debian keeps each major version in `/usr/lib/postgresql/<version>/bin`; the newest comes first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// The unprivileged user that servers run as when the test runs as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// `nobody`, or `None` where the test has no privileges to drop.
    pub(crate) fn for_servers() -> Option<Self> {
        let me = fs::metadata("/proc/self").ok()?.uid();
        (me == 0).then(|| {
            fs::read_to_string("/etc/passwd")
                .ok()
                .and_then(|text| Self::in_passwd(&text, "nobody"))
                .unwrap_or(Self {
                    uid: 65534,
                    gid: 65534,
                })
        })
    }

    fn in_passwd(text: &str, name: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { uid, gid })
        })
    }
}

/// The words to put before a command so that it runs as the servers' user.
pub(crate) fn as_user() -> Vec<String> {
    let mut words = vec!["setpriv".to_owned(), "--pdeathsig=KILL".to_owned()];
    if let Some(user) = User::for_servers() {
        words.push(format!("--reuid={}", user.uid));
        words.push(format!("--regid={}", user.gid));
        words.push("--clear-groups".to_owned());
    }
    words.push("--".to_owned());
    words
}

/// Runs a server's companion command (`initdb`, `psql`) to its end as the servers' user and
/// returns what it wrote to standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut demoted = Command::new("setpriv");
    demoted.args(as_user().into_iter().skip(1));
    demoted.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => demoted.env(key, value),
            None => demoted.env_remove(key),
        };
    }
    // `nobody` may not read the folder that the test runs in; Postgres' tools complain about that.
    demoted.current_dir("/");
    demoted.stdin(std::process::Stdio::null());
    let output = demoted.output().map_err(|source| Error::Io {
        doing: "running a server's command through setpriv (util-linux)",
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    Err(Error::Command {
        command: name,
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read_from_passwd() {
        let text = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        assert_eq!(
            User::in_passwd(text, "nobody"),
            Some(User {
                uid: 65534,
                gid: 65533
            })
        );
        assert_eq!(User::in_passwd(text, "nobod"), None);
        assert_eq!(User::in_passwd("nobody", "nobody"), None);
    }

    #[test]
    fn an_absent_program_names_its_package() {
        let found = Program {
            name: "no-such-server",
            package: "no-such-package",
        }
        .find();
        let said = found.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(
            said.contains("no-such-server is not on this machine"),
            "{said}"
        );
        assert!(said.contains("no-such-package"), "{said}");
    }
}
