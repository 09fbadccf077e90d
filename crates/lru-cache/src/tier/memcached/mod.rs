//! A tier in one memcached.
//!
//! The answers are read by [`wire`], thirty lines for each protocol: the clients that there are either
//! lack compare-and-swap in one of the two protocols, or let a server make them allocate whatever it says.

mod connection;
mod wire;

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::connection::Connection;
use super::{LEASE, Looked, Tier, TierError, TierLease};

/// Connections at once, unless told otherwise.
const CONNECTIONS_MAX: usize = 16;
/// How long a call may take, unless told otherwise.
const TIMEOUT: Duration = Duration::from_millis(500);
/// memcached's own default.
const VALUE_MAX: usize = 1 << 20;
/// Longest time that memcached takes as a length; a longer one would be a date.
const TTL_MAX: Duration = Duration::from_secs(30 * 86_400);
/// What tells a value from the empty item that stands for a lease.
const IS_VALUE: u32 = 91;

/// A [`Tier`] in one memcached: 1.6 or later by the meta protocol, any by the text protocol.
///
/// It connects when it is first used, and again whenever it has to. A lease is an empty item and its
/// number; who fills compares and swaps it. Because the numbers begin anew when memcached does, a lease also
/// knows the run of the server: a random item, `stackbeam-run`, which is lost with the rest. If that is
/// evicted, a few leases are refused that would have been good.
///
/// [`clear`](Tier::clear) is `flush_all`: everything in that memcached goes, whoever put it there. Times
/// are whole seconds there: a shorter one is not stored, one longer than 30 days is cut to that.
///
/// # Cancel safety
///
/// A call that is dropped closes its connection.
pub struct Memcached {
    settings: Settings,
    idle: Mutex<Vec<Connection>>,
    calls: Semaphore,
    /// The run that was found last.
    run: AtomicU64,
    random: RandomState,
    drawn: AtomicU64,
}

#[derive(Debug, Clone)]
struct Settings {
    address: String,
    prefix: String,
    is_text: bool,
    timeout: Duration,
    connections_max: usize,
    value_max: usize,
    lease: Duration,
}

impl fmt::Debug for Memcached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memcached")
            .field("settings", &self.settings)
            .field("idle", &self.idle.lock().len())
            .finish_non_exhaustive()
    }
}

/// What a memcached is asked.
enum Ask<'a> {
    Get,
    Fill {
        lease: TierLease,
        value: &'a [u8],
        seconds: u64,
    },
    Remove,
    Clear,
}

/// What came of it.
enum Outcome {
    Looked(Looked),
    /// Whether it was done; of a removal always.
    Is(bool),
}

impl Memcached {
    /// The memcached at `host:port`.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            settings: Settings {
                address: address.into(),
                prefix: String::new(),
                is_text: false,
                timeout: TIMEOUT,
                connections_max: CONNECTIONS_MAX,
                value_max: VALUE_MAX,
                lease: LEASE,
            },
            idle: Mutex::new(Vec::new()),
            calls: Semaphore::new(CONNECTIONS_MAX),
            run: AtomicU64::new(0),
            random: RandomState::default(),
            drawn: AtomicU64::new(0),
        }
    }

    /// Speaks the text protocol, for servers that have no other. A miss then takes two questions, and
    /// nobody is told how long a value lives still. Defaults to the meta protocol.
    #[must_use]
    pub const fn with_text_protocol(mut self) -> Self {
        self.settings.is_text = true;
        self
    }

    /// Sets what every key begins with, for what shares the server. Defaults to nothing.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// Sets how long a call may take, with connecting and waiting for a connection. Defaults to half a
    /// second.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how many connections there may be, each with one call at a time; who finds none waits
    /// for half the timeout, and then gets [`TierError::Busy`]. At least 1. Defaults to 16.
    #[must_use]
    pub fn with_connections_max(mut self, connections: usize) -> Self {
        let connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self.settings.connections_max = connections;
        self.calls = Semaphore::new(connections);
        self
    }

    /// Sets the largest value in bytes: larger ones are not sent, and an answer that holds one is
    /// nonsense. Set it as memcached's own `-I` is set. Defaults to 1 MiB.
    #[must_use]
    pub const fn with_value_max(mut self, bytes: usize) -> Self {
        self.settings.value_max = bytes;
        self
    }

    /// Sets how long who found nothing has for reading the store. At least a second. Defaults to 10
    /// seconds.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// A number that nobody else draws.
    fn draw(&self) -> u64 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        self.random.hash_one(drawn)
    }

    async fn call(&self, key: &[u8], ask: Ask<'_>) -> Result<Outcome, TierError> {
        let name = wire::name(&self.settings.prefix, key);
        if name.len() > wire::KEY_MAX {
            return Err(TierError::KeyTooLong {
                bytes: name.len(),
                bytes_max: wire::KEY_MAX,
            });
        }
        let deadline = Instant::now() + self.settings.timeout;
        let Ok(Ok(_permit)) = timeout(self.settings.timeout / 2, self.calls.acquire()).await else {
            let calls = self.settings.connections_max;
            return Err(TierError::Busy { calls });
        };
        timeout_at(deadline, self.exchange(&name, &ask))
            .await
            .unwrap_or(Err(TierError::TimedOut))
    }

    /// Asks on a connection that there is, or on a new one if there is none or it turns out to be dead.
    async fn exchange(&self, name: &[u8], ask: &Ask<'_>) -> Result<Outcome, TierError> {
        if let Some(connection) = self.take(ask) {
            match self.ask(connection, name, ask).await {
                // It had been closed since it was last used. What a fill has done is not known.
                Err(TierError::Unreachable(_)) if !matches!(ask, Ask::Fill { .. }) => {}
                outcome => return outcome,
            }
        }
        let connection = Connection::open(&self.settings, self.draw()).await?;
        self.run.store(connection.run, Ordering::Relaxed);
        if let Ask::Fill { lease, .. } = ask
            && lease.run != connection.run
        {
            self.keep(connection);
            return Ok(Outcome::Is(false));
        }
        self.ask(connection, name, ask).await
    }

    fn take(&self, ask: &Ask<'_>) -> Option<Connection> {
        let mut idle = self.idle.lock();
        match ask {
            Ask::Fill { lease, .. } => {
                let at = idle.iter().rposition(|known| known.run == lease.run)?;
                Some(idle.swap_remove(at))
            }
            _ => idle.pop(),
        }
    }

    /// Asks, and keeps the connection if the answer was in order.
    async fn ask(
        &self,
        mut connection: Connection,
        name: &[u8],
        ask: &Ask<'_>,
    ) -> Result<Outcome, TierError> {
        let mut outcome = connection.ask(&self.settings, name, ask).await?;
        if let Outcome::Looked(Looked::Nothing(Some(lease))) = &mut outcome {
            lease.run = connection.run;
        }
        if connection.is_quiet() {
            self.keep(connection);
        }
        Ok(outcome)
    }

    /// Keeps a connection for the next call. There may be one more than calls at once, and one whose
    /// run has been forgotten: its leases would be good on it alone.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        let is_of_now = connection.run == self.run.load(Ordering::Relaxed);
        if is_of_now && idle.len() < self.settings.connections_max {
            idle.push(connection);
        }
    }

    async fn done(&self, key: &[u8], ask: Ask<'_>) -> Result<bool, TierError> {
        match self.call(key, ask).await? {
            Outcome::Is(done) => Ok(done),
            Outcome::Looked(_) => Err(TierError::Garbage("an answer to another question".into())),
        }
    }
}

impl Tier for Memcached {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        match self.call(key, Ask::Get).await? {
            Outcome::Looked(looked) => Ok(looked),
            Outcome::Is(_) => Err(TierError::Garbage("an answer to another question".into())),
        }
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        let bytes_max = self.settings.value_max;
        if value.len() > bytes_max {
            let bytes = value.len();
            return Err(TierError::ValueTooLarge { bytes, bytes_max });
        }
        let seconds = ttl.min(TTL_MAX).as_secs();
        if seconds == 0 {
            return Ok(false);
        }
        let fill = Ask::Fill {
            lease,
            value,
            seconds,
        };
        self.done(key, fill).await
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        self.done(key, Ask::Remove).await.map(drop)
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.done(b"", Ask::Clear).await.map(drop)
    }
}

/// Reads answers from bytes as they come from a server, for the fuzzer.
///
/// # Panics
///
/// If an answer is read that is not complete, or is another one once more bytes have come.
#[cfg(fuzzing)]
pub fn fuzz_replies(mut bytes: &[u8]) {
    const VALUE_MAX: usize = 1 << 10;
    while let Ok(Some((reply, len))) = wire::parse(bytes, VALUE_MAX) {
        assert_eq!(
            wire::parse(&bytes[..len], VALUE_MAX),
            Ok(Some((reply, len)))
        );
        assert_eq!(wire::parse(&bytes[..len - 1], VALUE_MAX), Ok(None));
        bytes = &bytes[len..];
    }
}
