//! memcached.

use crate::{
    Error, Server,
    program::Program,
    server::{Kind, ask},
};

static KIND: Kind = Kind {
    program: Program {
        name: "memcached",
        package: "memcached",
    },
    scheme: "memcache",
    end_with: "TERM",
    stop_with: "TERM",
    answers: |address| ask(address, b"version\r\n", "VERSION "),
};

/// Starts a memcached with 64 MiB, its default.
///
/// # Errors
///
/// [`Error::Absent`] without the program, and whatever kept the server from starting.
pub fn start() -> Result<Server, Error> {
    start_with(&[])
}

/// Starts a memcached with more arguments, such as `["-m", "8"]`.
///
/// # Errors
///
/// As [`start`].
pub fn start_with(arguments: &[&str]) -> Result<Server, Error> {
    Server::start(&KIND, |_, address| {
        let mut words: Vec<String> = ["-l", "127.0.0.1", "-U", "0"].map(str::to_owned).into();
        words.extend(["-p".to_owned(), address.port().to_string()]);
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        Ok(words)
    })
}
