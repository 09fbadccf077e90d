//! What a backlog costs: memory, disk, and the time to open it.

use std::{
    fs,
    hint::black_box,
    io,
    path::Path,
    time::{Duration, Instant},
};

use stackbeam_mq::{Durability, GroupOptions, Message, Queue, TopicOptions, wheel::Wheel};

use super::{Result, batch, measure};
use crate::kit::{Duel, Figure, Goal, Report, heap_bytes, keys};

const BACKLOG: usize = 1_000_000;

fn unbounded() -> TopicOptions {
    TopicOptions::new()
        .messages_max(u64::MAX)
        .bytes_max(u64::MAX)
        .durability(Durability::Interval)
}

pub(super) fn figures(report: &mut Report<'_>) -> Result {
    backlog(report)?;
    stuck(report)?;
    delays(report);
    Ok(())
}

/// Copies what a killed process would leave. The writer may rename a spare meanwhile: then again, since
/// that would be the state of no moment.
fn killed(from: &Path) -> Result<tempfile::TempDir> {
    let copy = || -> io::Result<tempfile::TempDir> {
        let dir = measure::dir()?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), dir.path().join(entry.file_name()))?;
        }
        Ok(dir)
    };
    let raced = |done: &io::Result<tempfile::TempDir>| {
        (done.as_ref()).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let mut done = copy();
    for _ in 0..20 {
        if !raced(&done) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        done = copy();
    }
    Ok(done?)
}

/// How long does it take to open after a kill -9 with a million waiting, and what does each cost?
fn backlog(report: &mut Report<'_>) -> Result {
    let dir = measure::dir()?;
    let queue = Queue::open(dir.path())?;
    let topic = queue.topic_with("t", unbounded())?;
    topic.group_with("g", GroupOptions::new().in_flight_max(u32::MAX))?;
    for _ in 0..BACKLOG / 100 {
        topic.publish_all_blocking(batch(&[7; 100]))?;
    }
    let left = killed(dir.path())?;
    queue.close();
    let mut open = Vec::new();
    for _ in 0..5 {
        // Each open leaves a mark: another copy each time.
        let copy = killed(left.path())?;
        let start = Instant::now();
        let queue = Queue::open(copy.path())?;
        open.push(start.elapsed().as_secs_f64() * 1e3);
        black_box(&queue);
    }
    let copy = killed(left.path())?;
    let (bytes, queue) = heap_bytes(|| Queue::open(copy.path()));
    let queue = queue?;
    let waiting = queue.stats().group("t", "g").map_or(0, |g| g.ready);
    let mut redb_open = Vec::new();
    let redb = measure::dir()?;
    redb_fill(&redb.path().join("db"))?;
    for _ in 0..5 {
        let copy = killed(redb.path())?;
        let start = Instant::now();
        let db = redb::Database::open(copy.path().join("db"))?;
        redb_open.push(start.elapsed().as_secs_f64() * 1e3);
        drop(db);
    }
    report.figure(
        Figure::new(
            "open after kill -9, 1 000 000 x 100 B",
            measure::percentile(&mut open, 0.5),
            "ms",
        )
        .against("redb", measure::percentile(&mut redb_open, 0.5))
        .goal(Goal::AtMost(50.0))
        .how("files as they are while the writer still runs, copied; median of 5"),
    );
    report.figure(
        Figure::new("memory kept by that open", bytes as f64 / 1e6, "MB")
            .goal(Goal::AtMost(24.0))
            .how("bytes on the heap after the open"),
    );
    report.figure(
        Figure::new(
            "memory a waiting message",
            bytes as f64 / waiting.max(1) as f64,
            "B",
        )
        .goal(Goal::AtMost(1.0))
        .how("the same, divided by the messages"),
    );
    in_flight(report)
}

/// What does a message cost the queue that is with a consumer?
fn in_flight(report: &mut Report<'_>) -> Result {
    const TAKEN: usize = 200_000;
    for (name, max) in [("", 1_000), (", taken one by one", 1)] {
        let dir = measure::dir()?;
        let queue = Queue::open(dir.path())?;
        let topic = queue.topic_with("t", unbounded())?;
        let group = topic.group_with("g", GroupOptions::new().in_flight_max(u32::MAX))?;
        for _ in 0..TAKEN / 100 {
            // Without a body, for a body that somebody holds is not the queue's cost.
            topic.publish_all_blocking(batch(&[]))?;
        }
        let (kept, ()) = heap_bytes(|| {
            let mut count = 0;
            while count < TAKEN {
                let leases = group.take_blocking(max, None).expect("taken");
                count += leases.len();
                // The handles are the consumer's; forgotten, they leave nothing on the heap.
                leases.into_iter().for_each(std::mem::forget);
            }
        });
        report.figure(
            Figure::new(
                format!("memory an in-flight message{name}"),
                kept as f64 / TAKEN as f64,
                "B",
            )
            .goal(Goal::AtMost(64.0))
            .how("bytes on the heap after 200 000 leases less those before; empty bodies, whose frames nobody keeps"),
        );
    }
    Ok(())
}

fn redb_fill(file: &Path) -> Result {
    const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("q");
    let db = redb::Database::create(file)?;
    for chunk in 0..BACKLOG as u64 / 10_000 {
        let write = db.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for n in 0..10_000 {
                table.insert(chunk * 10_000 + n, &[7_u8; 100][..])?;
            }
        }
        write.commit()?;
    }
    // As a killed process leaves it.
    std::mem::forget(db);
    Ok(())
}

/// Does one stuck message hold the disk?
fn stuck(report: &mut Report<'_>) -> Result {
    let dir = measure::dir()?;
    let queue = Queue::open(dir.path())?;
    let topic = queue.topic_with("t", unbounded())?;
    let group = topic.group_with("g", GroupOptions::new().durability(Durability::Interval))?;
    topic.publish_blocking(Message::new("stuck").delay(Duration::from_secs(3600)))?;
    let mut done = 0;
    while done < 10_000_000 {
        topic.publish_all_blocking((0..1_000).map(|_| Message::new(vec![7; 20])).collect())?;
        let leases = group.take_blocking(1_000, None)?;
        done += leases.len();
        group.ack_all_blocking(leases)?;
    }
    let mut disk = 0;
    for entry in fs::read_dir(dir.path())? {
        disk += entry?.metadata()?.len();
    }
    let segment = f64::from(16 << 20);
    report.figure(
        Figure::new(
            "disk of one stuck message under 10 000 000",
            disk as f64 / segment,
            "segments",
        )
        .goal(Goal::AtMost(3.01))
        .how("all files of the directory, in segments of 16 MiB: three of those, a block of live bytes, and two snapshots of a few hundred bytes"),
    );
    Ok(())
}

/// What does a delay cost, from arming to firing?
fn delays(report: &mut Report<'_>) {
    const COUNT: usize = 1_000_000;
    let times: Vec<u64> = keys(5).take(COUNT).map(|k| k % 3_600_000_000).collect();
    Duel::new("1 000 000 delays, arm and fire", COUNT as u64, || {
        let mut wheel = Wheel::new(0);
        for (n, at) in (0..).zip(&times) {
            wheel.arm(*at, n);
        }
        let mut fired = 0_u64;
        for now in (0..=3_600).map(|s| s * 1_000_000) {
            wheel.fire(now, |_, n| fired += n & 1);
        }
        assert!(wheel.is_empty());
        black_box(fired);
    })
    .against("binary heap", || {
        let mut heap = std::collections::BinaryHeap::new();
        for (n, at) in (0_u64..).zip(&times) {
            heap.push(std::cmp::Reverse((*at, n)));
        }
        let mut fired = 0;
        while let Some(std::cmp::Reverse((_, n))) = heap.pop() {
            fired += n & 1;
        }
        black_box(fired);
    })
    .goal(Goal::AtMost(80.0))
    .rounds(5)
    .how("due within an hour, fired second by second")
    .run(report);
}
