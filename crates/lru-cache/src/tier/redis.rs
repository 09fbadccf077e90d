//! A tier in one Redis, over the `redis` crate.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, RedisError, Script};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::{LEASE, Looked, Tier, TierError, TierLease};

/// Calls under way at once, unless told otherwise.
const CALLS_MAX: usize = 256;
/// How long a call may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Keys that one step of clearing looks at.
const STEP: usize = 1000;

/// The value and its milliseconds, or the lease that is there already or is put there now.
static GET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local v = redis.call('GET', KEYS[1])
         if v then return {v, redis.call('PTTL', KEYS[1])} end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return {ARGV[1], -1}",
    )
});

/// Puts a value in the place of the lease, if that is there still.
static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         return 1",
    )
});

/// A [`Tier`] in one Redis, or a primary with replicas (not in a Redis Cluster).
///
/// It connects when it is first used, and again whenever it has to; all calls share one connection. A
/// key holds `V` and the value, or `L` and the number of a lease, which is drawn at random.
///
/// [`clear`](Tier::clear) removes the keys with the tier's prefix, a thousand at a time. How much a server may make
/// the client allocate is for the `redis` crate to say; here, as much as arrives before the timeout.
///
/// # Cancel safety
///
/// A call that is dropped has no effect on others; what was sent may be done.
pub struct Redis {
    connection: ConnectionManager,
    prefix: String,
    timeout: Duration,
    lease: Duration,
    calls: Semaphore,
    calls_max: usize,
    random: RandomState,
    drawn: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// The Redis at `redis://host:port`, with what every key begins with. To be called within a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`TierError::Unreachable`] if that is no address; whether there is a Redis is not looked at yet.
    pub fn new(url: &str, prefix: impl Into<String>) -> Result<Self, TierError> {
        let client = redis::Client::open(url).map_err(failed)?;
        // One try at once: who asks next tries again, and a `Pool` waits in between.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_response_timeout(None)
            .set_connection_timeout(Some(TIMEOUT));
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?,
            prefix: prefix.into(),
            timeout: TIMEOUT,
            lease: LEASE,
            calls: Semaphore::new(CALLS_MAX),
            calls_max: CALLS_MAX,
            random: RandomState::default(),
            drawn: AtomicU64::new(0),
        })
    }

    /// Sets how long a call may take, with connecting and waiting for its turn. Defaults to half a
    /// second.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many calls may be under way on the connection; who comes later waits for
    /// half the timeout, and then gets [`TierError::Busy`]. At least 1. Defaults to 256.
    #[must_use]
    pub fn with_calls_max(mut self, calls: usize) -> Self {
        self.calls_max = calls.clamp(1, Semaphore::MAX_PERMITS);
        self.calls = Semaphore::new(self.calls_max);
        self
    }

    /// Sets how long who found nothing has for reading the store. At least a millisecond. Defaults to 10 seconds.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    fn name(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), key].concat()
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, TierError> {
        let deadline = Instant::now() + self.timeout;
        let Ok(Ok(_permit)) = timeout(self.timeout / 2, self.calls.acquire()).await else {
            let calls = self.calls_max;
            return Err(TierError::Busy { calls });
        };
        match timeout_at(deadline, call).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(TierError::TimedOut),
        }
    }
}

fn failed(error: RedisError) -> TierError {
    let said = error.to_string();
    if error.is_timeout() {
        TierError::TimedOut
    } else if error.is_io_error() || error.is_connection_dropped() {
        TierError::Unreachable(said)
    } else if matches!(error.kind(), redis::ErrorKind::Server(_)) {
        TierError::Refused(said)
    } else {
        TierError::Garbage(said)
    }
}

/// Does something once more if it fails for want of a connection: the first to find that it has broken
/// has it made anew.
macro_rules! twice {
    ($call:expr) => {
        match $call.await {
            Err(TierError::Unreachable(_)) => $call.await,
            outcome => outcome,
        }
    };
}

fn milliseconds(time: Duration) -> u64 {
    // Redis takes no more than what is left of 63 bits.
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 50)
}

fn leased(number: u64) -> String {
    format!("L{number}")
}

impl Tier for Redis {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        let name = self.name(key);
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        let number = self.random.hash_one((key, drawn));
        let ask = || {
            self.in_time(async {
                GET.key(&name)
                    .arg(leased(number))
                    .arg(milliseconds(self.lease).max(1))
                    .invoke_async::<(Vec<u8>, i64)>(&mut self.connection.clone())
                    .await
            })
        };
        let (held, left) = twice!(ask())?;
        match held.split_first() {
            Some((b'V', bytes)) => Ok(Looked::Value {
                bytes: bytes.to_vec(),
                left: u64::try_from(left).ok().map(Duration::from_millis),
            }),
            Some((b'L', digits)) => {
                let number = std::str::from_utf8(digits).ok();
                let number = number.and_then(|digits| digits.parse().ok());
                number.map_or_else(
                    || Err(TierError::Garbage("a lease without a number".to_owned())),
                    |number| Ok(Looked::Nothing(Some(TierLease::new(number)))),
                )
            }
            _ => Err(TierError::Garbage("neither value nor lease".to_owned())),
        }
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        let ttl = milliseconds(ttl);
        if ttl == 0 {
            return Ok(false);
        }
        let fill = async {
            FILL.key(self.name(key))
                .arg(leased(lease.number()))
                .arg([b"V", value].concat())
                .arg(ttl)
                .invoke_async(&mut self.connection.clone())
                .await
        };
        self.in_time(fill).await
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        let name = self.name(key);
        let remove =
            || self.in_time(async { self.connection.clone().unlink::<_, ()>(&name).await });
        twice!(remove())
    }

    async fn clear(&self) -> Result<(), TierError> {
        let mut pattern = String::new();
        for letter in self.prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(STEP);
            let step = || {
                self.in_time(async {
                    let mut connection = self.connection.clone();
                    let (next, names): (u64, Vec<Vec<u8>>) =
                        scan.query_async(&mut connection).await?;
                    if !names.is_empty() {
                        connection.unlink::<_, ()>(names).await?;
                    }
                    Ok(next)
                })
            };
            cursor = twice!(step())?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
