//! The folder of a run: temporary or kept, one run at a time, with the keys of the run in it.

use std::env::temp_dir;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;

use super::StartError;
use super::guard::Guard;
use crate::keys;
use crate::node::config::Secrets;

/// How long a new run waits for the guard of a killed one to finish with the folder.
const PREDECESSOR: Duration = Duration::from_secs(2);

/// The folder of a run, temporary or kept.
#[derive(Debug)]
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
    pub(super) temporary: bool,
}

impl RunFolder {
    /// The folder, ours alone, and the guard that outlives us if we are killed. A temporary folder is
    /// under the guard's care before it exists; a kept one stays locked until the guard is gone too.
    pub(super) fn open(state: Option<&Path>) -> Result<(Self, Guard), StartError> {
        match state {
            Some(path) => Self::kept(path),
            None => Self::temporary(),
        }
    }

    fn temporary() -> Result<(Self, Guard), StartError> {
        let name = random_hex().map_err(trouble("cannot name a folder in", &temp_dir()))?;
        let path = temp_dir().join(format!("stackbeam-{}", name.get(..16).unwrap_or(&name)));
        let mut guard = Guard::start(Stdio::null()).map_err(no_guard)?;
        guard.remove_folder_at_end(&path);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(trouble("cannot make the folder", &path))?;
        let folder = Self::furnished(&path, true)?;
        Ok((folder, guard))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a shell, before any task runs: a predecessor that was killed takes a moment to let go"
    )]
    fn kept(path: &Path) -> Result<(Self, Guard), StartError> {
        std::fs::create_dir_all(path).map_err(trouble("cannot make the folder", path))?;
        let lock =
            File::create(path.join("lock")).map_err(trouble("cannot use the folder", path))?;
        let patience = Instant::now() + PREDECESSOR;
        while lock.try_lock().is_err() {
            if Instant::now() > patience {
                return Err(StartError::InUse(path.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let folder = Self::furnished(path, false)?;
        // The guard holds the lock through its standard output, which it never writes to. Our own
        // handle may close now.
        let guard = Guard::start(lock.into()).map_err(no_guard)?;
        Ok((folder, guard))
    }

    fn furnished(path: &Path, temporary: bool) -> Result<Self, StartError> {
        let unusable = || trouble("cannot use the folder", path);
        for part in ["logs", "objects", "nodes"] {
            std::fs::create_dir_all(path.join(part)).map_err(unusable())?;
        }
        // Absolute, because children and the guard may see another working folder.
        let path = path.canonicalize().map_err(unusable())?;
        Ok(Self { path, temporary })
    }

    /// The keys of the run: kept with the state, so that a restart logs nobody out.
    pub(super) fn secrets(&self) -> Result<Secrets, StartError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = self.path.join("secrets.json");
        let no_keys = || trouble("cannot keep the keys in", &file);
        if let Some(secrets) = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
        {
            return Ok(secrets);
        }
        let secrets = Secrets {
            token_key: random_hex().map_err(no_keys())?,
            peer: random_hex().map_err(no_keys())?,
        };
        let text = serde_json::to_vec(&secrets).map_err(|error| no_keys()(error.into()))?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut file| file.write_all(&text))
            .map_err(no_keys())?;
        Ok(secrets)
    }

    /// The file of session keys, kept like the secrets and for the same reason.
    pub(super) fn session_keys(&self) -> Result<(), StartError> {
        let file = keys::path(&self.path);
        keys::create(&file).map_err(trouble("cannot keep the keys in", &file))
    }
}

fn trouble(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Folder { what, path, source }
}

fn no_guard(source: std::io::Error) -> StartError {
    StartError::Spawn {
        id: "the guard".to_owned(),
        source,
    }
}

/// 32 random bytes in hex.
pub(crate) fn random_hex() -> std::io::Result<String> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _written = write!(hex, "{byte:02x}");
        hex
    }))
}
