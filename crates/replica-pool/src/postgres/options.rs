//! The servers, how they are reached, and what is asked of their replication.

use std::pin::Pin;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Socket};

use super::connection::PgConnection;
use super::error::PostgresError;
use crate::evidence::{Epoch, MemberId};

/// What is asked of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct PostgresOptions {
    /// Whether a commit waits for a majority of the servers. The crate then owns the setting
    /// `synchronous_standby_names`; otherwise it leaves it alone. On is what makes failovers lose
    /// nothing; it costs each commit a round trip to a replica, and with two servers there are no
    /// commits while one is down. Defaults to on.
    pub majority: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { majority: true }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    url: String,
    conninfo: Option<String>,
}

impl ServerAddress {
    /// A connection string as libpq takes it, such as `postgres://app@db1:5432/app`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            conninfo: None,
        }
    }

    /// How replicas reach this server, as a `primary_conninfo` without `application_name`. Defaults to
    /// the host, port, user and password of the address, each replica keeping them in its
    /// `postgresql.auto.conf`.
    #[must_use]
    pub fn conninfo(mut self, conninfo: impl Into<String>) -> Self {
        self.conninfo = Some(conninfo.into());
        self
    }
}

pub(super) struct Server {
    pub(super) work: Config,
    pub(super) control: Config,
    conninfo: String,
    pub(super) probing: Mutex<Option<PgConnection>>,
    /// The epoch in which this server, deposed, was told so: it can do no more about it.
    pub(super) silenced: Mutex<Option<Epoch>>,
}

/// Under which name this crate's own sessions run, and so are spared when it ends the others.
pub(super) const CONTROL: &str = "stackbeam_control";

/// Under which name a server streams from its primary.
pub(super) fn standby_name(member: MemberId) -> String {
    format!("stackbeam_{member}")
}

impl Server {
    pub(super) fn new(member: MemberId, address: ServerAddress) -> Result<Self, PostgresError> {
        let work: Config = address
            .url
            .parse()
            .map_err(|source| PostgresError::Address { member, source })?;
        let mut control = work.clone();
        control.application_name(CONTROL);
        let conninfo = address.conninfo.unwrap_or_else(|| conninfo(&work));
        Ok(Self {
            work,
            control,
            conninfo,
            probing: Mutex::default(),
            silenced: Mutex::default(),
        })
    }

    /// The `primary_conninfo` of a replica that follows this server.
    pub(super) fn conninfo_for(&self, replica: MemberId) -> String {
        format!(
            "{} application_name={}",
            self.conninfo,
            standby_name(replica)
        )
    }
}

fn conninfo(config: &Config) -> String {
    let mut parts = Vec::new();
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => parts.push(("host", host.clone())),
        #[cfg(unix)]
        Some(Host::Unix(path)) => parts.push(("host", path.display().to_string())),
        None => {}
    }
    if let Some(port) = config.get_ports().first() {
        parts.push(("port", port.to_string()));
    }
    if let Some(user) = config.get_user() {
        parts.push(("user", user.to_owned()));
    }
    if let Some(password) = config.get_password() {
        parts.push(("password", String::from_utf8_lossy(password).into_owned()));
    }
    let quote = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let part = |(name, value): &(&str, String)| format!("{name}='{}'", quote(value));
    parts.iter().map(part).collect::<Vec<_>>().join(" ")
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<(Client, AbortHandle), tokio_postgres::Error>> + Send>>;

/// Connects, whatever the TLS.
pub(super) type Connect = Box<dyn Fn(Config) -> Connecting + Send + Sync>;

pub(super) fn connector<T>(tls: T) -> Connect
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    Box::new(move |config: Config| {
        let tls = tls.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let driver = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to PostgreSQL ended");
                }
            });
            Ok((client, driver.abort_handle()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replicas_conninfo_is_that_of_the_address_and_is_quoted() {
        let address = ServerAddress::new("postgres://app:a'b%5Cc@db1:6432/app");
        let server = Server::new(0, address.clone()).expect("an address");
        assert_eq!(
            server.conninfo_for(2),
            r"host='db1' port='6432' user='app' password='a\'b\\c' application_name=stackbeam_2"
        );
        let server = Server::new(0, address.conninfo("host=inner")).expect("an address");
        assert_eq!(
            server.conninfo_for(1),
            "host=inner application_name=stackbeam_1"
        );
        assert!(matches!(
            Server::new(4, ServerAddress::new("postgres://db:port/")),
            Err(PostgresError::Address { member: 4, .. })
        ));
    }
}
