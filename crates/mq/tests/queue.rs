//! Stories of the embedded queue on a real directory.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::time::Duration;

use stackbeam_mq::{
    GroupOptions, Message, PublishError, Queue, SettleError, TopicOptions, WhenFull, dead_header,
};

const SHORT: Option<Duration> = Some(Duration::from_millis(50));
const LONG: Option<Duration> = Some(Duration::from_secs(5));

fn queue() -> (tempfile::TempDir, Queue) {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::options()
        .segment_bytes(1 << 20)
        .open(dir.path())
        .unwrap();
    (dir, queue)
}

fn check(queue: &Queue) {
    for t in queue.stats().topics {
        for g in t.groups {
            assert_eq!(
                g.published,
                g.acked + g.ready + g.leased + g.delayed + g.dead,
                "{g:?}"
            );
        }
    }
}

#[test]
fn what_was_published_is_taken_in_order_and_not_again_after_a_reopen() {
    let (dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    for n in 0..100 {
        topic.publish_blocking(format!("{n}")).unwrap();
    }
    let group = topic.group("g").unwrap();
    let first = group.take_blocking(40, LONG).unwrap();
    let bodies: Vec<_> = first.iter().map(|l| l.message().body().clone()).collect();
    assert_eq!(
        bodies,
        (0..40)
            .map(|n| n.to_string().into_bytes())
            .collect::<Vec<_>>()
    );
    for lease in first {
        lease.ack_blocking().unwrap();
    }
    check(&queue);
    drop((topic, group));
    queue.close();
    drop(queue);

    let queue = Queue::options()
        .segment_bytes(1 << 20)
        .open(dir.path())
        .unwrap();
    let group = queue.topic("t").unwrap().group("g").unwrap();
    let rest = group.take_blocking(1000, LONG).unwrap();
    assert_eq!(rest.len(), 60);
    assert_eq!(rest[0].message().body().as_ref(), b"40");
    check(&queue);
}

#[test]
fn a_second_opener_is_kept_out() {
    let (dir, _queue) = queue();
    assert!(matches!(
        Queue::open(dir.path()),
        Err(stackbeam_mq::OpenError::Locked)
    ));
}

#[test]
fn a_lease_that_ends_gives_the_message_to_somebody_else_and_the_late_ack_is_told() {
    let (_dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let group = topic
        .group_with("g", GroupOptions::new().lease(Duration::from_millis(30)))
        .unwrap();
    topic.publish_blocking("x").unwrap();
    let late = group.take_blocking(1, LONG).unwrap().pop().unwrap();
    let again = group.take_blocking(1, LONG).unwrap().pop().unwrap();
    assert_eq!((late.id(), again.attempt()), (again.id(), 2));
    assert!(matches!(late.ack_blocking(), Err(SettleError::LeaseLost)));
    again.ack_blocking().unwrap();
    assert!(group.take_blocking(1, SHORT).unwrap().is_empty());
    check(&queue);
}

#[test]
fn an_extended_lease_outlives_its_first_end() {
    let (_dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let group = topic
        .group_with("g", GroupOptions::new().lease(Duration::from_millis(40)))
        .unwrap();
    topic.publish_blocking("x").unwrap();
    let mut lease = group.take_blocking(1, LONG).unwrap().pop().unwrap();
    lease.extend(Duration::from_secs(30)).unwrap();
    assert!(
        group
            .take_blocking(1, Some(Duration::from_millis(100)))
            .unwrap()
            .is_empty()
    );
    lease.ack_blocking().unwrap();
}

#[test]
fn a_poison_message_goes_to_the_dead_letters_with_its_reason_and_comes_back_by_redrive() {
    let (_dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let group = topic
        .group_with("g", GroupOptions::new().deliveries_max(2))
        .unwrap();
    topic
        .publish_blocking(Message::new("poison").header("a", "b"))
        .unwrap();
    topic.publish_blocking("good").unwrap();
    for lease in group.take_blocking(2, LONG).unwrap() {
        lease.nack_blocking(Duration::ZERO).unwrap();
    }
    // The last delivery of each comes alone.
    let last = group.take_blocking(10, LONG).unwrap();
    assert_eq!((last.len(), last[0].attempt()), (1, 2));
    drop(last);
    let other = group.take_blocking(10, LONG).unwrap().pop().unwrap();
    assert_eq!(other.message().body().as_ref(), b"good");
    other.ack_blocking().unwrap();

    let dead = queue.topic("t.dead").unwrap();
    let looker = dead.group("looker").unwrap();
    let letter = looker.take_blocking(1, LONG).unwrap().pop().unwrap();
    assert_eq!(letter.message().body().as_ref(), b"poison");
    assert_eq!(letter.message().header_value("a").unwrap().as_ref(), b"b");
    let reason = letter.message().header_value(dead_header::REASON).unwrap();
    assert_eq!(reason.as_ref(), b"2 deliveries without success");
    drop(letter);
    check(&queue);
    let stats = queue.stats();
    assert_eq!(stats.group("t", "g").unwrap().dead, 1);

    dead.publish_blocking(Message::new("never died")).unwrap();
    assert_eq!(dead.redrive(10).unwrap(), 1);
    assert_eq!(dead.redrive(10).unwrap(), 0);
    let back = group.take_blocking(1, LONG).unwrap().pop().unwrap();
    assert_eq!(
        (back.message().body().as_ref(), back.attempt()),
        (&b"poison"[..], 1)
    );
    back.ack_blocking().unwrap();
    check(&queue);
}

#[test]
fn a_dedup_id_stores_once_also_after_a_reopen() {
    let (dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let first = topic
        .publish_blocking(Message::new("x").dedup_id("1"))
        .unwrap();
    let second = topic
        .publish_blocking(Message::new("x").dedup_id("1"))
        .unwrap();
    assert_eq!(
        (first.id, first.duplicate, second.duplicate),
        (second.id, false, true)
    );
    drop(topic);
    queue.close();
    let queue = Queue::options()
        .segment_bytes(1 << 20)
        .open(dir.path())
        .unwrap();
    let topic = queue.topic("t").unwrap();
    assert!(
        topic
            .publish_blocking(Message::new("x").dedup_id("1"))
            .unwrap()
            .duplicate
    );
    assert_eq!(queue.stats().topics[0].published, 1);
}

#[test]
fn a_full_topic_gives_the_messages_back_or_waits() {
    let (_dir, queue) = queue();
    let refuse = TopicOptions::new()
        .messages_max(2)
        .when_full(WhenFull::Refuse);
    let topic = queue.topic_with("t", refuse).unwrap();
    let group = topic.group("g").unwrap();
    topic.publish_blocking("1").unwrap();
    topic.publish_blocking("2").unwrap();
    match topic.publish_blocking("3") {
        Err(PublishError::Full { messages, waiting }) => {
            assert_eq!((messages[0].body().as_ref(), waiting), (&b"3"[..], 2));
        }
        other => panic!("{other:?}"),
    }
    let waiting = queue
        .topic_with("w", TopicOptions::new().messages_max(1))
        .unwrap();
    let takes = waiting.group("g").unwrap();
    waiting.publish_blocking("1").unwrap();
    let publisher = std::thread::spawn(move || waiting.publish_blocking("2"));
    let first = takes.take_blocking(1, LONG).unwrap().pop().unwrap();
    assert!(!publisher.is_finished());
    first.ack_blocking().unwrap();
    publisher.join().unwrap().unwrap();
    drop(group);
    check(&queue);
}

#[test]
fn delays_priorities_and_keys_decide_the_order() {
    let (_dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let group = topic
        .group_with("g", GroupOptions::new().ordered_keys(true))
        .unwrap();
    topic
        .publish_blocking(Message::new("later").delay(Duration::from_millis(80)))
        .unwrap();
    topic.publish_blocking(Message::new("k1").key("k")).unwrap();
    topic.publish_blocking(Message::new("k2").key("k")).unwrap();
    topic
        .publish_blocking(Message::new("urgent").priority(7))
        .unwrap();
    let got = group.take_blocking(10, LONG).unwrap();
    let bodies: Vec<_> = got
        .iter()
        .map(|l| l.message().body().as_ref().to_vec())
        .collect();
    assert_eq!(bodies, [b"urgent".to_vec(), b"k1".to_vec()]);
    check(&queue);
    let k1 = got.into_iter().nth(1).unwrap();
    k1.nack_blocking(Duration::from_millis(120)).unwrap();
    // k2 waits behind the retry of k1.
    let order: Vec<_> = (0..4)
        .filter_map(|_| {
            group
                .take_blocking(1, Some(Duration::from_millis(400)))
                .unwrap()
                .pop()
        })
        .map(|l| {
            let body = l.message().body().to_vec();
            l.ack_blocking().unwrap();
            body
        })
        .collect();
    let at = |b: &[u8]| order.iter().position(|o| o == b);
    assert!(at(b"k1").unwrap() < at(b"k2").unwrap(), "{order:?}");
    assert!(at(b"later").is_some());
    check(&queue);
}

#[test]
fn fan_out_gives_every_group_the_messages_from_its_start_on() {
    let (_dir, queue) = queue();
    let topic = queue
        .topic_with("revoked", TopicOptions::fan_out())
        .unwrap();
    topic.publish_blocking("before").unwrap();
    let a = topic
        .group_with("web-a", GroupOptions::broadcast())
        .unwrap();
    let b = topic
        .group_with("web-b", GroupOptions::broadcast())
        .unwrap();
    topic.publish_blocking("after").unwrap();
    for group in [a, b] {
        let lease = group.take_blocking(10, LONG).unwrap().pop().unwrap();
        assert_eq!(lease.message().body().as_ref(), b"after");
        lease.ack_blocking().unwrap();
    }
    assert_eq!(queue.stats().topics[0].held, 0);
}

#[test]
fn a_batch_too_large_for_a_frame_is_given_back() {
    let (_dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let Err(PublishError::TooLarge { messages, .. }) = topic.publish_blocking(vec![0_u8; 1 << 20])
    else {
        panic!()
    };
    assert_eq!(messages[0].body().len(), 1 << 20);
}

#[test]
fn many_publishers_share_syncs_and_the_log_is_recycled() {
    let (dir, queue) = queue();
    let topic = queue.topic("t").unwrap();
    let group = topic.group("g").unwrap();
    let publishers: Vec<_> = (0..8)
        .map(|p| {
            let topic = topic.clone();
            std::thread::spawn(move || {
                for n in 0..100 {
                    topic
                        .publish_blocking(format!("{p}/{n}/{}", "x".repeat(8000)))
                        .unwrap();
                }
            })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 800 {
        for lease in group.take_blocking(100, LONG).unwrap() {
            assert!(seen.insert(lease.message().body().clone()));
            lease.ack_blocking().unwrap();
        }
    }
    for p in publishers {
        p.join().unwrap();
    }
    check(&queue);
    let bytes: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    // More than 12 MiB went through. Two segments to replay, the current one, the next, two spares, snapshots.
    assert!(bytes <= 8 << 20, "{bytes} bytes on disk for an empty queue");
}
