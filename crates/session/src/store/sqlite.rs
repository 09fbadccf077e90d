//! A store in SQLite: one table in one file, for servers of one machine.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, SubjectKey, fits};
use crate::time::Timestamp;

/// A [`Store`] in a file of SQLite, shared by the processes of one machine.
///
/// Statements run on tokio's threads for blocking work. Rows that have expired stay until
/// [`purge_expired`](Self::purge_expired); call it every few minutes.
#[derive(Clone)]
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
}

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);

impl SqliteStore {
    /// Opens the file, and makes it and its table when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(unavailable)?;
        connection.busy_timeout(BUSY).map_err(unavailable)?;
        connection
            .execute_batch(
                "pragma journal_mode = wal; pragma synchronous = normal;
                 create table if not exists sessions (
                   name blob primary key, subject blob not null, version integer not null,
                   created integer not null, expires integer not null, data blob not null) without rowid;
                 create index if not exists sessions_subject on sessions (subject);
                 create index if not exists sessions_expires on sessions (expires);",
            )
            .map_err(unavailable)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<R, rusqlite::Error> + Send + 'static,
    ) -> Result<R, StoreError> {
        let connection = Arc::clone(&self.connection);
        tokio::task::spawn_blocking(move || work(&connection.lock()))
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
            .map_err(unavailable)
    }

    /// Drops at most `limit` records that have expired; how many it dropped.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    ///
    /// # Cancel safety
    /// Safe; it goes on without the caller.
    pub async fn purge_expired(&self, limit: u32, now: Timestamp) -> Result<usize, StoreError> {
        let drop = "delete from sessions where name in
                    (select name from sessions where expires <= ? limit ?)";
        self.run(move |connection| connection.execute(drop, params![time(now), limit]))
            .await
    }
}

fn unavailable(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn time(time: Timestamp) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

const COLUMNS: &str = "name, subject, version, created, expires, data";

fn read(row: &Row<'_>) -> Result<(StoreKey, Record), rusqlite::Error> {
    let seconds = |at: usize| {
        row.get(at)
            .map(|seconds: i64| Timestamp::from_secs(seconds.unsigned_abs()))
    };
    let record = Record::new(
        SubjectKey::from_bytes(row.get(1)?),
        row.get(5)?,
        row.get::<_, i64>(2)?.cast_unsigned(),
        seconds(3)?,
        seconds(4)?,
    );
    Ok((StoreKey::from_bytes(row.get(0)?), record))
}

impl Store for SqliteStore {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let version = fits(&record.data)?;
        let insert = "insert into sessions values (?1, ?2, ?3, ?4, ?5, ?6)
             on conflict (name) do update set subject = excluded.subject, version = excluded.version,
               created = excluded.created, expires = excluded.expires, data = excluded.data
             where sessions.expires <= ?4";
        let done = self.run(move |connection| {
            connection.prepare_cached(insert)?.execute(params![
                key.as_bytes(),
                record.subject.as_bytes(),
                version.cast_signed(),
                time(now),
                time(record.expires_at),
                record.data
            ])
        });
        if done.await? == 1 {
            Ok(version)
        } else {
            Err(StoreError::Exists)
        }
    }

    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        let found = self.run(move |connection| {
            let select = format!("select {COLUMNS} from sessions where name = ? and expires > ?");
            (connection.prepare_cached(&select)?)
                .query_row(params![key.as_bytes(), time(now)], read)
                .optional()
        });
        found
            .await?
            .map(|(_, record)| record)
            .ok_or(StoreError::Gone)
    }

    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let next = fits(&data)?;
        let update = "update sessions set version = ?3, data = ?4
             where name = ?1 and version = ?2 and expires > ?5";
        let done = self.run(move |connection| {
            connection.prepare_cached(update)?.execute(params![
                key.as_bytes(),
                version.cast_signed(),
                next.cast_signed(),
                data,
                time(now)
            ])
        });
        if done.await? == 1 {
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
        let touch =
            "update sessions set expires = max(expires, ?2) where name = ?1 and expires > ?3";
        let done = self.run(move |connection| {
            (connection.prepare_cached(touch)?).execute(params![
                key.as_bytes(),
                time(expires_at),
                time(now)
            ])
        });
        if done.await? == 1 {
            Ok(())
        } else {
            Err(StoreError::Gone)
        }
    }

    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        let delete = "delete from sessions where name = ? returning expires > ?";
        let was = self.run(move |connection| {
            (connection.prepare_cached(delete)?)
                .query_row(params![key.as_bytes(), time(now)], |row| row.get(0))
                .optional()
        });
        Ok(was.await?.unwrap_or(false))
    }
}

impl SubjectIndex for SqliteStore {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        let select = format!(
            "select {COLUMNS} from sessions where subject = ? and expires > ? order by created, name"
        );
        self.run(move |connection| {
            (connection.prepare_cached(&select)?)
                .query_map(params![subject.as_bytes(), time(now)], read)?
                .collect()
        })
        .await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}
