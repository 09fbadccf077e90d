//! What can go wrong with PostgreSQL servers.

use std::error::Error as _;
use std::io;

use crate::evidence::MemberId;
use crate::failover::Failure;

/// What went wrong with a PostgreSQL server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// An address cannot be read.
    #[error("the address of server {member}: {source}")]
    Address {
        /// The server.
        member: MemberId,
        /// What is wrong with it.
        source: tokio_postgres::Error,
    },
    /// No server, or more than a [`MemberId`] can name.
    #[error("{servers} servers; between 1 and 65535 can be told apart")]
    TooMany {
        /// How many there are.
        servers: usize,
    },
    /// There is no such server in the list.
    #[error("there is no server {member}")]
    Unknown {
        /// The server.
        member: MemberId,
    },
    /// The server or the way to it failed.
    #[error("{}", with_reason(.0))]
    Server(#[from] tokio_postgres::Error),
    /// The server answered something else than was asked. Is it PostgreSQL?
    #[error("the server did not answer the question")]
    Mute,
    /// The server is no copy of the others: look at the addresses.
    #[error("server {member} belongs to system {found}, not {expected}")]
    OtherSystem {
        /// The server.
        member: MemberId,
        /// The identifier of the others.
        expected: u64,
        /// Its own.
        found: u64,
    },
    /// The server takes writes by itself but does not reign: a primary that was deposed. Make it a
    /// replica of the new one by `pg_rewind` or a new base backup.
    #[error("server {member} was a primary and has been deposed; it must be rewound or rebuilt")]
    Deposed {
        /// The server.
        member: MemberId,
    },
    /// Exactly one server must be out of recovery to begin with.
    #[error("{writable} servers take writes; to begin with there must be one")]
    NotOnePrimary {
        /// How many do.
        writable: usize,
    },
    /// A server did not come to what was ordered.
    #[error("server {member} did not {what} in time")]
    Late {
        /// The server.
        member: MemberId,
        /// What was ordered.
        what: &'static str,
    },
}

/// The driver's own text leaves out what the server said.
fn with_reason(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl PostgresError {
    /// Whether nobody listened: certainly nothing was done.
    pub(super) fn failure(&self) -> Failure {
        let refused = match self {
            Self::Server(error) => error
                .source()
                .and_then(|source| source.downcast_ref::<io::Error>())
                .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused),
            _ => false,
        };
        if refused {
            Failure::Refused
        } else {
            Failure::Lost
        }
    }
}
