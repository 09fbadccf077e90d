//! The torture: crashes, faults and damage on a simulated disk, against a book of what was promised.
//!
//! [`crashes`] drives a seeded workload (publishes, takes, acks, nacks, dead letters, snapshots, recycling) on
//! a [`SimDisk`](crate::sim::SimDisk), cuts the power at every call that changes the disk, makes the disk as it
//! could be found, recovers, and compares with the book. Recovery itself is cut off at each of its calls, and
//! second lives are lived on recovered disks and cut off too. [`faults`] lets every call fail, and [`damage`]
//! flips, cuts and moves the bytes of a log.

mod book;
mod crash;
mod damaged;
mod fault;
#[cfg(test)]
mod model;
#[cfg(test)]
mod stories;
mod world;

pub use crash::crashes;
pub use damaged::{Damaging, damage};
pub use fault::faults;

/// A safeguard that is taken out on purpose: a negative control. Each but `None` must turn the torture red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// Nothing.
    None,
    /// File syncs do nothing.
    SkipSync,
    /// Directory syncs do nothing.
    SkipDirectorySync,
    /// A short write counts as a whole one.
    IgnoreShortWrite,
    /// A sync that failed is tried again and believed. Only [`faults`] can see it.
    RetrySync,
    /// An open goes on in the generation that it found.
    ReuseEpoch,
    /// Checksums do not cover where they stand. Only [`damage`] can see it.
    UnboundChecksum,
}

impl Sabotage {
    fn lie(self) -> crate::sim::Lie {
        use crate::sim::Lie;
        match self {
            Self::SkipSync => Lie::FileSyncs,
            Self::SkipDirectorySync => Lie::DirectorySyncs,
            Self::IgnoreShortWrite => Lie::ShortWrites,
            Self::RetrySync => Lie::RetriedSyncs,
            Self::None | Self::ReuseEpoch | Self::UnboundChecksum => Lie::Nothing,
        }
    }

    fn weaken(self) -> crate::weak::Restore {
        crate::weak::without(self == Self::ReuseEpoch, self == Self::UnboundChecksum)
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// States that were recovered and checked.
    pub states: u64,
    /// What was wrong, each with the seed and the point that shows it again. At most 20 are kept, and then the
    /// run ends.
    pub failures: Vec<String>,
}

impl Report {
    fn check(&mut self, result: Result<(), String>, at: impl FnOnce() -> String) {
        self.states += 1;
        if let Err(what) = result {
            self.failures.push(format!("{}: {what}", at()));
        }
    }

    fn is_over(&self, states: u64) -> bool {
        self.states >= states || self.failures.len() >= 20
    }
}
