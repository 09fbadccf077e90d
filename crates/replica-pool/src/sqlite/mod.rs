//! A replicated SQLite database, embedded: commands go into a log that every copy has, and change the
//! state of each copy in the same order.
//!
//! [`struct@Copy`] is one copy and blocks on its disk; with feature `tokio`, `Server` runs it: group commit, a
//! loop that follows the primary, readers that wait for a position. The transport is the caller's
//! (`Peers`), and so is the [`Engine`](crate::Engine) that passes the orders of a `Coordinator` on to
//! `Server::perform`; `Local` is both, for copies in one process.
//!
//! ```
//! use stackbeam_replica_pool::sqlite::{Apply, Copy, CopyOptions};
//! use stackbeam_replica_pool::Action;
//!
//! struct Counter;
//! impl Apply for Counter {
//!     type Answer = i64;
//!     fn migrate(&mut self, db: &rusqlite::Connection) -> rusqlite::Result<()> {
//!         db.execute_batch("CREATE TABLE IF NOT EXISTS hits (n INTEGER NOT NULL)")
//!     }
//!     fn apply(
//!         &mut self,
//!         tx: &rusqlite::Transaction<'_>,
//!         _lsn: u64,
//!         command: &[u8],
//!     ) -> rusqlite::Result<i64> {
//!         tx.execute("INSERT INTO hits VALUES (?)", [command.len()])?;
//!         tx.query_row("SELECT sum(n) FROM hits", [], |row| row.get(0))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! // One copy alone is its own majority.
//! let mut copy = Copy::open(dir.path(), CopyOptions::new(0, 1), Counter)?;
//! copy.perform(&Action::Fence { member: 0, epoch: 1, claimant: 7 })?;
//! copy.perform(&Action::Promote { member: 0, epoch: 1, claimant: 7 })?;
//! let first = copy.append(vec![b"abc".to_vec(), b"de".to_vec()])?;
//! assert_eq!(copy.apply(u64::MAX)?, [(first, 3), (first + 1, 5)]);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! * A command whose answer was given out is on the disks of a majority, and every later primary has
//!   it, as long as a majority of the disks survives and `fencing` and `majority` are on.
//! * Readers never see a command that a failover could take back.
//! * A copy that was a primary and comes back cuts off what nobody else has, or is replaced by a
//!   snapshot if its state contains some of it.
//! * A command without an answer may be carried out, or not, or later: give commands ids, and let
//!   [`Apply`] remember the answers.

mod copy;
#[cfg(feature = "tokio")]
mod local;
mod log;
mod message;
#[cfg(feature = "tokio")]
mod server;

pub use copy::{Apply, Copy, CopyError, CopyOptions, Next};
#[cfg(feature = "tokio")]
pub use local::{Local, LocalConnection, NotRunning};
pub use message::{Entry, PIECE_BYTES_MAX, Piece, Pull, SHIPMENT_BYTES_MAX, Shipment, SnapshotId};
#[cfg(feature = "tokio")]
pub use server::{Peers, ReadError, Server, ServerOptions, WriteError};
