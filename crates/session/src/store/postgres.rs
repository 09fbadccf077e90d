//! A store in Postgres: one table, each change one statement.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::{NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, SubjectKey, fits};
use crate::time::Timestamp;

/// A [`Store`] in a table of Postgres, over one pipelined connection that is made anew when it is lost.
///
/// Rows that have expired stay until [`purge_expired`](Self::purge_expired); call it every few minutes. With
/// `synchronous_commit` on, what was answered is on disk.
pub struct PostgresStore {
    config: String,
    table: String,
    link: Mutex<Option<Arc<Link>>>,
}

struct Link {
    client: Client,
    create: Statement,
    load: Statement,
    update: Statement,
    touch: Statement,
    delete: Statement,
    list: Statement,
    purge: Statement,
}

const COLUMNS: &str = "name, subject, version, created, expires, data";

impl Link {
    async fn new(config: &str, table: &str) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(config, NoTls).await?;
        // Ends when the client is dropped.
        drop(tokio::spawn(connection));
        client
            .batch_execute(&format!(
                "create table if not exists {table} (
                   name bytea primary key, subject bytea not null, version bigint not null,
                   created bigint not null, expires bigint not null, data bytea not null);
                 create index if not exists {table}_subject on {table} (subject);
                 create index if not exists {table}_expires on {table} (expires)"
            ))
            .await?;
        let prepare = async |text: &str| client.prepare(&text.replace("TABLE", table)).await;
        Ok(Self {
            create: prepare(
                "insert into TABLE values ($1, $2, $3, $4, $5, $6)
                 on conflict (name) do update set subject = excluded.subject, version = excluded.version,
                   created = excluded.created, expires = excluded.expires, data = excluded.data
                 where TABLE.expires <= $4",
            )
            .await?,
            load: prepare(&format!("select {COLUMNS} from TABLE where name = $1 and expires > $2")).await?,
            update: prepare(
                "update TABLE set version = $3, data = $4 where name = $1 and version = $2 and expires > $5",
            )
            .await?,
            touch: prepare(
                "update TABLE set expires = greatest(expires, $2) where name = $1 and expires > $3",
            )
            .await?,
            delete: prepare("delete from TABLE where name = $1 returning expires > $2").await?,
            list: prepare(&format!(
                "select {COLUMNS} from TABLE where subject = $1 and expires > $2 order by created, name"
            ))
            .await?,
            purge: prepare(
                "delete from TABLE where name in (select name from TABLE where expires <= $1 limit $2)",
            )
            .await?,
            client,
        })
    }
}

impl PostgresStore {
    /// Connects with a configuration of libpq's form (`postgres://…` or `host=… user=…`), without TLS, and makes the
    /// table when there is none. `table` is letters, digits and `_`; others are left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no Postgres, or the table is another's.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(config: &str, table: &str) -> Result<Self, StoreError> {
        let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let store = Self {
            config: config.to_owned(),
            table: table.chars().filter(word).collect(),
            link: Mutex::new(None),
        };
        store.link().await?;
        Ok(store)
    }

    async fn link(&self) -> Result<Arc<Link>, StoreError> {
        let mut link = self.link.lock().await;
        if let Some(link) = link.as_ref().filter(|link| !link.client.is_closed()) {
            return Ok(Arc::clone(link));
        }
        let new = Link::new(&self.config, &self.table)
            .await
            .map_err(unavailable)?;
        Ok(Arc::clone(link.insert(Arc::new(new))))
    }

    async fn execute(
        &self,
        statement: fn(&Link) -> &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        let link = self.link().await?;
        let done = link.client.execute(statement(&link), values).await;
        done.map_err(unavailable)
    }

    async fn rows(
        &self,
        statement: fn(&Link) -> &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let link = self.link().await?;
        let done = link.client.query(statement(&link), values).await;
        done.map_err(unavailable)
    }

    /// Drops at most `limit` records that have expired; how many it dropped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn purge_expired(&self, limit: u32, now: Timestamp) -> Result<u64, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&time(now), &i64::from(limit)];
        self.execute(|link| &link.purge, &values).await
    }
}

fn unavailable(error: tokio_postgres::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Seconds as Postgres keeps them; a time it cannot hold is its last.
fn time(time: Timestamp) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn read(row: &Row) -> Result<(StoreKey, Record), StoreError> {
    let name = |at: usize| {
        let bytes: &[u8] = row.try_get(at).map_err(unavailable)?;
        let strange = || StoreError::Unavailable("a row that is no record".to_owned());
        <[u8; 32]>::try_from(bytes).map_err(|_| strange())
    };
    let number = |at: usize| row.try_get::<_, i64>(at).map_err(unavailable);
    let seconds = |at: usize| number(at).map(|is| Timestamp::from_secs(is.unsigned_abs()));
    let record = Record::new(
        SubjectKey::from_bytes(name(1)?),
        row.try_get(5).map_err(unavailable)?,
        number(2)?.cast_unsigned(),
        seconds(3)?,
        seconds(4)?,
    );
    Ok((StoreKey::from_bytes(name(0)?), record))
}

impl Store for PostgresStore {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let version = fits(&record.data)?;
        let done = self
            .execute(
                |link| &link.create,
                &[
                    &&key.as_bytes()[..],
                    &&record.subject.as_bytes()[..],
                    &version.cast_signed(),
                    &time(now),
                    &time(record.expires_at),
                    &record.data,
                ],
            )
            .await?;
        if done == 1 {
            Ok(version)
        } else {
            Err(StoreError::Exists)
        }
    }

    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&&key.as_bytes()[..], &time(now)];
        let rows = self.rows(|link| &link.load, &values).await?;
        let row = rows.first().ok_or(StoreError::Gone)?;
        Ok(read(row)?.1)
    }

    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let next = fits(&data)?;
        let done = self
            .execute(
                |link| &link.update,
                &[
                    &&key.as_bytes()[..],
                    &version.cast_signed(),
                    &next.cast_signed(),
                    &data,
                    &time(now),
                ],
            )
            .await?;
        if done == 1 {
            return Ok(next);
        }
        let version = self.load(key, now).await?.version;
        Err(StoreError::Conflict { version })
    }

    async fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let values: [&(dyn ToSql + Sync); 3] =
            [&&key.as_bytes()[..], &time(expires_at), &time(now)];
        match self.execute(|link| &link.touch, &values).await? {
            0 => Err(StoreError::Gone),
            _ => Ok(()),
        }
    }

    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&&key.as_bytes()[..], &time(now)];
        let rows = self.rows(|link| &link.delete, &values).await?;
        match rows.first() {
            None => Ok(false),
            Some(row) => row.try_get(0).map_err(unavailable),
        }
    }
}

impl SubjectIndex for PostgresStore {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&&subject.as_bytes()[..], &time(now)];
        let rows = self.rows(|link| &link.list, &values).await?;
        rows.iter().map(read).collect()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}
