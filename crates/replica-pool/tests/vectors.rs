//! The golden vectors: which replica may be promoted, and which claim counts.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use serde_json::Value;
use stackbeam_replica_pool::{Candidate, Claims, ElectRules, Rejection, Standing, elect};

fn cases(text: &str) -> Vec<Value> {
    let suite: Value = serde_json::from_str(text).unwrap();
    suite["cases"].as_array().unwrap().clone()
}

#[test]
fn every_promotion_is_chosen_as_recorded() {
    let cases = cases(include_str!("vectors/promotion_choice.json"));
    assert_eq!(cases.len(), 36);
    for case in cases {
        let config = &case["config"];
        let candidates: Vec<_> = case["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| Candidate {
                id: node["id"].as_str().unwrap().to_owned(),
                reachable: node["reachable"].as_bool().unwrap(),
                timeline: node["timeline"].as_u64().unwrap(),
                receive: node["receive"].as_u64().unwrap(),
                replay: node["replay"].as_u64().unwrap(),
                sync: node["sync"].as_bool().unwrap_or(false),
                priority: u32::try_from(node["priority"].as_u64().unwrap_or(100)).unwrap(),
                no_failover: node["no_failover"].as_bool().unwrap_or(false),
            })
            .collect();
        let rules = ElectRules {
            known_timeline: config["known_timeline"].as_u64().unwrap(),
            last_primary: config["last_primary_lsn"].as_u64().unwrap(),
            quorum: usize::try_from(config["quorum"].as_u64().unwrap_or(0)).unwrap(),
            lag_max: config["max_lag"].as_u64(),
            require_sync: config["require_sync"].as_bool().unwrap_or(false),
        };
        let expect = &case["expect"];
        let Ok(election) = elect(&candidates, &rules) else {
            assert_eq!(expect["why"], "no quorum", "{}", case["id"]);
            continue;
        };
        assert!(expect.get("why").is_none(), "{}", case["id"]);
        let elected = election.elected.as_ref();
        assert_eq!(
            elected.map(|(id, _)| id.as_str()),
            expect["promote"].as_str(),
            "{}",
            case["id"]
        );
        assert_eq!(
            elected.map(|(_, at)| *at),
            expect["position"].as_u64(),
            "{}",
            case["id"]
        );
        assert_eq!(
            election.lost_at_most,
            expect["lost_bytes_at_most"].as_u64(),
            "{}",
            case["id"]
        );
        let rejected = expect["rejected"].as_object().unwrap();
        assert_eq!(rejected.len(), election.rejected.len(), "{}", case["id"]);
        for (id, why) in &election.rejected {
            let name = match why {
                Rejection::Unreachable => "unreachable",
                Rejection::NoFailover => "no_failover",
                Rejection::OldTimeline => "old_timeline",
                Rejection::NotSync => "not_sync",
                Rejection::TooFarBehind => "too_far_behind",
                _ => "?",
            };
            assert_eq!(rejected[id].as_str(), Some(name), "{} {id}", case["id"]);
        }
    }
}

#[test]
fn every_claim_stands_as_recorded() {
    let cases = cases(include_str!("vectors/primary_epochs.json"));
    assert_eq!(cases.len(), 33);
    let number = |name: &Value| u16::from(name.as_str().unwrap().as_bytes()[0]);
    for case in cases {
        let mut claims = Claims::default();
        for step in case["steps"].as_array().unwrap() {
            let from = number(&step["from"]);
            if step["down"].as_bool() == Some(true) {
                claims.down(from);
            } else if step["writable"].as_bool() == Some(true) {
                claims.writable(
                    from,
                    step["epoch"].as_u64(),
                    step["config_version"].as_u64(),
                );
            } else {
                claims.read_only(from);
            }
            for (name, standing) in step["expect"].as_object().unwrap() {
                let found = match claims.standing(u16::from(name.as_bytes()[0])) {
                    Some(Standing::Primary) => "primary",
                    Some(Standing::Stale) => "stale",
                    Some(Standing::Replica) => "replica",
                    Some(Standing::Down) => "down",
                    _ => "unknown",
                };
                assert_eq!(standing.as_str(), Some(found), "{} {name}", case["id"]);
            }
            let (epoch, version) = claims.highest();
            let max =
                [epoch, version].map(|part| part.map_or(-1, |part| i64::try_from(part).unwrap()));
            assert_eq!(step["max"], serde_json::json!(max), "{}", case["id"]);
        }
    }
}
