//! Write-behind's own task.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stackbeam_lru_cache::load::WriteBehind;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A store that can be away.
#[derive(Default)]
struct Store {
    rows: Mutex<HashMap<u32, u32>>,
    is_away: AtomicBool,
    writes: AtomicU32,
}

impl Store {
    async fn write(&self, rows: Vec<(u32, u32)>) -> Result<(), String> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(5)).await;
        if self.is_away.load(Ordering::Relaxed) {
            return Err("the store is away".to_owned());
        }
        assert!((1..=10).contains(&rows.len()));
        self.rows.lock().unwrap().extend(rows);
        Ok(())
    }
}

fn pause(failures: u32) -> tokio::time::Sleep {
    sleep(Duration::from_millis(100 << failures.min(5)))
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_written_after_a_pause_and_the_rest_at_the_end() {
    let (behind, store) = (Arc::new(WriteBehind::new(100)), Arc::new(Store::default()));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn({
        let (behind, store) = (Arc::clone(&behind), Arc::clone(&store));
        async move {
            let stop = async { drop(stopped.await) };
            behind
                .flush_until(stop, 10, pause, |rows| store.write(rows))
                .await
        }
    });
    for key in 0..95 {
        behind.put(key, 1).unwrap();
        behind.put(key, 2).unwrap();
    }
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        (behind.pending(), store.rows.lock().unwrap().len()),
        (0, 95)
    );
    assert_eq!(store.writes.load(Ordering::Relaxed), 10, "ten at a time");
    // Away for a while: nothing is lost, and it is not asked without end.
    store.is_away.store(true, Ordering::Relaxed);
    behind.put(1, 3).unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(store.writes.load(Ordering::Relaxed) < 20);
    store.is_away.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(store.rows.lock().unwrap()[&1], 3);
    // What is put just before the end is written.
    behind.put(2, 3).unwrap();
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!((behind.pending(), store.rows.lock().unwrap()[&2]), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_at_the_end_is_told_and_kept() {
    let (behind, store) = (WriteBehind::new(100), Store::default());
    store.is_away.store(true, Ordering::Relaxed);
    for key in 0..15 {
        behind.put(key, key).unwrap();
    }
    let stop = std::future::ready(());
    let left = behind
        .flush_until(stop, 10, pause, |rows| store.write(rows))
        .await;
    let left = left.unwrap_err();
    assert_eq!((left.pending, &*left.error), (15, "the store is away"));
    assert_eq!(behind.get(&7), Some(7));
    store.is_away.store(false, Ordering::Relaxed);
    let stop = std::future::ready(());
    behind
        .flush_until(stop, 0, pause, |rows| store.write(rows))
        .await
        .unwrap();
    assert_eq!(store.rows.lock().unwrap().len(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_loses_nothing() {
    let (behind, store) = (WriteBehind::new(100), Store::default());
    behind.put(1, 1).unwrap();
    for ms in [0, 1, 4] {
        let flush = behind.flush_until(std::future::pending(), 10, pause, |rows| store.write(rows));
        let flush = async { drop(flush.await) };
        tokio::select! { () = flush => panic!("it was to go on"), () = sleep(Duration::from_millis(ms)) => {} }
        assert_eq!(behind.pending(), 1);
    }
    behind
        .flush_until(std::future::ready(()), 10, pause, |rows| store.write(rows))
        .await
        .unwrap();
    assert_eq!(store.rows.lock().unwrap()[&1], 1);
}
