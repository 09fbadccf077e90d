//! The parent of all processes: starts them, hears them, restarts them, and ends them in order.
//!
//! One task owns all state and takes messages; everybody else holds a [`Supervisor`] handle and
//! reads the published [`Snapshot`].

mod child;
mod end;
pub(crate) mod events;
mod faults;
mod folder;
mod guard;
mod handle;
mod memory;
mod orders;
mod plan;
mod ports;
mod run;
mod snapshot;
mod status;

use std::path::PathBuf;

pub(crate) use child::program;
pub(crate) use folder::random_hex;
pub(crate) use guard::guard_main;
pub(crate) use handle::Supervisor;
pub(crate) use orders::Action;
pub(crate) use snapshot::{Condition, NodeView, Snapshot, wall_ms};

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{what} {}: {source}", path.display())]
    Folder {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("no free port on 127.0.0.1 at or after {0}; try another --base-port")]
    NoPort(u16),
    #[error("{id} could not be started: {source}")]
    Spawn { id: String, source: std::io::Error },
    #[error("another run uses {}; stop it with `stackbeam down`, or name another --state", .0.display())]
    InUse(PathBuf),
}
