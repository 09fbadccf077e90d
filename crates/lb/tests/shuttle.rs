//! Picks, reports and changes of the list in many orders of their threads:
//! `cargo xtask shuttle lb`.
//!
//! A failure prints the schedule that it came from, for `shuttle::replay`.
#![cfg(shuttle)]

use std::time::{Duration, Instant};

use shuttle::thread;
use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, InFlight, LeastLoad, Outcome, RoundRobin, Stats,
    Strategy,
};

const SCHEDULES: usize = 2_000;
const SECOND: Duration = Duration::from_secs(1);

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

/// Every schedule drawn by chance, and those with few switches, which find other mistakes.
fn check(body: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(body, SCHEDULES);
    shuttle::check_pct(body, SCHEDULES, 3);
}

fn list<S: Strategy>(balancer: &Balancer<u32, S>, numbers: &[u32], now: Instant) {
    balancer.set_endpoints(
        numbers
            .iter()
            .map(|number| Endpoint::new(number.to_string(), *number)),
        now,
    );
}

fn ended(stats: &Stats) -> u64 {
    stats.succeeded + stats.failed + stats.busy + stats.cancelled
}

#[test]
fn counters_add_up_whatever_happens_at_once() {
    check(|| {
        let now = t0();
        let balancer = Balancer::new(LeastLoad::new(InFlight), Config::default());
        list(&balancer, &[0, 1], now);
        let users: Vec<_> = [Outcome::Success, Outcome::Failure]
            .into_iter()
            .map(|outcome| {
                let balancer = balancer.clone();
                thread::spawn(move || {
                    balancer.pick(now).unwrap().report(outcome, now);
                    drop(balancer.pick(now).unwrap());
                })
            })
            .collect();
        let operator = {
            let balancer = balancer.clone();
            thread::spawn(move || {
                list(&balancer, &[1, 2], now);
                let stats = balancer.stats(now);
                assert!(ended(&stats) <= stats.picked, "{stats:?}");
                list(&balancer, &[0, 1, 2], now);
            })
        };
        for thread in users {
            thread.join().unwrap();
        }
        operator.join().unwrap();
        let stats = balancer.stats(now);
        assert_eq!((stats.picked, ended(&stats), stats.in_flight), (4, 4, 0));
        for endpoint in &stats.endpoints {
            let ended = endpoint.succeeded + endpoint.failed + endpoint.busy + endpoint.cancelled;
            assert_eq!(
                (endpoint.picked, endpoint.in_flight),
                (ended, 0),
                "{endpoint:?}"
            );
        }
    });
}

#[test]
fn no_more_rest_than_may_however_many_fail_at_once() {
    check(|| {
        let now = t0();
        let ejection = EjectionConfig::default()
            .with_failures(1)
            .with_percent_max(50);
        let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
        list(&balancer, &[0, 1, 2, 3], now);
        let leases: Vec<_> = (0..4).map(|_| balancer.pick(now).unwrap()).collect();
        let threads: Vec<_> = leases
            .into_iter()
            .map(|lease| thread::spawn(move || lease.report(Outcome::Failure, now)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let stats = balancer.stats(now);
        let resting = stats.endpoints.iter().filter(|end| end.ejected).count();
        assert_eq!((resting, stats.ejections), (2, 2));
        assert!((0..4).all(|_| {
            let lease = balancer.pick(now).unwrap();
            stats
                .endpoints
                .iter()
                .any(|end| end.id == lease.id() && !end.ejected)
        }));
    });
}

#[test]
fn nobody_is_refused_once_a_rest_is_over() {
    check(|| {
        let now = t0();
        let ejection = EjectionConfig::default()
            .with_failures(1)
            .with_rest(SECOND, SECOND);
        let balancer = Balancer::new(RoundRobin::new(), Config::default().with_ejection(ejection));
        list(&balancer, &[0], now);
        balancer.pick(now).unwrap().report(Outcome::Failure, now);
        assert!(balancer.pick(now).is_err());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let balancer = balancer.clone();
                thread::spawn(move || balancer.pick(now + SECOND).map(drop))
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    });
}

#[cfg(feature = "consistent-hash")]
#[test]
fn a_key_is_at_its_owner_in_the_old_list_or_in_the_new() {
    use stackbeam_lb::{Ask, Sticky};

    check(|| {
        let now = t0();
        let owner = |numbers: &[u32], key: &[u8]| {
            let alone = Balancer::new(Sticky::new(), Config::default());
            list(&alone, numbers, now);
            *alone
                .pick_for(&Ask::new().with_key(key), now)
                .unwrap()
                .target()
        };
        let (old, new) = ([0, 1, 2], [3, 2, 0]);
        let balancer = Balancer::new(Sticky::new(), Config::default());
        list(&balancer, &old, now);
        let threads: Vec<_> = [b"k1", b"k2"]
            .into_iter()
            .map(|key| {
                let balancer = balancer.clone();
                let (before, after) = (owner(&old, key), owner(&new, key));
                thread::spawn(move || {
                    let mut changed = false;
                    for _ in 0..3 {
                        let lease = balancer.pick_for(&Ask::new().with_key(key), now).unwrap();
                        let got = *lease.target();
                        assert!(got == after || (got == before && !changed), "{got}");
                        changed |= got != before;
                    }
                })
            })
            .collect();
        list(&balancer, &new, now);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
