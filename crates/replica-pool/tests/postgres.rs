//! The PostgreSQL engine against real servers: a primary and two streaming replicas.
#![cfg(feature = "postgres")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stackbeam_replica_pool::postgres::{Postgres, PostgresError, PostgresOptions, ServerAddress};
use stackbeam_replica_pool::{
    Action, Coordinator, Engine, Evidence, Freshness, MemberId, Outcome, Pool, PoolError,
    PoolOptions, Role, ViewConfig,
};
use stackbeam_test_support::postgres::{Cluster, Options};
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn servers() -> Cluster {
    Options::new()
        .replicas(2)
        .setting("wal_retrieve_retry_interval = '100ms'")
        .start()
        .expect("Postgres and two replicas")
}

fn engine(cluster: &Cluster) -> Arc<Postgres> {
    engine_with(cluster, PostgresOptions::default())
}

fn engine_with(cluster: &Cluster, options: PostgresOptions) -> Arc<Postgres> {
    let servers = cluster
        .nodes()
        .iter()
        .map(|node| ServerAddress::new(node.url()));
    Arc::new(Postgres::new(servers, options).expect("addresses"))
}

fn coordinate(engine: &Arc<Postgres>) -> Coordinator {
    let options = Postgres::coordinator_options();
    Coordinator::start(Arc::clone(engine), 0..3, options, |_| {})
}

async fn probe(engine: &Postgres, member: MemberId) -> Evidence {
    let answer = engine.perform(&Action::Probe { member }).await;
    answer.expect("the server answers")
}

/// Until a primary of `epoch` reigns and so many servers, it included, play their part.
async fn settled(coordinator: &Coordinator, epoch: u64, answering: usize) -> MemberId {
    let mut watch = coordinator.watch();
    let follow = async {
        loop {
            let now = watch.now();
            let followers = now.copies.iter().filter(|copy| {
                copy.alive
                    && copy.evidence.as_ref().is_some_and(|evidence| {
                        evidence.following.is_some() && evidence.following == now.primary
                    })
            });
            if followers.count() + 1 >= answering
                && let Some(reigning) = now.primary
                && now.epoch == epoch
            {
                return reigning;
            }
            watch.changed().await.expect("the coordinator lives");
        }
    };
    timeout(PATIENCE, follow).await.expect("in time")
}

fn count(cluster: &Cluster, node: usize) -> u64 {
    let text = cluster[node]
        .sql("SELECT count(*) FROM notes")
        .expect("rows");
    text.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn reads_follow_the_lag_and_never_miss_the_readers_own_write() {
    let cluster = servers();
    let engine = engine(&cluster);
    engine.bootstrap().await.expect("epoch 1");
    engine.bootstrap().await.expect("nothing more to do");
    let coordinator = coordinate(&engine);
    assert_eq!(settled(&coordinator, 1, 3).await, 0);
    let options = PoolOptions {
        view: ViewConfig {
            lag_max: Duration::from_millis(800),
            ..ViewConfig::default()
        },
        probe_every: Duration::from_millis(100),
        ..PoolOptions::default()
    };
    let pool = Pool::new(Arc::clone(&engine), 0..3, options);
    let lease = pool.write().await.expect("the primary");
    assert_eq!((lease.member(), lease.epoch()), (0, 1));
    lease
        .batch_execute("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .await
        .expect("a table");
    lease.good();

    let (mut by_replica, mut worst) = (0, Duration::ZERO);
    for n in 0..200_i64 {
        let lease = pool.write().await.expect("the primary");
        lease
            .execute("INSERT INTO notes VALUES ($1)", &[&n])
            .await
            .expect("an insert");
        let written = lease.position().await.expect("a position");
        lease.good();
        let began = Instant::now();
        let lease = pool
            .read(Freshness::AtLeast(written))
            .await
            .expect("a copy");
        worst = worst.max(began.elapsed());
        let found = lease
            .query_opt("SELECT FROM notes WHERE n = $1", &[&n])
            .await
            .expect("an answer");
        assert!(found.is_some(), "note {n} is missing on {}", lease.member());
        by_replica += u32::from(lease.member() != 0);
        lease.good();
    }
    println!("{by_replica} of 200 reads by replicas, none stale, {worst:?} at worst");
    assert!(by_replica >= 100, "{by_replica} of 200 reads by replicas");

    // One replica stands still: first readers of newer writes leave it alone, then everybody.
    cluster[1]
        .sql("SELECT pg_wal_replay_pause()")
        .expect("a pause");
    let lease = pool.write().await.expect("the primary");
    lease
        .execute("INSERT INTO notes VALUES (1000)", &[])
        .await
        .expect("an insert");
    let written = lease.position().await.expect("a position");
    lease.good();
    for _ in 0..20 {
        let lease = pool
            .read(Freshness::AtLeast(written))
            .await
            .expect("a copy");
        assert_ne!(lease.member(), 1);
        lease.good();
    }
    let lagging = async {
        while probe(&engine, 1).await.age < Duration::from_secs(1) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, lagging).await.expect("the lag shows");
    // An idle replica that has everything is young all the same.
    assert!(probe(&engine, 2).await.age < Duration::from_millis(800));
    sleep(Duration::from_millis(300)).await;
    for _ in 0..20 {
        let lease = pool.read(Freshness::Any).await.expect("a copy");
        assert_eq!(lease.member(), 2);
        lease.good();
    }
    cluster[1]
        .sql("SELECT pg_wal_replay_resume()")
        .expect("replay");
    let back = async {
        loop {
            let lease = pool.read(Freshness::Any).await.expect("a copy");
            let member = lease.member();
            lease.good();
            if member == 1 {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("it is used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn the_most_up_to_date_replica_is_promoted_and_has_every_acknowledged_row() {
    let mut cluster = servers();
    let engine = engine(&cluster);
    engine.bootstrap().await.expect("epoch 1");
    let coordinator = coordinate(&engine);
    settled(&coordinator, 1, 3).await;
    coordinator.stop().await;
    cluster[0]
        .sql("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .expect("a table");
    cluster[1].catch_up(&cluster[0]).expect("the table there");
    // Replica 1 falls behind; replica 2 makes the majority. The lower number would win a draw.
    cluster[1]
        .sql("ALTER SYSTEM SET primary_conninfo = ''; ")
        .and_then(|_| cluster[1].sql("SELECT pg_reload_conf()"))
        .expect("a replica that receives nothing");
    sleep(Duration::from_millis(300)).await;
    cluster[0]
        .sql("INSERT INTO notes SELECT generate_series(1, 5000)")
        .expect("acknowledged by replica 2");
    let (behind, ahead) = (probe(&engine, 1).await, probe(&engine, 2).await);
    assert!(behind.received < ahead.received, "{behind:?} {ahead:?}");
    cluster[0].kill().expect("kill -9");

    let coordinator = coordinate(&engine);
    assert_eq!(settled(&coordinator, 2, 2).await, 2);
    assert_eq!(count(&cluster, 2), 5_000);
    cluster[1].catch_up(&cluster[2]).expect("it follows");
    assert_eq!(count(&cluster, 1), 5_000);
    let evidence = probe(&engine, 1).await;
    assert_eq!(
        (evidence.role, evidence.following),
        (Role::Replica, Some(2))
    );
    // Commits are acknowledged by a majority again.
    cluster[2]
        .sql("INSERT INTO notes VALUES (0)")
        .expect("a write");

    // The old primary comes back thinking that it reigns. It is told, and takes no writes.
    cluster[0].restart().expect("crash recovery");
    let told = async {
        while probe(&engine, 0).await.epoch < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told");
    let evidence = probe(&engine, 0).await;
    assert_eq!((evidence.role, evidence.following), (Role::Replica, None));
    let refused = timeout(PATIENCE, async {
        loop {
            // The promise is durable a moment before the server has become read-only.
            match cluster[0].sql("SHOW default_transaction_read_only") {
                Ok(shown) if shown == "on" => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        cluster[0].sql("INSERT INTO notes VALUES (-1)")
    });
    let refused = refused
        .await
        .expect("in time")
        .expect_err("read-only")
        .to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    let error = engine
        .connect(0)
        .await
        .expect_err("what it has may be lost");
    assert!(
        matches!(*error, PostgresError::Deposed { member: 0 }),
        "{error}"
    );

    // Rewound it joins by itself.
    cluster.follow(0, 2).expect("pg_rewind");
    settled(&coordinator, 2, 3).await;
    cluster[0].catch_up(&cluster[2]).expect("it follows");
    assert_eq!(count(&cluster, 0), 5_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn a_killed_primary_costs_its_writers_a_moment_and_no_acknowledged_row() {
    let mut cluster = servers();
    let engine = engine(&cluster);
    engine.bootstrap().await.expect("epoch 1");
    let coordinator = coordinate(&engine);
    settled(&coordinator, 1, 3).await;
    cluster[0]
        .sql("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .expect("a table");
    let options = PoolOptions {
        wait_max: PATIENCE,
        ..PoolOptions::default()
    };
    let pool = Pool::new(Arc::clone(&engine), 0..3, options);
    let next = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let (mut writers, began) = (Vec::new(), Instant::now());
    for _ in 0..4 {
        let (pool, next, over) = (pool.clone(), Arc::clone(&next), Arc::clone(&over));
        writers.push(tokio::spawn(async move {
            // What was acknowledged: number, by which server, when.
            let mut acknowledged = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let number = i64::try_from(n).expect("a small number");
                let lease = pool.write().await.expect("a primary in time");
                let (member, gone) = (lease.member(), lease.revoked());
                let insert = async {
                    lease
                        .execute("INSERT INTO notes VALUES ($1)", &[&number])
                        .await
                };
                let done = tokio::select! {
                    done = insert => done.is_ok(),
                    () = gone => false,
                };
                if done {
                    acknowledged.push((n, member, began.elapsed()));
                    lease.good();
                } else {
                    // Its outcome is unknown; this writer goes on with the next number.
                    lease.finish(Outcome::Broken);
                }
            }
            acknowledged
        }));
    }
    sleep(Duration::from_secs(1)).await;
    let killed = began.elapsed();
    cluster[0].kill().expect("kill -9");
    let primary = settled(&coordinator, 2, 2).await;
    assert_ne!(primary, 0);
    sleep(Duration::from_millis(500)).await;
    // Back from the dead beside running writers.
    let restarted = began.elapsed();
    cluster[0].restart().expect("crash recovery");
    sleep(Duration::from_secs(1)).await;
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("no panic"));
    }
    let first = acknowledged
        .iter()
        .filter(|(_, member, _)| *member != 0)
        .map(|(_, _, at)| *at)
        .min()
        .expect("writes after the failover");
    println!(
        "{} rows acknowledged; first one elsewhere {:?} after kill -9",
        acknowledged.len(),
        first - killed
    );
    assert!(first - killed < Duration::from_secs(3));
    let to_old = acknowledged
        .iter()
        .filter(|(_, member, at)| *member == 0 && *at > restarted);
    assert_eq!(to_old.count(), 0, "the deposed primary was written to");
    let there = cluster[usize::from(primary)]
        .sql("SELECT n FROM notes")
        .expect("rows");
    let there: std::collections::HashSet<u64> =
        there.lines().filter_map(|line| line.parse().ok()).collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|(n, ..)| !there.contains(n))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(coordinator.situation().epoch, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn a_primary_that_was_cut_off_acknowledges_nothing_and_only_one_may_claim_an_epoch() {
    let cluster = servers();
    let engine = engine(&cluster);
    engine.bootstrap().await.expect("epoch 1");
    let coordinator = coordinate(&engine);
    settled(&coordinator, 1, 3).await;
    coordinator.stop().await;
    cluster[0]
        .sql("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .expect("a table");
    // A coordinator reaches the replicas only. Both promise epoch 2 to claimant 7.
    let fence = |member, claimant| Action::Fence {
        member,
        epoch: 2,
        claimant,
    };
    for member in [1, 2] {
        let evidence = engine.perform(&fence(member, 7)).await.expect("a promise");
        assert_eq!((evidence.epoch, evidence.claimant), (2, 7));
        assert_eq!(evidence.following, None);
        // Nobody else gets it.
        let evidence = engine.perform(&fence(member, 8)).await.expect("an answer");
        assert_eq!((evidence.epoch, evidence.claimant), (2, 7));
    }
    // The old primary still reigns as far as it knows, but no commit is acknowledged any more.
    assert_eq!(probe(&engine, 0).await.role, Role::Primary);
    let lease = engine.connect(0).await.expect("a connection");
    let commit = lease.execute("INSERT INTO notes VALUES (1)", &[]);
    timeout(Duration::from_secs(1), commit)
        .await
        .expect_err("no majority acknowledges it");
    drop(lease);
    // A promotion for another claimant, or of another epoch, is refused and changes nothing.
    for (epoch, claimant) in [(2, 8), (1, 7), (3, 7)] {
        let promote = Action::Promote {
            member: 2,
            epoch,
            claimant,
        };
        let evidence = engine.perform(&promote).await.expect("an answer");
        assert_eq!(evidence.role, Role::Replica);
        assert_eq!((evidence.epoch, evidence.claimant), (2, 7));
    }
    let promote = Action::Promote {
        member: 2,
        epoch: 2,
        claimant: 7,
    };
    let evidence = engine.perform(&promote).await.expect("a promotion");
    assert_eq!(
        (evidence.role, evidence.epoch, evidence.last_epoch),
        (Role::Primary, 2, 2)
    );
    let mut lease = engine.connect(2).await.expect("a connection");
    assert!(engine.may_write(&mut lease, 2).await.expect("an answer"));
    assert!(!engine.may_write(&mut lease, 1).await.expect("an answer"));
    // A pool that sees both believes the higher epoch.
    let pool = Pool::new(Arc::clone(&engine), 0..3, PoolOptions::default());
    sleep(Duration::from_millis(500)).await;
    for _ in 0..100 {
        let lease = pool.write().await.expect("the new primary");
        assert_eq!((lease.member(), lease.epoch()), (2, 2));
        lease.good();
    }
    // Reached at last, the old one is silenced, also for a session that was there before.
    let mut old = engine.connect(0).await.expect("a connection");
    assert!(engine.may_write(&mut old, 1).await.expect("an answer"));
    let evidence = engine.perform(&fence(0, 7)).await.expect("a promise");
    assert_eq!((evidence.role, evidence.epoch), (Role::Replica, 2));
    assert!(
        engine.may_write(&mut old, 1).await.is_err(),
        "its session was ended"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn a_pool_needs_no_privileges_and_no_preparation() {
    let cluster = servers();
    cluster[0]
        .sql("CREATE ROLE lowly LOGIN; CREATE TABLE notes (n bigint); GRANT ALL ON notes TO lowly")
        .expect("a user");
    for replica in [1, 2] {
        cluster[replica].catch_up(&cluster[0]).expect("replication");
    }
    let servers = cluster
        .nodes()
        .iter()
        .map(|node| ServerAddress::new(node.url().replace("postgres@", "lowly@")));
    let options = PostgresOptions { majority: false };
    let engine = Arc::new(Postgres::new(servers, options).expect("addresses"));
    let pool = Pool::new(Arc::clone(&engine), 0..3, PoolOptions::default());
    let lease = pool.write().await.expect("the primary");
    assert_eq!((lease.member(), lease.epoch()), (0, 0));
    lease
        .execute("INSERT INTO notes VALUES (1)", &[])
        .await
        .expect("a write");
    let written = lease.position().await.expect("a position");
    lease.good();
    let lease = pool
        .read(Freshness::AtLeast(written))
        .await
        .expect("a copy");
    let rows = lease.query("SELECT n FROM notes", &[]).await.expect("rows");
    assert_eq!(rows.len(), 1);
    lease.good();
    // Orders are for superusers; the refusal is told from silence, and harms nothing.
    let fence = Action::Fence {
        member: 1,
        epoch: 1,
        claimant: 1,
    };
    assert!(engine.perform(&fence).await.is_err());
    assert_eq!(probe(&engine, 1).await.epoch, 0);
    // Another database is no copy of this one.
    let stranger = stackbeam_test_support::postgres::start().expect("a server alone");
    let mixed = [cluster[0].url(), stranger.url()].map(ServerAddress::new);
    let mixed = Arc::new(Postgres::new(mixed, options).expect("addresses"));
    probe(&mixed, 0).await;
    let error = mixed.connect(1).await.expect_err("another system");
    assert!(
        matches!(*error, PostgresError::OtherSystem { member: 1, .. }),
        "{error}"
    );
    let pool = Pool::new(
        mixed,
        [1],
        PoolOptions {
            wait_max: Duration::from_millis(300),
            ..PoolOptions::default()
        },
    );
    let error = pool.write().await.expect_err("no primary");
    assert!(
        matches!(error, PoolError::NoPrimary { known: 1, ready: 0 }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn a_frozen_primary_lets_its_writers_go_and_is_no_primary_when_it_thaws() {
    let mut cluster = servers();
    let engine = engine(&cluster);
    engine.bootstrap().await.expect("epoch 1");
    let coordinator = coordinate(&engine);
    settled(&coordinator, 1, 3).await;
    cluster[0]
        .sql("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .expect("a table");
    let options = PoolOptions {
        wait_max: PATIENCE,
        ..PoolOptions::default()
    };
    let pool = Pool::new(Arc::clone(&engine), 0..3, options);
    let lease = pool.write().await.expect("the primary");
    lease
        .execute("INSERT INTO notes VALUES (1)", &[])
        .await
        .expect("a write");
    cluster[0].freeze().expect("SIGSTOP");
    let frozen = Instant::now();
    // The statement never returns; the lease says that it will not.
    let gone = lease.revoked();
    tokio::select! {
        _ = lease.execute("INSERT INTO notes VALUES (2)", &[]) => panic!("a frozen server answered"),
        () = gone => {}
    }
    let let_go = frozen.elapsed();
    lease.finish(Outcome::Broken);
    let lease = pool.write().await.expect("the next primary");
    assert_ne!(lease.member(), 0);
    assert_eq!(lease.epoch(), 2);
    lease
        .execute("INSERT INTO notes VALUES (3)", &[])
        .await
        .expect("a write");
    println!(
        "let go after {let_go:?}, written elsewhere after {:?}",
        frozen.elapsed()
    );
    assert!(let_go < Duration::from_secs(3));
    lease.good();
    cluster[0].thaw().expect("SIGCONT");
    let told = async {
        loop {
            let answer = engine.perform(&Action::Probe { member: 0 }).await;
            if answer.is_ok_and(|evidence| evidence.role == Role::Replica) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told");
    for _ in 0..50 {
        let lease = pool.write().await.expect("the new primary");
        assert_ne!(lease.member(), 0);
        lease.good();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres: cargo xtask services"]
async fn without_a_majority_a_primary_that_was_cut_off_goes_on_and_that_is_lost() {
    let cluster = servers();
    let engine = engine_with(&cluster, PostgresOptions { majority: false });
    engine.bootstrap().await.expect("epoch 1");
    cluster[0]
        .sql("CREATE TABLE notes (n bigint PRIMARY KEY)")
        .expect("a table");
    for replica in [1, 2] {
        cluster[replica].catch_up(&cluster[0]).expect("replication");
    }
    for member in [1, 2] {
        let fence = Action::Fence {
            member,
            epoch: 2,
            claimant: 7,
        };
        engine.perform(&fence).await.expect("a promise");
    }
    let lease = engine.connect(0).await.expect("a connection");
    let commit = lease.execute("INSERT INTO notes VALUES (1)", &[]);
    let commit = timeout(PATIENCE, commit)
        .await
        .expect("nobody is waited for");
    assert_eq!(commit.expect("acknowledged"), 1);
    let promote = Action::Promote {
        member: 1,
        epoch: 2,
        claimant: 7,
    };
    let evidence = engine.perform(&promote).await.expect("a promotion");
    assert_eq!(evidence.role, Role::Primary);
    assert_eq!(
        count(&cluster, 1),
        0,
        "the documentation says that it is lost"
    );
}
