//! Several cache servers as one tier: placed by consistent hashing, with failover.

mod health;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stackbeam_consistent_hash::{
    KeyHash as _, MemberId, Members, NodeIx, Placement as _, Rendezvous, Xxh3,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::health::{Debt, FAILURES_MAX, Health, Pass};
use super::{Looked, Tier, TierError, TierLease};

/// How long a call may take, unless told otherwise: longer than the tiers' own.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Calls of one server at once, unless told otherwise.
const CALLS_MAX: usize = 256;
/// Keys of missed removals that are remembered of one server, unless told otherwise.
const OWED_MAX: usize = 10_000;
/// How long a server keeps what it was given for another one, unless told otherwise.
const STAND_IN_TTL: Duration = Duration::from_secs(10);
/// The servers of a key: its own and the one that stands in for it.
const PLACES: usize = 2;
/// What is removed to see whether a server is back; no key of the pool's users.
const PROBE: &[u8] = b"stackbeam-pool-probe";

/// Several cache servers as one tier.
///
/// A key belongs to one server by rendezvous hashing of the servers' names (`stackbeam-rendezvous/1` over
/// `xxh3-64/1` of the key), the same in every process. While that server is out of use, the next one in
/// the key's order stands in for it. If both are out, the store is asked.
///
/// # When a server is out of use
///
/// After three calls in a row that failed, or one removal that did; then for half a second, then a second,
/// and so on up to half a minute, after which one task tries whether it is back. Before it is used again it is
/// told every removal that it has missed, or, if they were too many, to forget everything. So nobody who
/// uses this pool finds what was removed while the server was away, whether its memory survived or not.
///
/// # What is left
///
/// Removals go to both servers of a key. Another process that still reaches the server which this one
/// could not tell may find the old value there until this one reaches it too, or until the value's time
/// to live is over, if this process ends before. A stand-in keeps values for a short time only.
///
/// The servers of a pool are fixed. To change them, build another pool whose tiers have another prefix: a
/// key that goes back to a server it was on before would find there what was removed elsewhere.
///
/// # Cancel safety
///
/// A removal goes on when its future is dropped. Other calls are as the tier says.
pub struct Pool<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    servers: Box<[Server<T>]>,
    placement: Rendezvous,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    timeout: Duration,
    stand_in_ttl: Duration,
    calls_max: usize,
    owed_max: usize,
    failures_max: u32,
}

struct Server<T> {
    name: String,
    tier: T,
    health: Mutex<Health>,
    calls: Semaphore,
    started: AtomicU64,
    failed: AtomicU64,
}

/// One server of a pool at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerState {
    /// Its name.
    pub name: String,
    /// Whether it is in use.
    pub is_in_use: bool,
    /// Removals that it has to be told before it is in use again; more than the pool remembers means
    /// everything.
    pub owed: usize,
    /// How often it went out of use.
    pub outages: u64,
    /// Calls that were begun.
    pub calls: u64,
    /// Those of them that failed: unreachable, too late, nonsense.
    pub failures: u64,
}

/// Why there is no pool of these servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these servers make no pool: {0}")]
#[non_exhaustive]
pub struct NoPool(pub String);

/// Settings of a [`Pool`].
pub struct PoolBuilder<T> {
    servers: Vec<(String, T)>,
    settings: Settings,
}

impl<T> fmt::Debug for PoolBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("servers", &self.servers.len())
            .field("settings", &self.settings)
            .finish()
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("servers", &self.servers())
            .field("settings", &self.shared.settings)
            .finish()
    }
}

impl<T> PoolBuilder<T> {
    /// Sets how long a call of one server may take. Give the tiers shorter timeouts of their own, so that their
    /// connections know of it. Defaults to a second.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how long a stand-in keeps what it is given, at most: so long may it hand out, in a second
    /// outage soon after the first, what a process that did not reach it wanted removed. Defaults to 10
    /// seconds.
    #[must_use]
    pub const fn with_stand_in_ttl(mut self, ttl: Duration) -> Self {
        self.settings.stand_in_ttl = ttl;
        self
    }

    /// Sets how many calls of one server may be under way; above, [`TierError::Busy`], but removals
    /// wait. At least 1. Defaults to 256.
    #[must_use]
    pub fn with_calls_max(mut self, calls: usize) -> Self {
        self.settings.calls_max = calls.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how many missed removals are remembered of one server; above, it has to forget everything.
    /// Defaults to 10 000.
    #[must_use]
    pub const fn with_owed_max(mut self, keys: usize) -> Self {
        self.settings.owed_max = keys;
        self
    }

    /// Sets how many failures in a row put a server out of use. At least 1. Defaults to 3.
    #[must_use]
    pub fn with_failures_max(mut self, failures: u32) -> Self {
        self.settings.failures_max = failures.max(1);
        self
    }

    /// Builds the pool. No server need be there yet.
    ///
    /// # Errors
    ///
    /// [`NoPool`] without a server, with two of one name, or with a name that is empty or longer than
    /// 1024 bytes.
    pub fn build(self) -> Result<Pool<T>, NoPool> {
        let mut servers = self.servers;
        // As the members are: a position in the placement is one in the list.
        servers.sort_by_key(|(name, _)| MemberId::of_name(name));
        let members = Members::from_names(servers.iter().map(|(name, _)| name))
            .map_err(|error| NoPool(error.to_string()))?;
        let placement = Rendezvous::new(&members).map_err(|error| NoPool(error.to_string()))?;
        let settings = self.settings;
        let servers = servers.into_iter().map(|(name, tier)| Server {
            name,
            tier,
            health: Mutex::new(Health::new(settings.failures_max, settings.owed_max)),
            calls: Semaphore::new(settings.calls_max),
            started: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        Ok(Pool {
            shared: Arc::new(Shared {
                servers: servers.collect(),
                placement,
                settings,
            }),
        })
    }
}

impl<T> Pool<T> {
    /// A pool of servers with names: what places keys is the name, so a server may move to another
    /// address without losing its keys.
    pub fn builder<N: Into<String>>(servers: impl IntoIterator<Item = (N, T)>) -> PoolBuilder<T> {
        let servers = servers.into_iter();
        PoolBuilder {
            servers: servers.map(|(name, tier)| (name.into(), tier)).collect(),
            settings: Settings {
                timeout: TIMEOUT,
                stand_in_ttl: STAND_IN_TTL,
                calls_max: CALLS_MAX,
                owed_max: OWED_MAX,
                failures_max: FAILURES_MAX,
            },
        }
    }

    /// The servers as they are now, in an order that does not change.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerState> {
        let state = |server: &Server<T>| {
            let health = server.health.lock();
            ServerState {
                name: server.name.clone(),
                is_in_use: health.is_in(),
                owed: health.owed(),
                outages: health.outages,
                calls: server.started.load(Ordering::Relaxed),
                failures: server.failed.load(Ordering::Relaxed),
            }
        };
        self.shared.servers.iter().map(state).collect()
    }

    /// The name of the server that a key belongs to.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> &str {
        let owner = self.shared.placement.owner(Xxh3::new().hash(key));
        &self.shared.servers[owner.index()].name
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

impl<T> Shared<T> {
    /// The positions of a key's servers, the owner first.
    fn places(&self, key: &[u8]) -> impl Iterator<Item = usize> + use<T> {
        let mut places = [NodeIx::default(); PLACES];
        let count = self.placement.owners(Xxh3::new().hash(key), &mut places);
        places.into_iter().take(count).map(NodeIx::index)
    }
}

impl<T: Tier + 'static> Shared<T> {
    /// Whether a server may be asked; sees to it that one which has rested is tried.
    fn may_ask(self: &Arc<Self>, at: usize) -> bool {
        let pass = self.servers[at].health.lock().pass(now());
        if pass == Pass::Try {
            // Made here: if the task is dropped before it runs, the trial is over all the same.
            let trial = Trial {
                shared: Arc::clone(self),
                at,
                untold: None,
                is_over: false,
            };
            tokio::spawn(trial.run());
        }
        pass == Pass::In
    }

    /// Calls a server and notes how that went.
    async fn call<R>(
        &self,
        at: usize,
        call: impl Future<Output = Result<R, TierError>>,
    ) -> Result<R, TierError> {
        let server = &self.servers[at];
        let Ok(_permit) = server.calls.try_acquire() else {
            let calls = self.settings.calls_max;
            return Err(TierError::Busy { calls });
        };
        server.started.fetch_add(1, Ordering::Relaxed);
        let outcome = timeout(self.settings.timeout, call).await;
        let outcome = outcome.unwrap_or(Err(TierError::TimedOut));
        let mut health = server.health.lock();
        match &outcome {
            Err(error) if error.is_failure() => {
                health.failed(now());
                server.failed.fetch_add(1, Ordering::Relaxed);
            }
            _ => health.succeeded(),
        }
        drop(health);
        outcome
    }

    /// Tells servers to remove a key, or everything; goes on when the future is dropped.
    async fn tell_all(self: &Arc<Self>, servers: Vec<usize>, key: Option<Vec<u8>>) {
        let key: Arc<Option<Vec<u8>>> = Arc::new(key);
        let told = servers.into_iter().map(|at| {
            let (shared, key) = (Arc::clone(self), Arc::clone(&key));
            let told = tokio::spawn(async move { shared.tell(at, (*key).as_deref()).await });
            (at, told)
        });
        let told: Vec<_> = told.collect();
        for (at, told) in told {
            // A tier that panics has not been told.
            if told.await.is_err() {
                let mut health = self.servers[at].health.lock();
                health.owe((*key).as_deref(), now());
            }
        }
    }

    /// Tells a server to remove a key, or everything, or notes that it has to be told.
    async fn tell(self: &Arc<Self>, at: usize, key: Option<&[u8]>) {
        let server = &self.servers[at];
        if !self.may_ask(at) {
            let mut health = server.health.lock();
            // It may have come back in between; then it is sent out again, which is harmless.
            health.owe(key, now());
            return;
        }
        match self.remove_at(at, key).await {
            // Such a key cannot be there.
            Ok(()) | Err(TierError::KeyTooLong { .. }) => server.health.lock().succeeded(),
            Err(_) => {
                server.failed.fetch_add(1, Ordering::Relaxed);
                server.health.lock().owe(key, now());
            }
        }
    }

    async fn remove_at(&self, at: usize, key: Option<&[u8]>) -> Result<(), TierError> {
        let server = &self.servers[at];
        let deadline = Instant::now() + self.settings.timeout;
        let Ok(Ok(_permit)) = timeout_at(deadline, server.calls.acquire()).await else {
            let calls = self.settings.calls_max;
            return Err(TierError::Busy { calls });
        };
        server.started.fetch_add(1, Ordering::Relaxed);
        let removal = async {
            match key {
                Some(key) => server.tier.remove(key).await,
                None => server.tier.clear().await,
            }
        };
        timeout_at(deadline, removal)
            .await
            .unwrap_or(Err(TierError::TimedOut))
    }
}

/// The attempt to bring a server back. However it ends, the server is either in use or will be tried again.
struct Trial<T> {
    shared: Arc<Shared<T>>,
    at: usize,
    untold: Option<Debt>,
    is_over: bool,
}

impl<T: Tier + 'static> Trial<T> {
    async fn run(mut self) {
        if self.shared.remove_at(self.at, Some(PROBE)).await.is_err() {
            return;
        }
        loop {
            let debt = self.shared.servers[self.at].health.lock().debt();
            let key = match &debt {
                Debt::Paid => {
                    self.is_over = true;
                    return;
                }
                Debt::All => None,
                Debt::Key(key) => Some(key.clone()),
            };
            self.untold = Some(debt);
            match self.shared.remove_at(self.at, key.as_deref()).await {
                Ok(()) | Err(TierError::KeyTooLong { .. }) => self.untold = None,
                Err(_) => return,
            }
        }
    }
}

impl<T> Drop for Trial<T> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut health = self.shared.servers[self.at].health.lock();
            health.stays_out(self.untold.take(), now());
        }
    }
}

impl<T: Tier + 'static> Tier for Pool<T> {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        for at in self.shared.places(key) {
            if !self.shared.may_ask(at) {
                continue;
            }
            let call = self.shared.servers[at].tier.get(key);
            let mut looked = self.shared.call(at, call).await?;
            if let Looked::Nothing(Some(lease)) = &mut looked {
                lease.server = u32::try_from(at).unwrap_or(u32::MAX);
            }
            return Ok(looked);
        }
        Err(TierError::Out)
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        let at = lease.server as usize;
        let Some(rank) = self.shared.places(key).position(|place| place == at) else {
            return Ok(false);
        };
        if !self.shared.may_ask(at) {
            return Err(TierError::Out);
        }
        let ttl = if rank == 0 {
            ttl
        } else {
            ttl.min(self.shared.settings.stand_in_ttl)
        };
        let call = self.shared.servers[at].tier.fill(key, lease, value, ttl);
        self.shared.call(at, call).await
    }

    /// Removes a key at both of its servers. A server that is out of use, or cannot be told, is told
    /// before it is used again; that is no error.
    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        let places = self.shared.places(key).collect();
        self.shared.tell_all(places, Some(key.to_vec())).await;
        Ok(())
    }

    /// Clears every server, as [`Pool::remove`](Tier::remove) removes a key.
    async fn clear(&self) -> Result<(), TierError> {
        let all = (0..self.shared.servers.len()).collect();
        self.shared.tell_all(all, None).await;
        Ok(())
    }
}
