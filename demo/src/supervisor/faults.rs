//! What each fault cost: noticed when and by whom, healed when, and what users and writes paid.
//!
//! A pure core: time comes in as the time since the run began, and what happened as calls.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::snapshot::{Condition, NodeView};
use crate::node::config::Role;

/// How many faults are remembered; older ones are forgotten.
const FAULTS_MAX: usize = 12;
/// How long after the healing a failed request still counts: it may have been waiting.
const AFTERMATH: Duration = Duration::from_secs(1);

/// One fault and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Counts up by one from 1.
    pub(crate) number: u64,
    /// Milliseconds since 1970, for showing.
    pub(crate) at_ms: u64,
    pub(crate) node: String,
    /// `killed`, `paused`, `restarted`, or how it ended by itself.
    pub(crate) what: String,
    /// Who of the others noticed first.
    pub(crate) noticed: Option<Noticed>,
    /// For a primary: who took its place, and when.
    pub(crate) replaced: Option<Noticed>,
    /// Milliseconds until the node served again, as far as looking several times a second can tell.
    pub(crate) healed_after_ms: Option<u64>,
    /// Requests of the synthetic users that failed meanwhile, whatever their cause.
    pub(crate) failed: u64,
    /// Acknowledged writes that went missing meanwhile; none while nobody has checked.
    pub(crate) lost: Option<u64>,
    /// Whether the figures can still change.
    pub(crate) open: bool,
}

/// Somebody saw something, so many milliseconds after the fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noticed {
    pub(crate) by: String,
    pub(crate) after_ms: u64,
}

/// What the load generator has counted up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) failed: u64,
    pub(super) lost: Option<u64>,
}

impl Tally {
    pub(super) fn of(load: Option<&serde_json::Value>) -> Self {
        let number = |name| load.and_then(|load| load.get(name)?.as_u64());
        Self {
            failed: number("failed_total").unwrap_or(0),
            lost: number("lost_total"),
        }
    }
}

/// A fault and what it is measured against.
#[derive(Debug)]
struct Record {
    fault: Fault,
    began: Duration,
    healed: Option<Duration>,
    before: Tally,
    was_primary: bool,
}

/// The faults of a run, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    records: VecDeque<Record>,
    count: u64,
}

impl Faults {
    /// Something happened to `node` at `now`, by order or by itself. A fault of a node that has not
    /// healed from the last one belongs to that one.
    pub(super) fn began(
        &mut self,
        now: Duration,
        at_ms: u64,
        node: &str,
        what: &str,
        was_primary: bool,
        tally: Tally,
    ) {
        if self
            .records
            .iter()
            .any(|record| record.fault.node == node && record.healed.is_none())
        {
            return;
        }
        if self.records.len() == FAULTS_MAX {
            self.records.pop_front();
        }
        self.count += 1;
        self.records.push_back(Record {
            fault: Fault {
                number: self.count,
                at_ms,
                node: node.to_owned(),
                what: what.to_owned(),
                noticed: None,
                replaced: None,
                healed_after_ms: None,
                failed: 0,
                lost: None,
                open: true,
            },
            began: now,
            healed: None,
            before: tally,
            was_primary,
        });
    }

    /// `author` put `text` into the event log. Whoever names a faulty node first has noticed.
    pub(super) fn heard(&mut self, now: Duration, author: &str, text: &str) {
        for record in &mut self.records {
            let fault = &mut record.fault;
            let unnoticed = fault.noticed.is_none() && record.healed.is_none();
            if unnoticed && author != fault.node && names(text, &fault.node) {
                fault.noticed = Some(Noticed {
                    by: author.to_owned(),
                    after_ms: ms(now.saturating_sub(record.began)),
                });
            }
        }
    }

    /// A node will not come back: it has left, or is drained on purpose.
    pub(super) fn gone(&mut self, node: &str) {
        for record in &mut self.records {
            if record.fault.node == node {
                record.fault.open = false;
            }
        }
    }

    /// All is as `nodes` and `tally` say.
    pub(super) fn look(&mut self, now: Duration, nodes: &[NodeView], tally: Tally) {
        for record in self.records.iter_mut().filter(|record| record.fault.open) {
            let fault = &mut record.fault;
            let after = now.saturating_sub(record.began);
            fault.failed = tally.failed.saturating_sub(record.before.failed);
            fault.lost = tally
                .lost
                .map(|lost| lost.saturating_sub(record.before.lost.unwrap_or(0)));
            if record.was_primary && fault.replaced.is_none() {
                fault.replaced = successor(nodes, &fault.node).map(|node| Noticed {
                    by: node.id.clone(),
                    after_ms: ms(after),
                });
            }
            match record.healed {
                None if whole(nodes, &fault.node) => {
                    record.healed = Some(now);
                    fault.healed_after_ms = Some(ms(after));
                }
                Some(healed) if now.saturating_sub(healed) >= AFTERMATH => fault.open = false,
                _ => {}
            }
        }
    }

    /// Whether anything has not healed yet, so that looking often is worth it.
    pub(super) fn any_open(&self) -> bool {
        self.records.iter().any(|record| record.fault.open)
    }

    /// Newest first.
    pub(super) fn list(&self) -> Vec<Fault> {
        let newest_first = self.records.iter().rev();
        newest_first.map(|record| record.fault.clone()).collect()
    }
}

/// Whether `node` does its part again: it answers, and those who send to it know.
fn whole(nodes: &[NodeView], id: &str) -> bool {
    let Some(node) = nodes.iter().find(|node| node.id == id) else {
        return false;
    };
    let answers =
        node.condition == Condition::Up && (node.role == Role::Load || node.status.is_some());
    let trusted = match node.role {
        Role::Web => nodes
            .iter()
            .filter(|edge| edge.role == Role::Edge)
            .filter_map(|edge| edge.status.as_ref()?.get("upstreams")?.as_array())
            .flatten()
            .any(|server| server["id"] == id && server["state"] == "ready"),
        // One that woke up as primary while another was promoted is none, and does not know it yet.
        Role::Store => {
            primary(nodes, node.shard).is_some_and(|one| one.id == node.id || !node.is_primary())
        }
        _ => true,
    };
    answers && trusted
}

/// Another copy of the same shard that is primary now.
fn successor<'a>(nodes: &'a [NodeView], id: &str) -> Option<&'a NodeView> {
    let shard = nodes.iter().find(|node| node.id == id)?.shard?;
    primary(nodes, Some(shard)).filter(|node| node.id != id)
}

/// Of all copies of a shard that say they are its primary, the one of the latest epoch.
fn primary(nodes: &[NodeView], shard: Option<u16>) -> Option<&NodeView> {
    let epoch = |node: &NodeView| node.status.as_ref()?.get("epoch")?.as_u64();
    nodes
        .iter()
        .filter(|node| node.shard == shard && node.is_primary())
        .max_by_key(|node| epoch(node))
}

/// Whether `text` has `id` as a whole word: `web-1` is not in `web-12`.
fn names(text: &str, id: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .any(|word| word == id)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn node(id: &str, role: Role, shard: Option<u16>, status: serde_json::Value) -> NodeView {
        NodeView {
            shard,
            status: Some(status),
            ..NodeView::new(id, role)
        }
    }

    fn web_and_edge(state: &str) -> Vec<NodeView> {
        vec![
            node("web-1", Role::Web, None, json!({})),
            node(
                "edge",
                Role::Edge,
                None,
                json!({ "upstreams": [{ "id": "web-1", "state": state }] }),
            ),
        ]
    }

    fn tally(failed: u64, lost: Option<u64>) -> Tally {
        Tally { failed, lost }
    }

    #[test]
    fn a_killed_web_server_has_healed_when_the_edge_trusts_it_again() {
        let mut faults = Faults::default();
        faults.began(at(1_000), 0, "web-1", "killed", false, tally(5, None));
        faults.heard(at(1_001), "web-1", "ended: signal 9; web-1 starts again");
        faults.heard(at(1_040), "edge", "web-12 is fine");
        faults.heard(at(1_090), "edge", "web-1 gets no requests");
        faults.heard(at(1_900), "edge", "web-1 gets requests again");
        faults.look(at(1_500), &web_and_edge("ejected"), tally(6, None));
        assert!(faults.any_open());
        faults.look(at(2_000), &web_and_edge("ready"), tally(6, None));
        faults.look(at(2_900), &web_and_edge("ready"), tally(7, None));
        faults.look(at(3_100), &web_and_edge("ready"), tally(7, Some(0)));
        faults.look(at(9_000), &web_and_edge("ready"), tally(99, Some(9)));
        let fault = faults.list().remove(0);
        assert_eq!(
            fault.noticed,
            Some(Noticed {
                by: "edge".to_owned(),
                after_ms: 90
            })
        );
        assert_eq!(fault.healed_after_ms, Some(1_000));
        // What fails long after the healing is not this fault's.
        assert_eq!((fault.failed, fault.lost), (2, Some(0)));
        assert!(!faults.any_open());
    }

    #[test]
    fn a_killed_primary_is_replaced_before_it_has_healed() {
        let store = |id, role| node(id, Role::Store, Some(0), json!({ "role": role }));
        let mut down = store("store-0a", "primary");
        down.status = None;
        down.condition = Condition::Down;
        let mut faults = Faults::default();
        faults.began(at(0), 0, "store-0a", "killed", true, Tally::default());
        let none = [down.clone(), store("store-0b", "replica")];
        faults.look(at(200), &none, Tally::default());
        let promoted = [down, store("store-0b", "primary")];
        faults.look(at(700), &promoted, Tally::default());
        let back = [store("store-0a", "replica"), store("store-0b", "primary")];
        faults.look(at(1_200), &back, Tally::default());
        let fault = faults.list().remove(0);
        let replaced = fault.replaced.map(|by| (by.by, by.after_ms));
        assert_eq!(replaced, Some(("store-0b".to_owned(), 700)));
        assert_eq!(fault.healed_after_ms, Some(1_200));
    }

    #[test]
    fn a_primary_that_wakes_up_deposed_has_healed_when_it_knows() {
        let store = |id, role, epoch| {
            let status = json!({ "role": role, "epoch": epoch });
            node(id, Role::Store, Some(0), status)
        };
        let mut frozen = store("store-0a", "primary", 1);
        frozen.condition = Condition::Paused;
        let promoted = store("store-0b", "primary", 2);
        let mut faults = Faults::default();
        faults.began(at(0), 0, "store-0a", "paused", true, Tally::default());
        faults.look(at(500), &[frozen, promoted.clone()], Tally::default());
        let deposed = store("store-0a", "primary", 1);
        faults.look(at(900), &[deposed, promoted.clone()], Tally::default());
        let follows = store("store-0a", "replica", 2);
        faults.look(at(1_100), &[follows, promoted], Tally::default());
        let fault = faults.list().remove(0);
        let replaced = fault.replaced.map(|by| (by.by, by.after_ms));
        assert_eq!(replaced, Some(("store-0b".to_owned(), 500)));
        assert_eq!(fault.healed_after_ms, Some(1_100));
    }

    #[test]
    fn a_second_blow_before_the_healing_is_the_same_fault_and_one_after_it_is_another() {
        let mut faults = Faults::default();
        faults.began(at(0), 0, "web-1", "killed", false, Tally::default());
        faults.began(at(10), 0, "web-1", "killed", false, Tally::default());
        faults.look(at(500), &web_and_edge("ready"), Tally::default());
        faults.began(at(600), 0, "web-1", "killed", false, Tally::default());
        let numbers: Vec<u64> = faults.list().iter().map(|fault| fault.number).collect();
        assert_eq!(numbers, [2, 1]);
    }

    #[test]
    fn old_faults_give_way_to_new_ones() {
        let mut faults = Faults::default();
        for n in 0..20 {
            faults.began(
                at(n),
                0,
                &format!("web-{n}"),
                "killed",
                false,
                Tally::default(),
            );
        }
        assert_eq!(faults.list().len(), FAULTS_MAX);
        assert_eq!(faults.list().first().map(|fault| fault.number), Some(20));
    }
}
