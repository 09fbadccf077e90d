//! Several servers: who has what, and what happens when one dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stackbeam_lru_cache::tier::{Looked, Memory, Pool, Tier, TierError, TierLease};

const HOUR: Duration = Duration::from_secs(3600);

/// A memory tier that can be switched off, or made to hang.
#[derive(Debug)]
struct Switched {
    tier: Memory,
    is_dead: AtomicBool,
    hangs: AtomicBool,
    calls: AtomicU32,
}

impl Switched {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            tier: Memory::new(1_000_000),
            is_dead: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            calls: AtomicU32::new(0),
        })
    }

    async fn reached(&self) -> Result<(), TierError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.is_dead.load(Ordering::Relaxed) {
            return Err(TierError::Unreachable("it is switched off".to_owned()));
        }
        Ok(())
    }
}

impl Tier for Switched {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        self.reached().await?;
        self.tier.get(key).await
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        self.reached().await?;
        self.tier.fill(key, lease, value, ttl).await
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        self.reached().await?;
        self.tier.remove(key).await
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.reached().await?;
        self.tier.clear().await
    }
}

type Servers = [Arc<Switched>; 3];

fn pool() -> (Pool<Arc<Switched>>, Servers) {
    let servers = [Switched::new(), Switched::new(), Switched::new()];
    let named = ["a", "b", "c"].into_iter().zip(servers.clone());
    (
        Pool::builder(named).with_owed_max(5).build().unwrap(),
        servers,
    )
}

fn owner<'a>(pool: &Pool<Arc<Switched>>, servers: &'a Servers, key: &[u8]) -> &'a Switched {
    let at = ["a", "b", "c"]
        .iter()
        .position(|name| *name == pool.owner(key));
    &servers[at.unwrap()]
}

async fn fill<T: Tier>(tier: &T, key: &[u8], value: &[u8]) -> bool {
    match tier.get(key).await {
        Ok(Looked::Nothing(Some(lease))) => {
            tier.fill(key, lease, value, HOUR).await.unwrap_or(false)
        }
        _ => false,
    }
}

async fn value<T: Tier>(tier: &T, key: &[u8]) -> Option<Vec<u8>> {
    match tier.get(key).await {
        Ok(Looked::Value { bytes, .. }) => Some(bytes),
        _ => None,
    }
}

/// Asks until every server is in use again.
async fn until_all_are_back(pool: &Pool<Arc<Switched>>) {
    while !pool.servers().iter().all(|server| server.is_in_use) {
        for key in 0..50_u8 {
            let _asked = pool.get(&[key]).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn keys_are_spread_and_placed_the_same_for_ever() {
    let (pool, _) = pool();
    let mut counts = [0; 3];
    for key in 0..3_000_u32 {
        match pool.owner(&key.to_be_bytes()) {
            "a" => counts[0] += 1,
            "b" => counts[1] += 1,
            _ => counts[2] += 1,
        }
    }
    assert!(
        counts.iter().all(|count| (900..1_100).contains(count)),
        "{counts:?}"
    );
    // Another process, another release: the same.
    let owners: String = (0..24_u8).map(|key| pool.owner(&[key])).collect();
    assert_eq!(owners, "accaaabbacbcbbaabbbbcaaa");
}

#[tokio::test]
async fn a_pool_of_nobody_or_of_two_with_one_name_is_refused() {
    assert!(Pool::<Memory>::builder::<&str>([]).build().is_err());
    assert!(
        Pool::builder([("a", Memory::new(1)), ("a", Memory::new(1))])
            .build()
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_server_is_stood_in_for_and_told_what_it_missed() {
    let (pool, servers) = pool();
    for key in 0..50_u8 {
        assert!(fill(&pool, &[key], b"old").await);
    }
    let dead = owner(&pool, &servers, &[0]);
    dead.is_dead.store(true, Ordering::Relaxed);
    // Three calls fail, and then nobody is sent there any more.
    for _ in 0..3 {
        assert!(pool.get(&[0]).await.is_err());
    }
    let before = dead.calls.load(Ordering::Relaxed);
    assert!(fill(&pool, &[0], b"stood in").await);
    assert_eq!(value(&pool, &[0]).await.unwrap(), b"stood in");
    pool.remove(&[0]).await.unwrap();
    assert!(fill(&pool, &[0], b"new").await);
    assert_eq!(dead.calls.load(Ordering::Relaxed), before);
    assert_eq!(
        pool.servers()
            .iter()
            .map(|server| server.owed)
            .sum::<usize>(),
        1
    );
    // It comes back with its memory: what was removed is gone, the rest is there.
    dead.is_dead.store(false, Ordering::Relaxed);
    until_all_are_back(&pool).await;
    assert_eq!(value(&dead.tier, &[0]).await, None);
    for key in 1..50_u8 {
        assert_eq!(value(&pool, &[key]).await.unwrap(), b"old");
    }
    assert_eq!(
        pool.servers()
            .iter()
            .map(|server| server.outages)
            .sum::<u64>(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_puts_the_server_out_at_once() {
    let (pool, servers) = pool();
    assert!(fill(&pool, b"k", b"old").await);
    let dead = owner(&pool, &servers, b"k");
    dead.hangs.store(true, Ordering::Relaxed);
    pool.remove(b"k").await.unwrap();
    dead.hangs.store(false, Ordering::Relaxed);
    // It is there again and has the old value still, and nobody gets it.
    assert_eq!(value(&dead.tier, b"k").await.unwrap(), b"old");
    assert_eq!(value(&pool, b"k").await, None);
    until_all_are_back(&pool).await;
    assert_eq!(value(&dead.tier, b"k").await, None);
}

#[tokio::test(start_paused = true)]
async fn too_many_missed_removals_are_a_clearing() {
    let (pool, servers) = pool();
    for key in 0..50_u8 {
        assert!(fill(&pool, &[key], b"old").await);
    }
    for server in &servers {
        server.is_dead.store(true, Ordering::Relaxed);
    }
    for key in 0..40_u8 {
        pool.remove(&[key]).await.unwrap();
    }
    assert!(matches!(pool.get(&[0]).await, Err(TierError::Out)));
    for server in &servers {
        server.is_dead.store(false, Ordering::Relaxed);
    }
    until_all_are_back(&pool).await;
    for key in 0..50_u8 {
        assert_eq!(value(&pool, &[key]).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_fails_doubles_the_rest() {
    let (pool, servers) = pool();
    for server in &servers {
        server.is_dead.store(true, Ordering::Relaxed);
    }
    pool.clear().await.unwrap();
    let start = tokio::time::Instant::now();
    let mut trials = 0;
    while start.elapsed() < Duration::from_secs(600) {
        let before = servers[0].calls.load(Ordering::Relaxed);
        for key in 0..20_u8 {
            let _asked = pool.get(&[key]).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        trials += servers[0].calls.load(Ordering::Relaxed) - before;
    }
    // After 0.5, 1, 2, 4, 8, 16 seconds, and then every 30.
    assert!((20..=27).contains(&trials), "{trials}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_good_at_the_server_that_gave_it_only() {
    let (pool, servers) = pool();
    let Ok(Looked::Nothing(Some(lease))) = pool.get(b"k").await else {
        panic!("no lease");
    };
    // The owner dies and a stand-in has the key, with a lease of the same number.
    let dead = owner(&pool, &servers, b"k");
    dead.is_dead.store(true, Ordering::Relaxed);
    pool.remove(b"k").await.unwrap();
    let Ok(Looked::Nothing(Some(new))) = pool.get(b"k").await else {
        panic!("no lease");
    };
    assert_eq!(new.number(), lease.number(), "or this test shows nothing");
    assert!(!pool.fill(b"k", lease, b"old", HOUR).await.unwrap_or(false));
    assert!(pool.fill(b"k", new, b"new", HOUR).await.unwrap());
    // What stands in is kept for a short time.
    let Ok(Looked::Value { left, .. }) = pool.get(b"k").await else {
        panic!("no value");
    };
    assert!(left.unwrap() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_removal_goes_on_when_its_future_is_dropped() {
    let (pool, _) = pool();
    assert!(fill(&pool, b"k", b"old").await);
    let mut removal = Box::pin(pool.remove(b"k"));
    tokio::select! { biased; _ = &mut removal => panic!("too quick"), () = std::future::ready(()) => {} }
    drop(removal);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(value(&pool, b"k").await, None);
}
