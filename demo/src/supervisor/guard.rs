//! The last one out: a tiny process that cleans up when the supervisor cannot.
//!
//! It holds the reading end of a pipe from the supervisor. When the pipe closes without a farewell,
//! the supervisor was killed: the guard kills whatever is left and removes the temporary folder.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

/// How long orphans may take to see that their stdin is closed before they are killed.
const GRACE: Duration = Duration::from_millis(300);
/// How long killed processes may take to be gone before their files are removed.
const GONE: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// What the supervisor tells the guard, a line each.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToGuard {
    /// Remove this folder at the end.
    Folder(PathBuf),
    /// Remove this file at the end, and the folder it is in if that is empty then.
    File(PathBuf),
    /// This process is ours.
    Watch(u32),
    /// All has been cleaned up.
    Farewell,
}

/// The supervisor's end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard, which keeps `held` open for as long as it lives.
    pub(super) fn start(held: Stdio) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new(super::child::program()?)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(held)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, pipe })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Puts one more process under its care.
    pub(super) fn watch(&mut self, pid: u32) {
        self.tell(&ToGuard::Watch(pid));
    }

    /// Puts a folder under its care; it need not exist yet.
    pub(super) fn remove_folder_at_end(&mut self, path: &Path) {
        self.tell(&ToGuard::Folder(path.to_owned()));
    }

    /// Puts a file under its care, and the folder it is in once that is empty; neither need exist yet.
    pub(super) fn remove_file_at_end(&mut self, path: &Path) {
        self.tell(&ToGuard::File(path.to_owned()));
    }

    /// Removes the temporary folder, if there is one, and sends the guard home.
    pub(super) fn finish(&mut self, temporary: Option<&PathBuf>) {
        if let Some(folder) = temporary {
            remove_folder(folder);
        }
        self.tell(&ToGuard::Farewell);
        let _gone = tokio::task::block_in_place(|| self.child.wait());
    }

    fn tell(&mut self, what: &ToGuard) {
        if let Ok(mut line) = serde_json::to_string(what) {
            line.push('\n');
            // Without a guard the run goes on; only a kill -9 of the supervisor would leave files.
            let _gone = self.pipe.write_all(line.as_bytes());
        }
    }
}

/// The guard process itself.
pub(crate) fn guard_main() {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut pids = Vec::new();
    for line in io::stdin().lock().lines() {
        match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
            Some(ToGuard::Folder(path)) => folders.push(path),
            Some(ToGuard::File(path)) => files.push(path),
            Some(ToGuard::Watch(pid)) => {
                // Only the living need watching; a run may have many restarts.
                pids.retain(|pid| is_ours(*pid));
                pids.push(pid);
            }
            Some(ToGuard::Farewell) => return,
            None => break,
        }
    }
    if !gone_within(&pids, GRACE) {
        for pid in pids.iter().copied().filter(|pid| is_ours(*pid)) {
            if let Some(pid) = raw(pid) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
        gone_within(&pids, GONE);
    }
    folders.iter().for_each(|path| remove_folder(path));
    files.iter().for_each(|path| remove_file(path));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the guard is a shell: it waits for processes to end"
)]
fn gone_within(pids: &[u32], patience: Duration) -> bool {
    let deadline = std::time::Instant::now() + patience;
    loop {
        if !pids.iter().any(|pid| is_ours(*pid)) {
            return true;
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether `pid` is alive and still this very program: numbers are used again.
fn is_ours(pid: u32) -> bool {
    let alive = raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok());
    if !alive {
        return false;
    }
    match (
        std::fs::read_link(format!("/proc/{pid}/exe")),
        std::env::current_exe(),
    ) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // A zombie has no program any more; elsewhere than on Linux there is no telling.
        (Err(_), _) => !Path::new("/proc/self").exists(),
        _ => true,
    }
}

/// The supervisor may have been killed between making the folder and making the file.
fn remove_file(path: &Path) {
    let _gone = std::fs::remove_file(path);
    if let Some(folder) = path.parent() {
        // Fails, as it should, while other runs have files in it.
        let _others = std::fs::remove_dir(folder);
    }
}

fn remove_folder(path: &Path) {
    // A process that is just ending may still write; try again a few times.
    for _ in 0..5 {
        if std::fs::remove_dir_all(path).is_ok() || !path.exists() {
            return;
        }
    }
}
