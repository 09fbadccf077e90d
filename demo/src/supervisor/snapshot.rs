//! What the page shows: all state of a run as of one moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::faults::{Fault, Tally};
use super::memory::Memory;
use super::run::Run;
use super::status;
use crate::node::config::{Role, Without};

/// How a node is, as the supervisor knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Condition {
    Starting,
    Up,
    Draining,
    Paused,
    Down,
}

/// One node as the page shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeView {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) shard: Option<u16>,
    pub(crate) addr: SocketAddr,
    pub(crate) pid: u32,
    pub(crate) condition: Condition,
    /// Stays down until a person starts it.
    pub(crate) held: bool,
    pub(crate) restarts: u32,
    pub(crate) memory: Memory,
    /// What the node itself last said, while it can be asked.
    pub(crate) status: Option<serde_json::Value>,
}

impl NodeView {
    /// Whether it is a store that says it is the primary of its shard.
    pub(crate) fn is_primary(&self) -> bool {
        self.status.as_ref().is_some_and(status::is_primary)
    }

    #[cfg(test)]
    pub(super) fn new(id: &str, role: Role) -> Self {
        Self {
            id: id.to_owned(),
            role,
            shard: None,
            addr: SocketAddr::from(([127, 0, 0, 1], 1)),
            pid: 1,
            condition: Condition::Up,
            held: false,
            restarts: 0,
            memory: Memory::default(),
            status: None,
        }
    }
}

/// Everything that the page shows, as of one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) at_ms: u64,
    /// Milliseconds from the start until everything answered.
    pub(crate) ready_ms: Option<u64>,
    pub(crate) edge: Option<SocketAddr>,
    pub(crate) seed: u64,
    pub(crate) lag_ms: u64,
    pub(crate) without: Without,
    /// All processes together: the nodes, the supervisor and its guard.
    pub(crate) memory: Memory,
    pub(crate) nodes: Vec<NodeView>,
    /// What the synthetic users last counted.
    pub(crate) load: Option<serde_json::Value>,
    /// The newest first.
    pub(crate) faults: Vec<Fault>,
}

impl Snapshot {
    pub(crate) fn node(&self, id: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

impl Run {
    pub(super) fn publish(&mut self) {
        let nodes = self.views();
        let edge = nodes
            .iter()
            .find(|node| node.role == Role::Edge)
            .map(|node| node.addr);
        let tally = Tally::of(self.load.as_ref());
        self.faults.look(self.started.elapsed(), &nodes, tally);
        self.snapshot.send_replace(Arc::new(Snapshot {
            at_ms: wall_ms(),
            ready_ms: self.ready_ms,
            edge,
            seed: self.options.seed,
            lag_ms: u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX),
            without: self.options.without,
            memory: self.memory.values().copied().sum(),
            nodes,
            load: self.load.clone(),
            faults: self.faults.list(),
        }));
    }

    fn views(&self) -> Vec<NodeView> {
        self.nodes
            .iter()
            .map(|node| {
                let pid = node.running.as_ref().map_or(0, |running| running.pid);
                NodeView {
                    id: node.spec.id.clone(),
                    role: node.spec.role,
                    shard: node.spec.shard,
                    addr: node.addr,
                    pid,
                    condition: node.condition,
                    held: node.held,
                    restarts: node.restarts,
                    memory: self.memory.get(&pid).copied().unwrap_or_default(),
                    status: node.status.clone(),
                }
            })
            .collect()
    }
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the supervisor is a shell; events show wall time"
)]
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
