//! The test's side of `guard.sh`: one guard holds one server and one folder.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    Error,
    error::Doing,
    program::{User, as_user},
};

const SCRIPT: &str = include_str!("guard.sh");

/// How much of a server's log an error shows.
const LOG_TAIL_LINES: usize = 20;

/// Makes a folder in the system's temporary folder that the servers' user may write.
fn folder(program: &'static str) -> Result<PathBuf, Error> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("stackbeam-{program}-"))
        .tempdir()
        .doing("making a temporary folder")?
        .keep();
    if let Some(user) = User::for_servers() {
        chown(&folder, Some(user.uid), Some(user.gid))
            .doing("giving a folder to the servers' user")?;
    }
    Ok(folder)
}

#[derive(Debug)]
pub(crate) struct Guard {
    program: &'static str,
    folder: PathBuf,
    shell: Child,
    // `None` only while dropping: closing it is what tells the guard to end.
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
}

impl Guard {
    /// Makes a folder and the guard that removes it. No server runs yet.
    ///
    /// `ending` is the signal that ends this server fastest without damage.
    pub(crate) fn new(program: &'static str, ending: &str) -> Result<Self, Error> {
        let folder = folder(program)?;
        let mut guard = Command::new("sh");
        guard
            .args(["-c", SCRIPT, "stackbeam-guard"])
            .arg(&folder)
            .arg(ending)
            .arg("setsid")
            .args(as_user())
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut shell = guard
            .spawn()
            .inspect_err(|_| {
                // Nothing runs in it yet, and the first error is the one worth telling.
                drop(fs::remove_dir_all(&folder));
            })
            .doing("starting sh, the guard of a server")?;
        let (say, hear) = (shell.stdin.take(), shell.stdout.take());
        let hear = BufReader::new(hear.ok_or(Error::GuardGone { program })?);
        Ok(Self {
            program,
            folder,
            shell,
            say,
            hear,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says what the next [`start`](Self::start) runs.
    pub(crate) fn set_command(&self, words: &[String]) -> Result<(), Error> {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let script = format!("exec {}\n", words.join(" "));
        fs::write(self.folder.join("command"), script).doing("writing a server's command line")
    }

    /// Starts the server, ending one that still runs, and returns its process id.
    pub(crate) fn start(&mut self) -> Result<u32, Error> {
        let answer = self.ask("start")?;
        answer
            .strip_prefix("started ")
            .and_then(|id| id.parse().ok())
            .ok_or(Error::GuardGone {
                program: self.program,
            })
    }

    pub(crate) fn is_running(&mut self) -> Result<bool, Error> {
        Ok(self.ask("check")? == "running")
    }

    /// Sends a signal to the server and its children.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Error> {
        self.ask(&format!("signal {signal}")).map(drop)
    }

    /// SIGKILL to the server and its children; returns when the server is gone.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.ask("kill").map(drop)
    }

    /// Asks the server to end, and forces it after 30 seconds.
    pub(crate) fn end(&mut self, signal: &str) -> Result<(), Error> {
        self.ask(&format!("end {signal}")).map(drop)
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    fn ask(&mut self, line: &str) -> Result<String, Error> {
        let gone = Error::GuardGone {
            program: self.program,
        };
        let Some(say) = &mut self.say else {
            return Err(gone);
        };
        let mut answer = String::new();
        let asked = writeln!(say, "{line}").and_then(|()| self.hear.read_line(&mut answer));
        match asked {
            Ok(read) if read > 0 => Ok(answer.trim_end().to_owned()),
            _ => Err(gone),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.say.take());
        // The guard ends the server within seconds; after this neither process nor folder is left.
        drop(self.shell.wait());
    }
}

/// One word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_reaches_the_server_as_it_is() {
        let words = ["a b", "it's", "$HOME `id` \\ \"x\"", "*", ""];
        let script = format!("printf '%s\\n' {}", words.map(quoted).join(" "));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            words.map(|word| format!("{word}\n")).concat()
        );
    }
}
