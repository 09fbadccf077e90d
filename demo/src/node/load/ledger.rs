//! The ledger: what was tried, and what was acknowledged, in a file that outlives its writer.
//!
//! A line says what is about to be sent, before it is sent; another says that it was acknowledged, or
//! that it was refused. Each line is one `write` call, so a `kill -9` leaves at most the last line
//! torn, and whatever was acknowledged to this process is in the file. It is not synced: a power cut
//! of the whole machine may take the newest lines along.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// The longest ledger. What comes after is not recorded any more, and not done either: a load that
/// cannot be checked proves nothing.
const BYTES_MAX: u64 = 1 << 30;

/// Something that a user does and that has to last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Deed {
    /// Registers with this name.
    User { name: String },
    /// Writes an article, see [`Draft`](super::words::Draft).
    Article { by: String },
    /// Comments on an article.
    Comment { by: String, slug: String },
    /// Likes an article, or no longer.
    Favorite { by: String, slug: String, on: bool },
    /// Follows somebody, or no longer.
    Follow { by: String, whom: String, on: bool },
    /// Uploads a photo.
    Photo { by: String },
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first one. `tag` sets the names of this ledger apart from those of others.
    Ledger { version: u32, tag: String },
    /// Is about to be sent. `n` is not used again.
    Try { n: u64, deed: Deed },
    /// Was acknowledged, with the id that the service gave, if it gave one.
    Ack {
        n: u64,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        id: String,
    },
    /// Was refused: it has not happened and will not.
    No { n: u64 },
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("the ledger {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("line {line} of the ledger makes no sense: {reason}")]
    Damaged { line: usize, reason: String },
    #[error("the ledger holds {BYTES_MAX} bytes; start a run with a new --state")]
    Full,
}

/// An open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    tag: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    next: u64,
    bytes: u64,
}

impl Ledger {
    /// Opens the ledger at `path`, or begins one under `tag`. Returns what it holds already.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or holds what no ledger wrote.
    pub(crate) fn open(path: &Path, tag: &str) -> Result<(Self, Vec<Line>), LedgerError> {
        let trouble = |source| LedgerError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(trouble)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(trouble)?;
        let whole = whole_lines(&bytes);
        let lines = parse(whole)?;
        // A torn line would run into the next one.
        let mut length = whole.len() as u64;
        file.set_len(length).map_err(trouble)?;
        file.seek(SeekFrom::End(0)).map_err(trouble)?;
        let tag = match lines.first() {
            Some(Line::Ledger { tag, .. }) => tag.clone(),
            _ => {
                let first = Line::Ledger {
                    version: VERSION,
                    tag: tag.to_owned(),
                };
                length += append(&mut file, &first).map_err(trouble)?;
                tag.to_owned()
            }
        };
        let next = lines
            .iter()
            .filter_map(|line| match line {
                Line::Try { n, .. } => Some(*n + 1),
                _ => None,
            })
            .max()
            .unwrap_or(1);
        Ok((
            Self {
                path: path.to_owned(),
                tag,
                inner: Mutex::new(Inner {
                    file,
                    next,
                    bytes: length,
                }),
            },
            lines,
        ))
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// Notes what is about to be sent; `deed` gets its number, for what depends on it.
    pub(crate) fn attempt(&self, deed: impl FnOnce(u64) -> Deed) -> Result<u64, LedgerError> {
        let mut inner = self.inner.lock();
        let n = inner.next;
        inner.next += 1;
        let deed = deed(n);
        self.write(&mut inner, &Line::Try { n, deed })?;
        Ok(n)
    }

    /// Notes an acknowledgement. `id` is what the service calls it, or empty.
    pub(crate) fn acknowledge(&self, n: u64, id: &str) -> Result<(), LedgerError> {
        let id = id.to_owned();
        self.write(&mut self.inner.lock(), &Line::Ack { n, id })
    }

    /// Notes a refusal.
    pub(crate) fn refuse(&self, n: u64) -> Result<(), LedgerError> {
        self.write(&mut self.inner.lock(), &Line::No { n })
    }

    fn write(&self, inner: &mut Inner, line: &Line) -> Result<(), LedgerError> {
        if inner.bytes >= BYTES_MAX {
            return Err(LedgerError::Full);
        }
        inner.bytes += append(&mut inner.file, line).map_err(|source| LedgerError::Io {
            path: self.path.clone(),
            source,
        })?;
        Ok(())
    }
}

fn append(file: &mut File, line: &Line) -> io::Result<u64> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    Ok(text.len() as u64)
}

/// Reads a ledger that nobody needs to write any more.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, LedgerError> {
    let bytes = std::fs::read(path).map_err(|source| LedgerError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse(whole_lines(&bytes))
}

/// What is left without a torn last line.
fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    &bytes[..end.map_or(0, |end| end + 1)]
}

fn parse(bytes: &[u8]) -> Result<Vec<Line>, LedgerError> {
    let damaged = |place: usize, reason: String| LedgerError::Damaged {
        line: place + 1,
        reason,
    };
    let mut lines = Vec::new();
    for (place, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line: Line =
            serde_json::from_slice(text).map_err(|error| damaged(place, error.to_string()))?;
        match (&line, place) {
            (Line::Ledger { version, .. }, 0) if *version == VERSION => {}
            (Line::Ledger { version, .. }, 0) => {
                return Err(damaged(place, format!("its version is {version}")));
            }
            (Line::Ledger { .. }, _) | (_, 0) => {
                return Err(damaged(place, "a ledger begins once".to_owned()));
            }
            _ => {}
        }
        lines.push(line);
    }
    Ok(lines)
}

/// What is known of a thing that may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was acknowledged: it has to be there.
    Acked,
    /// Nobody said: it may be there.
    Unknown,
}

/// What is known of a tie that is switched on and off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    On,
    Off,
    /// An order without an answer may be carried out at any time, also after later ones.
    Unknown,
}

/// An article that may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedArticle {
    pub(crate) n: u64,
    pub(crate) by: String,
    pub(crate) known: Known,
    /// Its address, when it was acknowledged.
    pub(crate) slug: String,
}

/// What a ledger says about the service's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) tag: String,
    pub(crate) users: BTreeMap<String, Known>,
    pub(crate) articles: Vec<ExpectedArticle>,
    /// By article, the comments' numbers and writers.
    pub(crate) comments: BTreeMap<String, Vec<(u64, String, Known)>>,
    /// By article and user.
    pub(crate) favorites: BTreeMap<String, BTreeMap<String, Tie>>,
    /// By follower and whom.
    pub(crate) follows: BTreeMap<String, BTreeMap<String, Tie>>,
    /// Ids of photos and whose they are.
    pub(crate) photos: Vec<(String, String)>,
    /// How many writes were acknowledged, and how many have no known end.
    pub(crate) acked: u64,
    pub(crate) unknown: u64,
}

impl Expected {
    /// Adds the lines up.
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut expected = Self::default();
        let mut ends: HashMap<u64, Option<&str>> = HashMap::new();
        for line in lines {
            match line {
                Line::Ack { n, id } => {
                    ends.insert(*n, Some(id));
                }
                Line::No { n } => {
                    ends.insert(*n, None);
                }
                Line::Ledger { tag, .. } => expected.tag.clone_from(tag),
                Line::Try { .. } => {}
            }
        }
        for line in lines {
            let Line::Try { n, deed } = line else {
                continue;
            };
            match ends.get(n) {
                Some(Some(id)) => {
                    expected.acked += 1;
                    expected.add(*n, deed, Known::Acked, id);
                }
                Some(None) => {}
                None => {
                    expected.unknown += 1;
                    expected.add(*n, deed, Known::Unknown, "");
                }
            }
        }
        expected
    }

    fn add(&mut self, n: u64, deed: &Deed, known: Known, id: &str) {
        let tie = |before: Option<&Tie>, on: bool| match (before, known, on) {
            (Some(Tie::Unknown), ..) | (_, Known::Unknown, _) => Tie::Unknown,
            (_, Known::Acked, true) => Tie::On,
            (_, Known::Acked, false) => Tie::Off,
        };
        match deed {
            Deed::User { name } => {
                self.users.insert(name.clone(), known);
            }
            Deed::Article { by } => self.articles.push(ExpectedArticle {
                n,
                by: by.clone(),
                known,
                slug: id.to_owned(),
            }),
            Deed::Comment { by, slug } => {
                let comments = self.comments.entry(slug.clone()).or_default();
                comments.push((n, by.clone(), known));
            }
            Deed::Favorite { by, slug, on } => {
                let fans = self.favorites.entry(slug.clone()).or_default();
                fans.insert(by.clone(), tie(fans.get(by), *on));
            }
            Deed::Follow { by, whom, on } => {
                let followed = self.follows.entry(by.clone()).or_default();
                followed.insert(whom.clone(), tie(followed.get(whom), *on));
            }
            Deed::Photo { by } => {
                if known == Known::Acked {
                    self.photos.push((id.to_owned(), by.clone()));
                }
            }
        }
    }

    /// Everybody who wrote articles or tried to.
    pub(crate) fn authors(&self) -> BTreeSet<&str> {
        self.articles
            .iter()
            .map(|article| article.by.as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn favorite(on: bool) -> Deed {
        Deed::Favorite {
            by: "ada".to_owned(),
            slug: "s".to_owned(),
            on,
        }
    }

    #[test]
    fn a_ledger_with_a_torn_last_line_is_read_to_the_last_whole_one_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let (ledger, before) = Ledger::open(&path, "k3f9").unwrap();
        assert_eq!(before, []);
        let user = |n| Deed::User {
            name: format!("ada-{n}"),
        };
        let n = ledger.attempt(user).unwrap();
        ledger.acknowledge(n, "").unwrap();
        ledger.attempt(user).unwrap();
        drop(ledger);
        let whole = std::fs::read(&path).unwrap();
        let all = parse(&whole).unwrap();
        // Wherever a kill cuts, what was written before it is read back.
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let lines = read(&path).unwrap();
            let finished = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(lines, all[..finished], "cut at {cut}");
            let (ledger, lines) = Ledger::open(&path, "other").unwrap();
            assert_eq!(lines.len(), finished);
            assert_eq!(ledger.tag(), if finished > 0 { "k3f9" } else { "other" });
            let next = ledger.attempt(user).unwrap();
            assert!(
                lines
                    .iter()
                    .all(|line| !matches!(line, Line::Try { n, .. } if *n == next)),
                "a number is used twice"
            );
            drop(ledger);
            assert!(read(&path).is_ok(), "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_is_whole_and_wrong_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let begin = "{\"ledger\":{\"version\":1,\"tag\":\"k\"}}\n";
        for (text, line) in [
            (
                format!("{begin}{{\"ack\":{{}}}}\n{{\"ack\":{{\"n\":1}}}}\n"),
                2,
            ),
            ("{\"ack\":{\"n\":1}}\n".to_owned(), 1),
            (format!("{begin}{begin}"), 2),
            (begin.replace(":1", ":2"), 1),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert!(
                matches!(error, LedgerError::Damaged { line: found, .. } if found == line),
                "{error}"
            );
        }
    }

    #[test]
    fn what_was_refused_is_not_expected_and_what_has_no_answer_may_be_there() {
        let article = |n| Line::Try {
            n,
            deed: Deed::Article {
                by: "ada".to_owned(),
            },
        };
        let id = "slug".to_owned();
        let lines = [
            article(1),
            article(2),
            article(3),
            Line::No { n: 2 },
            Line::Ack { n: 3, id },
        ];
        let expected = Expected::of(&lines);
        let known: Vec<_> = expected
            .articles
            .iter()
            .map(|article| (article.n, article.known))
            .collect();
        assert_eq!(known, [(1, Known::Unknown), (3, Known::Acked)]);
        assert_eq!((expected.acked, expected.unknown), (1, 1));
    }

    #[test]
    fn the_last_acknowledged_switch_counts_unless_one_has_no_answer() {
        let switch = |n, on| Line::Try {
            n,
            deed: favorite(on),
        };
        let ack = |n| Line::Ack {
            n,
            id: String::new(),
        };
        let tie = |lines: &[Line]| Expected::of(lines).favorites["s"]["ada"];
        assert_eq!(tie(&[switch(1, true), ack(1)]), Tie::On);
        assert_eq!(
            tie(&[switch(1, true), ack(1), switch(2, false), ack(2)]),
            Tie::Off
        );
        // The first order may still be on its way and arrive last.
        assert_eq!(
            tie(&[switch(1, true), switch(2, false), ack(2)]),
            Tie::Unknown
        );
        assert_eq!(
            tie(&[switch(1, true), ack(1), switch(2, false), Line::No { n: 2 }]),
            Tie::On
        );
    }
}
