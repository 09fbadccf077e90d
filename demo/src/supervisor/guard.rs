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

use super::folder::RunFolder;

/// How long orphans may take to see that their stdin is closed before they are killed.
const GRACE: Duration = Duration::from_millis(300);

/// What the supervisor tells the guard, a line each.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToGuard {
    /// Remove this folder at the end.
    Folder(PathBuf),
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
    pub(crate) fn start(folder: &RunFolder) -> io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut guard = Self { child, pipe };
        if folder.temporary {
            guard.tell(&ToGuard::Folder(folder.path.clone()));
        }
        Ok(guard)
    }

    /// Puts one more process under its care.
    pub(crate) fn watch(&mut self, pid: u32) {
        self.tell(&ToGuard::Watch(pid));
    }

    /// Removes the temporary folder, if there is one, and sends the guard home.
    pub(crate) async fn finish(&mut self, temporary: Option<&PathBuf>) {
        if let Some(folder) = temporary {
            remove(folder);
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
#[expect(
    clippy::disallowed_methods,
    reason = "the guard is a shell: it waits for processes to end"
)]
pub(crate) fn guard_main() {
    let mut folder = None;
    let mut pids = Vec::new();
    for line in io::stdin().lock().lines() {
        match line.ok().and_then(|line| serde_json::from_str(&line).ok()) {
            Some(ToGuard::Folder(path)) => folder = Some(path),
            Some(ToGuard::Watch(pid)) => {
                // Only the living need watching; a run may have many restarts.
                pids.retain(|pid| is_ours(*pid));
                pids.push(pid);
            }
            Some(ToGuard::Farewell) => return,
            None => break,
        }
    }
    std::thread::sleep(GRACE);
    for pid in pids.iter().copied().filter(|pid| is_ours(*pid)) {
        if let Some(pid) = raw(pid) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
    for _ in 0..50 {
        if !pids.iter().any(|pid| is_ours(*pid)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Some(folder) = folder {
        remove(&folder);
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

fn remove(folder: &Path) {
    // A process that is just ending may still write; try again a few times.
    for _ in 0..5 {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
    }
}
