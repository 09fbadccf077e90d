//! Where the keys of a ring come from: a text in a file, in the environment, or from anywhere else.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::format::TokenKey;
use crate::key::{Key, KeyError};
use crate::keypair::{PublicKey, SecretKey};
use crate::ring::KEYS_MAX;
use crate::time::Timestamp;

/// Longest text of keys in bytes.
pub const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// Why keys could not be had. The ring stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source could not be read.
    #[error("the keys could not be read: {0}")]
    Unreadable(String),
    /// A line is not a key with an optional time.
    #[error("line {line} is not a key, or a key and a time of RFC 3339")]
    Line {
        /// Counted from one.
        line: usize,
    },
    /// No key, or more than [`KEYS_MAX`].
    #[error("{0} keys: a ring has one to {KEYS_MAX}")]
    Count(usize),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A key that PASERK text makes: [`Key`], [`SecretKey`], [`PublicKey`]. Sealed.
pub trait PaserkKey: TokenKey + private::PaserkKey {}
impl PaserkKey for Key {}
impl PaserkKey for SecretKey {}
impl PaserkKey for PublicKey {}

mod private {
    use super::{Key, KeyError, PublicKey, SecretKey};

    #[expect(unnameable_types, reason = "sealed")]
    pub trait PaserkKey: Sized {
        fn parse(text: &str) -> Result<Self, KeyError>;
    }
    impl PaserkKey for Key {
        fn parse(text: &str) -> Result<Self, KeyError> {
            Self::from_paserk(text)
        }
    }
    impl PaserkKey for SecretKey {
        fn parse(text: &str) -> Result<Self, KeyError> {
            Self::from_paserk(text)
        }
    }
    impl PaserkKey for PublicKey {
        fn parse(text: &str) -> Result<Self, KeyError> {
            Self::from_paserk(text)
        }
    }
}

/// Gives the text of a ring's keys: a line `<PASERK text> [<time of RFC 3339 from which it signs>]` for each;
/// empty lines and lines that begin with `#` are left out. Without a time a key signs from the beginning.
///
/// A closure is one: `|| Ok(Some(text))`.
pub trait KeySource {
    /// The text, or `None` when it is as it was at the last call that gave one.
    ///
    /// # Errors
    /// [`SourceError::Unreadable`].
    fn read(&self) -> Result<Option<Zeroizing<String>>, SourceError>;
}

impl<F: Fn() -> Result<Option<Zeroizing<String>>, SourceError>> KeySource for F {
    fn read(&self) -> Result<Option<Zeroizing<String>>, SourceError> {
        self()
    }
}

/// Keys in an environment variable, read each time.
#[derive(Clone, Debug)]
pub struct KeysInEnv(String);

impl KeysInEnv {
    /// The variable of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl KeySource for KeysInEnv {
    fn read(&self) -> Result<Option<Zeroizing<String>>, SourceError> {
        let text = env::var(&self.0);
        let text = text.map_err(|error| SourceError::Unreadable(error.to_string()))?;
        Ok(Some(Zeroizing::new(text)))
    }
}

/// Keys in a file, read when its time of change or its length is another than at the last read. Call
/// [`KeyRing::sync`](crate::KeyRing::sync) with it every minute or so, and give new keys an activation later than that.
#[derive(Debug)]
pub struct KeysInFile {
    path: PathBuf,
    seen: Mutex<Option<(SystemTime, u64)>>,
}

impl KeysInFile {
    /// The file at this path. Replace it as a whole (write another, then rename).
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: Mutex::new(None),
        }
    }
}

impl KeySource for KeysInFile {
    fn read(&self) -> Result<Option<Zeroizing<String>>, SourceError> {
        let unreadable = |error: std::io::Error| SourceError::Unreadable(error.to_string());
        let facts = fs::metadata(&self.path).map_err(unreadable)?;
        let is = (facts.modified().map_err(unreadable)?, facts.len());
        let mut seen = self.seen.lock();
        if *seen == Some(is) {
            return Ok(None);
        }
        if is.1 > SOURCE_BYTES_MAX as u64 {
            return Err(SourceError::Unreadable("the file is too long".to_owned()));
        }
        let text = fs::read_to_string(&self.path).map_err(unreadable)?;
        *seen = Some(is);
        Ok(Some(Zeroizing::new(text)))
    }
}

/// The keys of a text, and from when each signs.
pub(crate) fn parse<K: PaserkKey>(text: &str) -> Result<Vec<(K, Timestamp)>, SourceError> {
    if text.len() > SOURCE_BYTES_MAX {
        return Err(SourceError::Unreadable("the text is too long".to_owned()));
    }
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = || SourceError::Line { line: number + 1 };
        let mut words = line.split_whitespace();
        let Some(key) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let key = K::parse(key).map_err(|_| wrong())?;
        let activates = match words.next() {
            None => Timestamp::default(),
            Some(time) => Timestamp::from_iso(time).ok_or_else(wrong)?,
        };
        if words.next().is_some() {
            return Err(wrong());
        }
        key.self_test()?;
        keys.push((key, activates));
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(SourceError::Count(keys.len()));
    }
    Ok(keys)
}
