//! The log of revocations in a Redis stream.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, Client, RedisError, Value, cmd};

use super::feed::{LOG_WAIT, LogEntry, LogError, RevocationLog};
use crate::time::Timestamp;

/// Most entries that one read brings.
const READ_MAX: usize = 1000;
/// For how long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// A [`RevocationLog`] in one stream of a Redis: pushed to who waits, and there for who comes later.
///
/// A second key, `<stream>:epoch`, tells a Redis that has lost its data from one that has none yet. Entries are
/// trimmed when they are older than twice the lifetime that was given.
pub struct RedisLog {
    client: Client,
    /// For what is answered at once.
    connection: ConnectionManager,
    /// For reads that wait; none while one does.
    waiting: Mutex<Option<MultiplexedConnection>>,
    stream: String,
    keep: Duration,
    epoch: Mutex<Option<String>>,
}

impl RedisLog {
    /// Connects to `redis://host:port/`, and again whenever the connection is lost. All servers give the same `stream`, its
    /// key, and the absolute lifetime of a session; see [`Policy::absolute`](crate::Policy::absolute).
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when there is no Redis.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, stream: &str, lifetime: Duration) -> Result<Self, LogError> {
        let client = Client::open(url).map_err(unavailable)?;
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(ANSWER));
        let connection = ConnectionManager::new_with_config(client.clone(), config).await;
        Ok(Self {
            client,
            connection: connection.map_err(unavailable)?,
            waiting: Mutex::new(None),
            stream: stream.to_owned(),
            keep: lifetime.saturating_mul(2).max(Duration::from_secs(3600)),
            epoch: Mutex::new(None),
        })
    }

    /// Refuses once after the data of the Redis was lost.
    async fn same_epoch(&self) -> Result<(), LogError> {
        let key = format!("{}:epoch", self.stream);
        let mine = crate::store::fresh_version();
        let mine = mine.map_err(|error| LogError::Unavailable(error.to_string()))?;
        let mut connection = self.connection.clone();
        let mut both = redis::pipe();
        both.cmd("SET").arg(&key).arg(mine).arg("NX").ignore();
        both.cmd("GET").arg(&key);
        let (epoch,): (String,) = both
            .query_async(&mut connection)
            .await
            .map_err(unavailable)?;
        let before = self.epoch.lock().replace(epoch.clone());
        match before {
            Some(before) if before != epoch => Err(LogError::Lost),
            _ => Ok(()),
        }
    }

    async fn waiting(&self) -> Result<MultiplexedConnection, LogError> {
        if let Some(connection) = self.waiting.lock().take() {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let connecting = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        connecting.await.map_err(unavailable)
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the form that map_err hands it over in"
)]
fn unavailable(error: RedisError) -> LogError {
    LogError::Unavailable(error.to_string())
}

impl RevocationLog for RedisLog {
    type Position = String;

    async fn append(&self, entry: Vec<u8>) -> Result<(), LogError> {
        let oldest = Timestamp::now().before(self.keep).as_secs() * 1000;
        let mut append = cmd("XADD");
        append.arg(&self.stream).arg("MINID").arg("~").arg(oldest);
        append.arg("*").arg("m").arg(entry);
        let mut connection = self.connection.clone();
        append
            .query_async::<String>(&mut connection)
            .await
            .map_err(unavailable)?;
        Ok(())
    }

    async fn read(
        &self,
        after: Option<String>,
        wait: bool,
    ) -> Result<Vec<LogEntry<String>>, LogError> {
        self.same_epoch().await?;
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(READ_MAX);
        if wait {
            read.arg("BLOCK").arg(LOG_WAIT.as_secs() * 1000);
        }
        let after = after.unwrap_or_else(|| "0".to_owned());
        read.arg("STREAMS").arg(&self.stream).arg(after);
        let reply: Option<StreamReadReply> = if wait {
            let mut connection = self.waiting().await?;
            let reply = read.query_async(&mut connection).await;
            // One that failed is not used again.
            let reply = reply.map_err(unavailable)?;
            *self.waiting.lock() = Some(connection);
            reply
        } else {
            let mut connection = self.connection.clone();
            read.query_async(&mut connection)
                .await
                .map_err(unavailable)?
        };
        let entries = reply.into_iter().flat_map(|reply| reply.keys);
        let entries = entries.flat_map(|stream| stream.ids);
        Ok(entries
            .map(|mut entry| match entry.map.remove("m") {
                Some(Value::BulkString(bytes)) => (entry.id, bytes),
                // Not ours; it is said to be no revocation.
                _ => (entry.id, Vec::new()),
            })
            .collect())
    }
}

impl fmt::Debug for RedisLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLog")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
