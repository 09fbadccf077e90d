//! Redis, with no persistence unless asked for.

use crate::{
    Error, Server,
    program::Program,
    server::{Kind, ask},
};

static KIND: Kind = Kind {
    program: Program {
        name: "redis-server",
        package: "redis-server",
    },
    scheme: "redis",
    end_with: "TERM",
    stop_with: "TERM",
    answers: |address| ask(address, b"PING\r\n", "+PONG"),
};

/// Starts a Redis that keeps nothing across a restart.
///
/// # Errors
///
/// [`Error::Absent`] without the program, and whatever kept the server from starting.
pub fn start() -> Result<Server, Error> {
    start_with(&[])
}

/// Starts a Redis with more arguments, such as `["--appendonly", "yes"]`. They come last, so they
/// win over this module's own.
///
/// # Errors
///
/// As [`start`].
pub fn start_with(arguments: &[&str]) -> Result<Server, Error> {
    Server::start(&KIND, |folder, address| {
        let mut words: Vec<String> = ["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
            .map(str::to_owned)
            .into();
        words.extend(["--port".to_owned(), address.port().to_string()]);
        words.extend(["--dir".to_owned(), folder.display().to_string()]);
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        Ok(words)
    })
}

/// Starts a replica of another Redis.
///
/// # Errors
///
/// As [`start`].
pub fn replica_of(primary: &Server) -> Result<Server, Error> {
    let port = primary.port().to_string();
    start_with(&["--replicaof", "127.0.0.1", &port])
}
