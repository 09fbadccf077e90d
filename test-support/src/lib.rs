//! Starts real servers for tests and ends them without orphans.
//!
//! ```no_run
//! use stackbeam_test_support::{postgres, redis};
//!
//! let redis = redis::start()?;
//! assert!(redis.url().starts_with("redis://127.0.0.1:"));
//!
//! let mut cluster = postgres::Cluster::start(2)?; // a primary and two streaming replicas
//! cluster[0].sql("create table t (n int)")?;
//! cluster[0].kill()?; // SIGKILL to the server and its children
//! cluster[1].promote()?;
//! cluster[1].sql("insert into t values (1)")?;
//! # Ok::<(), stackbeam_test_support::Error>(())
//! ```
//!
//! # What a server gets
//!
//! A free port on 127.0.0.1, a folder of its own in the system's temporary folder, and, where the
//! test runs as root, the unprivileged user `nobody` (Postgres and memcached refuse root). `start`
//! returns once the server answers its own protocol, within [`READY_WITHIN`].
//!
//! # How it ends
//!
//! On drop. On panic, because that drops. On Ctrl-C, on `abort` and on SIGKILL of the test, because
//! a small guard process (`guard.sh`) waits on a pipe from the test and does the same when the pipe
//! closes; `tests/orphans.rs` shows it. The folder is removed last.
//!
//! # Where there is no server
//!
//! `start` fails with [`Error::Absent`], which names the Debian package. A test that needs a server
//! is marked so, which is how a plain `cargo test` reports it with the reason:
//!
//! ```text
//! #[test]
//! #[ignore = "needs redis: cargo xtask services"]
//! fn a_value_comes_back() -> Result<(), Error> { .. }
//! ```
//!
//! `cargo xtask services` finds or installs the servers; `cargo xtask ci` runs these tests, all of
//! them. Such a test never skips itself.
//!
//! # Costs
//!
//! Redis, memcached, NATS and nginx are ready within some tens of milliseconds; a Postgres primary
//! takes a second or two, and each replica as much again. All methods block; in an async test that
//! is one worker thread for that long.
//!
//! Linux only: it uses `setsid` and `setpriv` of util-linux.

// This crate is all shell: it waits for processes.
#![expect(
    clippy::disallowed_methods,
    reason = "waits for real servers by the real clock"
)]

mod error;
mod guard;
pub mod memcached;
pub mod nats;
pub mod nginx;
pub mod postgres;
mod program;
pub mod redis;
mod server;

pub use error::Error;
pub use server::{READY_WITHIN, Server};
