//! The folder of a run: temporary or kept, one run at a time, with the keys of the run in it.

use std::path::{Path, PathBuf};

use super::StartError;
use crate::node::config::Secrets;

/// The folder of a run, temporary or kept.
#[derive(Debug)]
pub(super) struct RunFolder {
    pub(super) path: PathBuf,
    pub(super) temporary: bool,
    pub(super) _lock: std::fs::File,
}

impl RunFolder {
    pub(super) fn open(state: Option<&Path>) -> Result<Self, StartError> {
        let (path, temporary) = match state {
            Some(path) => (path.to_owned(), false),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("stackbeam-")
                    .tempdir()
                    .map_err(|source| StartError::Folder {
                        what: "cannot make a folder in",
                        path: std::env::temp_dir(),
                        source,
                    })?;
                // Removed by us at the end, or by the guard if we cannot.
                (folder.keep(), true)
            }
        };
        let trouble = |source| StartError::Folder {
            what: "cannot use the folder",
            path: path.clone(),
            source,
        };
        for part in ["logs", "objects", "nodes"] {
            std::fs::create_dir_all(path.join(part)).map_err(trouble)?;
        }
        // Absolute, because children and the guard may see another working folder.
        let path = path.canonicalize().map_err(trouble)?;
        let lock = std::fs::File::create(path.join("lock")).map_err(trouble)?;
        if lock.try_lock().is_err() {
            return Err(StartError::InUse(path));
        }
        Ok(Self {
            path,
            temporary,
            _lock: lock,
        })
    }

    /// The keys of the run: kept with the state, so that a restart logs nobody out.
    pub(super) fn secrets(&self) -> Result<Secrets, StartError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = self.path.join("secrets.json");
        let trouble = |source| StartError::Folder {
            what: "cannot keep the keys in",
            path: file.clone(),
            source,
        };
        if let Some(secrets) = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
        {
            return Ok(secrets);
        }
        let secrets = Secrets {
            token_key: random_hex().map_err(trouble)?,
            peer: random_hex().map_err(trouble)?,
        };
        let text = serde_json::to_vec(&secrets).map_err(|error| trouble(error.into()))?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut file| file.write_all(&text))
            .map_err(trouble)?;
        Ok(secrets)
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
