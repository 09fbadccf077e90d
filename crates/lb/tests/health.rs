//! Who rests, who is checked, and who is let in again, told one behaviour at a time.

use std::time::{Duration, Instant};

use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, LeastLoad, Outcome, PeakEwma, ProbeConfig,
    RoundRobin, Strategy,
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
fn failures_in_a_row_eject_and_the_rest_grows() {
    let mut now = t0();
    let ejection = EjectionConfig::default()
        .with_failures(2)
        .with_rest(10 * SECOND, 25 * SECOND);
    let balancer = three(
        RoundRobin::new(),
        Config::default().with_ejection(ejection),
        now,
    );
    let mut rests = Vec::new();
    for _ in 0..3 {
        for _ in 0..2 {
            balancer
                .pick_except(&["e1", "e2"], now)
                .unwrap()
                .report(Outcome::Failure, now);
        }
        assert!(balancer.pick_except(&["e1", "e2"], now).is_err());
        let until = balancer.next_deadline().unwrap();
        rests.push((until - now).as_secs());
        balancer.handle_timeout(until - MS);
        assert!(balancer.pick_except(&["e1", "e2"], now).is_err());
        balancer.handle_timeout(until);
        now = until;
    }
    assert_eq!(rests, [10, 20, 25]);
    assert_eq!(balancer.stats(now).ejections, 3);
}

#[test]
fn no_more_than_the_share_rests_at_once() {
    let now = t0();
    let ejection = EjectionConfig::default()
        .with_failures(1)
        .with_percent_max(50);
    let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
    balancer.set_endpoints((0..4).map(|n| Endpoint::new(n.to_string(), ())), now);
    for _ in 0..20 {
        balancer.pick(now).unwrap().report(Outcome::Failure, now);
    }
    let resting = balancer
        .stats(now)
        .endpoints
        .iter()
        .filter(|e| e.ejected)
        .count();
    assert_eq!(resting, 2);
}

#[test]
fn busy_is_not_unwell() {
    let now = t0();
    let ejection = EjectionConfig::default().with_failures(1);
    let balancer = three(
        RoundRobin::new(),
        Config::default().with_ejection(ejection),
        now,
    );
    for _ in 0..30 {
        balancer.pick(now).unwrap().report(Outcome::Busy, now);
    }
    assert!(balancer.stats(now).endpoints.iter().all(|e| e.ready));
}

#[test]
fn checks_take_an_endpoint_down_and_up_again() {
    let mut now = t0();
    let probes = ProbeConfig::default()
        .with_every(SECOND)
        .with_thresholds(2, 3);
    let balancer = three(
        RoundRobin::new(),
        Config::default().with_probes(probes),
        now,
    );
    let check = |good: bool, now: Instant| {
        let due = balancer.probes_due(now);
        assert_eq!(due.len(), 3);
        assert!(
            balancer.probes_due(now).is_empty(),
            "each check is given once"
        );
        for probe in due {
            balancer.probe_result(&probe.id, good || probe.id != "e1", now);
        }
    };
    let e1_ready = |now| balancer.stats(now).endpoints[1].ready;
    for expected in [true, true, false] {
        check(false, now);
        assert_eq!(e1_ready(now), expected);
        assert_eq!(balancer.next_deadline(), Some(now + SECOND));
        now += SECOND;
    }
    for expected in [false, true] {
        check(true, now);
        assert_eq!(e1_ready(now), expected);
        now += SECOND;
    }
}

#[test]
fn a_good_check_ends_a_rest() {
    let now = t0();
    let config = Config::default()
        .with_probes(ProbeConfig::default())
        .with_ejection(EjectionConfig::default().with_failures(1));
    let balancer = three(RoundRobin::new(), config, now);
    let lease = balancer.pick(now).unwrap();
    let id = lease.id().to_owned();
    lease.report(Outcome::Failure, now);
    assert!(balancer.stats(now).endpoints.iter().any(|e| e.ejected));
    for probe in balancer.probes_due(now) {
        balancer.probe_result(&probe.id, true, now);
    }
    let stats = balancer.stats(now);
    assert!(stats.endpoints.iter().all(|e| e.ready), "{id}: {stats:?}");
}

/// Failures cost it a penalty of a second beside peers of 2 ms: without a new start it would get nothing
/// for a minute.
#[test]
fn who_comes_back_gets_its_share_at_once_by_a_check_or_after_its_rest() {
    for checked in [true, false] {
        let mut now = t0();
        let config = Config::default()
            .with_probes(ProbeConfig::default().with_thresholds(1, 1))
            .with_ejection(
                EjectionConfig::default()
                    .with_failures(1)
                    .with_rest(SECOND, SECOND),
            );
        let balancer = three(LeastLoad::new(PeakEwma), config, now);
        let mut ask = |until: Instant, dead: bool| {
            let mut answers = 0;
            while now < until {
                let lease = balancer.pick(now).unwrap();
                let is_it = lease.id() == "e0";
                now += 2 * MS;
                let outcome = if is_it && dead {
                    Outcome::Failure
                } else {
                    answers += u32::from(is_it);
                    Outcome::Success
                };
                lease.report(outcome, now);
            }
            answers
        };
        let start = t0();
        ask(start + 100 * MS, false);
        assert_eq!(ask(start + 200 * MS, true), 0);
        let back = if checked {
            balancer.probe_result("e0", true, start + 200 * MS);
            start + 200 * MS
        } else {
            start + 1_050 * MS
        };
        ask(back, true);
        let answers = ask(back + 400 * MS, false);
        assert!((40..=80).contains(&answers), "{checked}: {answers} of 200");
    }
}

#[test]
fn with_panic_on_all_are_tried_when_none_is_healthy_and_a_draining_one_never() {
    let now = t0();
    let config = Config::default()
        .with_probes(ProbeConfig::default().with_thresholds(1, 1))
        .with_panic(true);
    let balancer = Balancer::new(RoundRobin::new(), config);
    balancer.set_endpoints(
        [
            Endpoint::new("a", ()),
            Endpoint::new("b", ()),
            Endpoint::new("c", ()).with_draining(true),
        ],
        now,
    );
    for due in balancer.probes_due(now) {
        balancer.probe_result(&due.id, false, now);
    }
    let picked: std::collections::BTreeSet<String> = (0..6)
        .map(|_| balancer.pick(now).unwrap().id().to_owned())
        .collect();
    assert_eq!(picked.into_iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn an_endpoint_that_fails_more_than_the_others_rests_after_the_interval() {
    let start = t0();
    let ejection = EjectionConfig::default()
        .with_failures(0)
        .with_interval(Duration::from_secs(1))
        .with_success_rate(stackbeam_lb::SuccessRate::default().with_volume(5, 100));
    let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
    balancer.set_endpoints((0..8).map(|n| Endpoint::new(format!("e{n}"), n)), start);
    balancer.handle_timeout(start);
    for n in 0..1_600 {
        let lease = balancer.pick(start).unwrap();
        let bad = *lease.target() == 3 && n % 16 < 8;
        let outcome = if bad {
            Outcome::Failure
        } else {
            Outcome::Success
        };
        lease.report(outcome, start);
    }
    assert_eq!(
        balancer.stats(start).ejections,
        0,
        "the interval is not over"
    );
    let end = balancer.next_deadline().unwrap();
    assert_eq!(end, start + Duration::from_secs(1));
    balancer.handle_timeout(end);
    let resting: Vec<String> = balancer
        .stats(end)
        .endpoints
        .into_iter()
        .filter(|endpoint| endpoint.ejected)
        .map(|endpoint| endpoint.id)
        .collect();
    assert_eq!(resting, ["e3"]);
}

#[test]
fn a_rest_that_is_over_needs_nobody_to_say_so() {
    let now = t0();
    let ejection = EjectionConfig::default()
        .with_failures(1)
        .with_percent_max(100)
        .with_rest(SECOND, SECOND);
    let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
    balancer.set_endpoints([Endpoint::new("only", ())], now);
    balancer.pick(now).unwrap().report(Outcome::Failure, now);
    assert_eq!(balancer.pick(now).unwrap_err().ready, 0);
    assert!(balancer.pick(now + SECOND - MS).is_err());
    assert_eq!(balancer.pick(now + SECOND).unwrap().id(), "only");
}

#[test]
fn a_rest_for_ever_is_a_rest() {
    let now = t0();
    let ejection = EjectionConfig::default()
        .with_failures(1)
        .with_rest(Duration::MAX, Duration::MAX);
    let balancer = three(
        RoundRobin::new(),
        Config::default().with_ejection(ejection),
        now,
    );
    balancer.pick(now).unwrap().report(Outcome::Failure, now);
    let later = now + Duration::from_secs(86_400 * 365);
    assert!((0..9).all(|_| balancer.pick(later).unwrap().id() != "e0"));
}

#[test]
fn a_check_whose_answer_is_lost_counts_as_bad_and_comes_again() {
    let now = t0();
    let probes = ProbeConfig::default()
        .with_every(SECOND)
        .with_patience(5 * SECOND)
        .with_thresholds(1, 1);
    let balancer = three(
        RoundRobin::new(),
        Config::default().with_probes(probes),
        now,
    );
    for due in balancer.probes_due(now) {
        if due.id != "e1" {
            balancer.probe_result(&due.id, true, now);
        }
    }
    assert_eq!(balancer.probes_due(now + SECOND).len(), 2, "e1 has one out");
    for id in ["e0", "e2"] {
        balancer.probe_result(id, true, now + 5 * SECOND);
    }
    assert_eq!(balancer.next_deadline(), Some(now + 5 * SECOND));
    assert!(balancer.probes_due(now + 5 * SECOND).is_empty());
    let ready: Vec<bool> = balancer
        .stats(now)
        .endpoints
        .iter()
        .map(|endpoint| endpoint.ready)
        .collect();
    assert_eq!(ready, [true, false, true]);
    assert_eq!(balancer.probes_due(now + 6 * SECOND).len(), 3);
}
