//! A key stays at its endpoint: the laws that `Sticky` claims.
#![cfg(feature = "consistent-hash")]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use stackbeam_lb::{Ask, Balancer, Config, EjectionConfig, Endpoint, Lease, Outcome, Sticky};

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

fn balancer(strategy: Sticky, weights: &[(&str, u32)], now: Instant) -> Balancer<(), Sticky> {
    let ejection = EjectionConfig::default().with_failures(1);
    let balancer = Balancer::new(strategy, Config::default().with_ejection(ejection));
    list(&balancer, weights, now);
    balancer
}

fn list(balancer: &Balancer<(), Sticky>, weights: &[(&str, u32)], now: Instant) {
    balancer.set_endpoints(
        weights
            .iter()
            .map(|(id, weight)| Endpoint::new(*id, ()).with_weight(*weight)),
        now,
    );
}

fn owners(balancer: &Balancer<(), Sticky>, keys: u32, now: Instant) -> Vec<String> {
    (0..keys)
        .map(|key| {
            let key = format!("user:{key}");
            let ask = Ask::new().with_key(key.as_bytes());
            balancer.pick_for(&ask, now).unwrap().id().to_owned()
        })
        .collect()
}

const WEB: [(&str, u32); 4] = [("web-1", 1), ("web-2", 1), ("web-3", 1), ("web-4", 1)];

#[test]
fn where_a_key_is_never_changes() {
    // Golden: two edges of different releases must agree. A change here moves users.
    let now = t0();
    let placed = owners(&balancer(Sticky::new(), &WEB, now), 8, now);
    assert_eq!(placed, GOLDEN);
}

const GOLDEN: [&str; 8] = [
    "web-2", "web-4", "web-3", "web-1", "web-3", "web-2", "web-3", "web-4",
];

#[test]
fn the_order_of_the_list_does_not_matter() {
    let now = t0();
    let mut turned = WEB;
    turned.reverse();
    assert_eq!(
        owners(&balancer(Sticky::new(), &WEB, now), 500, now),
        owners(&balancer(Sticky::new(), &turned, now), 500, now)
    );
}

#[test]
fn an_endpoint_at_rest_lends_its_keys_and_no_other_key_moves() {
    let now = t0();
    let balancer = balancer(Sticky::new(), &WEB, now);
    let before = owners(&balancer, 1_000, now);
    let ask = Ask::new().with_key(b"user:0");
    let lease = balancer.pick_for(&ask, now).unwrap();
    let ill = lease.id().to_owned();
    lease.report(Outcome::Failure, now);
    let during = owners(&balancer, 1_000, now);
    assert!(!during.contains(&ill));
    for (was, is) in before.iter().zip(&during) {
        assert!(was == is || *was == ill, "{was} went to {is}");
    }
    let rested = balancer.next_deadline().unwrap();
    assert_eq!(owners(&balancer, 1_000, rested), before, "all are back");
}

#[test]
fn shares_follow_weights_however_large() {
    let now = t0();
    for unit in [1, 1 << 30] {
        let weights = [("a", unit), ("b", 3 * unit)];
        let placed = owners(&balancer(Sticky::new(), &weights, now), 4_000, now);
        let b = placed.iter().filter(|id| *id == "b").count();
        assert!((2_850..=3_150).contains(&b), "{b} of 4000 with unit {unit}");
    }
}

#[test]
fn a_request_without_a_key_goes_by_load() {
    let now = t0();
    let balancer = balancer(Sticky::new(), &WEB, now);
    let leases: Vec<_> = (0..4).map(|_| balancer.pick(now).unwrap()).collect();
    let mut ids: Vec<&str> = leases.iter().map(Lease::id).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["web-1", "web-2", "web-3", "web-4"]);
}

#[test]
fn a_key_that_was_tried_goes_to_its_next_endpoint_always_the_same() {
    let now = t0();
    let balancer = balancer(Sticky::new().with_bound(1.25), &WEB, now);
    let ask = Ask::new().with_key(b"user:7");
    let first = balancer.pick_for(&ask, now).unwrap().id().to_owned();
    let tried = [first.as_str()];
    let again = ask.with_tried(&tried);
    let second = balancer.pick_for(&again, now).unwrap().id().to_owned();
    assert_ne!(first, second);
    for _ in 0..10 {
        assert_eq!(balancer.pick_for(&again, now).unwrap().id(), second);
    }
    let all = ["web-1", "web-2", "web-3", "web-4"];
    assert!(balancer.pick_for(&ask.with_tried(&all), now).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_endpoint_takes_more_than_its_bounded_share(
        weights in prop::collection::vec(1..5_u32, 1..8),
        times in 1.0..3.0_f64,
        keys in prop::collection::vec(0..4_u32, 1..120),
    ) {
        let now = t0();
        let names: Vec<String> = (0..weights.len()).map(|n| format!("e{n}")).collect();
        let listed: Vec<(&str, u32)> =
            names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let balancer = balancer(Sticky::new().with_bound(times), &listed, now);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut leases = Vec::new();
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        for (step, key) in keys.iter().enumerate() {
            let lease = balancer.pick_for(&Ask::new().with_key(&key.to_le_bytes()), now).unwrap();
            let count = counts.entry(lease.id().to_owned()).or_default();
            *count += 1.0;
            let weight = listed.iter().find(|(id, _)| *id == lease.id()).unwrap().1;
            let under_way = f64::from(u32::try_from(step + 1).unwrap());
            let most = (times * under_way * f64::from(weight) / total).ceil();
            prop_assert!(*count <= most, "{} has {count} of {under_way}, at most {most}", lease.id());
            leases.push(lease);
        }
    }
}
