//! PostgreSQL servers that replicate by streaming: one primary, replicas that follow it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use stackbeam_replica_pool::postgres::{Postgres, PostgresOptions, ServerAddress};
//! use stackbeam_replica_pool::{Coordinator, Freshness, Pool, PoolOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let servers = ["db0", "db1", "db2"]
//!     .map(|host| ServerAddress::new(format!("postgres://app@{host}/app")));
//! let engine = Arc::new(Postgres::new(servers, PostgresOptions::default())?);
//! // In one process of the system, as a superuser: what makes failovers safe, and then who does them.
//! engine.bootstrap().await?;
//! let _coordinator =
//!     Coordinator::start(Arc::clone(&engine), 0..3, Postgres::coordinator_options(), |_| {});
//! // In every process:
//! let pool = Pool::new(engine, 0..3, PoolOptions::default());
//! let lease = pool.write().await?;
//! lease.execute("INSERT INTO notes VALUES ('hello')", &[]).await?;
//! let written = lease.position().await?;
//! lease.good();
//! let lease = pool.read(Freshness::AtLeast(written)).await?;
//! let notes = lease.query("SELECT * FROM notes", &[]).await?;
//! lease.good();
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! Besides streaming, each server keeps a *promise*: the setting `stackbeam.promised` in its
//! `postgresql.auto.conf`, which it writes durably, on a replica too. Each primary writes a row into
//! `stackbeam.reign` before it counts as one; the row travels with the log. A server takes writes of this
//! crate while its newest row is what it promised last. A timeline would not do: two replicas that are
//! promoted independently both come to timeline 2.
//!
//! A replica that promises a new epoch stops receiving from the old primary before it answers. A primary
//! that promises one is set to read-only, and its sessions are ended. [`Pool::write`](crate::Pool::write)
//! asks the server over the very connection whether it still reigns in the epoch that the pool knows.
//!
//! With [`majority`](PostgresOptions::majority) (the default), a commit is acknowledged when a majority of
//! the servers has it on disk, and a promotion takes the promises of a majority. Then:
//!
//! * **An acknowledged commit is in every later primary**, as long as a majority of the disks survives,
//!   and the session did not set `synchronous_commit` to less than `on`.
//! * **A primary that was cut off acknowledges nothing more**: the replicas that it would need have
//!   stopped receiving from it. A commit that waits for them may show up later or not: its outcome is
//!   unknown to its client.
//!
//! Without `majority` replication is asynchronous:
//!
//! * A failover loses what the old primary acknowledged and the chosen replica had not received. The
//!   most up-to-date replica of a majority is chosen, so after a crash that is what was in flight.
//! * A primary that is cut off together with some of its clients goes on to acknowledge their writes,
//!   and these are lost. Clients that reach the new primary or any replica that knows of it do not write
//!   to the old one.
//!
//! In both cases: the old primary, once reachable, is told of the new epoch and becomes read-only by
//! `default_transaction_read_only`. That is advice which a session can switch off, so programs that
//! connect around this crate can write to it. What they write is never in the new primary.
//!
//! # What it does not do
//!
//! * It does not start, stop or rebuild servers. A deposed primary stays read-only until `pg_rewind` or a
//!   new base backup has made it a replica; so does a replica that received more than the new primary
//!   has. It then joins by itself. Rebuild no server while there is no primary: a copied configuration
//!   forgets what the server promised.
//! * No connection through TLS but with [`Postgres::with_tls`]; no replication slots: set
//!   `wal_keep_size` to what replicas may miss.
//! * Only the database of the address is looked at, since there the rows of the reigns are.
//!
//! # What it needs
//!
//! PostgreSQL 12 or later; tested with 15. For [`bootstrap`](Postgres::bootstrap) and a coordinator a
//! superuser, and a `primary_conninfo` under which the servers reach each other. For a pool alone any
//! user will do.

mod answer;
mod connection;
mod error;
mod history;
mod options;
mod orders;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, Socket};

use crate::coordinate::CoordinatorOptions;
use crate::engine::Engine;
use crate::evidence::{Epoch, Evidence, MemberId};
use crate::failover::{Action, FailoverConfig, Failure};
use answer::Answer;
use history::History;
use options::{Connect, Server, connector};

pub use connection::PgConnection;
pub use error::PostgresError;
pub use options::{PostgresOptions, ServerAddress};

/// PostgreSQL servers as an [`Engine`].
pub struct Postgres {
    servers: Vec<Server>,
    options: PostgresOptions,
    connect: Connect,
    history: Mutex<History>,
    /// The servers' common identifier, once one has told it.
    system: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres")
            .field("servers", &self.servers.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Servers by their addresses; a server's place in the list is its [`MemberId`], in every process
    /// and for ever.
    ///
    /// # Errors
    /// [`PostgresError::Address`] for an address that cannot be read, and
    /// [`PostgresError::TooMany`] for more servers than a `MemberId` can name.
    pub fn new(
        servers: impl IntoIterator<Item = ServerAddress>,
        options: PostgresOptions,
    ) -> Result<Self, PostgresError> {
        Self::with_tls(servers, options, NoTls)
    }

    /// The same, with connections through TLS where the address asks for it (`sslmode=require`).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_tls<T>(
        servers: impl IntoIterator<Item = ServerAddress>,
        options: PostgresOptions,
        tls: T,
    ) -> Result<Self, PostgresError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let servers: Vec<_> = (0..)
            .zip(servers)
            .map(|(member, address)| Server::new(member, address))
            .collect::<Result<_, _>>()?;
        if servers.is_empty() || MemberId::try_from(servers.len()).is_err() {
            return Err(PostgresError::TooMany {
                servers: servers.len(),
            });
        }
        Ok(Self {
            servers,
            options,
            connect: connector(tls),
            history: Mutex::default(),
            system: Mutex::default(),
        })
    }

    /// Bounds for a coordinator of PostgreSQL servers, which take longer to promise and to promote than
    /// the defaults allow: probes within 300 ms, orders within 4 s, rounds of 5 s.
    #[must_use]
    pub fn coordinator_options() -> CoordinatorOptions {
        CoordinatorOptions {
            failover: FailoverConfig {
                step_max: std::time::Duration::from_secs(5),
                ..FailoverConfig::default()
            },
            order_wait_max: std::time::Duration::from_secs(4),
            ..CoordinatorOptions::default()
        }
    }

    fn server(&self, member: MemberId) -> Result<&Server, PostgresError> {
        self.servers
            .get(usize::from(member))
            .ok_or(PostgresError::Unknown { member })
    }

    async fn open(&self, member: MemberId, config: &Config) -> Result<PgConnection, PostgresError> {
        let (client, driver) = (self.connect)(config.clone()).await?;
        Ok(PgConnection::new(client, driver, member))
    }

    /// Sees to it that all servers are copies of one another.
    fn same_system(&self, member: MemberId, answer: &Answer) -> Result<(), PostgresError> {
        let expected = *self.system.lock().get_or_insert(answer.system);
        if expected == answer.system {
            Ok(())
        } else {
            Err(PostgresError::OtherSystem {
                member,
                expected,
                found: answer.system,
            })
        }
    }

    /// Turns an answer into evidence. `asked`: a moment before the question.
    fn evidence(&self, member: MemberId, answer: &Answer, asked: Instant) -> Evidence {
        let now = Instant::now().into_std();
        let mut history = self.history.lock();
        if answer.reigns() {
            history.primary_at(answer.reign.epoch, answer.applied, asked.into_std());
        }
        let age = history
            .age(answer.applied, now)
            .or(answer.replayed_ago)
            .unwrap_or(std::time::Duration::MAX);
        drop(history);
        let following = answer.conninfo.as_deref().and_then(|conninfo| {
            (0..)
                .zip(&self.servers)
                .find(|(_, primary)| primary.conninfo_for(member) == conninfo)
                .map(|(id, _)| id)
        });
        answer.evidence(following, age)
    }

    async fn probe(&self, member: MemberId) -> Result<(Answer, Evidence), PostgresError> {
        let server = self.server(member)?;
        // Taken out while in use: a dropped future drops it too, and the next probe connects afresh.
        let kept = server.probing.lock().take();
        let connection = match kept.filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => self.open(member, &server.control).await?,
        };
        let asked = Instant::now();
        let answer = Answer::of(&connection).await?;
        self.same_system(member, &answer)?;
        *server.probing.lock() = Some(connection);
        let evidence = self.evidence(member, &answer, asked);
        Ok((answer, evidence))
    }

    /// Has a server follow, unless it is a deposed primary that has been told already: a coordinator
    /// goes on to tell it until somebody has rebuilt it.
    async fn repoint(&self, action: &Action, epoch: Epoch) -> Result<Evidence, PostgresError> {
        let member = action.member();
        if *self.server(member)?.silenced.lock() == Some(epoch) {
            let (answer, evidence) = self.probe(member).await?;
            if !answer.in_recovery && answer.promise().epoch == epoch {
                return Ok(evidence);
            }
        }
        self.order(action).await
    }
}

impl Engine for Postgres {
    type Connection = PgConnection;
    type Error = Arc<PostgresError>;

    /// Refuses a server that is no replica and does not reign: what it has may not be in the primary.
    async fn connect(&self, member: MemberId) -> Result<PgConnection, Arc<PostgresError>> {
        let connect = async {
            let connection = self.open(member, &self.server(member)?.work).await?;
            let answer = Answer::of(&connection).await?;
            self.same_system(member, &answer)?;
            if answer.in_recovery || answer.reigns() {
                Ok(connection)
            } else {
                Err(PostgresError::Deposed { member })
            }
        };
        connect.await.map_err(Arc::new)
    }

    async fn perform(&self, action: &Action) -> Result<Evidence, Failure> {
        let done = match *action {
            Action::Probe { member } => self.probe(member).await.map(|(_, evidence)| evidence),
            Action::Follow { epoch, .. } => self.repoint(action, epoch).await,
            _ => self.order(action).await,
        };
        done.map_err(|error| {
            let failure = error.failure();
            if failure == Failure::Lost {
                tracing::warn!(?action, %error, "no answer from PostgreSQL");
            }
            failure
        })
    }

    fn usable(&self, connection: &PgConnection) -> bool {
        !connection.is_closed()
    }

    async fn may_write(
        &self,
        connection: &mut PgConnection,
        epoch: Epoch,
    ) -> Result<bool, Arc<PostgresError>> {
        connection.reigns(epoch).await.map_err(Arc::new)
    }
}
