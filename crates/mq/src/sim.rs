//! A simulated disk that forgets what was not synced, tears what was in flight, and fails on demand.
//!
//! Written and synced bytes are kept apart. [`SimDisk::crash`] makes the disk as it could be found after a
//! power cut: each unsynced 512-byte sector is independently old, new or zeroed, and unsynced directory
//! operations may be missing. Use it to test your own use of the queue, as the crate's torture does.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::{Storage, StorageFile};

const SECTOR: usize = 512;

/// What a power cut does to unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// All unsynced writes are lost.
    LoseAll,
    /// All unsynced writes survive (a killed process).
    KeepAll,
    /// Each unsynced sector is independently lost or kept (so writes are torn and reordered).
    Random,
    /// As `Random`, but a lost sector of a grown or rewritten range reads as zeros one time in four.
    Zeroed,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// I/O error. On a sync, the unsynced writes are dropped from the disk but still read back.
    Eio,
    /// No space (writes and creations only).
    Enospc,
    /// Interrupted: the caller should simply try again.
    Eintr,
    /// The call transfers about half.
    Short,
}

/// How far directory operations survive without a directory sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Directory {
    /// As on ext4: any file sync also commits all earlier directory operations, in order.
    #[default]
    Ordered,
    /// As POSIX allows: only a directory sync does.
    Strict,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Unsynced writes in order.
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Inner {
    inodes: Vec<Inode>,
    current: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// States of the directory since the last directory sync, oldest first.
    history: Vec<BTreeMap<String, usize>>,
    calls: u64,
    stop_after: Option<u64>,
    fault: Option<(u64, Fault, bool)>,
    directory: Directory,
    ignore_sync: bool,
    ignore_dir_sync: bool,
    locked: bool,
}

/// The simulated disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        let disk = Self::default();
        disk.inner.lock().directory = directory;
        disk
    }

    /// Calls made so far. Each is a crash point.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.lock().calls
    }

    /// Every call after this many fails, as if the machine had stopped.
    pub fn stop_after(&self, calls: u64) {
        self.inner.lock().stop_after = Some(calls);
    }

    /// Lets call number `call` (and all later ones if `sticky`) fail.
    pub fn fail(&self, call: u64, fault: Fault, sticky: bool) {
        self.inner.lock().fault = Some((call, fault, sticky));
    }

    /// Calls succeed again.
    pub fn heal(&self) {
        self.inner.lock().fault = None;
    }

    /// A disk that lies: syncs of files (or of the directory) return without doing anything. This is a
    /// negative control: a torture that stays green with it tests nothing.
    pub fn lie(&self, file_syncs: bool, dir_syncs: bool) {
        let mut inner = self.inner.lock();
        inner.ignore_sync = file_syncs;
        inner.ignore_dir_sync = dir_syncs;
    }

    /// Flips one bit of a file, durably.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) {
        let mut inner = self.inner.lock();
        if let Some(&i) = inner.current.get(name) {
            let inode = &mut inner.inodes[i];
            if byte < inode.current.len() {
                inode.current[byte] ^= 1 << (bit & 7);
                inode.durable.clone_from(&inode.current);
            }
        }
    }

    /// Cuts a file to this length, durably.
    pub fn truncate(&self, name: &str, len: usize) {
        let mut inner = self.inner.lock();
        if let Some(&i) = inner.current.get(name) {
            let inode = &mut inner.inodes[i];
            inode.current.truncate(len);
            inode.durable.clone_from(&inode.current);
        }
    }

    /// The disk as it could be found after a power cut now. Equal seeds give equal disks.
    #[must_use]
    pub fn crash(&self, how: Crash, seed: u64) -> Self {
        let inner = self.inner.lock();
        let mut rng = seed ^ 0x9E37_79B9_7F4A_7C15;
        let mut names = inner.durable.clone();
        let keep = match how {
            Crash::LoseAll => 0,
            Crash::KeepAll => inner.history.len(),
            Crash::Random | Crash::Zeroed => {
                usize::try_from(splitmix(&mut rng)).unwrap_or(0) % (inner.history.len() + 1)
            }
        };
        if keep > 0 {
            names.clone_from(&inner.history[keep - 1]);
        }
        let mut next = Inner {
            directory: inner.directory,
            ..Inner::default()
        };
        for (name, i) in names {
            let inode = &inner.inodes[i];
            let mut data = inode.durable.clone();
            for (offset, bytes) in &inode.pending {
                let mut at = *offset;
                let end = offset + bytes.len();
                while at < end {
                    let stop = ((at / SECTOR + 1) * SECTOR).min(end);
                    let keep = match how {
                        Crash::LoseAll => false,
                        Crash::KeepAll => true,
                        Crash::Random | Crash::Zeroed => splitmix(&mut rng) & 1 == 0,
                    };
                    let zero = !keep && how == Crash::Zeroed && splitmix(&mut rng) & 3 == 0;
                    if keep || zero {
                        if data.len() < stop {
                            data.resize(stop, 0);
                        }
                        if keep {
                            data[at..stop].copy_from_slice(&bytes[at - offset..stop - offset]);
                        } else {
                            data[at..stop].fill(0);
                        }
                    }
                    at = stop;
                }
            }
            next.current.insert(name.clone(), next.inodes.len());
            next.durable.insert(name, next.inodes.len());
            next.inodes.push(Inode {
                current: data.clone(),
                durable: data,
                pending: Vec::new(),
            });
        }
        Self {
            inner: Arc::new(Mutex::new(next)),
        }
    }
}

/// One step of the SplitMix64 generator.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Inner {
    /// Counts a call; an error when it must fail, else whether it must be short.
    fn call(&mut self, creates: bool) -> Result<bool, Fault> {
        self.calls += 1;
        if self.stop_after.is_some_and(|n| self.calls > n) {
            return Err(Fault::Eio);
        }
        match self.fault {
            Some((at, fault, sticky)) if self.calls == at || (sticky && self.calls > at) => {
                match fault {
                    Fault::Short => Ok(true),
                    Fault::Enospc if !creates => Ok(false),
                    f => Err(f),
                }
            }
            _ => Ok(false),
        }
    }

    fn stopped(&self) -> bool {
        self.stop_after.is_some_and(|n| self.calls > n)
    }

    fn dir_changed(&mut self) {
        let now = self.current.clone();
        self.history.push(now);
    }

    fn commit_dir(&mut self) {
        self.durable.clone_from(&self.current);
        self.history.clear();
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Enospc => io::ErrorKind::StorageFull.into(),
        Fault::Eintr => io::ErrorKind::Interrupted.into(),
        _ => io::Error::other("simulated I/O error"),
    }
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<Mutex<Inner>>,
    inode: usize,
}

struct SimLock(Arc<Mutex<Inner>>);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

impl Storage for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        Ok(inner.current.keys().cloned().collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut inner = self.inner.lock();
        inner.call(create).map_err(error)?;
        let inode = match inner.current.get(name) {
            Some(&i) => i,
            None if create => {
                inner.inodes.push(Inode::default());
                let i = inner.inodes.len() - 1;
                inner.current.insert(name.to_owned(), i);
                inner.dir_changed();
                i
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.inner),
            inode,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.call(true).map_err(error)?;
        let Some(i) = inner.current.remove(from) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        inner.current.insert(to.to_owned(), i);
        inner.dir_changed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        if inner.current.remove(name).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.dir_changed();
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        if !inner.ignore_dir_sync {
            inner.commit_dir();
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        if inner.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        inner.locked = true;
        Ok(Box::new(SimLock(Arc::clone(&self.inner))))
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let short = inner.call(false).map_err(error)?;
        let data = &inner.inodes[self.inode].current;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let mut n = buf.len().min(data.len() - start);
        if short && n > 1 {
            n /= 2;
        }
        buf[..n].copy_from_slice(&data[start..start + n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.disk.lock();
        let short = match inner.call(true) {
            Ok(short) => short,
            Err(fault) => {
                // A write that is cut off by a crash may still have reached the disk in part.
                if inner.stopped() && inner.stop_after.is_some_and(|n| inner.calls == n + 1) {
                    let at = usize::try_from(offset).unwrap_or(usize::MAX);
                    inner.inodes[self.inode].pending.push((at, buf.to_vec()));
                }
                return Err(error(fault));
            }
        };
        let n = if short && buf.len() > 1 {
            buf.len() / 2
        } else {
            buf.len()
        };
        let at =
            usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let inode = &mut inner.inodes[self.inode];
        if inode.current.len() < at + n {
            inode.current.resize(at + n, 0);
        }
        inode.current[at..at + n].copy_from_slice(&buf[..n]);
        inode.pending.push((at, buf[..n].to_vec()));
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        if let Err(fault) = inner.call(false) {
            if !inner.stopped() && fault == Fault::Eio {
                // The pages are marked clean: they read back, but never reach the disk.
                inner.inodes[self.inode].pending.clear();
            }
            return Err(error(fault));
        }
        if inner.ignore_sync {
            return Ok(());
        }
        let inode = &mut inner.inodes[self.inode];
        for (at, bytes) in std::mem::take(&mut inode.pending) {
            if inode.durable.len() < at + bytes.len() {
                inode.durable.resize(at + bytes.len(), 0);
            }
            inode.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        if inner.directory == Directory::Ordered {
            inner.commit_dir();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        inner.call(false).map_err(error)?;
        Ok(inner.inodes[self.inode].current.len() as u64)
    }
}
