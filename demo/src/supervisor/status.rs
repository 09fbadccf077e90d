//! Asking nodes how they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::handle::Message;
use super::memory;
use super::run::Run;
use super::snapshot::Condition;
use crate::node::config::Role;
use crate::node::peer::PeerClient;

/// A node that does not answer within this shows no status.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often all processes are weighed, in ticks.
const WEIGH_EVERY: u32 = 8;
/// How often nodes are asked while all is well, in ticks; each tick while something is not.
const ASK_EVERY: u32 = 2;

impl Run {
    /// Asks every node how it is, and weighs it now and then, in the background: one round at a time.
    pub(super) fn poll(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.polling || (!self.ticks.is_multiple_of(ASK_EVERY) && !self.faults.any_open()) {
            return;
        }
        self.polling = true;
        let whom: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| {
                matches!(node.condition, Condition::Up | Condition::Draining)
                    && node.spec.role != Role::Load
            })
            .map(|node| (node.spec.id.clone(), node.spec.role, node.addr))
            .collect();
        let (peers, messages) = (self.peers.clone(), self.messages.clone());
        tokio::spawn(async move {
            let answers = ask(&peers, whom).await;
            let _over = messages.send(Message::Status(answers));
        });
        if self.ticks.is_multiple_of(WEIGH_EVERY) {
            let ours = [std::process::id(), self.guard.pid()];
            let nodes = self.nodes.iter().filter_map(|node| node.running.as_ref());
            let pids: Vec<u32> = nodes.map(|running| running.pid).chain(ours).collect();
            let messages = self.messages.clone();
            tokio::task::spawn_blocking(move || {
                let _over = messages.send(Message::Memory(memory::weigh(&pids)));
            });
        }
    }
}

/// Asks all at once; those that do not answer are left out.
async fn ask(
    peers: &PeerClient,
    whom: Vec<(String, Role, SocketAddr)>,
) -> BTreeMap<String, serde_json::Value> {
    let asked = whom.into_iter().map(|(id, role, addr)| async move {
        let path = match role {
            Role::Edge => "/_edge/status",
            _ => "/status",
        };
        let status = peers.get(addr, path, PATIENCE).await.ok()?;
        Some((id, status))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether a store says that it is the primary.
pub(crate) fn is_primary(status: &serde_json::Value) -> bool {
    status.get("role").and_then(serde_json::Value::as_str) == Some("primary")
}
