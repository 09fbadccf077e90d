//! What the page shows: all state of a run as of one moment.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::run::Run;
use super::status;
use crate::node::config::Role;

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
    pub(crate) restarts: u32,
    pub(crate) rss_kb: u64,
    /// What the node itself last said, while it can be asked.
    pub(crate) status: Option<serde_json::Value>,
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
    pub(crate) rss_kb: u64,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) load: Option<serde_json::Value>,
}

impl Snapshot {
    pub(crate) fn node(&self, id: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

impl Run {
    pub(super) fn publish(&mut self) {
        let nodes: Vec<NodeView> = self
            .nodes
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
                    restarts: node.restarts,
                    rss_kb: status::rss_kb(pid),
                    status: node.status.clone(),
                }
            })
            .collect();
        let edge = nodes
            .iter()
            .find(|node| node.role == Role::Edge)
            .map(|node| node.addr);
        self.snapshot.send_replace(Arc::new(Snapshot {
            at_ms: wall_ms(),
            ready_ms: self.ready_ms,
            edge,
            seed: self.options.seed,
            lag_ms: u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX),
            rss_kb: nodes.iter().map(|node| node.rss_kb).sum::<u64>()
                + status::rss_kb(std::process::id()),
            nodes,
            load: self.load.clone(),
        }));
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
