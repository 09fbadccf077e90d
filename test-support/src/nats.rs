//! NATS with JetStream.

use crate::{
    Error, Server,
    program::Program,
    server::{Kind, ask},
};

static KIND: Kind = Kind {
    program: Program {
        name: "nats-server",
        package: "nats-server",
    },
    scheme: "nats",
    end_with: "TERM",
    // Its handler of SIGTERM closes the stores; SIGUSR2 would wait for clients to leave.
    stop_with: "TERM",
    // The server speaks first, and lists JetStream once the stores are open.
    answers: |address| ask(address, b"", "\"jetstream\":true"),
};

/// Starts a NATS server whose streams are files in its folder, so that they outlive a restart.
///
/// # Errors
///
/// [`Error::Absent`] without the program, and whatever kept the server from starting.
pub fn start() -> Result<Server, Error> {
    Server::start(&KIND, |folder, address| {
        let mut words: Vec<String> = ["-a", "127.0.0.1", "-js"].map(str::to_owned).into();
        words.extend(["-p".to_owned(), address.port().to_string()]);
        let streams = folder.join("jetstream");
        words.extend(["-sd".to_owned(), streams.display().to_string()]);
        Ok(words)
    })
}
