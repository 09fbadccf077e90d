//! The object store: a folder that web servers and workers share, where a file's name is the hash of
//! its content. So a file is never changed, writing it twice is writing it once, and it may be cached
//! for ever.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// The formats that are taken and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Jpeg,
}

impl Format {
    /// The format by the first bytes of a file, whatever the sender calls it.
    pub(crate) fn sniff(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(Self::Jpeg)
        } else {
            None
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
        }
    }

    /// The media type.
    pub(crate) const fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// The name of an object: 64 hex digits of BLAKE2b-256, a dot, and `png` or `jpg`. Nothing else parses,
/// so a name cannot lead out of its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    text: String,
    format: Format,
}

const HASH_HEX: usize = 64;

impl Name {
    /// The name of these bytes.
    pub(crate) fn of(bytes: &[u8], format: Format) -> Self {
        let hash = blake2b_simd::Params::new()
            .hash_length(HASH_HEX / 2)
            .hash(bytes)
            .to_hex();
        Self {
            text: format!("{hash}.{}", format.extension()),
            format,
        }
    }

    /// Reads a name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (hash, extension) = text.split_once('.')?;
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let format = match extension {
            "png" => Format::Png,
            "jpg" => Format::Jpeg,
            _ => return None,
        };
        (hash.len() == HASH_HEX && hash.bytes().all(hex)).then(|| Self {
            text: text.to_owned(),
            format,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// The hash alone.
    pub(crate) fn hash(&self) -> &str {
        self.text.get(..HASH_HEX).unwrap_or(&self.text)
    }
}

/// The two kinds of objects.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// As it was uploaded, with whatever the camera wrote into it: never served.
    Original,
    /// What a worker made of it: anybody may have it.
    Photo,
}

impl Kind {
    const fn folder(self) -> &'static str {
        match self {
            Self::Original => "originals",
            Self::Photo => "photos",
        }
    }
}

/// The folder. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    root: PathBuf,
    /// Which node writes: the beginning of the names of its unfinished files.
    node: String,
}

impl Objects {
    /// Opens the folder, and removes what an earlier life of this node left unfinished.
    pub(crate) fn open(root: &Path, node: &str) -> io::Result<Self> {
        let objects = Self {
            root: root.to_owned(),
            node: format!("{node}."),
        };
        for folder in [
            Kind::Original.folder(),
            Kind::Photo.folder(),
            UNFINISHED_FOLDER,
        ] {
            fs::create_dir_all(root.join(folder))?;
        }
        for entry in fs::read_dir(root.join(UNFINISHED_FOLDER))? {
            let entry = entry?;
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(&objects.node)
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(objects)
    }

    /// A store that keeps nothing.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self {
            root: PathBuf::from("/dev/null"),
            node: String::new(),
        }
    }

    /// Keeps bytes; when this returns they survive a power cut. What is there already stays.
    ///
    /// Dropping the future leaves it open whether they are kept.
    pub(crate) async fn put(&self, kind: Kind, bytes: Bytes, format: Format) -> io::Result<Name> {
        let objects = self.clone();
        tokio::task::spawn_blocking(move || {
            let name = Name::of(&bytes, format);
            objects.write(kind, &name, &bytes)?;
            Ok(name)
        })
        .await?
    }

    fn write(&self, kind: Kind, name: &Name, bytes: &[u8]) -> io::Result<()> {
        let folder = self.root.join(kind.folder());
        let path = folder.join(name.as_str());
        if !path.try_exists()? {
            let unfinished = self.root.join(UNFINISHED_FOLDER).join(format!(
                "{}{:016x}",
                self.node,
                fastrand::u64(..)
            ));
            let written = File::create_new(&unfinished)
                .and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.sync_all()
                })
                .and_then(|()| fs::rename(&unfinished, &path));
            if written.is_err() {
                let _gone = fs::remove_file(&unfinished);
            }
            written?;
        }
        // Also when it was there: whoever renamed it may have died before this.
        File::open(folder)?.sync_all()
    }

    /// The bytes of an object, or `None` when there is no such object.
    pub(crate) async fn get(&self, kind: Kind, name: &Name) -> io::Result<Option<Bytes>> {
        let path = self.root.join(kind.folder()).join(name.as_str());
        match tokio::fs::read(path).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const UNFINISHED_FOLDER: &str = "unfinished";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_twice_is_kept_once_and_read_back_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path(), "web-1").unwrap();
        let bytes = Bytes::from_static(b"picture");
        let first = objects
            .put(Kind::Photo, bytes.clone(), Format::Png)
            .await
            .unwrap();
        let again = objects
            .put(Kind::Photo, bytes.clone(), Format::Png)
            .await
            .unwrap();
        assert_eq!(first, again);
        assert_eq!(Name::parse(first.as_str()), Some(first.clone()));
        assert_eq!(objects.get(Kind::Photo, &first).await.unwrap(), Some(bytes));
        assert_eq!(objects.get(Kind::Original, &first).await.unwrap(), None);
        assert_eq!(
            fs::read_dir(dir.path().join("photos")).unwrap().count(),
            1,
            "one file"
        );
    }

    #[test]
    fn a_node_removes_what_its_earlier_life_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        Objects::open(dir.path(), "worker-1").unwrap();
        let unfinished = dir.path().join(UNFINISHED_FOLDER);
        for name in ["worker-1.00", "worker-10.00", "worker-2.00"] {
            fs::write(unfinished.join(name), "half").unwrap();
        }
        Objects::open(dir.path(), "worker-1").unwrap();
        let mut left: Vec<_> = fs::read_dir(unfinished)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["worker-10.00", "worker-2.00"]);
    }

    #[test]
    fn only_a_hash_and_a_known_extension_are_a_name() {
        let hash = "a".repeat(64);
        assert!(Name::parse(&format!("{hash}.jpg")).is_some());
        for text in [
            String::new(),
            hash.clone(),
            format!("{hash}.gif"),
            format!("{hash}.jpg.png"),
            format!("{}.jpg", "A".repeat(64)),
            format!("{}.jpg", "a".repeat(63)),
            format!("../{}.jpg", "a".repeat(61)),
            format!("{}/.jpg", "a".repeat(63)),
            format!("{}\0.jpg", "a".repeat(63)),
        ] {
            assert_eq!(Name::parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn the_name_of_given_bytes_never_changes() {
        // BLAKE2b-256 of nothing: a published test vector.
        assert_eq!(
            Name::of(b"", Format::Jpeg).as_str(),
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8.jpg"
        );
    }
}
