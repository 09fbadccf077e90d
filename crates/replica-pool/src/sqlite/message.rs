//! What a replica asks its primary, and what it gets.

use crate::evidence::{Epoch, Lsn, MemberId};

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(
    clippy::exhaustive_structs,
    reason = "what is in a record is a format: a change is a new version"
)]
pub struct Entry {
    /// Its number. Numbers have no gaps.
    pub lsn: Lsn,
    /// The reign in which it was written.
    pub epoch: Epoch,
    /// The application's command, or `None` for the record that opens a reign.
    pub body: Option<Vec<u8>>,
}

/// A replica's question for more, which is also its receipt for what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Pull {
    /// Who asks.
    pub from: MemberId,
    /// The highest epoch that it has promised.
    pub promised: Epoch,
    /// Its last record, durably stored.
    pub last: Lsn,
    /// The epoch of that record.
    pub last_epoch: Epoch,
    /// The last record that it knows to be on a majority.
    pub committed: Lsn,
}

/// A primary's answer to a [`Pull`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Shipment {
    /// The replica's log is a prefix of the primary's; this comes next.
    Entries {
        /// The primary's epoch.
        epoch: Epoch,
        /// The record that these follow.
        after: Lsn,
        /// None if there is nothing new.
        entries: Vec<Entry>,
        /// The primary's last record.
        end: Lsn,
        /// The last record that is on a majority.
        committed: Lsn,
    },
    /// The replica has records that the primary lacks.
    Diverged {
        /// The primary's epoch.
        epoch: Epoch,
        /// The replica's last record as it said.
        asked: Lsn,
        /// The records after this one are to be cut off.
        keep: Lsn,
    },
    /// The primary no longer keeps what the replica needs next; it needs a snapshot.
    TooOld {
        /// The primary's epoch.
        epoch: Epoch,
        /// The replica's last record as it said.
        asked: Lsn,
    },
    /// Whoever was asked is no primary.
    NotPrimary,
}

/// A copy of the whole state, in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "a name and nothing more")]
pub struct SnapshotId {
    /// The last record in it.
    pub lsn: Lsn,
    /// The epoch of that record.
    pub epoch: Epoch,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Piece {
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Where in the file the bytes begin.
    pub offset: u64,
    /// The length of the file in bytes.
    pub total: u64,
    /// At most [`PIECE_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Bytes of a snapshot that travel in one piece: 4 MiB.
pub const PIECE_BYTES_MAX: usize = 4 << 20;

/// Bytes of records that one [`Shipment`] carries, unless a single record is larger: 1 MiB.
pub const SHIPMENT_BYTES_MAX: usize = 1 << 20;
