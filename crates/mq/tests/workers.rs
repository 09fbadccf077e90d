//! Stories of the worker pool.

use std::time::Duration;

use stackbeam_mq::worker::{Outcome, Workers};
use stackbeam_mq::{GroupOptions, Queue};

#[tokio::test]
async fn failures_and_panics_are_tried_again_and_the_counters_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::options()
        .segment_bytes(1 << 20)
        .open(dir.path())
        .unwrap();
    let topic = queue.topic("t").unwrap();
    for n in 0..30 {
        topic.publish(format!("{n}")).await.unwrap();
    }
    let quick = Workers::new()
        .concurrency(3)
        .backoff(Duration::from_millis(1), Duration::from_millis(5));
    let pool = quick.start(topic.group("g").unwrap(), |job| async move {
        match (job.id.as_u64() % 5, job.attempt) {
            (0, 1) => Outcome::Retry,
            (1, 1) => panic!("a handler that panics"),
            (2, _) => Outcome::Dead("no use".into()),
            _ => Outcome::Done,
        }
    });
    let begun = tokio::time::Instant::now();
    loop {
        let stats = queue.stats();
        let g = stats.group("t", "g").unwrap();
        assert_eq!(
            g.published,
            g.acked + g.ready + g.leased + g.delayed + g.dead
        );
        if g.acked + g.dead == 30 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{g:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (stats, ended) = pool.drain().await;
    assert!(ended.is_none());
    assert_eq!(
        (
            stats.done,
            stats.dead,
            stats.retried,
            stats.panicked,
            stats.running
        ),
        (24, 6, 6, 6, 0)
    );
}

#[tokio::test]
async fn a_drain_releases_what_is_still_busy_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::options()
        .segment_bytes(1 << 20)
        .open(dir.path())
        .unwrap();
    let topic = queue.topic("t").unwrap();
    let group = topic
        .group_with("g", GroupOptions::new().lease(Duration::from_millis(300)))
        .unwrap();
    topic.publish("slow").await.unwrap();
    let settings = Workers::new()
        .drain_deadline(Duration::from_millis(100))
        .heartbeat(Duration::from_millis(50), Duration::from_millis(300));
    let pool = settings.start(group.clone(), |_| std::future::pending());
    while pool.stats().running == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (stats, _) = pool.drain().await;
    assert_eq!(stats.released, 1);
    // Released, not failed: still the first attempt.
    assert_eq!(group.take(1).await.unwrap()[0].attempt(), 1);
}

#[tokio::test]
async fn a_pool_follows_its_size_up_and_down() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path()).unwrap();
    let topic = queue.topic("t").unwrap();
    let (go, gate) = tokio::sync::watch::channel(false);
    let pool = Workers::new()
        .concurrency(1)
        .start(topic.group("g").unwrap(), move |_| {
            let mut gate = gate.clone();
            async move {
                drop(gate.wait_for(|open| *open).await);
                Outcome::Done
            }
        });
    let messages = (0..20).map(|n| format!("{n}").into()).collect();
    topic.publish_all(messages).await.unwrap();
    let running = async |n: u64| {
        while pool.stats().running != n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let within = |f| tokio::time::timeout(Duration::from_secs(10), f);
    within(running(1)).await.unwrap();
    pool.resize(7);
    within(running(7)).await.unwrap();
    pool.resize(2);
    go.send_replace(true);
    let finish = async {
        while pool.stats().done < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), finish)
        .await
        .unwrap();
    let (stats, _) = pool.drain().await;
    assert_eq!((stats.done, stats.running), (20, 0));
}
