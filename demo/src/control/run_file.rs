//! How a command finds the run that it is for.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getuid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::client::ControlError;

/// Where a run can be reached; one file a run, readable by its owner alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) control: SocketAddr,
    pub(crate) token: String,
    pub(crate) pid: u32,
}

impl RunFile {
    fn folder() -> PathBuf {
        let base =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        base.join(format!("stackbeam-runs-{}", getuid().as_raw()))
    }

    pub(crate) fn path(&self) -> PathBuf {
        Self::folder().join(format!("{}.json", self.control.port()))
    }

    /// Makes the run findable.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        use std::io::Write;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(Self::folder())?;
        if !is_ours_alone(&Self::folder()) {
            return Err(std::io::Error::other(format!(
                "{} belongs to somebody else or is open to others; remove it",
                Self::folder().display()
            )));
        }
        let text = serde_json::to_vec(self)?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.path())?
            .write_all(&text)
    }

    /// Removes the file, and the folder when it was the last one in it.
    pub(crate) fn remove(&self) {
        let _gone = std::fs::remove_file(self.path());
        let _others = std::fs::remove_dir(Self::folder());
    }

    pub(crate) fn is_alive(&self) -> bool {
        i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// The run at `port`, or the only one there is. Files of runs that are over are swept away.
    pub(crate) fn find(port: Option<u16>) -> Result<Self, ControlError> {
        let folder = Self::folder();
        if folder.exists() && !is_ours_alone(&folder) {
            return Err(ControlError::NoRun);
        }
        let mut runs: Vec<Self> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .collect();
        runs.retain(|run| {
            let alive = run.is_alive();
            if !alive {
                run.remove();
            }
            alive
        });
        let mut ports: Vec<u16> = runs.iter().map(|run| run.control.port()).collect();
        ports.sort_unstable();
        if let Some(port) = port {
            let found = runs.into_iter().find(|run| run.control.port() == port);
            return found.ok_or(ControlError::NoRunAt { port, ports });
        }
        if ports.len() > 1 {
            return Err(ControlError::Several(ports));
        }
        runs.pop().ok_or(ControlError::NoRun)
    }
}

/// Whether nobody else can have put files there: the folder may be in a place that all may write to.
fn is_ours_alone(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder).is_ok_and(|folder| {
        folder.is_dir() && folder.uid() == getuid().as_raw() && folder.mode() & 0o077 == 0
    })
}
