//! What every tier keeps true, asked of each.

use std::sync::Arc;
use std::time::Duration;

use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::tier::{
    Looked, Memcached, Memory, Pool, Redis, Tier, TierError, TierLease, Tiered, codec,
};
use stackbeam_lru_cache::{Adaptive, Lru, sync};
use stackbeam_test_support::{Server, memcached, redis};

const HOUR: Duration = Duration::from_secs(3600);

async fn lease<T: Tier>(tier: &T, key: &[u8]) -> TierLease {
    match tier.get(key).await.unwrap() {
        Looked::Nothing(Some(lease)) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

async fn value<T: Tier>(tier: &T, key: &[u8]) -> Option<Vec<u8>> {
    match tier.get(key).await.unwrap() {
        Looked::Value { bytes, .. } => Some(bytes),
        _ => None,
    }
}

/// The contract of [`Tier`], one sentence after the other.
async fn keeps_the_contract<T: Tier>(tier: &T) {
    // What is filled in is found, whatever the bytes are.
    for (at, bytes) in [&b""[..], b"\r\nEND\r\n", &[0xFF; 10_000]]
        .into_iter()
        .enumerate()
    {
        let key = [b"key \r\n\xFF%", &at.to_be_bytes()[..]].concat();
        let lease = lease(tier, &key).await;
        assert!(tier.fill(&key, lease, bytes, HOUR).await.unwrap());
        assert_eq!(value(tier, &key).await.as_deref(), Some(bytes));
        assert!(!tier.fill(&key, lease, b"again", HOUR).await.unwrap());
        assert_eq!(value(tier, &key).await.as_deref(), Some(bytes));
    }
    // Two who miss may both fill; the first does.
    let (one, two) = (lease(tier, b"two").await, lease(tier, b"two").await);
    assert!(tier.fill(b"two", two, b"2", HOUR).await.unwrap());
    assert!(!tier.fill(b"two", one, b"1", HOUR).await.unwrap());
    assert_eq!(value(tier, b"two").await.unwrap(), b"2");
    // A removal voids what was drawn before it, and nothing that was drawn after it.
    let early = lease(tier, b"gone").await;
    tier.remove(b"gone").await.unwrap();
    assert!(!tier.fill(b"gone", early, b"old", HOUR).await.unwrap());
    let late = lease(tier, b"gone").await;
    assert!(!tier.fill(b"gone", early, b"old", HOUR).await.unwrap());
    assert!(tier.fill(b"gone", late, b"new", HOUR).await.unwrap());
    assert_eq!(value(tier, b"gone").await.unwrap(), b"new");
    tier.remove(b"gone").await.unwrap();
    tier.remove(b"gone").await.unwrap();
    assert_eq!(value(tier, b"gone").await, None);
    // So does clearing, for all.
    let early = lease(tier, b"early").await;
    tier.clear().await.unwrap();
    assert_eq!(value(tier, b"two").await, None);
    assert!(!tier.fill(b"early", early, b"old", HOUR).await.unwrap());
    // Times of nothing and of centuries.
    let short = lease(tier, b"short").await;
    tier.fill(b"short", short, b"s", Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(value(tier, b"short").await, None);
    let long = lease(tier, b"long").await;
    assert!(tier.fill(b"long", long, b"l", Duration::MAX).await.unwrap());
    assert_eq!(value(tier, b"long").await.unwrap(), b"l");
    // Many at once.
    let calls = (0..200_u32).map(|n| async move {
        let key = n.to_be_bytes();
        let lease = lease(tier, &key).await;
        assert!(tier.fill(&key, lease, &key, HOUR).await.unwrap());
        assert_eq!(value(tier, &key).await.unwrap(), key);
    });
    futures(calls).await;
}

/// Runs futures side by side on this task.
pub(crate) async fn futures<F: Future<Output = ()>>(all: impl Iterator<Item = F>) {
    let mut all: Vec<_> = all.map(|one| Some(Box::pin(one))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut all {
            if let Some(one) = slot
                && one.as_mut().poll(context).is_ready()
            {
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[tokio::test]
async fn the_memory_tier_keeps_the_contract() {
    keeps_the_contract(&Memory::new(1_000)).await;
}

#[tokio::test]
async fn a_pool_of_memory_tiers_keeps_the_contract() {
    let pool = Pool::builder(["a", "b", "c"].map(|name| (name, Memory::new(1_000))));
    keeps_the_contract(&pool.build().unwrap()).await;
}

/// A client of a server, patient enough for a busy machine.
pub(crate) fn memcached_at(server: &Server) -> Memcached {
    Memcached::new(server.address().to_string()).with_timeout(Duration::from_secs(10))
}

pub(crate) fn redis_at(server: &Server) -> Redis {
    let redis = Redis::new(&server.url(), "test:").unwrap();
    redis.with_timeout(Duration::from_secs(10))
}

#[tokio::test]
#[ignore = "needs memcached: cargo xtask services"]
async fn memcached_keeps_the_contract_in_both_protocols() {
    let server = memcached::start().unwrap();
    let tier = memcached_at(&server).with_prefix("meta:");
    keeps_the_contract(&tier).await;
    let text = memcached_at(&server)
        .with_prefix("text:")
        .with_text_protocol();
    keeps_the_contract(&text).await;
    // One who speaks text and one who speaks meta share leases and values.
    let (meta, text) = (
        memcached_at(&server),
        memcached_at(&server).with_text_protocol(),
    );
    for (one, other) in [(&meta, &text), (&text, &meta)] {
        let (early, same) = (lease(one, b"k").await, lease(other, b"k").await);
        assert_eq!(early.number(), same.number());
        assert!(other.fill(b"k", same, b"", HOUR).await.unwrap());
        assert_eq!(value(one, b"k").await.unwrap(), b"");
        assert!(!one.fill(b"k", early, b"late", HOUR).await.unwrap());
        other.remove(b"k").await.unwrap();
    }
    let error = meta.get(&[b'x'; 300]).await.unwrap_err();
    assert!(matches!(
        error,
        TierError::KeyTooLong {
            bytes: 300,
            bytes_max: 250
        }
    ));
    let lease = lease(&meta, b"large").await;
    let error = meta
        .fill(b"large", lease, &[0; 1 << 21], HOUR)
        .await
        .unwrap_err();
    assert!(matches!(error, TierError::ValueTooLarge { .. }));
    let willing = memcached_at(&server).with_value_max(1 << 22);
    assert_eq!(value(&willing, b"large").await, None);
    let error = willing
        .fill(b"large", lease, &[0; 1 << 21], HOUR)
        .await
        .unwrap_err();
    assert!(matches!(error, TierError::Refused(_)), "{error:?}");
    assert_eq!(
        value(&willing, b"large").await,
        None,
        "and the next answer is its own"
    );
}

#[tokio::test]
#[ignore = "needs redis: cargo xtask services"]
async fn redis_keeps_the_contract_and_what_is_not_the_tiers() {
    let server = redis::start().unwrap();
    let other = Redis::new(&server.url(), "other*:").unwrap();
    let lease = lease(&other, b"k").await;
    assert!(other.fill(b"k", lease, b"mine", HOUR).await.unwrap());
    keeps_the_contract(&redis_at(&server)).await;
    assert_eq!(value(&other, b"k").await.unwrap(), b"mine");
    other.clear().await.unwrap();
    assert_eq!(value(&other, b"k").await, None);
}

#[tokio::test]
#[ignore = "needs memcached and redis: cargo xtask services"]
async fn pools_of_servers_keep_the_contract() {
    let servers: Vec<_> = (0..3).map(|_| memcached::start().unwrap()).collect();
    let pool = Pool::builder(
        servers
            .iter()
            .map(|server| (server.url(), memcached_at(server))),
    );
    keeps_the_contract(&pool.build().unwrap()).await;
    let servers: Vec<_> = (0..3).map(|_| redis::start().unwrap()).collect();
    let pool = Pool::builder(
        servers
            .iter()
            .map(|server| (server.url(), redis_at(server))),
    );
    keeps_the_contract(&pool.build().unwrap()).await;
}

#[tokio::test]
#[ignore = "needs memcached: cargo xtask services"]
async fn a_lease_from_before_a_restart_is_void_though_numbers_begin_anew() {
    let mut server = memcached::start().unwrap();
    for text in [false, true] {
        let client = || {
            if text {
                memcached_at(&server).with_text_protocol()
            } else {
                memcached_at(&server)
            }
        };
        let (reader, other) = (client(), client());
        let old = lease(&reader, b"k").await;
        server.restart().unwrap();
        // The store changes, and another reader draws a lease that has the same number.
        let new = lease(&other, b"k").await;
        assert_eq!(old.number(), new.number(), "or this test shows nothing");
        // Connected again since.
        drop(reader.get(b"elsewhere").await.unwrap());
        assert!(!reader.fill(b"k", old, b"old", HOUR).await.unwrap_or(false));
        assert!(other.fill(b"k", new, b"new", HOUR).await.unwrap());
        server.restart().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs memcached: cargo xtask services"]
async fn a_call_that_is_dropped_leaves_nothing_for_the_next() {
    let server = memcached::start().unwrap();
    for tier in [
        memcached_at(&server),
        memcached_at(&server).with_text_protocol(),
    ] {
        for key in [b"one", b"two"] {
            let lease = lease(&tier, key).await;
            assert!(tier.fill(key, lease, key, HOUR).await.unwrap());
        }
        for steps in 0..6 {
            let mut call = Box::pin(tier.get(b"one"));
            for _ in 0..steps {
                tokio::select! {
                    biased;
                    _ = &mut call => break,
                    () = tokio::time::sleep(Duration::from_micros(200)) => {}
                }
            }
            drop(call);
            assert_eq!(value(&tier, b"two").await.unwrap(), b"two");
        }
        tier.clear().await.unwrap();
    }
}

type Words<T> = Tiered<u32, String, String, T, WordsCodec, Lru>;

/// Names a type that is otherwise a closure's.
pub(crate) struct WordsCodec;

impl stackbeam_lru_cache::tier::Codec<u32, String> for WordsCodec {
    fn key(&self, key: &u32) -> Vec<u8> {
        key.to_be_bytes().to_vec()
    }

    fn encode(&self, value: &String) -> Vec<u8> {
        value.clone().into_bytes()
    }

    fn decode(&self, bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

fn words<T: Tier>(tier: T) -> Words<T> {
    Tiered::new(ReadThrough::new(sync::Cache::new(100)), tier, WordsCodec)
}

#[tokio::test]
async fn what_one_process_has_loaded_another_finds_in_the_tier() {
    let tier = Arc::new(Memory::new(100));
    let (here, there) = (words(Arc::clone(&tier)), words(tier));
    let asked = here
        .get_or_load(&1, || async { Ok("one".to_owned()) })
        .await;
    assert_eq!(asked.unwrap(), "one");
    let not_asked = || async { Err("the store was asked".to_owned()) };
    assert_eq!(there.get_or_load(&1, not_asked).await.unwrap(), "one");
    assert_eq!(
        there.get_or_load(&1, not_asked).await.unwrap(),
        "one",
        "from memory"
    );
    let (first, second) = (here.tier_stats(), there.tier_stats());
    assert_eq!((first.misses, first.fills, first.hits), (1, 1, 0));
    assert_eq!((second.misses, second.fills, second.hits), (0, 0, 1));
    here.invalidate(&1).await.unwrap();
    let asked = here
        .get_or_load(&1, || async { Ok("eins".to_owned()) })
        .await;
    assert_eq!(asked.unwrap(), "eins");
    // The message of the invalidation has to arrive there.
    there.memory().cache().remove(&1);
    assert_eq!(there.get_or_load(&1, not_asked).await.unwrap(), "eins");
    here.invalidate_all().await.unwrap();
    assert!(here.get_or_load(&1, not_asked).await.is_err());
}

#[tokio::test]
async fn memory_keeps_nothing_longer_than_the_tier_says() {
    let clock = Arc::new(parking_lot::Mutex::new(Duration::ZERO));
    let start = tokio::time::Instant::now().into_std();
    let time = |clock: &Arc<parking_lot::Mutex<Duration>>| {
        let clock = Arc::clone(clock);
        move || start + *clock.lock()
    };
    let tier = Arc::new(Memory::with_clock(100, time(&clock)));
    let reader = |ttl| {
        let memory = sync::Builder::new(100)
            .with_clock(time(&clock))
            .with_ttl(ttl)
            .build::<Lru>();
        let memory: ReadThrough<_, _, String, _> = ReadThrough::new(memory);
        Tiered::new(memory, Arc::clone(&tier), WordsCodec).with_ttl(Duration::from_secs(60))
    };
    let (here, there, short) = (reader(HOUR), reader(HOUR), reader(Duration::from_secs(5)));
    let load = |word: &'static str| move || async move { Ok::<_, String>(word.to_owned()) };
    here.get_or_load(&1, load("old")).await.unwrap();
    *clock.lock() = Duration::from_secs(50);
    assert_eq!(there.get_or_load(&1, load("new")).await.unwrap(), "old");
    assert_eq!(short.get_or_load(&1, load("new")).await.unwrap(), "old");
    *clock.lock() = Duration::from_secs(56);
    assert_eq!(short.memory().cache().get(&1), None);
    *clock.lock() = Duration::from_secs(61);
    assert_eq!(there.get_or_load(&1, load("new")).await.unwrap(), "new");
    assert_eq!(
        here.get_or_load(&1, load("new")).await.unwrap(),
        "old",
        "its own time is an hour"
    );
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_removed_and_the_store_is_asked() {
    let tier = Arc::new(Memory::new(100));
    let lease = lease(&tier, &1_u32.to_be_bytes()).await;
    assert!(
        tier.fill(&1_u32.to_be_bytes(), lease, b"\xFF", HOUR)
            .await
            .unwrap()
    );
    let (here, there) = (words(Arc::clone(&tier)), words(Arc::clone(&tier)));
    let load = || async { Ok("one".to_owned()) };
    assert_eq!(here.get_or_load(&1, load).await.unwrap(), "one");
    assert_eq!(here.tier_stats().unreadable, 1);
    assert_eq!(there.get_or_load(&1, load).await.unwrap(), "one");
    assert_eq!(there.tier_stats().fills, 1);
}

#[tokio::test]
async fn however_many_ask_the_tier_and_the_store_are_asked_once() {
    let tier = Arc::new(Memory::new(100));
    let closures = codec(
        |key: &u32| key.to_be_bytes().to_vec(),
        |value: &u64| value.to_be_bytes().to_vec(),
        |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?)),
    );
    let memory: ReadThrough<u32, u64, ()> = ReadThrough::new(sync::Cache::new(10));
    let tiered: Tiered<_, _, _, _, _, Adaptive> = Tiered::new(memory, tier, closures);
    let loads = std::sync::atomic::AtomicU32::new(0);
    let ask = || async {
        let load = || async {
            loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(7)
        };
        assert_eq!(tiered.get_or_load(&1, load).await.unwrap(), 7);
    };
    futures((0..100).map(|_| ask())).await;
    assert_eq!(loads.into_inner(), 1);
    assert_eq!(tiered.tier_stats().misses, 1);
}
