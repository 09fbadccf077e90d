//! mq beside embedded logs and stores, and beside the bare disk.

mod measure;
mod rivals;
mod space;

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use stackbeam_mq::{Durability, Group, GroupOptions, Message, Queue, Topic, TopicOptions};

use crate::kit::{Figure, Goal, Report};
use measure::{Contest, many_threads, percentile};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [(&str, usize); 2] = [("100 B", 100), ("1 KiB", 1024)];
/// A batch, as a producer makes that has more than one message to hand over.
const BATCH: usize = 100;

/// A queue of large segments in a directory of its own, and a topic without a bound.
struct Ours {
    topic: Topic,
    _dir: tempfile::TempDir,
}

impl Ours {
    fn new(durability: Durability) -> Result<Self> {
        let dir = measure::dir()?;
        let queue = Queue::options()
            .segment_bytes(64 << 20)
            .staged_bytes_max(64 << 20)
            .open(dir.path())?;
        let options = TopicOptions::new()
            .messages_max(u64::MAX)
            .bytes_max(u64::MAX)
            .durability(durability)
            .hold_without_groups(false);
        let topic = queue.topic_with("t", options)?;
        Ok(Self {
            topic,
            _dir: dir,
        })
    }

    fn group(&self, durability: Durability) -> Result<Group> {
        let options = GroupOptions::new().durability(durability);
        Ok(self.topic.group_with("g", options)?)
    }

    fn publish(&self, body: &[u8]) {
        self.topic
            .publish_blocking(body.to_vec())
            .expect("published");
    }

    fn publish_batch(&self, body: &[u8]) {
        self.topic
            .publish_all_blocking(batch(body))
            .expect("published");
    }
}

/// A message takes its body over, as the rivals take a slice: the bytes are there before.
fn batch(body: &[u8]) -> Vec<Message> {
    let one = Message::new(body.to_vec());
    (0..BATCH).map(|_| one.clone()).collect()
}

pub(super) fn figures(report: &mut Report<'_>) -> Result {
    if report.only_duels() {
        return Ok(());
    }
    one_producer(report)?;
    many_producers(report)?;
    batches(report)?;
    pipelines(report)?;
    consumers(report)?;
    space::figures(report)
}

/// What does a lone producer get of the disk's own pace, each message synced?
fn one_producer(report: &mut Report<'_>) -> Result {
    for (name, size) in SIZES {
        let body = vec![7; size];
        let ours = Ours::new(Durability::Synced)?;
        let mut raw = rivals::RawDisk::new(4096)?;
        let fjall = rivals::Fjall::new()?;
        let mut latencies = (Vec::new(), Vec::new());
        let mut contest = Contest::new();
        contest.add(1, |timed| {
            timed.each(&mut latencies.0, || ours.publish(&body))
        });
        contest.add(1, |timed| timed.each(&mut latencies.1, || raw.commit()));
        contest.add(1, |timed| timed.run(|| fjall.commit(&body, 1)));
        let rates = contest.rates();
        let how = "one thread, a window of 0.2 s each in turn, median of 9 windows";
        for (rival, rate, goal) in [
            ("raw 4 KiB write + fdatasync", rates[1], 0.95),
            ("fjall", rates[2], 1.0),
        ] {
            let figure = Figure::new(format!("one producer, {name}"), rates[0], "1/s");
            report.figure(
                figure
                    .more_is_better()
                    .against(rival, rate)
                    .goal(Goal::Times(goal))
                    .how(how),
            );
        }
        let p99 = [&mut latencies.0, &mut latencies.1].map(|all| percentile(all, 0.99));
        report.figure(
            Figure::new(format!("one producer, {name}, p99"), p99[0], "us")
                .against("raw 4 KiB write + fdatasync", p99[1])
                .goal(Goal::AtMostTimes(1.5))
                .how(how),
        );
    }
    Ok(())
}

/// Do many producers that each wait for their own message share the syncs?
fn many_producers(report: &mut Report<'_>) -> Result {
    for (name, size) in SIZES {
        let body = vec![7; size];
        let ours = Ours::new(Durability::Synced)?;
        let tasks = Ours::new(Durability::Synced)?;
        let raft = rivals::Raft::new()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let mut contest = Contest::new();
        contest.add(1, |timed| many_threads(64, timed, |_| ours.publish(&body)));
        contest.add(1, |timed| {
            let done = AtomicU64::new(0);
            let until = Instant::now() + timed.window;
            runtime.block_on(async {
                let local = tokio::task::LocalSet::new();
                let done = std::rc::Rc::new(done);
                for _ in 0..64 {
                    let (topic, body) = (tasks.topic.clone(), body.clone());
                    let done = std::rc::Rc::clone(&done);
                    local.spawn_local(async move {
                        while Instant::now() < until {
                            topic.publish(body.clone()).await.expect("published");
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                local.await;
                done.load(Ordering::Relaxed)
            })
        });
        contest.add(1, |timed| {
            many_threads(64, timed, |at| raft.commit(at, &body, 1))
        });
        let rates = contest.rates();
        for (who, rate, goal) in [("threads", rates[0], 1.5), ("tasks", rates[1], 2.5)] {
            report.figure(
                Figure::new(format!("64 {who}, {name}"), rate, "1/s")
                    .more_is_better()
                    .against("raft-engine, 64 threads", rates[2])
                    .goal(Goal::Times(goal))
                    .how("each waits for its own message; 9 windows of 0.2 s in turn"),
            );
        }
    }
    Ok(())
}

/// And a producer that hands over a hundred at a time?
fn batches(report: &mut Report<'_>) -> Result {
    for ((name, size), goal) in SIZES.into_iter().zip([1.1, 1.3]) {
        let body = vec![7; size];
        let ours = Ours::new(Durability::Synced)?;
        let okaywal = rivals::OkayWal::new()?;
        let raft = rivals::Raft::new()?;
        let mut contest = Contest::new();
        contest.add(BATCH, |timed| timed.run(|| ours.publish_batch(&body)));
        contest.add(BATCH, |timed| timed.run(|| okaywal.commit(&body, BATCH)));
        contest.add(BATCH, |timed| timed.run(|| raft.commit(0, &body, BATCH)));
        let rates = contest.rates();
        let best = if rates[1] >= rates[2] {
            ("okaywal", rates[1])
        } else {
            ("raft-engine", rates[2])
        };
        report.figure(
            Figure::new(format!("batches of 100, {name}"), rates[0], "1/s")
                .more_is_better()
                .against(best.0, best.1)
                .goal(Goal::Times(goal))
                .how("one thread, each batch synced; the best of okaywal and raft-engine"),
        );
    }
    Ok(())
}

/// How near do eight producers come to the bandwidth of the disk?
fn pipelines(report: &mut Report<'_>) -> Result {
    for (name, size) in SIZES {
        let body = vec![7; size];
        let ours = Ours::new(Durability::Synced)?;
        let mut raw = rivals::RawDisk::new(1 << 20)?;
        let mut contest = Contest::new();
        contest.add(BATCH, |timed| {
            many_threads(8, timed, |_| ours.publish_batch(&body))
        });
        contest.add(1, |timed| timed.run(|| raw.commit()));
        let rates = contest.rates();
        let figure =
            Figure::new(format!("8 producers x 100, {name}"), rates[0], "1/s").more_is_better();
        let how = "8 threads, each batch of 100 synced";
        report.figure(if size == 100 {
            figure.goal(Goal::AtLeast(3e6)).how(how)
        } else {
            let bandwidth = rates[1] * (1 << 20) as f64 / size as f64;
            figure
                .against("raw 1 MiB write + fdatasync, in messages", bandwidth)
                .goal(Goal::Times(0.6))
                .how(how)
        });
    }
    Ok(())
}

/// What does it cost to take and acknowledge, and to publish without waiting for the disk?
fn consumers(report: &mut Report<'_>) -> Result {
    let body = vec![7; 100];
    let lazy = Ours::new(Durability::Buffered)?;
    let written = Ours::new(Durability::Interval)?;
    let mut yaque = rivals::Yaque::new()?;
    let mut contest = Contest::new();
    contest.add(1, |timed| timed.run(|| lazy.publish(&body)));
    contest.add(1, |timed| timed.run(|| written.publish(&body)));
    contest.add(1, |timed| timed.run(|| yaque.send(&body)));
    let rates = contest.rates();
    for (level, rate, how) in [
        (
            "buffered",
            rates[0],
            "one call each; handed over in memory and written within 5 ms; yaque writes each",
        ),
        (
            "interval",
            rates[1],
            "one call each; written before it returns, as with yaque",
        ),
    ] {
        report.figure(
            Figure::new(format!("{level} publish, 100 B"), rate, "1/s")
                .more_is_better()
                .against("yaque", rates[2])
                .goal(Goal::Times(if level == "buffered" { 2.0 } else { 1.0 }))
                .how(how),
        );
    }
    let group = lazy.group(Durability::Buffered)?;
    let durable = Ours::new(Durability::Interval)?;
    let durable_group = durable.group(Durability::Synced)?;
    let raft = rivals::Raft::new()?;
    let mut contest = Contest::new();
    // A window is what it takes to work off what was put there before.
    contest.add(1, |timed| {
        (0..200).for_each(|_| lazy.publish_batch(&body));
        timed.restart();
        timed.until(20_000, || {
            let leases = group.take_blocking(1, None).expect("taken");
            for lease in leases {
                lease.ack_blocking().expect("acked");
            }
        })
    });
    contest.add(1, |timed| {
        (0..20_000).for_each(|_| yaque.send(&body));
        timed.restart();
        timed.until(20_000, || yaque.take())
    });
    contest.add(BATCH, |timed| {
        (0..2_000).for_each(|_| durable.publish_batch(&body));
        timed.restart();
        timed.until(2_000, || {
            let leases = durable_group.take_blocking(BATCH, None).expect("taken");
            durable_group.ack_all_blocking(leases).expect("acked");
        })
    });
    contest.add(BATCH, |timed| {
        (0..2_000).for_each(|n| raft.fill(n, &body, BATCH));
        timed.restart();
        let mut n = 0;
        timed.until(2_000, || {
            raft.take(n, BATCH);
            n += 1;
        })
    });
    let rates = contest.rates();
    report.figure(
        Figure::new("take + ack, one at a time, lazy, 100 B", rates[0], "1/s")
            .more_is_better()
            .against("yaque", rates[1])
            .goal(Goal::Times(2.0))
            .how("neither waits for a sync; ours hands attempt and ack over in memory, yaque keeps its place in memory"),
    );
    report.figure(
        Figure::new("take + durable ack, 100 at a time, 100 B", rates[2], "1/s")
            .more_is_better()
            .against("raft-engine", rates[3])
            .goal(Goal::Times(1.3))
            .how("read and acknowledged (deleted) with a sync a hundred"),
    );
    Ok(())
}
