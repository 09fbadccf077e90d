//! The pool over the simulated copies, on paused time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stackbeam_replica_pool::{
    Coordinator, Engine, Freshness, Lease, MemberId, Outcome, Pool, PoolError, PoolOptions,
    PoolStats,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::coordinate::{Replication, Sim, cluster, reigns, start};

struct Stand {
    sim: Arc<Sim>,
    pool: Pool<Sim>,
    coordinator: Coordinator,
    primary: usize,
    replication: Replication,
}

/// Copies, a coordinator and a pool that knows who reigns.
async fn stand(options: PoolOptions) -> Stand {
    let (sim, replication) = cluster();
    let coordinator = start(&sim, 11);
    let (primary, _) = reigns(&coordinator, None).await;
    let pool = Pool::new(Arc::clone(&sim), 0..3, options);
    sleep(Duration::from_secs(1)).await;
    Stand {
        sim,
        pool,
        coordinator,
        primary: usize::from(primary),
        replication,
    }
}

/// The identities that the documentation promises, while `leases` are out.
fn validate(stats: &PoolStats, leases: u64) {
    let mut leased = 0;
    let mut ended = 0;
    for copy in &stats.copies {
        assert_eq!(
            copy.opened,
            copy.closed + copy.idle as u64 + copy.out as u64,
            "{stats:?}"
        );
        leased += copy.leased;
        ended += copy.succeeded + copy.failed + copy.cancelled;
    }
    assert_eq!(leased, ended + leases, "{stats:?}");
    assert_eq!(
        stats.asked,
        stats.refused + stats.abandoned + stats.asking + leased,
        "{stats:?}"
    );
}

/// Writes a record as a client of the copy would: only a reigning copy takes it.
fn append(sim: &Sim, member: MemberId) -> Option<u64> {
    let mut world = sim.world.lock();
    let id = usize::from(member);
    world.copies[id].reign.filter(|_| world.copies[id].up)?;
    world.write(id);
    Some(world.copies[id].log.len() as u64)
}

#[tokio::test(start_paused = true)]
async fn reads_spread_over_the_replicas_and_writes_go_to_the_primary() {
    let stand = stand(PoolOptions::default()).await;
    let mut seen = [0; 3];
    for _ in 0..100 {
        let lease = stand.pool.read(Freshness::Any).await.expect("a replica");
        seen[usize::from(lease.member())] += 1;
        lease.good();
        let lease = stand.pool.write().await.expect("the primary");
        assert_eq!(usize::from(lease.member()), stand.primary);
        assert_eq!(lease.epoch(), 1);
        lease.good();
        let lease = stand.pool.read(Freshness::Latest).await.expect("a copy");
        assert_eq!(usize::from(lease.member()), stand.primary);
        lease.good();
    }
    assert_eq!(seen[stand.primary], 0);
    assert!(
        seen.iter().filter(|reads| **reads == 50).count() == 2,
        "{seen:?}"
    );
    let stats = stand.pool.stats();
    validate(&stats, 0);
    // One connection a copy did it all.
    assert!(
        stats.copies.iter().all(|copy| copy.opened <= 2),
        "{stats:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn with_no_replica_left_the_primary_reads_but_keeps_room_for_writers() {
    let stand = stand(PoolOptions {
        connections_max: 4,
        primary_reads_max: 2,
        ..PoolOptions::default()
    })
    .await;
    for id in (0..3).filter(|id| *id != stand.primary) {
        stand.sim.world.lock().crash(id);
    }
    let mut reads = Vec::new();
    for _ in 0..2 {
        let lease = stand.pool.read(Freshness::Any).await.expect("the primary");
        assert_eq!(usize::from(lease.member()), stand.primary);
        reads.push(lease);
    }
    // Nor does a reader of its own write wait for replicas that are gone.
    reads.pop().into_iter().for_each(Lease::good);
    let began = Instant::now();
    let lease = stand.pool.read(Freshness::AtLeast(1_000_000)).await;
    assert!(began.elapsed() < Duration::from_millis(5));
    reads.push(lease.expect("the primary"));
    // The third read waits in vain while the writers have what is left.
    let refused = stand.pool.read(Freshness::Any).await;
    assert!(matches!(refused, Err(PoolError::TimedOut(busy)) if busy.in_use == 2));
    let first = stand.pool.write().await.expect("room for a writer");
    let second = stand.pool.write().await.expect("room for a writer");
    validate(&stand.pool.stats(), 4);
    assert_eq!(stand.pool.stats().reads_by_primary, 3);
    first.good();
    second.good();
    reads.into_iter().for_each(Lease::good);
    // A replica that comes back is used again by itself.
    for id in 0..3 {
        stand.sim.world.lock().copies[id].up = true;
    }
    sleep(Duration::from_secs(1)).await;
    let lease = stand.pool.read(Freshness::Any).await.expect("a replica");
    assert_ne!(usize::from(lease.member()), stand.primary);
    lease.good();
    validate(&stand.pool.stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_never_sees_less_than_it_wrote_and_mostly_reads_from_a_replica() {
    let stand = stand(PoolOptions::default()).await;
    let mut by_replica = 0;
    for round in 0..300 {
        let lease = stand.pool.write().await.expect("the primary");
        let written = append(&stand.sim, lease.member()).expect("it reigns");
        lease.finish(Outcome::At(written));
        let lease = stand
            .pool
            .read(Freshness::AtLeast(written))
            .await
            .expect("a copy");
        let member = usize::from(lease.member());
        let reached = stand.sim.world.lock().copies[member].log.len() as u64;
        assert!(
            reached >= written,
            "round {round}: stale by {}",
            written - reached
        );
        by_replica += u32::from(member != stand.primary);
        lease.finish(Outcome::At(reached));
    }
    assert!(by_replica >= 270, "{by_replica} of 300 by replicas");
}

#[tokio::test(start_paused = true)]
async fn writers_ride_out_a_failover_and_never_write_to_the_deposed() {
    let stand = stand(PoolOptions::default()).await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (pool, sim) = (stand.pool.clone(), Arc::clone(&stand.sim));
        tasks.spawn(async move {
            let (mut written, mut epoch) = (0_u32, 0);
            for _ in 0..200 {
                let lease = pool
                    .write()
                    .await
                    .expect("a failover is shorter than the wait");
                assert!(lease.epoch() >= epoch, "an epoch went back");
                epoch = lease.epoch();
                sleep(Duration::from_millis(3)).await;
                match append(&sim, lease.member()) {
                    Some(_) => {
                        written += 1;
                        lease.good();
                    }
                    None => lease.finish(Outcome::Broken),
                }
                sleep(Duration::from_millis(7)).await;
            }
            (written, epoch)
        });
    }
    sleep(Duration::from_millis(500)).await;
    stand.sim.world.lock().crash(stand.primary);
    sleep(Duration::from_millis(700)).await;
    stand.sim.world.lock().copies[stand.primary].up = true;
    while let Some(done) = tasks.join_next().await {
        let (written, epoch) = done.expect("no panic");
        assert!(written > 195, "{written} of 200 written");
        assert_eq!(epoch, 2);
    }
    assert_eq!(stand.coordinator.situation().epoch, 2);
    validate(&stand.pool.stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_or_awaits_a_connection_of_a_hung_primary_moves_on() {
    let stand = stand(PoolOptions {
        connections_max: 1,
        ..PoolOptions::default()
    })
    .await;
    let held = stand.pool.write().await.expect("the primary");
    let pool = stand.pool.clone();
    let waiter = tokio::spawn(async move {
        let lease = pool.write().await.expect("the next primary");
        let member = usize::from(lease.member());
        lease.good();
        member
    });
    sleep(Duration::from_millis(10)).await;
    stand.sim.frozen.lock()[stand.primary] = true;
    let began = Instant::now();
    held.revoked().await;
    // One probe interval and the wait for its answer.
    assert!(
        began.elapsed() < Duration::from_millis(700),
        "{:?}",
        began.elapsed()
    );
    let next = timeout(Duration::from_secs(5), waiter).await;
    let next = next.expect("in time").expect("no panic");
    assert_ne!(next, stand.primary);
    held.finish(Outcome::Broken);
    validate(&stand.pool.stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_and_waiters_are_bounded_and_a_refusal_says_what_was_seen() {
    let stand = stand(PoolOptions {
        connections_max: 2,
        waiting_max: 3,
        ..PoolOptions::default()
    })
    .await;
    let one = stand.pool.write().await.expect("a connection");
    let two = stand.pool.write().await.expect("a connection");
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let pool = stand.pool.clone();
        waiting.spawn(async move { pool.write().await.map(Lease::good) });
    }
    sleep(Duration::from_millis(1)).await;
    let refused = stand.pool.write().await.expect_err("three wait already");
    assert!(
        matches!(refused, PoolError::Full(busy) if (busy.in_use, busy.waiting) == (2, 4)),
        "{refused:?}"
    );
    one.good();
    while let Some(done) = waiting.join_next().await {
        assert_eq!(done.expect("no panic"), Ok(()));
    }
    let three = stand.pool.write().await.expect("a connection");
    let began = Instant::now();
    let error = stand.pool.write().await.expect_err("nobody gives one back");
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(
        error.to_string(),
        format!(
            "no connection became free in time: all 2 connections to copy {} are in use and 1 callers wait",
            stand.primary
        )
    );
    validate(&stand.pool.stats(), 2);
    drop((two, three));
    validate(&stand.pool.stats(), 0);
    // Dropped without a word: closed, since nobody knows what was under way.
    assert_eq!(stand.pool.stats().copies[stand.primary].idle, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_anywhere_leave_nothing_behind() {
    let stand = stand(PoolOptions {
        connections_max: 2,
        wait_max: Duration::from_millis(200),
        ..PoolOptions::default()
    })
    .await;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut tasks = JoinSet::new();
    for _ in 0..2_000 {
        let pool = stand.pool.clone();
        let patience = Duration::from_micros(rng.u64(0..30_000));
        let holds = Duration::from_micros(rng.u64(0..5_000));
        let verdict = rng.u8(..);
        let begin = Duration::from_millis(rng.u64(0..3_000));
        tasks.spawn(async move {
            sleep(begin).await;
            let work = async {
                let lease = match verdict % 3 {
                    0 => pool.write().await,
                    1 => pool.read(Freshness::Any).await,
                    _ => pool.read(Freshness::AtLeast(u64::from(verdict))).await,
                };
                let Ok(lease) = lease else { return };
                sleep(holds).await;
                match verdict % 5 {
                    0 => lease.finish(Outcome::Broken),
                    1 => lease.finish(Outcome::NotPrimary),
                    2 => drop(lease),
                    _ => lease.good(),
                }
            };
            let _cut_off = timeout(patience, work).await;
        });
    }
    for round in 0..30 {
        sleep(Duration::from_millis(100)).await;
        let open = stand.sim.open.load(Ordering::Relaxed);
        assert!(open <= 6, "{open} connections");
        if round == 10 {
            stand.sim.world.lock().crash((stand.primary + 1) % 3);
        }
        if round == 20 {
            stand.sim.world.lock().copies[(stand.primary + 1) % 3].up = true;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let stats = stand.pool.stats();
    validate(&stats, 0);
    assert_eq!(stats.asking, 0);
    assert!(stats.abandoned > 100, "{stats:?}");
    let idle: usize = stats.copies.iter().map(|copy| copy.idle).sum();
    assert_eq!(stand.sim.open.load(Ordering::Relaxed), idle);
    // Idle connections end with their time, and all with the pool.
    drop(stand.replication);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(stand.sim.open.load(Ordering::Relaxed), 0);
    let lease = stand.pool.write().await.expect("all places are free");
    lease.good();
    let sim = stand.sim;
    drop(stand.pool);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(sim.open.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn without_any_copy_the_error_says_how_many_answer() {
    let stand = stand(PoolOptions::default()).await;
    drop(stand.coordinator);
    for id in 0..3 {
        stand.sim.world.lock().crash(id);
    }
    sleep(Duration::from_secs(1)).await;
    let error = stand.pool.write().await.expect_err("all are dead");
    assert_eq!(error, PoolError::NoPrimary { known: 3, ready: 0 });
    let error = stand
        .pool
        .read(Freshness::Any)
        .await
        .expect_err("all are dead");
    assert_eq!(error, PoolError::Nobody { known: 3, ready: 0 });
    // One replica alone reads, but not what it does not have.
    stand.sim.world.lock().copies[(stand.primary + 1) % 3].up = true;
    let lease = stand.pool.read(Freshness::Any).await.expect("a replica");
    let reached = stand.sim.world.lock().copies[usize::from(lease.member())]
        .log
        .len() as u64;
    lease.finish(Outcome::At(reached));
    let asked = reached + 1;
    let error = stand.pool.read(Freshness::AtLeast(asked)).await;
    assert_eq!(error.err(), Some(PoolError::Behind { asked, reached }));
    validate(&stand.pool.stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_refused_by_its_engine_gets_no_writer() {
    let stand = stand(PoolOptions::default()).await;
    let mut lease = stand.pool.write().await.expect("the primary");
    // A link to it does not admit a writer of another epoch.
    assert_eq!(stand.sim.may_write(&mut lease, 7).await, Ok(false));
    // Deposed behind the pool's back: the belief lasts until the next probe, the question does not.
    stand.sim.world.lock().copies[stand.primary].reign = None;
    lease.good();
    let lease = stand.pool.write().await.expect("the next one");
    let reign = stand.sim.world.lock().copies[usize::from(lease.member())].reign;
    assert!(reign.is_some_and(|(epoch, _)| epoch == lease.epoch()));
    lease.good();
}
