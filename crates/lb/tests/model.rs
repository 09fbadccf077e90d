//! A naive twin: random picks, reports, changes and checks, compared after every step.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, LeastLoad, Outcome, PeakEwma, Random, RoundRobin,
    SmoothWeighted, SomeChoices, Strategy as Choose, TwoChoices,
};

#[derive(Debug, Clone)]
enum Step {
    Pick,
    PickExcept(usize),
    Report(usize, Outcome, u64),
    Drop(usize),
    List(Vec<(usize, u32, bool)>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Failure),
        Just(Outcome::Busy)
    ];
    prop_oneof![
        5 => Just(Step::Pick),
        2 => (0..6_usize).prop_map(Step::PickExcept),
        4 => (any::<usize>(), outcome, 0..2_000_u64).prop_map(|(i, o, ms)| Step::Report(i, o, ms)),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => prop::collection::vec((0..6_usize, 0..4_u32, prop::bool::weighted(0.2)), 0..6)
            .prop_map(Step::List),
        1 => (0..40_000_u64).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Default)]
struct Twin {
    listed: Vec<(String, u32, bool)>,
    in_flight: BTreeMap<String, u32>,
    counts: [u64; 5],
    /// Whether any endpoint has ever left: then the sums are over fewer than all.
    left: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

fn run<S: Choose>(strategy: S, steps: &[Step]) {
    let mut now = t0();
    let config = Config::default().with_ejection(
        EjectionConfig::default()
            .with_failures(2)
            .with_percent_max(60),
    );
    let balancer = Balancer::new(strategy, config);
    let mut twin = Twin::default();
    let mut leases = Vec::new();
    for step in steps {
        match step {
            Step::Pick | Step::PickExcept(_) => {
                let except = match step {
                    Step::PickExcept(n) => format!("e{n}"),
                    _ => String::new(),
                };
                let ready: Vec<String> = balancer
                    .stats(now)
                    .endpoints
                    .into_iter()
                    .filter(|e| e.ready)
                    .map(|e| e.id)
                    .collect();
                match balancer.pick_except(&[except.as_str()], now) {
                    Ok(lease) => {
                        assert!(
                            ready.contains(&lease.id().to_owned()),
                            "picked one not ready"
                        );
                        assert_ne!(lease.id(), except);
                        *twin.in_flight.entry(lease.id().to_owned()).or_default() += 1;
                        twin.counts[0] += 1;
                        leases.push(lease);
                    }
                    Err(refusal) => {
                        assert!(
                            ready.iter().all(|id| *id == except),
                            "refused with one ready"
                        );
                        assert_eq!(refusal.ready, ready.len());
                    }
                }
            }
            Step::Report(which, outcome, ms) if !leases.is_empty() => {
                let lease = leases.swap_remove(which % leases.len());
                *twin.in_flight.get_mut(lease.id()).unwrap() -= 1;
                twin.counts[match outcome {
                    Outcome::Success => 1,
                    Outcome::Failure => 2,
                    _ => 3,
                }] += 1;
                lease.report(*outcome, now + Duration::from_millis(*ms));
            }
            Step::Drop(which) if !leases.is_empty() => {
                let lease = leases.swap_remove(which % leases.len());
                *twin.in_flight.get_mut(lease.id()).unwrap() -= 1;
                twin.counts[4] += 1;
            }
            Step::Report(..) | Step::Drop(_) => {}
            Step::List(list) => {
                twin.listed.clear();
                for (n, weight, draining) in list {
                    let id = format!("e{n}");
                    if !twin.listed.iter().any(|(known, ..)| *known == id) {
                        twin.listed.push((id, *weight, *draining));
                    }
                }
                let listing = balancer.set_endpoints(
                    list.iter().map(|(n, weight, draining)| {
                        Endpoint::new(format!("e{n}"), ())
                            .with_weight(*weight)
                            .with_draining(*draining)
                    }),
                    now,
                );
                twin.left |= listing.left > 0;
                assert_eq!(listing.added + listing.kept, twin.listed.len());
                assert_eq!(listing.ignored, list.len() - twin.listed.len());
            }
            Step::Wait(ms) => {
                now += Duration::from_millis(*ms);
                balancer.handle_timeout(now);
            }
        }
        validate(&balancer, &twin, now, leases.len());
    }
}

#[cfg(feature = "consistent-hash")]
fn run_sticky(steps: &[Step]) {
    run(stackbeam_lb::Sticky::new(), steps);
    run(stackbeam_lb::Sticky::new().with_bound(1.25), steps);
}

#[cfg(not(feature = "consistent-hash"))]
fn run_sticky(_: &[Step]) {}

fn validate<S: Choose>(balancer: &Balancer<(), S>, twin: &Twin, now: Instant, out: usize) {
    let stats = balancer.stats(now);
    let [picked, succeeded, failed, busy, cancelled] = twin.counts;
    assert_eq!(
        (
            stats.picked,
            stats.succeeded,
            stats.failed,
            stats.busy,
            stats.cancelled
        ),
        (picked, succeeded, failed, busy, cancelled)
    );
    assert_eq!(stats.in_flight, out as u64);
    let listed: Vec<&str> = stats.endpoints.iter().map(|e| e.id.as_str()).collect();
    let wanted: Vec<&str> = twin.listed.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(listed, wanted);
    // The counters of each endpoint add up by themselves.
    for seen in &stats.endpoints {
        let ended = seen.succeeded + seen.failed + seen.busy + seen.cancelled;
        assert_eq!(seen.picked, ended + u64::from(seen.in_flight), "{seen:?}");
    }
    if !twin.left {
        let sum = |count: fn(&stackbeam_lb::EndpointStats) -> u64| -> u64 {
            stats.endpoints.iter().map(count).sum()
        };
        assert_eq!(stats.picked, sum(|seen| seen.picked));
        assert_eq!(stats.succeeded, sum(|seen| seen.succeeded));
        assert_eq!(stats.failed, sum(|seen| seen.failed));
        assert_eq!(stats.busy, sum(|seen| seen.busy));
        assert_eq!(stats.cancelled, sum(|seen| seen.cancelled));
        assert_eq!(stats.in_flight, sum(|seen| seen.in_flight.into()));
        assert_eq!(stats.ejections, sum(|seen| seen.ejections));
    }
    for (seen, (_, weight, draining)) in stats.endpoints.iter().zip(&twin.listed) {
        assert_eq!(seen.ready, *weight > 0 && !draining && !seen.ejected);
    }
    // The limit is looked at when an endpoint is ejected; a shorter list may leave more at rest.
    let resting = stats.endpoints.iter().filter(|e| e.ejected).count();
    assert!(
        twin.left || resting * 100 < stats.endpoints.len() * 60 + 100,
        "{stats:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_balancer_agrees_with_its_twin(
        steps in prop::collection::vec(step(), 1..120),
        seed in any::<u64>(),
    ) {
        run(RoundRobin::new(), &steps);
        run(SmoothWeighted::new(), &steps);
        run(Random::new(seed), &steps);
        run(LeastLoad::new(PeakEwma), &steps);
        run(TwoChoices::new(PeakEwma, seed), &steps);
        run(SomeChoices::new(PeakEwma, 3, seed), &steps);
        run_sticky(&steps);
    }

    #[test]
    fn smooth_weighted_shares_are_exact_over_a_round(weights in prop::collection::vec(1..9_u32, 1..7)) {
        let balancer = Balancer::new(SmoothWeighted::new(), Config::default());
        let now = t0();
        balancer.set_endpoints(
            weights.iter().enumerate().map(|(n, w)| Endpoint::new(n.to_string(), n).with_weight(*w)),
            now,
        );
        let mut counts = vec![0_u32; weights.len()];
        for _ in 0..weights.iter().sum::<u32>() {
            counts[*balancer.pick(now).unwrap().target()] += 1;
        }
        prop_assert_eq!(counts, weights);
    }
}
