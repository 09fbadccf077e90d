//! Asking nodes how they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use super::handle::Message;
use super::run::Run;
use super::snapshot::Condition;
use crate::node::config::Role;
use crate::node::peer::PeerClient;

/// A node that does not answer within this shows no status.
const PATIENCE: Duration = Duration::from_millis(400);

impl Run {
    /// Asks every node how it is, in the background, one round at a time.
    pub(super) fn poll(&mut self) {
        if self.polling {
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

/// Resident memory of a process, where the system tells; else 0.
pub(crate) fn rss_kb(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        })
        .unwrap_or(0)
}
