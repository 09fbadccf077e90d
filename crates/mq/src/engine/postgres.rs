//! The queue in a Postgres: tables, functions, `SKIP LOCKED`, `LISTEN`.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, GenericClient, NoTls, Row, Socket};

use super::common::{
    bounded_micros, check_group, check_messages, check_topic, dead_letter, since_epoch,
};
use super::held::{Held, Leases, receive};
use super::{Capabilities, Engine};
use crate::error::{PublishError, SettleError, TakeError, TopicError};
use crate::lease::Settle;
use crate::message::{Message, MessageId, NotBefore, Receipt};
use crate::options::{Durability, GroupOptions, Start, TopicOptions};
use crate::traits::{Consumer, Producer};

/// How long a waiting consumer goes without looking, when no notification comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A queue in tables of a Postgres, over one pipelined connection and one that listens; both are made anew when they
/// are lost.
///
/// Can everything but bounds: [`TopicOptions::messages_max`] and its like are refused. Takes of one group go one
/// after another and are not synced: after a crash of the server, leases of the last moments have ended.
/// [`Durability::Synced`] is refused when the server's `fsync` is off.
///
/// Publishers send a `NOTIFY`, of which Postgres commits one at a time in a database: some thousand commits a second.
#[derive(Debug, Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    config: String,
    prefix: String,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    /// Waiting consumers, by topic.
    waiting: Mutex<HashMap<i32, Arc<Notify>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration may hold a password.
        f.debug_struct("Shared")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

struct Link {
    client: Client,
    syncs: bool,
}

fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(e) => format!("{} ({})", e.message(), e.code().code()),
        None => error.to_string(),
    }
}

impl Postgres {
    /// Connects with a configuration of libpq's form (`postgres://…` or `host=… user=…`), without TLS, and makes
    /// tables, sequences and functions whose names begin with `prefix` and `_` where there are none. `prefix` is
    /// 1 to 40 of `a` to `z`, `0` to `9` and `_`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`TopicError::Broker`] when there is no Postgres or it refuses; [`TopicError::Unsupported`] for the prefix.
    ///
    /// # Cancel safety
    /// A dropped future may leave tables behind.
    pub async fn connect(config: &str, prefix: &str) -> Result<Self, TopicError> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=40).contains(&prefix.len()) || !prefix.chars().all(word) {
            return Err(TopicError::Unsupported(
                "a prefix that is not 1 to 40 of a to z, 0 to 9 and _",
            ));
        }
        let shared = Shared {
            config: config.to_owned(),
            prefix: prefix.to_owned(),
            link: tokio::sync::Mutex::new(None),
            waiting: Mutex::new(HashMap::new()),
        };
        let engine = Self {
            shared: Arc::new(shared),
        };
        engine.shared.link().await.map_err(broker)?;
        tokio::spawn(listen(Arc::downgrade(&engine.shared)));
        Ok(engine)
    }
}

fn broker(error: tokio_postgres::Error) -> TopicError {
    TopicError::Broker(said(&error))
}

impl Shared {
    async fn link(&self) -> Result<Arc<Link>, tokio_postgres::Error> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| !link.client.is_closed()) {
            return Ok(Arc::clone(link));
        }
        let (client, connection) = tokio_postgres::connect(&self.config, NoTls).await?;
        // Ends when the client is dropped.
        drop(tokio::spawn(connection));
        let schema = include_str!("postgres.sql");
        let schema = format!(
            "set client_min_messages = warning; select pg_advisory_lock(hashtext('PREFIX'), -1); {schema};
             select pg_advisory_unlock(hashtext('PREFIX'), -1)"
        );
        client.batch_execute(&self.sql(&schema)).await?;
        let syncs = client
            .query_one("select current_setting('fsync') = 'on'", &[])
            .await?;
        let new = Link {
            syncs: syncs.get(0),
            client,
        };
        Ok(Arc::clone(link.insert(Arc::new(new))))
    }

    fn sql(&self, text: &str) -> String {
        text.replace("PREFIX", &self.prefix)
    }

    async fn query(
        &self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let link = self.link().await?;
        link.client.query_typed(&self.sql(text), values).await
    }

    fn waiting(&self, topic: i32) -> Arc<Notify> {
        Arc::clone(self.waiting.lock().entry(topic).or_default())
    }

    fn wake(&self, topic: Option<i32>) {
        for (id, notify) in &*self.waiting.lock() {
            if topic.is_none_or(|t| t == *id) {
                notify.notify_waiters();
            }
        }
    }

    async fn topic(&self, name: &str, options: &TopicOptions) -> Result<i32, TopicError> {
        let rows = self
            .query(
                "select PREFIX_topic($1, $2, $3)",
                &[
                    (&name.as_bytes(), Type::BYTEA),
                    (&bounded_micros(options.dedup_window), Type::INT8),
                    (&options.hold, Type::BOOL),
                ],
            )
            .await;
        Ok(rows.map_err(broker)?[0].get(0))
    }
}

/// Wakes consumers when a notification comes; connects again when the connection is lost.
async fn listen(shared: Weak<Shared>) {
    while let Some(strong) = shared.upgrade() {
        let listened = strong.sql("listen PREFIX");
        let connected = tokio_postgres::connect(&strong.config, NoTls).await;
        drop(strong);
        if let Ok((client, mut connection)) = connected {
            let begin = client.batch_execute(&listened);
            let mut begin = std::pin::pin!(begin);
            let begun = tokio::select! {
                begun = &mut begin => begun.is_ok(),
                () = pump(&mut connection, &shared) => false,
            };
            if begun {
                // What came while nobody listened.
                if let Some(strong) = shared.upgrade() {
                    strong.wake(None);
                }
                tokio::select! {
                    () = pump(&mut connection, &shared) => (),
                    () = gone(&shared) => return,
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ends when the engine and all made by it are dropped.
async fn gone(shared: &Weak<Shared>) {
    while shared.strong_count() > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn pump(
    connection: &mut Connection<Socket, tokio_postgres::tls::NoTlsStream>,
    shared: &Weak<Shared>,
) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(n), Some(shared)) = (message, shared.upgrade()) {
            shared.wake(n.payload().parse().ok());
        }
    }
}

impl Engine for Postgres {
    type Producer = PostgresTopic;
    type Consumer = PostgresGroup;
    const CAPABILITIES: Capabilities = Capabilities {
        bounds: false,
        ..Capabilities::ALL
    };

    async fn producer(
        &self,
        topic: &str,
        options: TopicOptions,
    ) -> Result<PostgresTopic, TopicError> {
        check_topic(topic, &options, Self::CAPABILITIES, false)?;
        let synced = options.durability == Durability::Synced;
        let link = self.shared.link().await.map_err(broker)?;
        if synced && !link.syncs {
            return Err(TopicError::Unsupported(
                "Durability::Synced on a server whose fsync is off (switch it on, or ask for Durability::Buffered)",
            ));
        }
        Ok(PostgresTopic {
            id: self.shared.topic(topic, &options).await?,
            shared: Arc::clone(&self.shared),
            synced,
        })
    }

    async fn consumer(
        &self,
        topic: &str,
        group: &str,
        options: GroupOptions,
    ) -> Result<PostgresGroup, TopicError> {
        check_group(topic, group, &options, Self::CAPABILITIES)?;
        let dead = dead_letter(topic, &options);
        crate::queue::check_name(&dead)?;
        let topic = self.shared.topic(topic, &TopicOptions::new()).await?;
        let rows = self
            .shared
            .query(
                "select PREFIX_group($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                &[
                    (&topic, Type::INT4),
                    (&group.as_bytes(), Type::BYTEA),
                    (&bounded_micros(options.lease), Type::INT8),
                    (&i64::from(options.deliveries_max), Type::INT8),
                    (&i64::from(options.in_flight_max), Type::INT8),
                    (&options.ordered_keys, Type::BOOL),
                    (&(options.durability == Durability::Synced), Type::BOOL),
                    (&dead.as_bytes(), Type::BYTEA),
                    (&(options.start == Start::End), Type::BOOL),
                ],
            )
            .await;
        Ok(PostgresGroup {
            id: rows.map_err(broker)?[0].get(0),
            shared: Arc::clone(&self.shared),
            topic,
            tight: options.ordered_keys || options.in_flight_max < 10_000,
        })
    }
}

/// A topic of [`Postgres`].
#[derive(Debug, Clone)]
pub struct PostgresTopic {
    shared: Arc<Shared>,
    id: i32,
    synced: bool,
}

impl PostgresTopic {
    /// Publishes in the caller's own transaction: the messages are there when it commits, and never when it does
    /// not. `on` is a client or transaction of any connection to the same database.
    ///
    /// # Errors
    /// What the server said; the transaction is then void, as after any failed statement.
    ///
    /// # Cancel safety
    /// As any statement: roll back.
    pub async fn publish_in(
        &self,
        on: &impl GenericClient,
        batch: &[Message],
    ) -> Result<Vec<Receipt>, tokio_postgres::Error> {
        let column = |of: fn(&Message) -> Option<&[u8]>| batch.iter().map(of).collect::<Vec<_>>();
        let bodies = column(|m| Some(&m.body));
        let keys = column(|m| m.key.as_deref());
        let dedups = column(|m| m.dedup.as_deref());
        let priorities: Vec<i16> = batch.iter().map(|m| m.priority.into()).collect();
        let delays: Vec<Option<i64>> = batch
            .iter()
            .map(|m| match m.not_before {
                NotBefore::After(d) => Some(bounded_micros(d)),
                _ => None,
            })
            .collect();
        let ats: Vec<Option<i64>> = batch
            .iter()
            .map(|m| match m.not_before {
                NotBefore::At(t) => Some(since_epoch(t)),
                _ => None,
            })
            .collect();
        let count = |m: &Message| i32::try_from(m.headers.len()).unwrap_or(i32::MAX);
        let counts: Vec<i32> = batch.iter().map(count).collect();
        let headers = || batch.iter().flat_map(|m| &m.headers);
        let names: Vec<&[u8]> = headers().map(|(n, _)| n.as_bytes()).collect();
        let values: Vec<&[u8]> = headers().map(|(_, v)| &v[..]).collect();
        let rows = on
            .query_typed(
                &self
                    .shared
                    .sql("select * from PREFIX_publish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
                &[
                    (&self.id, Type::INT4),
                    (&bodies, Type::BYTEA_ARRAY),
                    (&keys, Type::BYTEA_ARRAY),
                    (&dedups, Type::BYTEA_ARRAY),
                    (&priorities, Type::INT2_ARRAY),
                    (&delays, Type::INT8_ARRAY),
                    (&ats, Type::INT8_ARRAY),
                    (&counts, Type::INT4_ARRAY),
                    (&names, Type::BYTEA_ARRAY),
                    (&values, Type::BYTEA_ARRAY),
                ],
            )
            .await;
        let receipt = |row: &Row| Receipt {
            id: MessageId(row.get::<_, i64>(0).unsigned_abs()),
            duplicate: row.get(1),
        };
        Ok(rows?.iter().map(receipt).collect())
    }
}

impl Producer for PostgresTopic {
    /// # Cancel safety
    /// A dropped future leaves it open whether the messages are stored; publish again with the same dedup ids.
    async fn publish(&self, batch: Vec<Message>) -> Result<Vec<Receipt>, PublishError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = check_messages(batch, Postgres::CAPABILITIES)?;
        let lost = |e: tokio_postgres::Error| PublishError::Unknown(said(&e));
        let link = self.shared.link().await.map_err(lost)?;
        let published = if self.synced {
            self.publish_in(&link.client, &batch).await
        } else {
            // One message of the protocol is one transaction.
            let buffered = link.client.batch_execute("set synchronous_commit = off");
            let (set, published, reset) = tokio::join!(
                buffered,
                self.publish_in(&link.client, &batch),
                link.client.batch_execute("set synchronous_commit = on")
            );
            set.and(reset).and(published)
        };
        let published = published.map_err(lost)?;
        self.shared.wake(Some(self.id));
        Ok(published)
    }
}

/// A consumer group of [`Postgres`]. Clones, and other processes, compete.
#[derive(Debug, Clone)]
pub struct PostgresGroup {
    shared: Arc<Shared>,
    topic: i32,
    id: i32,
    /// Whether an acknowledgement may be what others wait for.
    tight: bool,
}

/// A leased message of [`Postgres`].
pub type PostgresDelivery = Held<PostgresGroup>;

/// One delivery: the message and the token of its lease.
#[derive(Debug)]
pub struct PostgresTicket {
    message: i64,
    token: i64,
}

impl PostgresGroup {
    /// Takes what is ready; without any, how long nothing is due.
    async fn look(self, max: i32) -> Result<(Vec<PostgresDelivery>, Duration), TakeError> {
        let rows = self
            .shared
            .query(
                "select * from PREFIX_take($1, $2)",
                &[(&self.id, Type::INT4), (&max, Type::INT4)],
            )
            .await;
        let rows = rows.map_err(|e| {
            if e.code() == Some(&SqlState::NO_DATA_FOUND) {
                TakeError::NoGroup
            } else {
                TakeError::Broker(said(&e))
            }
        })?;
        let mut held = Vec::with_capacity(rows.len());
        let mut wait = LOOK_EVERY;
        for row in rows {
            match self.delivery(&row) {
                Ok(Some(delivery)) => held.push(delivery),
                Ok(None) => {
                    let micros: Option<i64> = row.get("wait");
                    let due = micros.and_then(|n| u64::try_from(n.max(0)).ok());
                    wait = due.map_or(wait, |n| wait.min(Duration::from_micros(n)));
                }
                Err(e) => return Err(TakeError::Broker(e.to_string())),
            }
        }
        Ok((held, wait))
    }

    fn delivery(&self, row: &Row) -> Result<Option<PostgresDelivery>, tokio_postgres::Error> {
        let Some(message) = row.try_get::<_, Option<i64>>("id")? else {
            return Ok(None);
        };
        let bytes = |name: &str| {
            let value: Option<Vec<u8>> = row.try_get(name)?;
            Ok::<_, tokio_postgres::Error>(value.map(Bytes::from))
        };
        let names: Vec<Vec<u8>> = row.try_get("names")?;
        let values: Vec<Vec<u8>> = row.try_get("vals")?;
        let text = |n: Vec<u8>| String::from_utf8_lossy(&n).into_owned();
        let priority: i16 = row.try_get("priority")?;
        let content = Message {
            body: bytes("body")?.unwrap_or_default(),
            key: bytes("key")?,
            dedup: bytes("dedup")?,
            priority: u8::try_from(priority).unwrap_or(0),
            not_before: NotBefore::Now,
            headers: names
                .into_iter()
                .map(text)
                .zip(values.into_iter().map(Bytes::from))
                .collect(),
        };
        let ticket = PostgresTicket {
            message,
            token: row.try_get("token")?,
        };
        let lease = Duration::from_micros(row.try_get::<_, i64>("lease")?.unsigned_abs());
        let attempt = row.try_get::<_, i32>("attempts")?.unsigned_abs();
        let id = message.unsigned_abs();
        Ok(Some(Held::new(
            self.clone(),
            ticket,
            content,
            id,
            attempt,
            lease,
        )))
    }

    async fn told(
        &self,
        text: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<(), SettleError> {
        let rows = self.shared.query(text, values).await;
        let rows = rows.map_err(|e| SettleError::Unknown(said(&e)))?;
        if rows.first().is_some_and(|row| row.get(0)) {
            Ok(())
        } else {
            Err(SettleError::LeaseLost)
        }
    }
}

impl Leases for PostgresGroup {
    type Ticket = PostgresTicket;

    async fn settle(&self, ticket: PostgresTicket, how: Settle) -> Result<(), SettleError> {
        let (code, delay, reason) = match how {
            Settle::Done => (0, Duration::ZERO, None),
            Settle::Retry { after } => (1, after, None),
            Settle::Release => (2, Duration::ZERO, None),
            // Postgres' texts have every character but this one.
            Settle::Dead { reason } => (3, Duration::ZERO, Some(reason.replace('\0', "\u{FFFD}"))),
        };
        let settled = self
            .told(
                "select PREFIX_settle($1, $2, $3, $4, $5, $6)",
                &[
                    (&self.id, Type::INT4),
                    (&ticket.message, Type::INT8),
                    (&ticket.token, Type::INT8),
                    (&code, Type::INT4),
                    (&bounded_micros(delay), Type::INT8),
                    (&reason, Type::TEXT),
                ],
            )
            .await;
        settled?;
        if self.tight || code != 0 {
            self.shared.wake(Some(self.topic));
        }
        Ok(())
    }

    async fn extend(&self, ticket: &PostgresTicket, by: Duration) -> Result<(), SettleError> {
        self.told(
            "select PREFIX_extend($1, $2, $3, $4)",
            &[
                (&self.id, Type::INT4),
                (&ticket.message, Type::INT8),
                (&ticket.token, Type::INT8),
                (&bounded_micros(by), Type::INT8),
            ],
        )
        .await
    }
}

impl Consumer for PostgresGroup {
    type Delivery = PostgresDelivery;

    /// # Cancel safety
    /// Dropping the future leases nothing; what was on its way is released, which uses up no attempt.
    async fn receive(&self, max: NonZeroUsize) -> Result<Vec<PostgresDelivery>, TakeError> {
        let max = i32::try_from(max.get().min(10_000)).unwrap_or(1);
        let notify = self.shared.waiting(self.topic);
        receive(&notify, || self.clone().look(max)).await
    }
}
