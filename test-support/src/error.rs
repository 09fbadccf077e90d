//! What can go wrong with a server.

use std::{io, time::Duration};

/// Why a server could not be started, told or asked something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program is not on this machine.
    #[error("{program} is not on this machine; `cargo xtask services` installs {package}")]
    #[non_exhaustive]
    Absent {
        /// The program looked for, in `PATH` and where Debian puts servers.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The server ended instead of answering.
    #[error("{program} ended while it was starting; its log ends:\n{log}")]
    #[non_exhaustive]
    Ended {
        /// The program.
        program: &'static str,
        /// The last lines it wrote.
        log: String,
    },
    /// The server runs but did not answer in time.
    #[error("{program} did not answer within {within:?}; its log ends:\n{log}")]
    #[non_exhaustive]
    Silent {
        /// The program.
        program: &'static str,
        /// How long it was asked.
        within: Duration,
        /// The last lines it wrote.
        log: String,
    },
    /// A command that comes with the server failed.
    #[error("{command} failed: {output}")]
    #[non_exhaustive]
    Command {
        /// The command's name.
        command: String,
        /// What it wrote to standard error.
        output: String,
    },
    /// The guard process is gone; the server is gone with it.
    #[error("the guard of {program} is gone")]
    #[non_exhaustive]
    GuardGone {
        /// The program.
        program: &'static str,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    #[non_exhaustive]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Names what was being done when the operating system refused.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            doing: what,
            source,
        })
    }
}
