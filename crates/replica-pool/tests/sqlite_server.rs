//! The shell around SQLite copies: group commit, following, readers that wait, late applies.
#![cfg(all(feature = "sqlite", feature = "tokio"))]

use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use stackbeam_replica_pool::sqlite::{
    Apply, Copy, CopyOptions, Peers, Piece, Pull, ReadError, Server, ServerOptions, Shipment,
    SnapshotId, WriteError,
};
use stackbeam_replica_pool::{Action, MemberId, Role};

/// Adds up; each answer is the sum so far.
struct Sum;

impl Apply for Sum {
    type Answer = i64;

    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch("CREATE TABLE IF NOT EXISTS terms (n INTEGER NOT NULL)")
    }

    fn apply(&mut self, tx: &Transaction<'_>, _lsn: u64, command: &[u8]) -> rusqlite::Result<i64> {
        tx.execute("INSERT INTO terms VALUES (?)", [command.len()])?;
        sum(tx)
    }
}

fn sum(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(sum(n), 0) FROM terms", [], |row| {
        row.get(0)
    })
}

type Servers = Arc<Vec<OnceLock<Server<Sum>>>>;

/// Calls within this process. A copy that is not there does not answer.
struct Here(Weak<Vec<OnceLock<Server<Sum>>>>);

impl Here {
    fn server(&self, member: MemberId) -> Option<Server<Sum>> {
        self.0.upgrade()?.get(usize::from(member))?.get().cloned()
    }
}

impl Peers for Here {
    async fn pull(&self, member: MemberId, pull: Pull) -> Option<Shipment> {
        Some(self.server(member)?.pull(pull).await)
    }

    async fn piece(&self, member: MemberId, id: Option<SnapshotId>, offset: u64) -> Option<Piece> {
        self.server(member)?.piece(id, offset).await
    }
}

struct Cluster {
    dir: tempfile::TempDir,
    servers: Servers,
    kept: u64,
}

impl Cluster {
    fn new(kept: u64) -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
            servers: Arc::new((0..3).map(|_| OnceLock::new()).collect()),
            kept,
        }
    }

    fn start(&self, member: MemberId) -> Server<Sum> {
        let options = CopyOptions {
            kept: self.kept,
            ..CopyOptions::new(member, 3)
        };
        let dir = self.dir.path().join(member.to_string());
        let copy = Copy::open(&dir, options, Sum).expect("a copy");
        let here = Here(Arc::downgrade(&self.servers));
        let options = ServerOptions {
            commit_wait_max: Duration::from_millis(500),
            ..ServerOptions::default()
        };
        let server = Server::start(copy, here, options).expect("a thread");
        assert!(
            self.servers[usize::from(member)]
                .set(server.clone())
                .is_ok()
        );
        server
    }

    /// All three, with copy 0 as the primary of epoch 1.
    async fn reigned(kept: u64, up: MemberId) -> (Self, Vec<Server<Sum>>) {
        let cluster = Self::new(kept);
        let servers: Vec<_> = (0..up).map(|id| cluster.start(id)).collect();
        for (member, server) in (0..).zip(&servers) {
            let fence = Action::Fence {
                member,
                epoch: 1,
                claimant: 5,
            };
            assert_eq!(server.perform(fence).await.expect("evidence").epoch, 1);
        }
        let promote = Action::Promote {
            member: 0,
            epoch: 1,
            claimant: 5,
        };
        let evidence = servers[0].perform(promote).await.expect("evidence");
        assert_eq!(evidence.role, Role::Primary);
        for (member, server) in (0..).zip(&servers).skip(1) {
            server.perform(follow(member)).await.expect("evidence");
        }
        (cluster, servers)
    }
}

fn follow(member: MemberId) -> Action {
    Action::Follow {
        member,
        epoch: 1,
        primary: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_syncs_and_each_gets_the_answer_to_its_own_command() {
    let (_cluster, servers) = Cluster::reigned(1_000, 3).await;
    let writers: Vec<_> = (0..200)
        .map(|_| {
            let server = servers[0].clone();
            tokio::spawn(async move { server.write(vec![0; 3]).await.expect("a majority") })
        })
        .collect();
    let mut answers = Vec::new();
    for writer in writers {
        answers.push(writer.await.expect("no panic"));
    }
    answers.sort_unstable();
    // Each command added three, in the order of the log.
    let sums: Vec<i64> = answers.iter().map(|(_, sum)| *sum).collect();
    assert_eq!(sums, (1..=200).map(|n| 3 * n).collect::<Vec<_>>());
    let last = answers.last().expect("200").0;
    for server in &servers {
        let (at, found) = server
            .read(last, Duration::from_secs(5), sum)
            .await
            .expect("it gets there");
        assert!(at >= last);
        assert_eq!(found, 600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_majority_has_no_known_outcome_and_shows_to_nobody() {
    let (_cluster, servers) = Cluster::reigned(1_000, 1).await;
    assert_eq!(servers[0].write(vec![0; 3]).await, Err(WriteError::Unknown));
    let (_, found) = servers[0]
        .read(0, Duration::ZERO, sum)
        .await
        .expect("a state");
    assert_eq!(found, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_refuses_writes_and_says_whom_it_follows() {
    let (_cluster, servers) = Cluster::reigned(1_000, 3).await;
    assert_eq!(
        servers[2].write(vec![0]).await,
        Err(WriteError::NotPrimary { primary: Some(0) })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_starts_late_fetches_a_snapshot_and_follows_on() {
    let (cluster, servers) = Cluster::reigned(5, 2).await;
    for _ in 0..40 {
        servers[0].write(vec![0; 2]).await.expect("a majority");
    }
    let late = cluster.start(2);
    late.perform(follow(2)).await.expect("evidence");
    let (last, _) = servers[0].write(vec![0; 2]).await.expect("a majority");
    let (_, found) = late
        .read(last, Duration::from_secs(5), sum)
        .await
        .expect("it gets there");
    assert_eq!(found, 82);
    // The snapshot may hold the last record already: its vote comes with the answer to the next pull.
    let voted = async {
        while !late.evidence().voter {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), voted)
        .await
        .expect("it votes");
    let left: Vec<_> = std::fs::read_dir(cluster.dir.path().join("2"))
        .expect("its folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("incoming") || name.starts_with("snapshot"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_replica_says_where_it_is_and_catches_up_when_the_lag_ends() {
    let (_cluster, servers) = Cluster::reigned(1_000, 3).await;
    servers[1].set_lag(Duration::from_secs(60));
    let (last, _) = servers[0].write(vec![0; 4]).await.expect("a majority");
    // It has the record on disk, as the primary's receipts show, and does not show it yet.
    match servers[1].read(last, Duration::from_millis(30), sum).await {
        Err(ReadError::Behind { applied }) => assert!(applied < last),
        other => panic!("{other:?}"),
    }
    servers[1].set_lag(Duration::ZERO);
    let (_, found) = servers[1]
        .read(last, Duration::from_secs(5), sum)
        .await
        .expect("it gets there");
    assert_eq!(found, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_are_dropped_at_any_point_leave_a_server_that_goes_on() {
    let (_cluster, servers) = Cluster::reigned(1_000, 3).await;
    for polls in 0..6 {
        let mut write = pin!(servers[0].write(vec![0; 1]));
        for _ in 0..polls {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(answer) = write.as_mut().poll(&mut context) {
                answer.expect("a majority");
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // Whatever became of those, each is in the state at most once.
    let (_, total) = servers[0].write(vec![0; 100]).await.expect("a majority");
    assert!((100..=106).contains(&total), "{total}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_end_with_the_last_handle() {
    let (cluster, servers) = Cluster::reigned(1_000, 3).await;
    let dir = cluster.dir.path().join("1");
    drop(servers);
    drop(cluster.servers);
    // The copy's log is locked by whoever has it open.
    let reopened = async {
        while Copy::open(&dir, CopyOptions::new(1, 3), Sum).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reopened)
        .await
        .expect("the copy is closed");
}
