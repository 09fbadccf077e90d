//! Facts that other people's software computed; see `vectors/README.md`.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::time::{Duration, Instant};

use serde_json::Value;
use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, Estimate, FailurePercentage, InFlight, Outcome,
    Random, SlowStart, SmoothWeighted, SomeChoices, Strategy, SuccessRate, Tally, TwoChoices,
    outliers, success_rate_threshold,
};

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

fn cases(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

#[test]
fn smooth_weighted_round_robin_picks_in_nginx_order() {
    let mut checked = 0;
    for case in cases(include_str!("vectors/smooth_wrr.json")) {
        let id = case["id"].as_str().unwrap();
        let balancer = Balancer::new(SmoothWeighted::new(), Config::default());
        let weights = case["weights"].as_array().unwrap();
        balancer.set_endpoints(
            weights.iter().enumerate().map(|(index, weight)| {
                let name = char::from(b'a' + u8::try_from(index).unwrap());
                let weight = u32::try_from(weight.as_u64().unwrap()).unwrap();
                Endpoint::new(name.to_string(), ()).with_weight(weight)
            }),
            t0(),
        );
        let picks = case["picks"].as_str().unwrap();
        let got: String = picks
            .chars()
            .map(|_| balancer.pick(t0()).unwrap().id().to_owned())
            .collect();
        assert_eq!(got, picks, "{id}");
        checked += 1;
    }
    assert_eq!(checked, 27);
}

#[test]
fn peak_ewma_follows_the_published_rule() {
    let mut samples_checked = 0;
    for case in cases(include_str!("vectors/peak_ewma.json")) {
        let tau = Duration::from_secs_f64(case["tau_s"].as_f64().unwrap());
        let initial = Duration::from_secs_f64(case["initial_ms"].as_f64().unwrap() / 1e3);
        let start = t0();
        let mut estimate = Estimate::new(initial, start);
        for sample in case["samples"].as_array().unwrap() {
            let at = start + Duration::from_secs_f64(sample["t_s"].as_f64().unwrap());
            let latency = Duration::from_secs_f64(sample["sample_ms"].as_f64().unwrap() / 1e3);
            estimate.record(latency, tau, at);
            let wanted = sample["estimate_ms"].as_f64().unwrap();
            let got = estimate.seconds() * 1e3;
            assert!(
                (got - wanted).abs() < 1e-6,
                "{}: {got} for {wanted}",
                case["id"]
            );
            samples_checked += 1;
        }
    }
    assert!(samples_checked > 100, "{samples_checked}");
}

#[test]
fn slow_start_follows_the_documented_formula() {
    let mut points_checked = 0;
    for case in cases(include_str!("vectors/slow_start.json")) {
        let Some(points) = case["points"].as_array() else {
            continue;
        };
        let slow_start =
            SlowStart::over(Duration::from_secs_f64(case["window_s"].as_f64().unwrap()))
                .with_aggression(case["aggression"].as_f64().unwrap())
                .with_floor(case["min_weight_pct"].as_f64().unwrap() / 100.0);
        for point in points {
            let age = Duration::from_secs_f64(point["age_s"].as_f64().unwrap());
            let wanted = point["factor"].as_f64().unwrap();
            let got = slow_start.factor(age);
            assert!(
                (got - wanted).abs() < 1e-4,
                "{}: {got} for {wanted}",
                case["id"]
            );
            points_checked += 1;
        }
    }
    assert!(points_checked > 20, "{points_checked}");
}

#[test]
fn two_choices_keep_the_fullest_bin_as_low_as_measured() {
    let mut checked = 0;
    for case in cases(include_str!("vectors/p2c_max_load.json")) {
        let choices = usize::try_from(case["choices"].as_u64().unwrap()).unwrap();
        let bins = usize::try_from(case["bins"].as_u64().unwrap()).unwrap();
        let balls = case["balls"].as_u64().unwrap();
        let trials = 50_u32;
        let mut sum = 0.0;
        for trial in 0..trials {
            let seed = u64::from(trial) * 7919;
            let strategy: Box<dyn Strategy> = match choices {
                1 => Box::new(Random::new(seed)),
                2 => Box::new(TwoChoices::new(InFlight, seed)),
                more => Box::new(SomeChoices::new(InFlight, more, seed)),
            };
            let balancer = Balancer::new(strategy, Config::default());
            balancer.set_endpoints(
                (0..bins).map(|bin| Endpoint::new(bin.to_string(), ())),
                t0(),
            );
            let leases: Vec<_> = (0..balls).map(|_| balancer.pick(t0()).unwrap()).collect();
            let stats = balancer.stats(t0());
            let fullest = stats.endpoints.iter().map(|e| e.in_flight).max().unwrap();
            sum += f64::from(fullest);
            for lease in leases {
                lease.report(Outcome::Success, t0());
            }
        }
        let mean = sum / f64::from(trials);
        let wanted = case["mean_max_load"].as_f64().unwrap();
        let tolerance = case["tolerance"].as_f64().unwrap();
        assert!(
            (mean - wanted).abs() <= tolerance,
            "{}: {mean} for {wanted}",
            case["id"]
        );
        checked += 1;
    }
    assert_eq!(checked, 7);
}

#[test]
fn weighted_picks_come_as_often_in_a_cycle_as_haproxys() {
    let mut checked = 0;
    for case in cases(include_str!("vectors/haproxy_wrr.json")) {
        let id = case["id"].as_str().unwrap();
        let weights = indices(&case["weights"]);
        let cycle: usize = weights.iter().sum();
        let recorded = case["picks"].as_str().unwrap();
        let balancer = Balancer::new(SmoothWeighted::new(), Config::default());
        balancer.set_endpoints(
            weights.iter().enumerate().map(|(index, weight)| {
                Endpoint::new(index.to_string(), index).with_weight(u32::try_from(*weight).unwrap())
            }),
            t0(),
        );
        let picks: Vec<usize> = (0..recorded.len())
            .map(|_| *balancer.pick(t0()).unwrap().target())
            .collect();
        let expected = indices(&case["counts_per_cycle"]);
        for picked in picks.chunks_exact(cycle) {
            let counts: Vec<usize> = (0..weights.len())
                .map(|peer| picked.iter().filter(|pick| **pick == peer).count())
                .collect();
            assert_eq!(counts, expected, "{id}");
        }
        checked += 1;
    }
    assert_eq!(checked, 15);
}

/// One endpoint that fails whenever the timeline says so: does it rest, and until when?
fn follow_the_timeline(case: &Value) {
    let id = &case["id"];
    let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap());
    let timeline = case["timeline"].as_array().unwrap();
    let interval = seconds(&timeline[1]["t"]) - seconds(&timeline[0]["t"]);
    let ejection = EjectionConfig::default()
        .with_failures(1)
        .with_percent_max(100)
        .with_interval(interval)
        .with_rest(
            seconds(&case["base_ejection_s"]),
            seconds(&case["max_ejection_s"]),
        );
    let balancer = Balancer::new(
        SmoothWeighted::new(),
        Config::default().with_ejection(ejection),
    );
    let start = t0();
    balancer.set_endpoints([Endpoint::new("a", ())], start);
    for tick in timeline {
        let now = start + seconds(&tick["t"]);
        balancer.handle_timeout(now);
        if tick["bad"] == true
            && let Ok(lease) = balancer.pick(now)
        {
            lease.report(Outcome::Failure, now);
        }
        let until = tick["until"]
            .as_u64()
            .map(|at| start + Duration::from_secs(at));
        assert_eq!(balancer.next_deadline(), until, "{id} at {}", tick["t"]);
        let resting = balancer.stats(now).endpoints[0].ejected;
        assert_eq!(resting, tick["state"] != "in", "{id} at {}", tick["t"]);
    }
}

fn indices(value: &Value) -> Vec<usize> {
    let list = value.as_array().unwrap();
    list.iter()
        .map(|n| usize::try_from(n.as_u64().unwrap()).unwrap())
        .collect()
}

#[test]
fn outliers_are_those_that_envoy_and_grpc_find() {
    let (mut thresholds, mut intervals, mut timelines) = (0, 0, 0);
    for case in cases(include_str!("vectors/outlier.json")) {
        let id = &case["id"];
        match case["kind"].as_str().unwrap() {
            "threshold" => {
                thresholds += 1;
                let rates: Vec<f64> = case["success_rates"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|rate| rate.as_f64().unwrap())
                    .collect();
                let factor = case["factor"].as_f64().unwrap();
                let (mean, threshold) = success_rate_threshold(&rates, factor).unwrap();
                let expected = &case["expect"];
                assert!(
                    (mean - expected["mean"].as_f64().unwrap()).abs() < 1e-4,
                    "{id}"
                );
                let wanted = expected["threshold"].as_f64().unwrap();
                assert!((threshold - wanted).abs() < 1e-4, "{id}: {threshold}");
                let below: Vec<usize> = (0..rates.len())
                    .filter(|at| rates[*at] < threshold)
                    .collect();
                assert_eq!(below, indices(&expected["below"]), "{id}");
            }
            "interval" => {
                intervals += 1;
                let config = &case["config"];
                let small = |value: &Value| u8::try_from(value.as_u64().unwrap()).unwrap();
                let volume = |rule: &Value| {
                    let endpoints = usize::try_from(rule["minimum_hosts"].as_u64().unwrap());
                    (endpoints.unwrap(), rule["request_volume"].as_u64().unwrap())
                };
                let success_rate = config.get("success_rate").map(|rule| {
                    let (endpoints, requests) = volume(rule);
                    let factor = format!("{:.0}", rule["factor"].as_f64().unwrap() * 1e3);
                    SuccessRate::default()
                        .with_factor_thousandths(factor.parse().unwrap())
                        .with_enforcement(small(&rule["enforcement"]))
                        .with_volume(endpoints, requests)
                });
                let failure_percentage = config.get("failure_percentage").map(|rule| {
                    let (endpoints, requests) = volume(rule);
                    FailurePercentage::default()
                        .with_threshold(small(&rule["threshold"]))
                        .with_enforcement(small(&rule["enforcement"]))
                        .with_volume(endpoints, requests)
                });
                let tallies: Vec<Tally> = case["hosts"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|host| {
                        Tally::new(host["ok"].as_u64().unwrap(), host["fail"].as_u64().unwrap())
                    })
                    .collect();
                let found = outliers(
                    &tallies,
                    success_rate.as_ref(),
                    failure_percentage.as_ref(),
                    small(&config["max_ejection_percent"]),
                    || 99,
                );
                if let Some(expected) = case.get("expect_ejected") {
                    assert_eq!(found, indices(expected), "{id}");
                } else {
                    let expected = case["expect_ejected_count"].as_u64().unwrap();
                    assert_eq!(found.len() as u64, expected, "{id}");
                }
            }
            "ejection_time" => {
                timelines += 1;
                follow_the_timeline(&case);
            }
            other => panic!("{id}: an unknown kind {other}"),
        }
    }
    assert_eq!((thresholds, intervals, timelines), (10, 14, 4));
}
