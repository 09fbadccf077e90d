//! A simulated disk that forgets what was not synced, tears what was in flight, and fails on demand.
//!
//! Written and synced bytes are kept apart. [`SimDisk::crash`] makes the disk as it could be found after a
//! power cut: each unsynced 512-byte sector is independently old, new or zeroed, and unsynced directory
//! operations may be missing. Use it to test your own use of the queue, as the crate's torture does.

mod platter;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::{Storage, StorageFile};
use platter::Platter;

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

/// What a disk does wrong on purpose: negative controls. A torture that stays green with one of them tests
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Lie {
    /// None: the disk is honest.
    #[default]
    Nothing,
    /// Syncs of files return without doing anything.
    FileSyncs,
    /// Syncs of the directory return without doing anything.
    DirectorySyncs,
    /// Every fifth write of more than a sector stores half of it and says that it stored all.
    ShortWrites,
    /// A sync that fails drops the bytes, and the next one, which has nothing left to do, succeeds for it:
    /// what a caller sees that tries a failed sync again.
    RetriedSyncs,
}

/// The disk just before one call, for the torture to crash.
#[cfg_attr(
    not(feature = "torture"),
    expect(dead_code, reason = "read by the torture")
)]
#[derive(Debug, Clone)]
pub(crate) struct CrashPoint {
    /// Number of the call that was not finished.
    pub(crate) call: u64,
    /// What [`SimDisk::mark`] had said last.
    pub(crate) mark: usize,
    platter: Platter,
}

impl CrashPoint {
    /// The disk after a power cut here.
    #[cfg(feature = "torture")]
    pub(crate) fn crash(&self, how: Crash, seed: u64) -> SimDisk {
        SimDisk::of(self.platter.crash(how, seed))
    }

    /// Whether a cut can leave more than one disk.
    #[cfg(feature = "torture")]
    pub(crate) fn is_open(&self) -> bool {
        self.platter.is_open()
    }
}

#[derive(Debug, Default)]
struct Inner {
    platter: Platter,
    calls: u64,
    stop_after: Option<u64>,
    fault: Option<(u64, Fault, bool)>,
    lie: Lie,
    long_writes: u64,
    locked: bool,
    mark: usize,
    points: Option<Vec<CrashPoint>>,
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
        Self::of(Platter::new(directory))
    }

    fn of(platter: Platter) -> Self {
        let inner = Inner {
            platter,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
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

    /// What the disk does wrong from now on.
    pub fn lie(&self, lie: Lie) {
        self.inner.lock().lie = lie;
    }

    /// Flips one bit of a file, durably.
    pub fn flip(&self, name: &str, byte: usize, bit: u8) {
        self.damage(name, |bytes| {
            if let Some(b) = bytes.get_mut(byte) {
                *b ^= 1 << (bit & 7);
            }
        });
    }

    /// Cuts a file to this length, durably.
    pub fn truncate(&self, name: &str, len: usize) {
        self.damage(name, |bytes| bytes.truncate(len));
    }

    /// Changes a file's bytes behind everybody's back, durably: bit rot, misdirected writes. Nothing happens
    /// when there is no such file.
    pub fn damage(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
        self.inner.lock().platter.damage(name, how);
    }

    /// Names and lengths of all files.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, usize> {
        self.inner.lock().platter.files()
    }

    /// The disk as it could be found after a power cut now. Equal seeds give equal disks.
    #[must_use]
    pub fn crash(&self, how: Crash, seed: u64) -> Self {
        Self::of(self.inner.lock().platter.crash(how, seed))
    }

    /// Keeps a crash point for every later call that changes something.
    #[cfg(feature = "torture")]
    pub(crate) fn record(&self) {
        self.inner.lock().points = Some(Vec::new());
    }

    /// The crash points kept so far.
    #[cfg(feature = "torture")]
    pub(crate) fn take_points(&self) -> Vec<CrashPoint> {
        self.inner.lock().points.take().unwrap_or_default()
    }

    /// Goes with every later crash point.
    #[cfg(feature = "torture")]
    pub(crate) fn mark(&self, mark: usize) {
        self.inner.lock().mark = mark;
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
        if self.stopped() {
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

    /// Keeps the disk as it is, with what the call in progress may have done in part.
    fn point(&mut self, in_flight: impl FnOnce(&mut Platter)) {
        let (call, mark) = (self.calls, self.mark);
        if let Some(points) = &mut self.points {
            let mut platter = self.platter.clone();
            in_flight(&mut platter);
            points.push(CrashPoint {
                call,
                mark,
                platter,
            });
        }
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
        Ok(inner.platter.files().into_keys().collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut inner = self.inner.lock();
        inner.call(create).map_err(error)?;
        let inode = match inner.platter.find(name) {
            Some(i) => i,
            None if create => {
                inner.point(|_| ());
                inner.platter.create(name)
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
        inner.point(|_| ());
        inner.platter.rename(from, Some(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        inner.point(|_| ());
        inner.platter.rename(name, None)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.call(false).map_err(error)?;
        inner.point(|_| ());
        if inner.lie != Lie::DirectorySyncs {
            inner.platter.sync_directory();
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
        let data = inner.platter.bytes(self.inode);
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
        let at =
            usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let short = match inner.call(true) {
            Ok(short) => short,
            Err(fault) => {
                // A write that is cut off by a crash may still have reached the disk in part.
                if inner.stop_after.is_some_and(|n| inner.calls == n + 1) {
                    inner.platter.in_flight(self.inode, at, buf);
                }
                return Err(error(fault));
            }
        };
        inner.point(|platter| platter.in_flight(self.inode, at, buf));
        let half = (buf.len() / 2).max(1);
        if inner.lie == Lie::ShortWrites && buf.len() > 512 {
            inner.long_writes += 1;
            if inner.long_writes.is_multiple_of(5) {
                inner.platter.write(self.inode, at, &buf[..half]);
                return Ok(buf.len());
            }
        }
        let n = if short { half } else { buf.len() };
        inner.platter.write(self.inode, at, &buf[..n]);
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        if let Err(fault) = inner.call(false) {
            if !inner.stopped() && fault == Fault::Eio {
                // The pages are marked clean: they read back, but never reach the disk.
                inner.platter.forget(self.inode);
                if inner.lie == Lie::RetriedSyncs {
                    return Ok(());
                }
            }
            return Err(error(fault));
        }
        inner.point(|_| ());
        if inner.lie != Lie::FileSyncs {
            inner.platter.sync(self.inode);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.disk.lock();
        inner.call(false).map_err(error)?;
        Ok(inner.platter.bytes(self.inode).len() as u64)
    }
}
