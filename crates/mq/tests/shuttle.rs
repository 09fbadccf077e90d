//! Schedules of publishers, a consumer and the committer: `cargo xtask shuttle mq`.
//!
//! No time passes: who waits is woken, or the schedule ends in a deadlock, which is reported with the schedule.
#![cfg(shuttle)]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use shuttle::{future, thread};
use stackbeam_mq::sim::{Crash, Directory, SimDisk};
use stackbeam_mq::{Queue, TopicOptions, WhenFull};

const SCHEDULES: usize = 500;

fn check(body: fn()) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

fn open(disk: &SimDisk) -> Queue {
    let options = Queue::options().segment_bytes(64 << 10);
    options.open_on(disk.clone()).unwrap()
}

#[test]
fn whoever_waits_for_a_commit_is_woken_and_what_was_promised_is_on_the_disk() {
    check(|| {
        let disk = SimDisk::new(Directory::Ordered);
        let queue = open(&disk);
        let topic = queue.topic("t").unwrap();
        topic.group("g").unwrap();
        let on_threads = (0..2).map(|_| {
            let topic = topic.clone();
            thread::spawn(move || [(); 2].map(|()| topic.publish_blocking("b").unwrap().id))
        });
        let on_threads: Vec<_> = on_threads.collect();
        let task = {
            let topic = topic.clone();
            thread::spawn(move || future::block_on(topic.publish("a")).unwrap().id)
        };
        let mut promised: Vec<_> = (on_threads.into_iter())
            .flat_map(|t| t.join().unwrap())
            .collect();
        promised.push(task.join().unwrap());
        let cut = disk.crash(Crash::LoseAll, 0);
        queue.close();
        let again = open(&cut);
        let group = again.topic("t").unwrap().group("g").unwrap();
        let leases = group.take_blocking(10, None).unwrap();
        let mut found: Vec<_> = leases.iter().map(stackbeam_mq::Lease::id).collect();
        promised.sort();
        found.sort();
        assert_eq!(found, promised);
        drop(leases);
        again.close();
    });
}

#[test]
fn a_full_topic_and_an_empty_group_wake_those_who_wait() {
    check(|| {
        let queue = open(&SimDisk::new(Directory::Ordered));
        let options = TopicOptions::new()
            .messages_max(1)
            .when_full(WhenFull::Wait);
        let topic = queue.topic_with("t", options).unwrap();
        let group = topic.group("g").unwrap();
        let publishers = [(); 2].map(|()| {
            let topic = topic.clone();
            thread::spawn(move || topic.publish_blocking("x").unwrap())
        });
        let consumer = thread::spawn(move || {
            let mut ids = Vec::new();
            while ids.len() < 2 {
                for lease in group.take_blocking(1, None).unwrap() {
                    ids.push(lease.id());
                    lease.ack_blocking().unwrap();
                }
            }
            ids
        });
        publishers.map(|p| p.join().unwrap());
        let ids = consumer.join().unwrap();
        assert_ne!(ids[0], ids[1]);
        let stats = queue.stats();
        let g = stats.group("t", "g").unwrap();
        assert_eq!((g.published, g.acked), (2, 2));
        queue.close();
    });
}
