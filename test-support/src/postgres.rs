//! Postgres: a primary with streaming replicas.
//!
//! Durability settings are Postgres' own defaults but for `fsync`, which is off: these servers
//! outlive a killed process, not a power cut, and start in half the time.

use std::{
    fs,
    io::Write,
    ops::{Index, IndexMut},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error, READY_WITHIN, Server,
    error::Doing,
    guard::Guard,
    program::{Program, run},
    server::{Kind, ask},
};

/// The only user, a superuser with no password, and its database.
const USER: &str = "postgres";

const PACKAGE: &str = "postgresql";

static KIND: Kind = Kind {
    program: Program {
        name: "postgres",
        package: PACKAGE,
    },
    scheme: "postgres",
    // "Immediate": as a crash, but the server's children are told.
    end_with: "QUIT",
    // "Fast": sessions are cut off, then a checkpoint.
    stop_with: "INT",
    answers: |address| ask(address, STARTUP, "server_version"),
};

/// The first message of protocol 3.0 for this module's user; a server that takes sessions answers
/// with its settings, one that is still starting with an error.
const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

/// Enough for tests with several clients, and little memory.
const SETTINGS: &str = "
fsync = off
shared_buffers = 16MB
max_connections = 60
max_wal_senders = 10
wal_level = replica
wal_log_hints = on
wal_keep_size = 64MB
hot_standby = on
unix_socket_directories = ''
";

/// How a cluster is laid out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    replicas: usize,
    settings: String,
}

impl Options {
    /// A primary alone, with this module's settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many replicas stream from the primary. Defaults to 0.
    #[must_use]
    pub const fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Adds a line to every node's `postgresql.conf`, such as
    /// `synchronous_standby_names = 'ANY 1 (node1, node2)'`; node *n* streams under the name
    /// `noden`. Later lines win.
    #[must_use]
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// Starts the cluster and waits until every node answers.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] without the programs, [`Error::Command`] for what `initdb` or
    /// `pg_basebackup` said, and whatever kept a server from starting.
    pub fn start(&self) -> Result<Cluster, Error> {
        let mut nodes = vec![Postgres::initialised(&self.settings)?];
        for number in 1..=self.replicas {
            let replica = Postgres::copied(&nodes[0], number)?;
            nodes.push(replica);
        }
        Ok(Cluster { nodes })
    }
}

/// Nodes by number: 0 starts as the primary, the others as its replicas. A promotion changes the
/// roles and not the numbers.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Postgres>,
}

impl Cluster {
    /// A primary and so many streaming replicas.
    ///
    /// # Errors
    ///
    /// As [`Options::start`].
    pub fn start(replicas: usize) -> Result<Self, Error> {
        Options::new().replicas(replicas).start()
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> &[Postgres] {
        &self.nodes
    }

    /// Makes node `follower` a replica of node `leader`; see [`Postgres::follow`].
    ///
    /// # Errors
    ///
    /// As [`Postgres::follow`].
    ///
    /// # Panics
    ///
    /// If there is no such node.
    pub fn follow(&mut self, follower: usize, leader: usize) -> Result<(), Error> {
        let leader = self.nodes[leader].server.port();
        self.nodes[follower].follow_port(leader)
    }
}

impl Index<usize> for Cluster {
    type Output = Postgres;

    fn index(&self, node: usize) -> &Postgres {
        &self.nodes[node]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, node: usize) -> &mut Postgres {
        &mut self.nodes[node]
    }
}

/// One Postgres server.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    number: usize,
}

impl Postgres {
    fn initialised(settings: &str) -> Result<Self, Error> {
        let initdb = tool("initdb").find()?;
        let guard = Guard::new(KIND.program.name, KIND.end_with)?;
        let data = guard.folder().join("data");
        run(Command::new(initdb)
            .args([
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-U",
                USER,
                "-D",
            ])
            .arg(&data))?;
        append(&data.join("postgresql.conf"), SETTINGS)?;
        append(&data.join("postgresql.conf"), settings)?;
        Self::run_in(guard, 0)
    }

    fn copied(primary: &Self, number: usize) -> Result<Self, Error> {
        let basebackup = tool("pg_basebackup").find()?;
        let guard = Guard::new(KIND.program.name, KIND.end_with)?;
        let data = guard.folder().join("data");
        run(Command::new(basebackup)
            .args([
                "-h",
                "127.0.0.1",
                "-U",
                USER,
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
            ])
            .args(["-p", &primary.server.port().to_string(), "-D"])
            .arg(&data))?;
        point_at(&data, primary.server.port(), number)?;
        Self::run_in(guard, number)
    }

    fn run_in(guard: Guard, number: usize) -> Result<Self, Error> {
        let server = Server::start_in(&KIND, guard, |folder, address| {
            let data = folder.join("data").display().to_string();
            let port = address.port().to_string();
            Ok(["-D", &data, "-h", "127.0.0.1", "-p", &port]
                .map(str::to_owned)
                .into())
        })?;
        Ok(Self { server, number })
    }

    /// The server: its address, process id, folder and log.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// What a client connects to, such as `postgres://postgres@127.0.0.1:40123/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}/{USER}", self.server.address())
    }

    /// Runs SQL by `psql` and returns its rows, one a line, columns separated by `|`.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] with what the server said.
    pub fn sql(&self, statements: &str) -> Result<String, Error> {
        let psql = tool("psql").find()?;
        run(Command::new(psql)
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &self.url(),
                "-c",
                statements,
            ])
            .env("PGCONNECT_TIMEOUT", "10"))
    }

    /// Whether it replays a primary's log, as a replica does, by its own account.
    ///
    /// # Errors
    ///
    /// As [`sql`](Self::sql).
    pub fn is_replica(&self) -> Result<bool, Error> {
        Ok(self.sql("select pg_is_in_recovery()")? == "t")
    }

    /// Waits until this replica has replayed what the primary has written so far.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] after [`READY_WITHIN`].
    pub fn catch_up(&self, primary: &Self) -> Result<(), Error> {
        let target = primary.sql("select pg_current_wal_lsn()")?;
        let question =
            format!("select coalesce(pg_last_wal_replay_lsn() >= '{target}'::pg_lsn, false)");
        self.wait_for(&question)
    }

    /// Makes a replica a primary and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] if it is no replica, [`Error::Silent`] if it does not become a primary.
    pub fn promote(&mut self) -> Result<(), Error> {
        self.sql("select pg_promote(true, 60)")?;
        self.wait_for("select not pg_is_in_recovery()")
    }

    /// Makes this node a replica of `primary`. A node that wrote what `primary` has not is rewound
    /// first by `pg_rewind`, so those writes are lost.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] with what `pg_rewind` said, and whatever kept the server from starting.
    pub fn follow(&mut self, primary: &Self) -> Result<(), Error> {
        self.follow_port(primary.server.port())
    }

    fn follow_port(&mut self, port: u16) -> Result<(), Error> {
        let data = self.server.folder().join("data");
        // pg_rewind wants a clean shutdown, which a crashed server has only after a recovery.
        if self.server.is_running()? || !data.join("standby.signal").exists() {
            if !self.server.is_running()? {
                self.server.restart()?;
            }
            self.server.stop()?;
        }
        if !data.join("standby.signal").exists() {
            let source = format!("host=127.0.0.1 port={port} user={USER} dbname={USER}");
            // Right after a promotion the source's control file still names the old timeline.
            let psql = tool("psql").find()?;
            run(Command::new(psql).args(["-XAtq", "-d", &source, "-c", "checkpoint"]))?;
            let rewind = tool("pg_rewind").find()?;
            run(Command::new(rewind)
                .args(["--no-sync", "--source-server", &source, "-D"])
                .arg(&data))?;
        }
        point_at(&data, port, self.number)?;
        self.server.restart()
    }

    /// As [`Server::kill`].
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn kill(&mut self) -> Result<(), Error> {
        self.server.kill()
    }

    /// As [`Server::stop`].
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn stop(&mut self) -> Result<(), Error> {
        self.server.stop()
    }

    /// As [`Server::restart`].
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] or [`Error::Silent`], each with the end of the log.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.server.restart()
    }

    /// As [`Server::freeze`].
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn freeze(&mut self) -> Result<(), Error> {
        self.server.freeze()
    }

    /// As [`Server::thaw`].
    ///
    /// # Errors
    ///
    /// [`Error::GuardGone`].
    pub fn thaw(&mut self) -> Result<(), Error> {
        self.server.thaw()
    }

    fn wait_for(&self, question: &str) -> Result<(), Error> {
        let started = Instant::now();
        while self.sql(question)? != "t" {
            if started.elapsed() > READY_WITHIN {
                return Err(Error::Silent {
                    program: KIND.program.name,
                    within: READY_WITHIN,
                    log: self.server.log_tail(),
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// A primary alone.
///
/// # Errors
///
/// As [`Options::start`].
pub fn start() -> Result<Postgres, Error> {
    Postgres::initialised("")
}

const fn tool(name: &'static str) -> Program {
    Program {
        name,
        package: PACKAGE,
    }
}

/// Makes the data folder one of a replica. Later lines of the configuration win.
fn point_at(data: &Path, port: u16, number: usize) -> Result<(), Error> {
    let line = format!(
        "primary_conninfo = 'host=127.0.0.1 port={port} user={USER} application_name=node{number}'\n"
    );
    append(&data.join("postgresql.conf"), &line)?;
    // Postgres reads whether the file is there, not who owns it.
    fs::write(data.join("standby.signal"), "").doing("marking a replica's data")
}

fn append(file: &Path, text: &str) -> Result<(), Error> {
    fs::OpenOptions::new()
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing("writing Postgres' configuration")
}
