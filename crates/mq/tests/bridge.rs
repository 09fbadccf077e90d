//! Stories of bridges and of prefetch.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stackbeam_mq::bridge::Bridge;
use stackbeam_mq::prefetch::Prefetch;
use stackbeam_mq::{
    Consumer, Group, GroupOptions, Message, Producer, PublishError, Queue, Receipt, Topic,
    dead_header,
};

fn open(dir: &tempfile::TempDir) -> Queue {
    let options = Queue::options().segment_bytes(1 << 20);
    options.open(dir.path()).unwrap()
}

fn source(queue: &Queue) -> (Topic, Group) {
    let topic = queue.topic("t").unwrap();
    let options = GroupOptions::new().deliveries_max(0);
    let group = topic.group_with("bridge", options).unwrap();
    (topic, group)
}

/// Stores, and says every other time that it does not know.
struct Forgetful(Topic, AtomicU32);

impl Producer for Forgetful {
    async fn publish(&self, batch: Vec<Message>) -> Result<Vec<Receipt>, PublishError> {
        let stored = self.0.publish_all(batch).await?;
        if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return Err(PublishError::Unknown("the answer was lost".into()));
        }
        Ok(stored)
    }
}

#[tokio::test]
async fn each_message_is_copied_once_although_answers_are_lost_and_the_bridge_is_stopped() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (open(&a), open(&b));
    let (topic, group) = source(&here);
    let target = there.topic("t").unwrap();
    let bodies: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let message = |b: &String| {
        Message::new(b.clone())
            .key("k")
            .header("h", "1")
            .priority(3)
    };
    topic
        .publish_all(bodies.iter().map(message).collect())
        .await
        .unwrap();
    let ten = NonZeroUsize::new(10).unwrap();
    let mut taken = 0;
    for stop_after in [30, 60, 200] {
        let to = Forgetful(target.clone(), AtomicU32::new(0));
        let mut running = Bridge::new("a").batch(ten).start(group.clone(), to);
        // What is copied is settled, so this ends although a stop gives a batch back.
        while running.stats().copied + running.stats().duplicates + taken < stop_after {
            assert!(running.reached(running.stats().taken + 1).await);
        }
        let (done, ended) = running.stop().await;
        assert!(ended.is_none());
        assert_eq!(
            done.taken,
            done.copied + done.duplicates + done.dead + done.lost
        );
        assert!(done.retries > 0);
        assert_eq!(done.lost, 0);
        taken += done.copied + done.duplicates;
    }
    let got = target.group("g").unwrap().take(300).await.unwrap();
    let seen: Vec<_> = got.iter().map(|l| l.message().body().clone()).collect();
    assert_eq!(seen, bodies, "in order, each once");
    let first = got[0].message();
    assert_eq!(first.header_value("h").unwrap(), "1");
    assert_eq!(
        (first.priority_class(), &first.ordering_key().unwrap()[..]),
        (3, &b"k"[..])
    );
    assert_eq!(here.stats().group("t", "bridge").unwrap().acked, 200);
}

#[tokio::test]
async fn what_the_target_never_takes_is_a_dead_letter_and_its_neighbours_arrive() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let here = Queue::open(a.path()).unwrap();
    let there = Queue::options()
        .segment_bytes(64 << 10)
        .open(b.path())
        .unwrap();
    let (topic, group) = source(&here);
    let target = there.topic("t").unwrap();
    let batch = vec!["1".into(), vec![0_u8; 100_000].into(), "2".into()];
    topic.publish_all(batch).await.unwrap();
    let done = Bridge::new("a").step(&group, &target).await.unwrap();
    assert_eq!((done.taken, done.copied, done.dead), (3, 2, 1));
    let dead = here.topic("t.dead").unwrap().group("g").unwrap();
    let letter = dead.take(1).await.unwrap().pop().unwrap();
    let reason = letter.message().header_value(dead_header::REASON).unwrap();
    assert!(String::from_utf8_lossy(reason).contains("more than the bound"));
}

#[tokio::test]
async fn a_prefetch_holds_no_more_than_it_may_and_releases_what_nobody_took() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(&dir);
    let (topic, group) = source(&queue);
    topic
        .publish_all((0..20).map(|n| n.to_string().into()).collect())
        .await
        .unwrap();
    let leased = || queue.stats().group("t", "bridge").unwrap().leased;
    let settled = async |n: u64| {
        for _ in 0..500 {
            if leased() == n {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(leased(), n);
    };
    let ahead = Prefetch::new(group.clone(), NonZeroUsize::new(5).unwrap());
    settled(5).await;
    let first = ahead.receive(NonZeroUsize::new(3).unwrap()).await.unwrap();
    let bodies: Vec<_> = first.iter().map(|d| d.message().body().clone()).collect();
    assert_eq!(bodies, ["0", "1", "2"]);
    settled(8).await;
    for delivery in first {
        delivery.ack().await.unwrap();
    }
    drop(ahead);
    settled(0).await;
    let rest = group.take(20).await.unwrap();
    assert_eq!(rest.len(), 17);
    assert!(
        rest.iter().all(|l| l.attempt() == 1),
        "a release uses up no attempt"
    );
}

#[tokio::test]
async fn a_prefetch_tells_that_its_queue_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(&dir);
    let (_, group) = source(&queue);
    let ahead = Prefetch::new(group, NonZeroUsize::new(5).unwrap());
    queue.close();
    assert!(ahead.receive(NonZeroUsize::MIN).await.is_err());
    assert!(ahead.receive(NonZeroUsize::MIN).await.is_err());
}
