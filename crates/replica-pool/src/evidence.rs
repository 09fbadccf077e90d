//! What a copy says about itself.

use std::time::Duration;

/// The number of a primary's reign; 0 before the first.
pub type Epoch = u64;

/// The number of a record in the log; 0 before the first.
pub type Lsn = u64;

/// A copy, by its place in the list that everybody shares.
pub type MemberId = u16;

/// The part that a copy plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[expect(clippy::exhaustive_enums, reason = "there is no third role")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary, or waits for one.
    Replica,
}

/// One copy's answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Evidence {
    /// The part it plays.
    pub role: Role,
    /// The highest epoch that it has promised. A primary's epoch is this one.
    pub epoch: Epoch,
    /// Who holds that promise: coordinators that chose the same number are told apart by it.
    pub claimant: u64,
    /// Epoch of its last record.
    pub last_epoch: Epoch,
    /// Its last record, durably received: what counts for a promotion.
    pub received: Lsn,
    /// The last record that its readers see.
    pub applied: Lsn,
    /// The last record that it knows to be on a majority.
    pub committed: Lsn,
    /// Whom it follows.
    pub following: Option<MemberId>,
    /// Whether it has all that it may ever have acknowledged. A copy that lost its disk has not,
    /// until it has caught up; it takes no part in a majority till then.
    pub voter: bool,
    /// How old its view of the primary is; zero where that is not known.
    pub age: Duration,
}

impl Evidence {
    /// A voter of `role` that has promised `epoch` and has no records.
    #[must_use]
    pub const fn new(role: Role, epoch: Epoch) -> Self {
        Self {
            role,
            epoch,
            claimant: 0,
            last_epoch: epoch,
            received: 0,
            applied: 0,
            committed: 0,
            following: None,
            voter: true,
            age: Duration::ZERO,
        }
    }

    /// With the last record received and the last one applied.
    #[must_use]
    pub const fn with_positions(mut self, received: Lsn, applied: Lsn) -> Self {
        self.received = received;
        self.applied = applied;
        self
    }

    /// Whether the copy has never had a record.
    #[must_use]
    pub const fn blank(&self) -> bool {
        self.received == 0 && !self.voter
    }
}
