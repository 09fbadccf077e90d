//! Active checks on tokio, in its paused time.
#![cfg(feature = "tokio")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stackbeam_lb::probing::keep_probing;
use stackbeam_lb::{Balancer, Config, Endpoint, ProbeConfig, RoundRobin};

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn balancer() -> Balancer<u32, RoundRobin> {
    let probes = ProbeConfig::default()
        .with_every(Duration::from_secs(1))
        .with_thresholds(1, 2)
        .with_patience(Duration::from_secs(3));
    let balancer = Balancer::new(RoundRobin::new(), Config::default().with_probes(probes));
    balancer.set_endpoints((0..2).map(|n| Endpoint::new(n.to_string(), n)), now());
    balancer
}

fn ready(balancer: &Balancer<u32, RoundRobin>) -> [bool; 2] {
    let stats = balancer.stats(now());
    [stats.endpoints[0].ready, stats.endpoints[1].ready]
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[tokio::test(start_paused = true)]
async fn an_endpoint_goes_down_with_its_checks_and_comes_back() {
    let balancer = balancer();
    let well = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&well);
    let probe = move |n: u32| {
        let says = Arc::clone(&says);
        async move { n == 0 || says.load(Ordering::SeqCst) }
    };
    let task = tokio::spawn(keep_probing(balancer.clone(), probe, SECONDS(1)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(
        ready(&balancer),
        [true, true],
        "one bad check is not enough"
    );
    tokio::time::sleep(SECONDS(1)).await;
    assert_eq!(ready(&balancer), [true, false]);
    well.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECONDS(1)).await;
    assert_eq!(ready(&balancer), [true, true]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_counts_as_bad() {
    for panics in [false, true] {
        let balancer = balancer();
        let probe = move |n: u32| async move {
            if n == 1 {
                assert!(!panics, "a probe with a mistake");
                tokio::time::sleep(SECONDS(3_600)).await;
            }
            true
        };
        let task = tokio::spawn(keep_probing(balancer.clone(), probe, SECONDS(1)));
        tokio::time::sleep(SECONDS(10)).await;
        assert_eq!(ready(&balancer), [true, false], "panics: {panics}");
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_at_any_time_stops_the_checks_and_another_one_takes_over() {
    for patience in [0, 1, 700, 1_000, 1_500, 2_500] {
        let balancer = balancer();
        let asked = Arc::new(AtomicU32::new(0));
        let counting = Arc::clone(&asked);
        let probe = move |_| {
            counting.fetch_add(1, Ordering::SeqCst);
            async {
                tokio::time::sleep(Duration::from_millis(600)).await;
                false
            }
        };
        let probing = keep_probing(balancer.clone(), probe, SECONDS(1));
        let dropped = tokio::time::timeout(Duration::from_millis(patience), probing).await;
        assert!(dropped.is_err());
        tokio::time::sleep(SECONDS(5)).await;
        let before = asked.load(Ordering::SeqCst);
        tokio::time::sleep(SECONDS(5)).await;
        assert_eq!(asked.load(Ordering::SeqCst), before, "nobody asks any more");
        let task = tokio::spawn(keep_probing(
            balancer.clone(),
            |_| async { true },
            SECONDS(1),
        ));
        tokio::time::sleep(SECONDS(10)).await;
        assert_eq!(ready(&balancer), [true, true], "after {patience} ms");
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn many_endpoints_are_not_all_checked_at_once() {
    let balancer = balancer();
    balancer.set_endpoints((0..600).map(|n| Endpoint::new(n.to_string(), n)), now());
    let (under_way, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let counts = (Arc::clone(&under_way), Arc::clone(&most));
    let probe = move |_| {
        let (under_way, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            most.fetch_max(
                under_way.fetch_add(1, Ordering::SeqCst) + 1,
                Ordering::SeqCst,
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            true
        }
    };
    let task = tokio::spawn(keep_probing(balancer.clone(), probe, SECONDS(1)));
    tokio::time::sleep(SECONDS(2)).await;
    assert!(most.load(Ordering::SeqCst) <= 256, "{most:?}");
    assert!(most.load(Ordering::SeqCst) > 10, "{most:?}");
    let due = balancer.probes_due(now());
    assert!(due.len() < 300, "most had their turn");
    task.abort();
    let _ended = task.await.unwrap_err();
}
