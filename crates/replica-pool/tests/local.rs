//! Coordinator, pool and SQLite copies together, in real time.
#![cfg(all(feature = "sqlite", feature = "tokio"))]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use stackbeam_replica_pool::sqlite::{Apply, Local, ReadError, ServerOptions, WriteError};
use stackbeam_replica_pool::{
    Coordinator, CoordinatorOptions, Engine, Freshness, MemberId, Outcome, Pool, PoolOptions,
};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(15);

/// Remembers numbers.
struct Numbers;

impl Apply for Numbers {
    type Answer = ();

    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)")
    }

    fn apply(&mut self, tx: &Transaction<'_>, _: u64, command: &[u8]) -> rusqlite::Result<()> {
        let n = String::from_utf8_lossy(command);
        tx.execute("INSERT OR IGNORE INTO numbers VALUES (?)", [n])?;
        Ok(())
    }
}

fn numbers(db: &Connection) -> rusqlite::Result<BTreeSet<u64>> {
    db.prepare("SELECT n FROM numbers")?
        .query_map([], |row| row.get(0))?
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_copy_costs_a_moment_and_nothing_acknowledged_and_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let copies = Local::start(dir.path(), 3, ServerOptions::default(), || Numbers);
    let copies = copies.expect("three copies");
    let options = CoordinatorOptions::default();
    let coordinator = Coordinator::start(Arc::clone(&copies), 0..3, options, |_| {});
    let options = PoolOptions {
        wait_max: PATIENCE,
        ..PoolOptions::default()
    };
    let pool = Pool::new(Arc::clone(&copies), 0..3, options);
    let writer = |first: u64| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut position = 0;
            for n in first..first + 150 {
                loop {
                    let lease = pool.write().await.expect("a primary in time");
                    match lease.write(n.to_string().into_bytes()).await {
                        Ok((at, ())) => {
                            position = at;
                            lease.finish(Outcome::At(at));
                            break;
                        }
                        Err(_) => lease.finish(Outcome::Broken),
                    }
                }
                // What this writer has written it reads, wherever.
                let lease = pool
                    .read(Freshness::AtLeast(position))
                    .await
                    .expect("a copy");
                match lease.read(position, Duration::from_secs(1), numbers).await {
                    Ok((at, found)) => {
                        assert!(at >= position && found.contains(&n), "{n} is missing");
                        lease.finish(Outcome::At(at));
                    }
                    Err(_) => lease.finish(Outcome::Broken),
                }
            }
            position
        })
    };
    let writers = [writer(0), writer(1_000), writer(2_000)];
    sleep(Duration::from_millis(300)).await;
    let mut killed: Vec<MemberId> = Vec::new();
    for _ in 0..2 {
        let mut watch = coordinator.watch();
        let reigns = timeout(PATIENCE, watch.reigns(None))
            .await
            .expect("in time");
        let primary = reigns.expect("it lives").primary.expect("it reigns");
        copies.kill(primary).await;
        killed.push(primary);
        sleep(Duration::from_millis(300)).await;
        copies.open(primary, Numbers).expect("it opens again");
        copies.open(primary, Numbers).expect("nothing to do");
        sleep(Duration::from_millis(200)).await;
    }
    let mut last = 0;
    for writer in writers {
        last = last.max(writer.await.expect("no panic"));
    }
    for member in 0..3 {
        let copy = copies.server(member).expect("it runs");
        let (_, found) = copy
            .read(last, PATIENCE, numbers)
            .await
            .expect("it gets there");
        let all = (0..3).flat_map(|block| block * 1_000..block * 1_000 + 150);
        assert_eq!(found, all.collect::<BTreeSet<u64>>(), "copy {member}");
    }
    let situation = coordinator.situation();
    assert!(
        situation.stats.promotions >= 3,
        "{situation:?}, killed {killed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_killed_copy_says_that_it_does_not_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let copies = Local::start(dir.path(), 1, ServerOptions::default(), || Numbers);
    let copies = copies.expect("a copy");
    let connection = copies.connect(0).await.expect("a connection");
    copies.kill(0).await;
    copies.kill(0).await;
    assert_eq!(
        connection.write(Vec::new()).await,
        Err(WriteError::Unusable)
    );
    let read = connection.read(0, Duration::ZERO, numbers).await;
    assert_eq!(read, Err(ReadError::Gone));
    let error = copies.connect(0).await.expect_err("nobody is there");
    assert_eq!(error.to_string(), "copy 0 does not run");
    assert!(copies.connect(9).await.is_err());
    assert!(copies.server(9).is_none());
}
