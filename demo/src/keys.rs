//! The session keys of a run: a file that the supervisor writes and every web server watches.
//!
//! A new key is known to all before it signs, and the old ones stay for as long as tokens under them may live,
//! so that a rotation logs nobody out.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use stackbeam_session::{KEYS_MAX, Key, Timestamp};
use tempfile::NamedTempFile;

use crate::node::queue::session_policy;

/// How often a web server looks at the file, at most; each draws its own moments, so that a source that many
/// watch is not asked by all at once.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after it was written a new key begins to sign. Every web server has looked by then.
pub(crate) const PROPAGATION: Duration = Duration::from_secs(3);
/// For how long a key is kept beyond the life of the tokens under it, for clocks that differ.
const SLACK: Duration = Duration::from_secs(60);

/// The file in the folder of a run.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("session.keys")
}

/// Writes a first key, which signs from the beginning, unless there is a file.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    replace_all(path)
}

/// Leaves one new key and no other: everybody is logged out.
pub(crate) fn replace_all(path: &Path) -> io::Result<()> {
    replace(path, &[line(&new_key()?, Timestamp::default())])
}

/// Adds a key that signs from `from`, and drops keys under which no token can be good any more.
pub(crate) fn rotate(path: &Path, from: Timestamp, now: Timestamp) -> Result<(), String> {
    let failed = |error: io::Error| format!("the session keys in {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(failed)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.push(line(&new_key().map_err(failed)?, from));
    let since: Vec<_> = lines.iter().map(|line| signs_from(line)).collect();
    let over = now.before(session_policy().absolute() + SLACK);
    // A key's last token was issued when the next one began to sign.
    let spent = since
        .iter()
        .skip(1)
        .take_while(|next| **next < over)
        .count();
    lines.drain(..spent);
    if lines.len() > KEYS_MAX {
        return Err(format!(
            "{KEYS_MAX} keys still have tokens under them; each can go {} h after the next one began to sign",
            session_policy().absolute().as_secs() / 3600
        ));
    }
    replace(path, &lines).map_err(failed)
}

fn new_key() -> io::Result<Key> {
    Key::generate().map_err(io::Error::other)
}

fn line(key: &Key, from: Timestamp) -> String {
    format!("{} {from}", key.to_paserk().as_str())
}

fn signs_from(line: &str) -> Timestamp {
    let time = line.split_whitespace().nth(1);
    time.and_then(Timestamp::from_iso).unwrap_or_default()
}

/// As a whole, so that nobody reads half of it.
fn replace(path: &Path, lines: &[String]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut new = NamedTempFile::new_in(folder)?;
    new.write_all((lines.join("\n") + "\n").as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use stackbeam_session::{KeyRing, KeyState, KeysInFile};

    use super::*;

    #[test]
    fn a_rotation_keeps_old_tokens_and_drops_spent_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(folder.path());
        create(&file).unwrap();
        create(&file).unwrap();
        let grace = session_policy().absolute();
        let source = KeysInFile::new(&file);
        let ring: KeyRing<Key> = KeyRing::from_source(&source, grace).unwrap();
        let start = Timestamp::from_secs(1_800_000_000);
        let states = |now| -> Vec<_> { ring.states(now).into_iter().map(|(_, s)| s).collect() };
        rotate(&file, start.after(PROPAGATION), start).unwrap();
        assert_eq!(ring.sync(&source, start).unwrap(), (1, 0));
        assert_eq!(states(start), [KeyState::Active, KeyState::Pending]);
        let then = start.after(PROPAGATION);
        assert_eq!(states(then), [KeyState::Retired, KeyState::Active]);
        let late = then.after(grace + SLACK + Duration::from_secs(1));
        rotate(&file, late.after(PROPAGATION), late).unwrap();
        assert_eq!(ring.sync(&source, late).unwrap().0, 1);
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_ring_that_is_full_is_not_made_fuller() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(folder.path());
        create(&file).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        for _ in 1..KEYS_MAX {
            rotate(&file, now, now).unwrap();
        }
        let before = fs::read(&file).unwrap();
        let refusal = rotate(&file, now, now).unwrap_err();
        assert!(refusal.contains("still have tokens"), "{refusal}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}
