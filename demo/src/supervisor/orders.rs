//! What a person or a drill may order, and what the owning task does about it.

use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use stackbeam_session::Timestamp;

use super::handle::Message;
use super::plan::Spec;
use super::run::Run;
use super::snapshot::Condition;
use crate::keys;
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

/// How long a node that was told to stop may take before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

impl Run {
    pub(super) fn act(&mut self, id: &str, action: Action) -> Result<(), String> {
        let index = self
            .index(id)
            .ok_or_else(|| format!("there is no node {id}; `stackbeam status` lists them"))?;
        let node = self.nodes.get_mut(index).ok_or("gone")?;
        let Some(running) = &node.running else {
            return match action {
                Action::Start => {
                    node.held = false;
                    self.say("you", format!("started {id}"));
                    self.spawn(index).map_err(|error| error.to_string())
                }
                Action::Hold => {
                    node.held = true;
                    self.say("you", format!("hold {id} down"));
                    Ok(())
                }
                _ => Err(format!("{id} is down already")),
            };
        };
        let paused = node.condition == Condition::Paused;
        let signal = |signal| running.signal(signal).map_err(|error| error.to_string());
        let did = match action {
            // Nobody survives it: that it has ended may be heard later, and it is down from now on.
            Action::Kill => {
                signal(Signal::KILL)?;
                node.condition = Condition::Down;
                "killed"
            }
            Action::Hold => {
                signal(Signal::KILL)?;
                node.condition = Condition::Down;
                node.held = true;
                "killed, and hold down,"
            }
            Action::Pause if paused => return Err(format!("{id} is paused already")),
            Action::Pause => {
                signal(Signal::STOP)?;
                node.condition = Condition::Paused;
                "paused"
            }
            Action::Resume if paused => {
                signal(Signal::CONT)?;
                node.condition = if node.state == NodeState::Draining {
                    Condition::Draining
                } else {
                    Condition::Up
                };
                "resumed"
            }
            Action::Resume => return Err(format!("{id} is not paused")),
            Action::Restart | Action::Drain if paused => {
                return Err(format!("{id} is paused and hears nothing; resume it first"));
            }
            Action::Restart => {
                node.state = NodeState::Draining;
                node.condition = Condition::Draining;
                node.backoff = Duration::ZERO;
                "restarted"
            }
            Action::Drain if !matches!(node.spec.role, Role::Web | Role::Worker) => {
                return Err(format!(
                    "only web servers and workers drain; `stackbeam restart {id}` stops and starts it"
                ));
            }
            Action::Drain => {
                running.order(&ToNode::Drain);
                node.state = NodeState::Draining;
                node.condition = Condition::Draining;
                "drained"
            }
            Action::Start => return Err(format!("{id} is running")),
        };
        match action {
            Action::Kill | Action::Hold => self.fault(index, "killed"),
            Action::Pause => self.fault(index, "paused"),
            Action::Restart => self.fault(index, "restarted"),
            Action::Drain | Action::Resume | Action::Start => {}
        }
        self.say("you", format!("{did} {id}"));
        if matches!(action, Action::Drain | Action::Restart) {
            self.tell_topology();
        }
        if action == Action::Restart {
            self.stop(index);
        }
        Ok(())
    }

    /// Asks a node to finish what it has and to end; kills it when it takes too long.
    pub(super) fn stop(&self, index: usize) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        if let Some(running) = &node.running {
            running.order(&ToNode::Stop);
        }
        let (id, life) = (node.spec.id.clone(), node.life);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STOP_PATIENCE).await;
            let _over = messages.send(Message::Overdue { id, life });
        });
    }

    pub(super) fn overdue(&mut self, id: &str, life: u64) {
        let late = self
            .nodes
            .iter()
            .find(|node| node.spec.id == id && node.life == life)
            .and_then(|node| node.running.as_ref());
        if let Some(running) = late {
            let _gone = running.signal(Signal::KILL);
            self.say(
                id,
                format!("did not end within {} s: killed", STOP_PATIENCE.as_secs()),
            );
        }
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
            let id = spec.id.clone();
            if let Some(node) = self.nodes.iter_mut().find(|node| node.spec.id == id) {
                // One that is just leaving comes back as soon as it has left.
                node.leaving = false;
                continue;
            }
            let index = self.join(spec).map_err(|error| error.to_string())?;
            self.spawn(index).map_err(|error| error.to_string())?;
            self.say(&id, "joins");
        }
        for number in to + 1..=max {
            let id = Spec::new(role, number).id;
            let Some(index) = self.index(&id) else {
                continue;
            };
            let Some(node) = self.nodes.get_mut(index).filter(|node| !node.leaving) else {
                continue;
            };
            if node.running.is_none() {
                self.nodes.remove(index);
                self.say(&id, "has left");
                continue;
            }
            node.leaving = true;
            node.state = NodeState::Draining;
            node.condition = Condition::Draining;
            self.say(&id, "leaves when it has finished what it has");
            self.stop(index);
        }
        self.tell_topology();
        Ok(())
    }

    /// Writes a new session key. Without grace the old ones are gone at once.
    pub(super) fn rotate_keys(&mut self) -> Result<(), String> {
        let now = Timestamp::now();
        let file = keys::path(&self.folder.path);
        if self.options.without.grace {
            keys::replace_all(&file).map_err(|error| error.to_string())?;
        } else {
            keys::rotate(&file, now.after(keys::PROPAGATION), now)?;
        }
        let wait = keys::PROPAGATION.as_secs();
        self.say("you", format!("a new session key signs in {wait} s"));
        self.publish();
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
