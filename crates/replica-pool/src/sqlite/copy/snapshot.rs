//! The whole state of a copy as one file, and a state put in the place of another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::Backup;

use super::{Apply, Copy, CopyError, Result, applied, broken, prepare};
use crate::evidence::Epoch;
use crate::sqlite::message::SnapshotId;

impl<A: Apply> Copy<A> {
    /// Writes the whole state into a file of this copy's folder, which replaces an earlier one.
    ///
    /// # Errors
    /// [`CopyError::File`], [`CopyError::Full`] and [`CopyError::Broken`].
    pub fn snapshot(&mut self) -> Result<(SnapshotId, PathBuf)> {
        self.check()?;
        let path = self.dir.join("snapshot.db");
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(CopyError::File { path, source });
            }
            _ => {}
        }
        let epoch = self
            .log
            .epoch_of(self.applied)
            .map_err(broken("reading the log"))?
            .unwrap_or(0);
        let name = path.to_string_lossy().into_owned();
        self.state
            .execute("VACUUM INTO ?", [name])
            .map_err(broken("writing a snapshot"))?;
        let id = SnapshotId {
            lsn: self.applied,
            epoch,
        };
        Ok((id, path))
    }

    /// Replaces everything by a snapshot that the primary of `epoch` wrote. The copy has no vote until
    /// it has caught up.
    ///
    /// # Errors
    /// [`CopyError::Full`], [`CopyError::Broken`] and [`CopyError::Unusable`].
    pub fn install(&mut self, id: SnapshotId, file: &Path, epoch: Epoch) -> Result<()> {
        self.check()?;
        if !self.is_following() || (self.options.fencing && epoch < self.log.head().promised) {
            return Ok(());
        }
        let installing = || broken("installing a snapshot");
        let source = Connection::open(file).map_err(installing())?;
        let inside = applied(&source).map_err(installing())?;
        if inside != id.lsn {
            return Err(CopyError::File {
                path: file.to_owned(),
                source: std::io::Error::other(format!(
                    "holds position {inside} where {} was announced",
                    id.lsn
                )),
            });
        }
        // First the vote goes, then the state changes, then the log says so: a crash in between leaves a
        // state and a log that do not fit, which `open` notices.
        self.change("giving up the vote", |log| {
            log.restart_at((0, 0), |head| head.voter = false)
        })?;
        let done = Backup::new(&source, &mut self.state)
            .and_then(|backup| backup.run_to_completion(i32::MAX, Duration::ZERO, None));
        if let Err(error) = done {
            return Err(self.failed(installing()(error)));
        }
        self.change("installing a snapshot", |log| {
            log.restart_at((id.lsn, id.epoch), |_| {})
        })?;
        self.applied = id.lsn;
        self.committed = id.lsn;
        self.trimmed = id.lsn;
        self.app.migrate(&self.state).map_err(installing())
    }
}

/// Makes the state as it was at the very beginning.
pub(super) fn empty(state: &mut Connection) -> rusqlite::Result<()> {
    let blank = Connection::open_in_memory()?;
    prepare(&blank)?;
    Backup::new(&blank, state)?.run_to_completion(i32::MAX, Duration::ZERO, None)
}
