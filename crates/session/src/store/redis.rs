//! A store in Redis: one hash a record, one sorted set a subject, each change one script.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Script, ScriptInvocation};

use super::text::{hex, unhex};
use super::{NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, SubjectKey, fits};
use crate::time::Timestamp;

/// For how long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// A [`Store`] in one Redis (or a primary with replicas; not a Redis Cluster, because a record and its subject's
/// index would lie in different slots).
///
/// Keys are `<prefix>:r:<64 hex digits>` and `<prefix>:s:<64 hex digits>`. Redis drops a record by its own clock when
/// it has expired. What a Redis loses when it fails is lost: sessions end, and none comes back.
#[derive(Clone)]
pub struct RedisStore {
    connection: ConnectionManager,
    prefix: String,
}

impl RedisStore {
    /// Connects to `redis://host:port/`, and again whenever the connection is lost. `prefix` keeps apart what
    /// shares a server.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no Redis.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, StoreError> {
        let client = redis::Client::open(url).map_err(unavailable)?;
        let config = ConnectionManagerConfig::new().set_response_timeout(Some(ANSWER));
        let connection = ConnectionManager::new_with_config(client, config).await;
        Ok(Self {
            connection: connection.map_err(unavailable)?,
            prefix: prefix.to_owned(),
        })
    }

    fn record(&self, key: StoreKey) -> String {
        format!("{}:r:{}", self.prefix, hex(key.as_bytes()))
    }

    fn subjects(&self) -> String {
        format!("{}:s:", self.prefix)
    }

    async fn run(&self, call: &ScriptInvocation<'_>) -> Result<(i64, u64), StoreError> {
        let mut connection = self.connection.clone();
        let (code, version): (i64, String) = call
            .invoke_async(&mut connection)
            .await
            .map_err(unavailable)?;
        let version = version.parse().map_err(|_| strange())?;
        Ok((code, version))
    }
}

fn unavailable(error: redis::RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn strange() -> StoreError {
    StoreError::Unavailable("Redis holds something that is no record".to_owned())
}

/// Versions are texts: Lua's numbers have 53 bits.
macro_rules! script {
    ($name:ident, $code:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(
                "local function held(now)
                   local e = redis.call('HGET', KEYS[1], 'e')
                   return e and tonumber(e) > tonumber(now)
                 end\n",
                $code
            ))
        });
    };
}

// now, expires, milliseconds to live, version, subject, name, data, subjects' prefix
script!(
    CREATE,
    "if held(ARGV[1]) then return {0, '0'} end
     local old = redis.call('HGET', KEYS[1], 's')
     if old then redis.call('ZREM', ARGV[8] .. old, ARGV[6]) end
     redis.call('DEL', KEYS[1])
     redis.call('HSET', KEYS[1], 'v', ARGV[4], 'c', ARGV[1], 'e', ARGV[2], 's', ARGV[5], 'd', ARGV[7])
     redis.call('PEXPIRE', KEYS[1], ARGV[3])
     local index = ARGV[8] .. ARGV[5]
     redis.call('ZREMRANGEBYSCORE', index, '-inf', ARGV[1])
     redis.call('ZADD', index, ARGV[2], ARGV[6])
     redis.call('PEXPIRE', index, ARGV[3], 'NX')
     redis.call('PEXPIRE', index, ARGV[3], 'GT')
     return {1, ARGV[4]}"
);

// now, version, next version, data
script!(
    UPDATE,
    "if not held(ARGV[1]) then return {2, '0'} end
     local v = redis.call('HGET', KEYS[1], 'v')
     if v ~= ARGV[2] then return {3, v} end
     redis.call('HSET', KEYS[1], 'v', ARGV[3], 'd', ARGV[4])
     return {1, ARGV[3]}"
);

// now, expires, milliseconds to live, name, subjects' prefix
script!(
    TOUCH,
    "if not held(ARGV[1]) then return {2, '0'} end
     if tonumber(redis.call('HGET', KEYS[1], 'e')) < tonumber(ARGV[2]) then
       redis.call('HSET', KEYS[1], 'e', ARGV[2])
       redis.call('PEXPIRE', KEYS[1], ARGV[3])
       local index = ARGV[5] .. redis.call('HGET', KEYS[1], 's')
       redis.call('ZADD', index, ARGV[2], ARGV[4])
       redis.call('PEXPIRE', index, ARGV[3], 'NX')
       redis.call('PEXPIRE', index, ARGV[3], 'GT')
     end
     return {1, '0'}"
);

// now, name, subjects' prefix
script!(
    DELETE,
    "local was = held(ARGV[1])
     local s = redis.call('HGET', KEYS[1], 's')
     if s then redis.call('ZREM', ARGV[3] .. s, ARGV[2]) end
     redis.call('DEL', KEYS[1])
     return {was and 1 or 2, '0'}"
);

fn ttl_ms(expires_at: Timestamp, now: Timestamp) -> u64 {
    // A second more, so that it is the record's own time that ends it.
    expires_at
        .since(now)
        .as_secs()
        .saturating_add(1)
        .saturating_mul(1000)
}

type Fields = (
    Option<u64>,
    Option<u64>,
    Option<u64>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
);
const FIELDS: [&str; 5] = ["v", "c", "e", "s", "d"];

fn read(fields: Fields, now: Timestamp) -> Result<Record, StoreError> {
    let (version, created, expires, subject, data) = match fields {
        (Some(v), Some(c), Some(e), Some(s), Some(d)) => (v, c, e, s, d),
        (None, None, None, None, None) => return Err(StoreError::Gone),
        _ => return Err(strange()),
    };
    if Timestamp::from_secs(expires) <= now {
        return Err(StoreError::Gone);
    }
    Ok(Record::new(
        SubjectKey::from_bytes(unhex(&subject).ok_or_else(strange)?),
        data,
        version,
        Timestamp::from_secs(created),
        Timestamp::from_secs(expires),
    ))
}

impl Store for RedisStore {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let version = fits(&record.data)?;
        let mut call = CREATE.key(self.record(key));
        call.arg(now.as_secs())
            .arg(record.expires_at.as_secs())
            .arg(ttl_ms(record.expires_at, now))
            .arg(version)
            .arg(hex(record.subject.as_bytes()))
            .arg(hex(key.as_bytes()))
            .arg(record.data)
            .arg(self.subjects());
        match self.run(&call).await? {
            (1, version) => Ok(version),
            (0, _) => Err(StoreError::Exists),
            _ => Err(strange()),
        }
    }

    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("HMGET");
        command.arg(self.record(key)).arg(&FIELDS);
        let fields = command
            .query_async(&mut connection)
            .await
            .map_err(unavailable)?;
        read(fields, now)
    }

    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let next = fits(&data)?;
        let mut call = UPDATE.key(self.record(key));
        call.arg(now.as_secs()).arg(version).arg(next).arg(data);
        match self.run(&call).await? {
            (1, version) => Ok(version),
            (2, _) => Err(StoreError::Gone),
            (3, version) => Err(StoreError::Conflict { version }),
            _ => Err(strange()),
        }
    }

    async fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut call = TOUCH.key(self.record(key));
        call.arg(now.as_secs())
            .arg(expires_at.as_secs())
            .arg(ttl_ms(expires_at, now))
            .arg(hex(key.as_bytes()))
            .arg(self.subjects());
        match self.run(&call).await? {
            (1, _) => Ok(()),
            _ => Err(StoreError::Gone),
        }
    }

    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        let mut call = DELETE.key(self.record(key));
        call.arg(now.as_secs())
            .arg(hex(key.as_bytes()))
            .arg(self.subjects());
        Ok(self.run(&call).await?.0 == 1)
    }
}

impl SubjectIndex for RedisStore {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command
            .arg(format!("{}{}", self.subjects(), hex(subject.as_bytes())))
            .arg(format!("({}", now.as_secs()))
            .arg("+inf");
        let names: Vec<Vec<u8>> = command
            .query_async(&mut connection)
            .await
            .map_err(unavailable)?;
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            let key = StoreKey::from_bytes(unhex(&name).ok_or_else(strange)?);
            match self.load(key, now).await {
                // A record that was evicted leaves its name until its time is over.
                Ok(record) if record.subject == subject => all.push((key, record)),
                Ok(_) | Err(StoreError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by_key(|(key, record)| (record.created_at, *key));
        Ok(all)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
