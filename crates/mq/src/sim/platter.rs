//! What is on the simulated disk and what is only on its way there. A clone is cheap: bytes are shared.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Crash, Directory, splitmix};

const SECTOR: usize = 512;

type Names = Arc<BTreeMap<String, usize>>;

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Arc<Vec<u8>>,
    current: Arc<Vec<u8>>,
    /// Unsynced writes in order.
    pending: Vec<(usize, Arc<[u8]>)>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Platter {
    inodes: Vec<Arc<Inode>>,
    current: Names,
    durable: Names,
    /// States of the directory since the last directory sync, oldest first.
    history: Vec<Names>,
    directory: Directory,
}

fn put(data: &mut Arc<Vec<u8>>, at: usize, bytes: &[u8]) {
    let data = Arc::make_mut(data);
    if data.len() < at + bytes.len() {
        data.resize(at + bytes.len(), 0);
    }
    data[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Platter {
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            ..Self::default()
        }
    }

    pub(super) fn files(&self) -> BTreeMap<String, usize> {
        let len = |i: &usize| self.inodes[*i].current.len();
        self.current
            .iter()
            .map(|(name, i)| (name.clone(), len(i)))
            .collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.current.get(name).copied()
    }

    pub(super) fn bytes(&self, inode: usize) -> &[u8] {
        &self.inodes[inode].current
    }

    pub(super) fn create(&mut self, name: &str) -> usize {
        self.inodes.push(Arc::default());
        let i = self.inodes.len() - 1;
        Arc::make_mut(&mut self.current).insert(name.to_owned(), i);
        self.history.push(Arc::clone(&self.current));
        i
    }

    /// Renames, or removes when there is no new name.
    pub(super) fn rename(&mut self, from: &str, to: Option<&str>) -> io::Result<()> {
        let names = Arc::make_mut(&mut self.current);
        let Some(i) = names.remove(from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Some(to) = to {
            names.insert(to.to_owned(), i);
        }
        self.history.push(Arc::clone(&self.current));
        Ok(())
    }

    pub(super) fn sync_directory(&mut self) {
        self.durable = Arc::clone(&self.current);
        self.history.clear();
    }

    /// A write that may reach the disk but is not seen by readers.
    pub(super) fn in_flight(&mut self, inode: usize, at: usize, bytes: &[u8]) {
        Arc::make_mut(&mut self.inodes[inode])
            .pending
            .push((at, bytes.into()));
    }

    pub(super) fn write(&mut self, inode: usize, at: usize, bytes: &[u8]) {
        self.in_flight(inode, at, bytes);
        put(
            &mut Arc::make_mut(&mut self.inodes[inode]).current,
            at,
            bytes,
        );
    }

    /// Unsynced writes will never reach the disk.
    pub(super) fn forget(&mut self, inode: usize) {
        Arc::make_mut(&mut self.inodes[inode]).pending.clear();
    }

    pub(super) fn sync(&mut self, inode: usize) {
        let inode = Arc::make_mut(&mut self.inodes[inode]);
        for (at, bytes) in std::mem::take(&mut inode.pending) {
            put(&mut inode.durable, at, &bytes);
        }
        if self.directory == Directory::Ordered {
            self.sync_directory();
        }
    }

    pub(super) fn damage(&mut self, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
        if let Some(i) = self.find(name) {
            let inode = Arc::make_mut(&mut self.inodes[i]);
            how(Arc::make_mut(&mut inode.current));
            inode.durable = Arc::clone(&inode.current);
        }
    }

    /// Whether a power cut now can leave more than one disk.
    #[cfg(feature = "torture")]
    pub(super) fn is_open(&self) -> bool {
        !self.history.is_empty() || self.inodes.iter().any(|i| !i.pending.is_empty())
    }

    pub(super) fn crash(&self, how: Crash, seed: u64) -> Self {
        let mut rng = seed ^ 0x9E37_79B9_7F4A_7C15;
        let keep = match how {
            Crash::LoseAll => 0,
            Crash::KeepAll => self.history.len(),
            Crash::Random | Crash::Zeroed => {
                usize::try_from(splitmix(&mut rng) >> 32).unwrap_or(0) % (self.history.len() + 1)
            }
        };
        let names = match keep {
            0 => &self.durable,
            n => &self.history[n - 1],
        };
        let mut inodes = Vec::with_capacity(names.len());
        let mut found = BTreeMap::new();
        for (name, i) in names.iter() {
            let data = survivors(&self.inodes[*i], how, &mut rng);
            found.insert(name.clone(), inodes.len());
            inodes.push(Arc::new(Inode {
                current: Arc::clone(&data),
                durable: data,
                pending: Vec::new(),
            }));
        }
        let names = Arc::new(found);
        Self {
            inodes,
            current: Arc::clone(&names),
            durable: names,
            history: Vec::new(),
            directory: self.directory,
        }
    }
}

/// The bytes of a file after a power cut.
fn survivors(inode: &Inode, how: Crash, rng: &mut u64) -> Arc<Vec<u8>> {
    let mut data = Arc::clone(&inode.durable);
    for (offset, bytes) in &inode.pending {
        let mut at = *offset;
        let end = offset + bytes.len();
        while at < end {
            let stop = ((at / SECTOR + 1) * SECTOR).min(end);
            let keep = match how {
                Crash::LoseAll => false,
                Crash::KeepAll => true,
                Crash::Random | Crash::Zeroed => splitmix(rng) & 1 == 0,
            };
            if keep {
                put(&mut data, at, &bytes[at - offset..stop - offset]);
            } else if how == Crash::Zeroed && splitmix(rng) & 3 == 0 {
                put(&mut data, at, &[0; SECTOR][..stop - at]);
            }
            at = stop;
        }
    }
    data
}
