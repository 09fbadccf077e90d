//! What a person or a drill may order, and what the owning task does about it.

use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::plan::Spec;
use super::run::Run;
use super::snapshot::Condition;
use crate::node::config::{NodeState, Role, ToNode};
use crate::options::{WEB_MAX, WORKERS_MAX};

/// What a person or a drill may do to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// SIGKILL; it is started again after half a second.
    Kill,
    /// SIGKILL; it stays down until it is started.
    Hold,
    /// Start a node that is held down.
    Start,
    /// SIGSTOP: alive, and answers nothing.
    Pause,
    /// SIGCONT.
    Resume,
    /// Asked to finish what it has; then started again.
    Restart,
    /// Asked to finish what it has, and to take nothing new.
    Drain,
}

impl Run {
    pub(super) fn act(&mut self, id: &str, action: Action) -> Result<(), String> {
        let index = self
            .index(id)
            .ok_or_else(|| format!("there is no node {id}; `stackbeam status` lists them"))?;
        let node = self.nodes.get_mut(index).ok_or("gone")?;
        if action == Action::Start {
            if node.running.is_some() {
                return Err(format!("{id} is running"));
            }
            node.held = false;
            self.say("you", format!("started {id}"));
            return self.spawn(index).map_err(|error| error.to_string());
        }
        let running = node
            .running
            .as_ref()
            .ok_or_else(|| format!("{id} is down already"))?;
        let signal = |signal| running.signal(signal).map_err(|error| error.to_string());
        let did = match action {
            Action::Kill => {
                signal(Signal::KILL)?;
                "killed"
            }
            Action::Hold => {
                signal(Signal::KILL)?;
                node.held = true;
                "killed, and holds down,"
            }
            Action::Pause => {
                signal(Signal::STOP)?;
                node.condition = Condition::Paused;
                "paused"
            }
            Action::Resume => {
                signal(Signal::CONT)?;
                node.condition = Condition::Up;
                "resumed"
            }
            Action::Restart => {
                running.order(&ToNode::Stop);
                "restarted"
            }
            Action::Drain => {
                running.order(&ToNode::Drain);
                node.state = NodeState::Draining;
                node.condition = Condition::Draining;
                "drained"
            }
            Action::Start => "started",
        };
        self.say("you", format!("{did} {id}"));
        if matches!(action, Action::Drain | Action::Restart) {
            self.tell_topology();
        }
        Ok(())
    }

    pub(super) fn scale(&mut self, role: Role, to: u16) -> Result<(), String> {
        let max = match role {
            Role::Web => WEB_MAX,
            Role::Worker => WORKERS_MAX,
            _ => return Err("only web and worker can be scaled".to_owned()),
        };
        if !(1..=max).contains(&to) {
            return Err(format!("{} must be 1 to {max}", role.name()));
        }
        for number in 1..=to {
            let spec = Spec::new(role, number);
            if self.index(&spec.id).is_none() {
                let id = spec.id.clone();
                let index = self.join(spec).map_err(|error| error.to_string())?;
                self.spawn(index).map_err(|error| error.to_string())?;
                self.say(&id, "joins");
            }
        }
        for number in to + 1..=max {
            let id = Spec::new(role, number).id;
            let Some(index) = self.index(&id) else {
                continue;
            };
            self.say(&id, "leaves when it has finished what it has");
            let Some(node) = self.nodes.get_mut(index) else {
                continue;
            };
            node.leaving = true;
            match &node.running {
                Some(running) => running.order(&ToNode::Stop),
                None => {
                    self.nodes.remove(index);
                }
            }
        }
        self.tell_topology();
        Ok(())
    }

    pub(super) fn tell_lag(&self) {
        let ms = u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX);
        for node in &self.nodes {
            if node.spec.role == Role::Store && node.condition == Condition::Up {
                let (peers, addr) = (self.peers.clone(), node.addr);
                tokio::spawn(async move {
                    let _missed = peers
                        .post::<_, serde_json::Value>(
                            addr,
                            "/lag",
                            &serde_json::json!({ "ms": ms }),
                            Duration::from_secs(1),
                        )
                        .await;
                });
            }
        }
    }
}
