//! What a user of a balancer counts on, told one behaviour at a time.

use std::time::{Duration, Instant};

use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, InFlight, LeastLoad, NoneReady, Outcome, PeakEwma,
    ProbeConfig, Random, RetryBudget, RoundRobin, SlowStart, Strategy, TwoChoices,
};

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn three<S: Strategy>(strategy: S, config: Config, now: Instant) -> Balancer<u32, S> {
    let balancer = Balancer::new(strategy, config);
    balancer.set_endpoints((0..3).map(|n| Endpoint::new(format!("e{n}"), n)), now);
    balancer
}

#[test]
fn nobody_to_pick_says_how_many_are_known() {
    let now = t0();
    let balancer: Balancer<(), _> = Balancer::new(RoundRobin::new(), Config::default());
    let refusal = balancer.pick(now).unwrap_err();
    assert_eq!((refusal.known, refusal.ready), (0, 0));
    balancer.set_endpoints([Endpoint::new("a", ()).with_weight(0)], now);
    let refusal: NoneReady = balancer.pick(now).unwrap_err();
    assert_eq!((refusal.known, refusal.ready), (1, 0));
    assert_eq!(balancer.stats(now).refused, 2);
}

#[test]
fn round_robin_goes_round() {
    let now = t0();
    let balancer = three(RoundRobin::new(), Config::default(), now);
    let picks: Vec<u32> = (0..6)
        .map(|_| *balancer.pick(now).unwrap().target())
        .collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn random_follows_weights() {
    let now = t0();
    let balancer = Balancer::new(Random::new(3), Config::default());
    balancer.set_endpoints(
        [
            Endpoint::new("a", 0_usize),
            Endpoint::new("b", 1).with_weight(3),
        ],
        now,
    );
    let mut counts = [0_u32; 2];
    for _ in 0..4_000 {
        counts[*balancer.pick(now).unwrap().target()] += 1;
    }
    assert!((2_850..=3_150).contains(&counts[1]), "{counts:?}");
}

#[test]
fn least_request_picks_whoever_has_least_under_way() {
    let now = t0();
    let balancer = three(LeastLoad::new(InFlight), Config::default(), now);
    let leases: Vec<_> = (0..3).map(|_| balancer.pick(now).unwrap()).collect();
    let mut ids: Vec<&str> = leases.iter().map(stackbeam_lb::Lease::id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["e0", "e1", "e2"]);
}

#[test]
fn a_tried_endpoint_is_not_picked_again_for_the_same_request() {
    let now = t0();
    for strategy in [
        Box::new(RoundRobin::new()) as Box<dyn Strategy>,
        Box::new(Random::new(1)),
        Box::new(LeastLoad::new(PeakEwma)),
        Box::new(TwoChoices::new(PeakEwma, 1)),
        Box::new(stackbeam_lb::SmoothWeighted::new()),
    ] {
        let balancer = three(strategy, Config::default(), now);
        for _ in 0..50 {
            assert_eq!(balancer.pick_except(&["e0", "e2"], now).unwrap().id(), "e1");
        }
        let refusal = balancer.pick_except(&["e0", "e1", "e2"], now).unwrap_err();
        assert_eq!((refusal.known, refusal.ready), (3, 3));
    }
}

#[test]
fn the_endpoint_that_fails_fastest_does_not_draw_the_traffic() {
    let mut now = t0();
    // Ejection is off: only the load measure defends.
    let config = Config::default().with_ejection(EjectionConfig::default().with_failures(0));
    let balancer = three(TwoChoices::new(PeakEwma, 11), config, now);
    let mut to_the_bad_one = 0;
    for _ in 0..1_000 {
        let lease = balancer.pick(now).unwrap();
        now += 5 * MS;
        if *lease.target() == 0 {
            to_the_bad_one += 1;
            lease.report(Outcome::Failure, now);
        } else {
            lease.report(Outcome::Success, now);
        }
    }
    assert!(to_the_bad_one < 20, "{to_the_bad_one} of 1000");
}

#[test]
fn a_slow_endpoint_is_tried_again_when_its_estimate_has_faded() {
    let mut now = t0();
    let balancer = three(LeastLoad::new(PeakEwma), Config::default(), now);
    for _ in 0..3 {
        let lease = balancer.pick(now).unwrap();
        let latency = if *lease.target() == 0 { SECOND } else { MS };
        lease.report(Outcome::Success, now + latency);
    }
    now += SECOND;
    assert_ne!(balancer.pick(now).unwrap().id(), "e0");
    let later = now + Duration::from_secs(120);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let lease = balancer.pick(later).unwrap();
        seen.insert(lease.id().to_owned());
        lease.report(Outcome::Success, later + MS);
    }
    assert!(seen.contains("e0"), "{seen:?}");
}

#[test]
fn a_draining_endpoint_finishes_what_it_has() {
    let now = t0();
    let balancer = three(RoundRobin::new(), Config::default(), now);
    let lease = balancer.pick(now).unwrap();
    balancer.set_endpoints(
        (0..3).map(|n| Endpoint::new(format!("e{n}"), n).with_draining(n == 0)),
        now,
    );
    for _ in 0..10 {
        assert_ne!(balancer.pick(now).unwrap().id(), "e0");
    }
    assert_eq!(balancer.stats(now).endpoints[0].in_flight, 1);
    lease.report(Outcome::Success, now + MS);
    assert_eq!(balancer.stats(now).endpoints[0].in_flight, 0);
}

#[test]
fn what_was_learned_stays_when_the_list_is_given_anew() {
    let now = t0();
    let balancer = three(RoundRobin::new(), Config::default(), now);
    for _ in 0..3 {
        balancer
            .pick(now)
            .unwrap()
            .report(Outcome::Success, now + 500 * MS);
    }
    balancer.set_endpoints(
        (0..4).map(|n| Endpoint::new(format!("e{n}"), n)),
        now + 500 * MS,
    );
    let stats = balancer.stats(now + 500 * MS);
    assert_eq!(stats.endpoints[0].picked, 1);
    // The newcomer is expected to be like its peers, not better: no herd.
    let newcomer = stats.endpoints[3].latency.as_millis();
    assert!((490..=510).contains(&newcomer), "{newcomer}");
}

#[test]
fn a_dropped_lease_is_no_sample() {
    let now = t0();
    let balancer = three(RoundRobin::new(), Config::default(), now);
    let before = balancer.stats(now).endpoints[0].latency;
    drop(balancer.pick(now).unwrap());
    let stats = balancer.stats(now);
    assert_eq!(stats.endpoints[0].latency, before);
    assert_eq!((stats.cancelled, stats.in_flight), (1, 0));
}

#[test]
fn retries_are_a_fifth_of_requests_with_a_floor() {
    let mut now = t0();
    let budget = RetryBudget::new(0.2, 0);
    for _ in 0..100 {
        budget.deposit(now);
    }
    let allowed = (0..100).filter(|_| budget.withdraw(now)).count();
    assert!((19..=20).contains(&allowed), "{allowed}");
    let floor = RetryBudget::new(0.0, 10);
    let mut allowed = 0;
    for _ in 0..100 {
        now += 100 * MS;
        allowed += u32::from(floor.withdraw(now)) + u32::from(floor.withdraw(now));
    }
    // Ten seconds at ten a second, and the second's worth that it starts with.
    assert!((100..=111).contains(&allowed), "{allowed}");
    let stats = floor.stats();
    assert_eq!(stats.allowed + stats.refused, 200);
}

#[test]
fn a_quiet_hour_saves_up_no_storm() {
    let now = t0();
    let budget = RetryBudget::new(0.2, 10);
    assert!(budget.withdraw(now));
    let later = now + Duration::from_secs(3_600);
    let allowed = (0..10_000).filter(|_| budget.withdraw(later)).count();
    assert_eq!(allowed, 100);
}

#[test]
fn the_list_may_come_from_something_that_asks_the_balancer() {
    let now = t0();
    let balancer = three(RoundRobin::new(), Config::default(), now);
    // A list that is computed from what is there, as an operator's tool does.
    let names = |skip: &'static str| {
        let balancer = balancer.clone();
        (0..3).map(move |n| {
            balancer.probe_result("e0", true, now);
            balancer.handle_timeout(now);
            let endpoint = balancer.stats(now).endpoints[n].id.clone();
            Endpoint::new(endpoint.clone(), 0).with_draining(endpoint == skip)
        })
    };
    let listing = balancer.set_endpoints(names("e1"), now);
    assert_eq!((listing.added, listing.kept, listing.left), (0, 3, 0));
    assert!(balancer.stats(now).endpoints[1].draining);
}

#[test]
fn a_listing_says_what_was_not_taken() {
    let now = t0();
    let balancer = Balancer::new(RoundRobin::new(), Config::default());
    let twice = ["a", "b", "a"].map(|id| Endpoint::new(id, ()));
    let listing = balancer.set_endpoints(twice, now);
    assert_eq!((listing.added, listing.ignored), (2, 1));
    let listing = balancer.set_endpoints([Endpoint::new("b", ()), Endpoint::new("c", ())], now);
    assert_eq!((listing.added, listing.kept, listing.left), (1, 1, 1));
    let many = (0..stackbeam_lb::ENDPOINTS_MAX + 5).map(|n| Endpoint::new(n.to_string(), ()));
    let listing = balancer.set_endpoints(many, now);
    assert_eq!(listing.added, stackbeam_lb::ENDPOINTS_MAX);
    assert_eq!(listing.ignored, 5);
}

#[test]
fn a_smooth_round_goes_on_when_nothing_that_counts_has_changed() {
    let now = t0();
    let balancer = Balancer::new(stackbeam_lb::SmoothWeighted::new(), Config::default());
    let list = || {
        [
            Endpoint::new("a", ()).with_weight(2),
            Endpoint::new("b", ()),
        ]
    };
    let mut picks = String::new();
    for _ in 0..6 {
        // Discovery that repeats itself must not begin the round anew: `a` would get everything.
        balancer.set_endpoints(list(), now);
        picks.push_str(balancer.pick(now).unwrap().id());
    }
    assert_eq!(picks, "abaaba");
}

#[test]
fn two_choices_follow_weights() {
    let now = t0();
    let balancer = Balancer::new(TwoChoices::new(InFlight, 5), Config::default());
    balancer.set_endpoints(
        (0..10_usize)
            .map(|n| Endpoint::new(n.to_string(), n).with_weight(if n == 0 { 11 } else { 1 })),
        now,
    );
    // Held, so that load is compared too: 11 of 20 parts for the heavy one.
    let leases: Vec<_> = (0..2_000).map(|_| balancer.pick(now).unwrap()).collect();
    let heavy = leases.iter().filter(|lease| *lease.target() == 0).count();
    assert!((1_000..=1_200).contains(&heavy), "{heavy}");
}

#[test]
fn a_newcomer_warms_up_by_chance_too() {
    let now = t0();
    let config = Config::default().with_slow_start(SlowStart::over(100 * SECOND));
    let balancer = Balancer::new(Random::new(9), config);
    let list = |count: usize| (0..count).map(|n| Endpoint::new(n.to_string(), n));
    balancer.set_endpoints(list(3), now);
    let joined = now + 1_000 * SECOND;
    balancer.set_endpoints(list(4), joined);
    let share = |age: Duration| {
        let picks = (0..8_000).map(|_| *balancer.pick(joined + age).unwrap().target());
        picks.filter(|target| *target == 3).count()
    };
    // A tenth of a share beside three whole ones: 8000 / 31; then a half: 8000 / 7; then one of four.
    assert!((200..=320).contains(&share(SECOND)));
    assert!((1_050..=1_240).contains(&share(50 * SECOND)));
    assert!((1_900..=2_100).contains(&share(100 * SECOND)));
}

#[test]
fn times_that_run_backwards_break_nothing() {
    let now = t0() + Duration::from_secs(3_600);
    let config = Config::default()
        .with_probes(ProbeConfig::default())
        .with_decay(Duration::ZERO);
    let balancer = three(LeastLoad::new(PeakEwma), config, now);
    let before = now - Duration::from_secs(3_000);
    for _ in 0..20 {
        let lease = balancer.pick(now).unwrap();
        lease.report(Outcome::Failure, before);
        balancer.handle_timeout(before);
        let _due = balancer.probes_due(before);
    }
    let stats = balancer.stats(before);
    assert_eq!((stats.picked, stats.failed, stats.in_flight), (20, 20, 0));
}
