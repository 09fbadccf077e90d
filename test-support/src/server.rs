//! One running server, whatever it is.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{Error, error::Doing, guard::Guard, program::Program};

/// How long a server may take until it answers. Generous, because test machines are busy.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// Ports tried before a server that finds each of them taken is believed.
const PORTS_TRIED: u32 = 3;

const POLL_EVERY: Duration = Duration::from_millis(20);

/// How long one question to a starting server may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// A kind of server: what the operating system and the protocol need to know.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) program: Program,
    /// The scheme of its URLs.
    pub(crate) scheme: &'static str,
    /// The signal that ends it fastest without damage; used on drop.
    pub(crate) end_with: &'static str,
    /// The signal of an orderly stop.
    pub(crate) stop_with: &'static str,
    /// Asks a server in its own protocol whether it serves.
    pub(crate) answers: fn(SocketAddr) -> io::Result<bool>,
}

/// A server on a free loopback port, in a folder of its own. Ends, and its folder with it, on drop.
///
/// A method fails with [`Error::GuardGone`] when something killed the guard.
#[derive(Debug)]
pub struct Server {
    kind: &'static Kind,
    guard: Guard,
    address: SocketAddr,
    id: u32,
}

impl Server {
    /// Starts a server that needs nothing in its folder beforehand.
    pub(crate) fn start(
        kind: &'static Kind,
        arguments: impl FnMut(&Path, SocketAddr) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        kind.program.find()?;
        let guard = Guard::new(kind.program.name, kind.end_with)?;
        Self::start_in(kind, guard, arguments)
    }

    /// Starts a server in a folder that was prepared.
    pub(crate) fn start_in(
        kind: &'static Kind,
        guard: Guard,
        mut arguments: impl FnMut(&Path, SocketAddr) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        let binary = kind.program.find()?.to_string_lossy().into_owned();
        let mut server = Self {
            kind,
            guard,
            address: free_address()?,
            id: 0,
        };
        let mut tries_left = PORTS_TRIED;
        loop {
            tries_left -= 1;
            let mut words = vec![binary.clone()];
            words.extend(arguments(server.guard.folder(), server.address)?);
            server.guard.set_command(&words)?;
            match server.restart() {
                // Another process may have taken the port since it was found free.
                Err(Error::Ended { log, .. }) if tries_left > 0 && says_port_is_taken(&log) => {
                    server.address = free_address()?;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    /// The address it listens on, on 127.0.0.1.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address as a URL, such as `redis://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.kind.scheme, self.address)
    }

    /// The process id. A restart changes it.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The server's folder: its data, and its output in the file `log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// The last lines of what the server wrote.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.guard.log_tail()
    }

    /// Whether the process exists; it may still be frozen or silent.
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn is_running(&mut self) -> Result<bool, Error> {
        self.guard.is_running()
    }

    /// SIGKILL to the server and its children. Returns when they are gone; the data stays.
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn kill(&mut self) -> Result<(), Error> {
        self.guard.kill()
    }

    /// An orderly stop, forced after 30 seconds. Returns when the server is gone; the data stays.
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn stop(&mut self) -> Result<(), Error> {
        self.guard.end(self.kind.stop_with)
    }

    /// Stops every thread of the server where it stands (SIGSTOP): its connections stay open and
    /// silent, as if its machine hung.
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.guard.signal("STOP")
    }

    /// Ends a [`freeze`](Self::freeze).
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.guard.signal("CONT")
    }

    /// Starts the server again, on the same port with the same data, and waits until it answers.
    /// One that still runs is ended first.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] or [`Error::Silent`], each with the end of the log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.id = self.guard.start()?;
        let started = Instant::now();
        loop {
            // Refused connections and half answers are what a starting server gives.
            if (self.kind.answers)(self.address).unwrap_or(false) {
                return Ok(());
            }
            if !self.guard.is_running()? {
                return Err(Error::Ended {
                    program: self.kind.program.name,
                    log: self.guard.log_tail(),
                });
            }
            if started.elapsed() > READY_WITHIN {
                return Err(Error::Silent {
                    program: self.kind.program.name,
                    within: READY_WITHIN,
                    log: self.guard.log_tail(),
                });
            }
            thread::sleep(POLL_EVERY);
        }
    }
}

fn says_port_is_taken(log: &str) -> bool {
    let log = log.to_ascii_lowercase();
    log.contains("address already in use") || log.contains("address in use")
}

/// A port that the kernel hands to nobody else for a minute: a connection that was accepted and
/// closed leaves it in TIME_WAIT, where a server (they all set `SO_REUSEADDR`) may still listen.
fn free_address() -> Result<SocketAddr, Error> {
    let find = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let client = TcpStream::connect(address)?;
        let (accepted, _) = listener.accept()?;
        // The side that closes first keeps the port.
        drop(accepted);
        drop(client);
        Ok(address)
    };
    find().doing("finding a free port")
}

/// Sends `question` on a new connection and says whether what comes back contains `answer`.
pub(crate) fn ask(address: SocketAddr, question: &[u8], answer: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_WITHIN)?;
    stream.set_read_timeout(Some(ASK_WITHIN))?;
    stream.set_write_timeout(Some(ASK_WITHIN))?;
    stream.write_all(question)?;
    let mut heard = Vec::new();
    let mut piece = [0; 1024];
    // 64 KiB is more than any server says to these questions.
    while heard.len() < 64 * 1024 {
        let read = stream.read(&mut piece)?;
        heard.extend_from_slice(&piece[..read]);
        if String::from_utf8_lossy(&heard).contains(answer) {
            return Ok(true);
        }
        if read == 0 {
            break;
        }
    }
    Ok(false)
}
