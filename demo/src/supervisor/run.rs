//! The task that owns all state of a run: it starts nodes, hears them, and starts them again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::child::Running;
use super::events::Events;
use super::faults::{Faults, Tally};
use super::folder::RunFolder;
use super::guard::Guard;
use super::handle::{Heard, Message};
use super::memory::Memory;
use super::plan::{self, Spec};
use super::ports::Ports;
use super::snapshot::{Condition, Snapshot, wall_ms};
use super::{StartError, status};
use crate::keys;
use crate::node::config::{
    FromNode, NodeConfig, NodeInfo, NodeState, Role, Secrets, ToNode, Topology,
};
use crate::node::peer::PeerClient;
use crate::options::UpOptions;

/// The wait before a fallen node is started again; doubled while it keeps falling.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// The longest such wait.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(8);
/// A node that lived so long is counted as sound again.
const SOUND_AFTER: Duration = Duration::from_secs(5);
/// The beat in which nodes are asked how they are, and the page is told.
const TICK: Duration = Duration::from_millis(125);
/// The first port of processes that only peers talk to.
const INNER_PORT: u16 = 18_100;

/// One node and its present life, if it has one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) spec: Spec,
    pub(super) addr: SocketAddr,
    pub(super) state: NodeState,
    pub(super) running: Option<Running>,
    pub(super) condition: Condition,
    /// Which start this is; reports of an earlier life are ignored.
    pub(super) life: u64,
    pub(super) born: Instant,
    pub(super) restarts: u32,
    pub(super) backoff: Duration,
    pub(super) held: bool,
    pub(super) leaving: bool,
    pub(super) status: Option<serde_json::Value>,
}

/// All state of a run; owned by one task.
pub(super) struct Run {
    pub(super) options: UpOptions,
    pub(super) lag: Duration,
    pub(super) peers: PeerClient,
    pub(super) secrets: Secrets,
    pub(super) ports: Ports,
    pub(super) nodes: Vec<Node>,
    pub(super) version: u64,
    pub(super) started: Instant,
    pub(super) ready_ms: Option<u64>,
    pub(super) load: Option<serde_json::Value>,
    pub(super) lives: u64,
    pub(super) ending: bool,
    pub(super) polling: bool,
    pub(super) ticks: u32,
    pub(super) memory: BTreeMap<u32, Memory>,
    pub(super) faults: Faults,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) events: Events,
    pub(super) guard: Guard,
    pub(super) folder: RunFolder,
}

impl Run {
    /// Starts every node of the plan.
    pub(super) fn begin(
        options: &UpOptions,
        messages: mpsc::UnboundedSender<Message>,
        snapshot: watch::Sender<Arc<Snapshot>>,
        events: Events,
    ) -> Result<Self, StartError> {
        let (folder, guard) = RunFolder::open(options.state.as_deref())?;
        let secrets = folder.secrets()?;
        folder.session_keys()?;
        let mut run = Self {
            options: options.clone(),
            lag: options.lag,
            peers: PeerClient::new(&secrets.peer),
            secrets,
            ports: Ports::default(),
            nodes: Vec::new(),
            version: 0,
            started: Instant::now(),
            ready_ms: None,
            load: None,
            lives: 0,
            ending: false,
            polling: false,
            ticks: 0,
            memory: BTreeMap::new(),
            faults: Faults::default(),
            messages,
            snapshot,
            events,
            guard,
            folder,
        };
        for spec in plan::plan(options) {
            run.join(spec)?;
        }
        for index in 0..run.nodes.len() {
            run.spawn(index)?;
        }
        Ok(run)
    }

    /// Gives a node an address and a place in the topology.
    pub(super) fn join(&mut self, spec: Spec) -> Result<usize, StartError> {
        let from = if spec.role == Role::Edge {
            self.options.base_port
        } else {
            INNER_PORT
        };
        let addr = self.ports.free(from).ok_or(StartError::NoPort(from))?;
        self.nodes.push(Node {
            spec,
            addr,
            state: NodeState::Live,
            running: None,
            condition: Condition::Down,
            life: 0,
            born: self.started,
            restarts: 0,
            backoff: RESTART_AFTER,
            held: false,
            leaving: false,
            status: None,
        });
        self.version += 1;
        Ok(self.nodes.len() - 1)
    }

    fn topology(&self) -> Topology {
        Topology {
            version: self.version,
            nodes: self
                .nodes
                .iter()
                .filter(|node| node.spec.role != Role::Load && !node.leaving)
                .map(|node| NodeInfo {
                    id: node.spec.id.clone(),
                    role: node.spec.role,
                    addr: node.addr,
                    shard: node.spec.shard,
                    state: node.state,
                })
                .collect(),
        }
    }

    pub(super) fn tell_topology(&mut self) {
        self.version += 1;
        let order = ToNode::Topology(self.topology());
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            running.order(&order);
        }
    }

    pub(super) fn spawn(&mut self, index: usize) -> Result<(), StartError> {
        self.lives += 1;
        let life = self.lives;
        let topology = self.topology();
        let Some(node) = self.nodes.get_mut(index) else {
            return Ok(());
        };
        let config = NodeConfig {
            id: node.spec.id.clone(),
            role: node.spec.role,
            listen: node.addr,
            dir: self.folder.path.join("nodes").join(&node.spec.id),
            objects: self.folder.path.join("objects"),
            shard: node.spec.shard,
            secrets: self.secrets.clone(),
            session_keys: keys::path(&self.folder.path),
            without: self.options.without,
            lag_ms: u64::try_from(self.lag.as_millis()).unwrap_or(u64::MAX),
            rps: self.options.rps,
            seed: self.options.seed,
            topology,
        };
        let running = Running::start(
            &config,
            life,
            &self.folder.path.join("logs"),
            &self.messages,
        )
        .map_err(|source| StartError::Spawn {
            id: config.id.clone(),
            source,
        })?;
        self.guard.watch(running.pid);
        node.running = Some(running);
        node.condition = Condition::Starting;
        node.life = life;
        node.born = Instant::now();
        Ok(())
    }

    pub(super) fn say(&mut self, node: &str, text: impl Into<String>) {
        let text = text.into();
        if !matches!(node, "you" | "stackbeam") {
            self.faults.heard(self.started.elapsed(), node, &text);
        }
        self.events.push(wall_ms(), node, text);
    }

    /// Opens a record of what happened to a node.
    pub(super) fn fault(&mut self, index: usize, what: &str) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let was_primary = node.status.as_ref().is_some_and(status::is_primary);
        self.faults.began(
            self.started.elapsed(),
            wall_ms(),
            &node.spec.id,
            what,
            was_primary,
            Tally::of(self.load.as_ref()),
        );
    }

    pub(super) async fn go(&mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    None | Some(Message::Down) => break,
                    Some(message) => self.take(message),
                },
                _ = tick.tick() => {
                    self.poll();
                    self.publish();
                }
            }
        }
        self.end(&mut inbox).await;
    }

    pub(super) fn index(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.spec.id == id)
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Heard { id, life, what } => {
                let Some(index) = self.index(&id) else { return };
                if self.nodes.get(index).is_some_and(|node| node.life == life) {
                    match what {
                        Heard::Report(report) => self.report(index, report),
                        Heard::Exit(how) => self.fallen(index, &how),
                    }
                }
            }
            Message::Restart { id, life } => {
                let Some(index) = self.index(&id) else { return };
                let due = self
                    .nodes
                    .get(index)
                    .is_some_and(|node| node.life == life && node.running.is_none() && !node.held);
                if due
                    && !self.ending
                    && let Err(error) = self.spawn(index)
                {
                    self.say(&id, error.to_string());
                    self.restart_later(index);
                }
            }
            Message::Status(mut status) => {
                self.polling = false;
                for node in &mut self.nodes {
                    // It may have fallen since it answered.
                    node.status = status
                        .remove(&node.spec.id)
                        .filter(|_| node.running.is_some());
                }
                self.check_ready();
            }
            Message::Memory(memory) => self.memory = memory,
            Message::Act { answer, .. } | Message::Scale { answer, .. } if self.ending => {
                let _gone = answer.send(Err("this run is ending".to_owned()));
            }
            // Whoever has an answer finds it in the snapshot.
            Message::Act { id, action, answer } => {
                let did = self.act(&id, action);
                self.publish();
                let _gone = answer.send(did);
            }
            Message::Scale { role, to, answer } => {
                let did = self.scale(role, to);
                self.publish();
                let _gone = answer.send(did);
            }
            Message::Lag { to, answer } => {
                self.lag = to;
                self.say("you", format!("replicas apply {} ms late", to.as_millis()));
                self.tell_lag();
                self.publish();
                let _gone = answer.send(Ok(()));
            }
            Message::RotateKeys { answer } => {
                let did = self.rotate_keys();
                let _gone = answer.send(did);
            }
            Message::Remove { path, answer } => {
                self.guard.remove_file_at_end(&path);
                let _gone = answer.send(Ok(()));
            }
            Message::Overdue { id, life } => self.overdue(&id, life),
            Message::Down => {}
        }
    }

    fn report(&mut self, index: usize, report: FromNode) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let id = node.spec.id.clone();
        match report {
            FromNode::Ready { addr } => {
                node.condition = Condition::Up;
                let back = node.restarts > 0;
                let moved = std::mem::replace(&mut node.addr, addr) != addr;
                let after = node.born.elapsed().as_millis();
                if moved {
                    self.tell_topology();
                    self.say(&id, format!("its port was taken; it listens on {addr}"));
                }
                if back {
                    self.say(&id, format!("is back, {after} ms after it was started"));
                }
                self.tell_lag();
            }
            FromNode::Event { text } => self.say(&id, text),
            FromNode::Load(figures) => self.load = Some(figures),
        }
    }

    fn fallen(&mut self, index: usize, how: &str) {
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let (id, leaving) = (node.spec.id.clone(), node.leaving);
        if !leaving && !self.ending && self.ready_ms.is_some() {
            self.fault(index, "ended by itself");
        }
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        node.running = None;
        node.condition = Condition::Down;
        node.status = None;
        if leaving {
            self.nodes.remove(index);
            self.faults.gone(&id);
            self.say(&id, "has left");
            return;
        }
        if node.born.elapsed() > SOUND_AFTER {
            node.backoff = node.backoff.min(RESTART_AFTER);
        }
        if node.held || self.ending {
            self.say(&id, format!("ended: {how}"));
        } else {
            let wait = node.backoff.as_millis();
            self.say(&id, format!("ended: {how}; starts again in {wait} ms"));
            self.restart_later(index);
        }
    }

    fn restart_later(&mut self, index: usize) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let wait = node.backoff;
        // A restart that was asked for waits for nothing; the next fall is no such restart.
        node.backoff = (wait * 2).clamp(RESTART_AFTER, RESTART_AFTER_MAX);
        node.restarts += 1;
        node.state = NodeState::Live;
        let (id, life) = (node.spec.id.clone(), node.life);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _over = messages.send(Message::Restart { id, life });
        });
        self.tell_topology();
    }

    /// The run is ready when every process listens and every shard has a primary. Then the load
    /// starts, if there is to be any.
    pub(super) fn check_ready(&mut self) {
        if self.ready_ms.is_some() {
            return;
        }
        let all_up = self
            .nodes
            .iter()
            .all(|node| node.condition == Condition::Up && node.status.is_some());
        let primaries = (0..self.options.shards).all(|shard| {
            self.nodes.iter().any(|node| {
                node.spec.shard == Some(shard)
                    && node.status.as_ref().is_some_and(status::is_primary)
            })
        });
        if !(all_up && primaries) {
            return;
        }
        let after = self.started.elapsed().as_millis();
        self.ready_ms = u64::try_from(after).ok();
        self.say(
            "stackbeam",
            format!("everything answers, {after} ms after the start"),
        );
        if self.options.rps > 0 {
            let started = self.join(plan::load()).and_then(|index| self.spawn(index));
            if let Err(error) = started {
                self.say("load", error.to_string());
            }
        }
    }
}
