//! Every store passes the suite; the servers are real.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stackbeam_session::conformance::{self, Scale};
use stackbeam_session::{
    Key, MemcachedStore, MemoryStore, NewRecord, Policy, PostgresStore, Record, RedisStore,
    ReferenceError, References, SessionId, SqliteStore, Store, StoreError, StoreKey, SubjectIndex,
    SubjectKey, Timestamp,
};
use stackbeam_test_support as servers;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const END: Timestamp = Timestamp::from_secs(1_800_003_600);

fn name(key: &Key) -> StoreKey {
    StoreKey::new(key, SessionId::generate().unwrap())
}

fn record(key: &Key) -> NewRecord {
    NewRecord {
        subject: SubjectKey::new(key, "7"),
        data: b"a".to_vec(),
        expires_at: END,
    }
}

/// The store in memory, with the writes counted, and spoilt when asked to be.
#[derive(Default)]
struct Spy {
    inner: MemoryStore,
    writes: AtomicUsize,
    /// As many stores are: a save of what is not there makes it.
    upserts: bool,
}

impl Spy {
    fn write(&self) -> &MemoryStore {
        self.writes.fetch_add(1, Ordering::Relaxed);
        &self.inner
    }
}

impl Store for Spy {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write().create(key, record, now).await
    }
    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        self.inner.load(key, now).await
    }
    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        match self.write().update(key, version, data.clone(), now).await {
            // Zero is what the law that asks a store from which nothing was loaded names.
            Err(StoreError::Gone) if self.upserts && version != 0 => {
                let record = NewRecord {
                    subject: SubjectKey::from_bytes([7; 32]),
                    data,
                    expires_at: END,
                };
                self.inner.create(key, record, now).await
            }
            done => done,
        }
    }
    async fn touch(
        &self,
        key: StoreKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write().touch(key, until, now).await
    }
    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        self.write().delete(key, now).await
    }
}

impl SubjectIndex for Spy {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        self.inner.list(subject, now).await
    }
}

fn references<S: Store>(store: S) -> References<S> {
    References::new(store, Key::generate().unwrap(), Policy::aal2()).unwrap()
}

/// The whole suite, with ten thousand updates and a thousand renewals.
async fn passes_at_full_scale(store: impl SubjectIndex) {
    conformance::all(&Arc::new(store), Scale::full())
        .await
        .unwrap();
}

/// That what is over can be cleared away, in a store that does not do it by itself.
fn long_after() -> Timestamp {
    END.after(Duration::from_secs(9999))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_in_memory_passes_at_full_scale() {
    passes_at_full_scale(MemoryStore::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_in_sqlite_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("sessions")).unwrap());
    conformance::all(&store, Scale::short()).await.unwrap();
    assert!(store.purge_expired(1000, long_after()).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis: cargo xtask services"]
async fn the_store_in_redis_passes_at_full_scale() {
    let server = servers::redis::start().unwrap();
    passes_at_full_scale(RedisStore::connect(&server.url(), "test").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs postgres: cargo xtask services"]
async fn the_store_in_postgres_passes_at_full_scale() {
    let server = servers::postgres::start().unwrap();
    let store = PostgresStore::connect(&server.url(), "sessions").await;
    let store = Arc::new(store.unwrap());
    passes_at_full_scale(Arc::clone(&store)).await;
    assert!(store.purge_expired(1000, long_after()).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs memcached: cargo xtask services"]
async fn the_store_in_memcached_passes_at_full_scale() {
    let server = servers::memcached::start().unwrap();
    let store = MemcachedStore::connect(&server.url(), "test").await;
    passes_at_full_scale(store.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis: cargo xtask services"]
async fn a_redis_that_is_gone_is_unavailable_and_comes_back() {
    let mut server = servers::redis::start().unwrap();
    let store = RedisStore::connect(&server.url(), "test").await.unwrap();
    let key = Key::generate().unwrap();
    let name = name(&key);
    store.create(name, record(&key), NOW).await.unwrap();
    server.kill().unwrap();
    let down = store.load(name, NOW).await;
    assert!(matches!(down, Err(StoreError::Unavailable(_))), "{down:?}");
    server.restart().unwrap();
    // It kept nothing: the session is over, and nothing brings it back.
    let mut again = store.load(name, NOW).await;
    for _ in 0..100 {
        if matches!(again, Err(StoreError::Gone)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = store.load(name, NOW).await;
    }
    assert!(matches!(again, Err(StoreError::Gone)), "{again:?}");
}

#[tokio::test]
async fn the_bound_refuses_until_a_record_expires() {
    let (store, key) = (MemoryStore::new(1), Key::generate().unwrap());
    store.create(name(&key), record(&key), NOW).await.unwrap();
    assert!(matches!(
        store.create(name(&key), record(&key), NOW).await,
        Err(StoreError::Full(1))
    ));
    let mut later = record(&key);
    later.expires_at = END.after(Duration::from_secs(9));
    assert!(store.create(name(&key), later, END).await.is_ok());
}

#[tokio::test]
async fn an_active_user_is_kept_with_two_writes_in_a_thousand_reads() {
    let references = references(Spy::default());
    let reference = references.begin("7", b"x", NOW).await.unwrap();
    // One request in three seconds, for fifty minutes.
    for read in 0..1000 {
        let now = NOW.after(Duration::from_secs(3 * read));
        assert_eq!(references.load(&reference, now).await.unwrap().1, b"x");
    }
    let writes = references.store().writes.load(Ordering::Relaxed);
    assert!(writes <= 2, "{writes}");
}

#[tokio::test]
async fn a_session_behind_a_reference_ends_when_it_is_idle_and_at_its_absolute_end() {
    let references = references(MemoryStore::default());
    let idle = references.begin("7", b"", NOW).await.unwrap();
    let late = NOW.after(Duration::from_secs(3600));
    assert!(matches!(
        references.load(&idle, late).await,
        Err(ReferenceError::Ended)
    ));
    let mut active = references.begin("7", b"", NOW).await.unwrap();
    let mut now = NOW;
    while now < NOW.after(Duration::from_secs(86_400 - 1800)) {
        now = now.after(Duration::from_secs(1800));
        active = references.renew(&active, now).await.unwrap().reference;
    }
    let end = NOW.after(Duration::from_secs(86_400));
    assert!(
        references
            .load(&active, end.before(Duration::from_secs(1)))
            .await
            .is_ok()
    );
    assert!(matches!(
        references.renew(&active, end).await,
        Err(ReferenceError::Ended)
    ));
}

#[tokio::test]
async fn a_reference_that_is_not_ours_never_reaches_the_store() {
    let references = references(MemoryStore::default());
    let good = references.begin("7", b"", NOW).await.unwrap();
    assert_eq!(good.len(), stackbeam_session::REFERENCE_CHARS);
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bytes).unwrap();
        let refused = references.load(&bad, NOW).await;
        assert!(matches!(refused, Err(ReferenceError::NotAuthentic)), "{at}");
        assert!(references.end(&good[..at], NOW).await.is_err());
    }
    references
        .modify(&good, NOW, |data| data.extend_from_slice(b"more"))
        .await
        .unwrap();
    assert_eq!(references.load(&good, NOW).await.unwrap().1, b"more");
    assert!(references.end(&good, NOW).await.unwrap());
    assert!(matches!(
        references.load(&good, NOW).await,
        Err(ReferenceError::Ended)
    ));
    assert!(matches!(
        references.renew(&good, NOW).await,
        Err(ReferenceError::Ended)
    ));
    let begun = format!("{references:?}");
    assert!(!begun.contains(&good));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_finds_a_store_that_brings_sessions_back() {
    let store = Arc::new(Spy {
        upserts: true,
        ..Spy::default()
    });
    let broken = conformance::all(&store, Scale::short()).await.unwrap_err();
    assert!(
        broken.to_string().contains("an update revived it"),
        "{broken}"
    );
}
