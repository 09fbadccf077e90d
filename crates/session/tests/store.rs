//! The contract of a store, on the one in memory.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::sync::Arc;
use std::time::Duration;

use stackbeam_session::{
    Key, KeyRing, MemoryStore, NoRevocations, Policy, Sessions, Store, StoreError, StoreKey,
    Timestamp,
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const END: Timestamp = Timestamp::from_secs(1_800_003_600);

fn name() -> StoreKey {
    let key = Key::generate().unwrap();
    let ring = KeyRing::new(key.clone(), Policy::aal2().absolute()).unwrap();
    let sessions = Sessions::<()>::new(ring, "login", "", Policy::aal2(), NoRevocations).unwrap();
    let token = sessions.issue("7", (), NOW).unwrap();
    StoreKey::new(&key, sessions.verify(&token, NOW).unwrap().claims.session)
}

#[tokio::test]
async fn a_request_in_flight_cannot_bring_a_deleted_session_back() {
    let (store, name) = (MemoryStore::default(), name());
    store.create(name, b"a".to_vec(), END, NOW).await.unwrap();
    let in_flight = store.load(name, NOW).await.unwrap();
    assert!(store.delete(name, NOW).await.unwrap());
    assert!(!store.delete(name, NOW).await.unwrap());
    let saved = store
        .update(name, in_flight.version, b"b".to_vec(), NOW)
        .await;
    assert!(matches!(saved, Err(StoreError::Gone)));
    assert!(matches!(
        store.touch(name, END, NOW).await,
        Err(StoreError::Gone)
    ));
    assert!(matches!(store.load(name, NOW).await, Err(StoreError::Gone)));
}

#[tokio::test]
async fn an_expired_record_is_gone_and_a_touch_never_shortens() {
    let (store, name) = (MemoryStore::default(), name());
    store.create(name, Vec::new(), END, NOW).await.unwrap();
    assert!(matches!(
        store.create(name, Vec::new(), END, NOW).await,
        Err(StoreError::Exists)
    ));
    store.touch(name, NOW, NOW).await.unwrap();
    let later = END.after(Duration::from_secs(5));
    store.touch(name, later, NOW).await.unwrap();
    assert!(store.load(name, END).await.is_ok());
    assert!(matches!(
        store
            .touch(name, later.after(Duration::from_secs(9)), later)
            .await,
        Err(StoreError::Gone)
    ));
    assert!(matches!(
        store.update(name, 1, Vec::new(), later).await,
        Err(StoreError::Gone)
    ));
}

#[tokio::test]
async fn the_bound_refuses_until_a_record_expires() {
    let store = MemoryStore::new(1);
    store.create(name(), Vec::new(), END, NOW).await.unwrap();
    assert!(matches!(
        store.create(name(), Vec::new(), END, NOW).await,
        Err(StoreError::Full(1))
    ));
    assert!(
        store
            .create(name(), Vec::new(), END.after(Duration::from_secs(9)), END)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_parallel_updates_lose_none() {
    let (store, name) = (Arc::new(MemoryStore::default()), name());
    store
        .create(name, 0_u64.to_le_bytes().to_vec(), END, NOW)
        .await
        .unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..100 {
                    loop {
                        let record = store.load(name, NOW).await.unwrap();
                        let count = u64::from_le_bytes(record.data.try_into().unwrap()) + 1;
                        match store
                            .update(name, record.version, count.to_le_bytes().to_vec(), NOW)
                            .await
                        {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let data = store.load(name, NOW).await.unwrap().data;
    assert_eq!(u64::from_le_bytes(data.try_into().unwrap()), 10_000);
}

#[tokio::test]
async fn a_record_made_anew_does_not_take_the_update_of_the_one_before() {
    let (store, name) = (MemoryStore::default(), name());
    let old = store.create(name, b"old".to_vec(), END, NOW).await.unwrap();
    store.delete(name, NOW).await.unwrap();
    store.create(name, b"new".to_vec(), END, NOW).await.unwrap();
    let late = store.update(name, old, b"late".to_vec(), NOW).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })));
    assert_eq!(store.load(name, NOW).await.unwrap().data, b"new");
}
