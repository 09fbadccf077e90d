//! The parent of all processes: starts them, hears them, restarts them, and ends them in order.
//!
//! One task owns all state and takes [`Message`]s; everybody else holds a [`Supervisor`] handle and
//! reads the published [`Snapshot`].

mod child;
pub(crate) mod events;
mod guard;
mod plan;
mod ports;
mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::node::config::{
    FromNode, NodeConfig, NodeInfo, NodeState, Role, Secrets, ToNode, Topology,
};
use crate::node::peer::PeerClient;
use crate::options::{UpOptions, WEB_MAX, WORKERS_MAX};
use child::Running;
use events::Events;
pub(crate) use guard::guard_main;
use plan::Spec;
use ports::Ports;

/// The wait before a fallen node is started again; doubled while it keeps falling.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// The longest such wait.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(8);
/// A node that lived so long is counted as sound again.
const SOUND_AFTER: Duration = Duration::from_secs(5);
/// How long nodes may take to end in order before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// How often nodes are asked how they are, and the page is told.
const TICK: Duration = Duration::from_millis(250);
/// The first port of processes that only peers talk to.
const INNER_PORT: u16 = 18_100;

/// Why a run could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{what} {}: {source}", path.display())]
    Folder {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("no free port on 127.0.0.1 at or after {0}; try another --base-port")]
    NoPort(u16),
    #[error("{id} could not be started: {source}")]
    Spawn { id: String, source: std::io::Error },
    #[error("another run uses {}; stop it with `stackbeam down`, or name another --state", .0.display())]
    InUse(PathBuf),
}

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

/// What a child did.
#[derive(Debug)]
enum Heard {
    Report(FromNode),
    Exit(String),
}

/// What the owning task is told.
#[derive(Debug)]
enum Message {
    Heard {
        id: String,
        life: u64,
        what: Heard,
    },
    Restart {
        id: String,
        life: u64,
    },
    Status(BTreeMap<String, serde_json::Value>),
    Act {
        id: String,
        action: Action,
        answer: oneshot::Sender<Result<(), String>>,
    },
    Scale {
        role: Role,
        to: u16,
        answer: oneshot::Sender<Result<(), String>>,
    },
    Lag {
        to: Duration,
        answer: oneshot::Sender<Result<(), String>>,
    },
    Down,
}

/// A handle on a run. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    messages: mpsc::UnboundedSender<Message>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) events: Events,
    ended: watch::Receiver<bool>,
}

impl Supervisor {
    /// Starts all processes. Fails if a folder, a port or the first process cannot be had.
    pub(crate) fn start(options: &UpOptions) -> Result<Self, StartError> {
        let run = RunFolder::open(options.state.as_deref())?;
        let secrets = run.secrets()?;
        let events = Events::new();
        let (messages, inbox) = mpsc::unbounded_channel();
        let (snapshot_in, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let (ended_in, ended) = watch::channel(false);
        let mut run = Run {
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
            messages: messages.clone(),
            snapshot: snapshot_in,
            events: events.clone(),
            guard: guard::Guard::start(&run).map_err(|source| StartError::Spawn {
                id: "the guard".to_owned(),
                source,
            })?,
            folder: run,
        };
        run.begin()?;
        tokio::spawn(async move {
            run.go(inbox).await;
            ended_in.send_replace(true);
        });
        Ok(Self {
            messages,
            snapshot,
            events,
            ended,
        })
    }

    /// Does `action` to node `id`. The refusal says why.
    pub(crate) async fn act(&self, id: &str, action: Action) -> Result<(), String> {
        self.ask(|answer| Message::Act {
            id: id.to_owned(),
            action,
            answer,
        })
        .await
    }

    /// Brings the number of web servers or workers to `to`.
    pub(crate) async fn scale(&self, role: Role, to: u16) -> Result<(), String> {
        self.ask(|answer| Message::Scale { role, to, answer }).await
    }

    /// Makes every replica apply `to` late.
    pub(crate) async fn lag(&self, to: Duration) -> Result<(), String> {
        self.ask(|answer| Message::Lag { to, answer }).await
    }

    /// Asks for the end; [`Supervisor::ended`] tells when it has come.
    pub(crate) fn down(&self) {
        let _already = self.messages.send(Message::Down);
    }

    /// Resolves when all processes are gone and temporary files are removed.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        let _gone = ended.wait_for(|ended| *ended).await;
    }

    async fn ask(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Message,
    ) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.messages
            .send(message(answer))
            .map_err(|_| "this run is over".to_owned())?;
        answered
            .await
            .unwrap_or_else(|_| Err("this run is over".to_owned()))
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

/// The folder of a run, temporary or kept.
#[derive(Debug)]
struct RunFolder {
    path: PathBuf,
    temporary: bool,
    _lock: std::fs::File,
}

impl RunFolder {
    fn open(state: Option<&Path>) -> Result<Self, StartError> {
        let (path, temporary) = match state {
            Some(path) => (path.to_owned(), false),
            None => {
                let folder = tempfile::Builder::new()
                    .prefix("stackbeam-")
                    .tempdir()
                    .map_err(|source| StartError::Folder {
                        what: "cannot make a folder in",
                        path: std::env::temp_dir(),
                        source,
                    })?;
                // Removed by us at the end, or by the guard if we cannot.
                (folder.keep(), true)
            }
        };
        let trouble = |source| StartError::Folder {
            what: "cannot use the folder",
            path: path.clone(),
            source,
        };
        for part in ["logs", "objects", "nodes"] {
            std::fs::create_dir_all(path.join(part)).map_err(trouble)?;
        }
        // Absolute, because children and the guard may see another working folder.
        let path = path.canonicalize().map_err(trouble)?;
        let lock = std::fs::File::create(path.join("lock")).map_err(trouble)?;
        if lock.try_lock().is_err() {
            return Err(StartError::InUse(path));
        }
        Ok(Self {
            path,
            temporary,
            _lock: lock,
        })
    }

    /// The keys of the run: kept with the state, so that a restart logs nobody out.
    fn secrets(&self) -> Result<Secrets, StartError> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let file = self.path.join("secrets.json");
        let trouble = |source| StartError::Folder {
            what: "cannot keep the keys in",
            path: file.clone(),
            source,
        };
        if let Some(secrets) = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
        {
            return Ok(secrets);
        }
        let secrets = Secrets {
            token_key: random_hex().map_err(trouble)?,
            peer: random_hex().map_err(trouble)?,
        };
        let text = serde_json::to_vec(&secrets).map_err(|error| trouble(error.into()))?;
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&file)
            .and_then(|mut file| file.write_all(&text))
            .map_err(trouble)?;
        Ok(secrets)
    }
}

/// 32 random bytes in hex.
pub(crate) fn random_hex() -> std::io::Result<String> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _written = write!(hex, "{byte:02x}");
        hex
    }))
}

/// One node and its present life, if it has one.
#[derive(Debug)]
struct Node {
    spec: Spec,
    addr: SocketAddr,
    state: NodeState,
    running: Option<Running>,
    condition: Condition,
    /// Which start this is; reports of an earlier life are ignored.
    life: u64,
    born: Instant,
    restarts: u32,
    backoff: Duration,
    held: bool,
    leaving: bool,
    status: Option<serde_json::Value>,
}

/// All state of a run; owned by one task.
struct Run {
    options: UpOptions,
    lag: Duration,
    peers: PeerClient,
    secrets: Secrets,
    ports: Ports,
    nodes: Vec<Node>,
    version: u64,
    started: Instant,
    ready_ms: Option<u64>,
    load: Option<serde_json::Value>,
    lives: u64,
    ending: bool,
    polling: bool,
    messages: mpsc::UnboundedSender<Message>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    events: Events,
    guard: guard::Guard,
    folder: RunFolder,
}

impl Run {
    fn begin(&mut self) -> Result<(), StartError> {
        for spec in plan::plan(&self.options) {
            self.join(spec)?;
        }
        for index in 0..self.nodes.len() {
            self.spawn(index)?;
        }
        Ok(())
    }

    /// Gives a node an address and a place in the topology.
    fn join(&mut self, spec: Spec) -> Result<usize, StartError> {
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

    fn tell_topology(&mut self) {
        self.version += 1;
        let order = ToNode::Topology(self.topology());
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            running.order(&order);
        }
    }

    fn spawn(&mut self, index: usize) -> Result<(), StartError> {
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

    fn say(&self, node: &str, text: impl Into<String>) {
        self.events.push(wall_ms(), node, text);
    }

    async fn go(&mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
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

    fn index(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.spec.id == id)
    }

    fn take(&mut self, message: Message) {
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
                    node.status = status.remove(&node.spec.id);
                }
                self.check_ready();
            }
            Message::Act { id, action, answer } => {
                let _gone = answer.send(self.act(&id, action));
            }
            Message::Scale { role, to, answer } => {
                let _gone = answer.send(self.scale(role, to));
            }
            Message::Lag { to, answer } => {
                self.lag = to;
                self.say("you", format!("replicas apply {} ms late", to.as_millis()));
                self.tell_lag();
                let _gone = answer.send(Ok(()));
            }
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
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        node.running = None;
        node.condition = Condition::Down;
        node.status = None;
        let id = node.spec.id.clone();
        if node.leaving {
            self.nodes.remove(index);
            self.say(&id, "has left");
            return;
        }
        if node.born.elapsed() > SOUND_AFTER {
            node.backoff = RESTART_AFTER;
        }
        let held = node.held;
        self.say(&id, format!("ended: {how}"));
        if !held && !self.ending {
            self.restart_later(index);
        }
    }

    fn restart_later(&mut self, index: usize) {
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        let wait = node.backoff;
        node.backoff = (wait * 2).min(RESTART_AFTER_MAX);
        node.restarts += 1;
        if node.state == NodeState::Draining {
            node.state = NodeState::Live;
        }
        let (id, life) = (node.spec.id.clone(), node.life);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _over = messages.send(Message::Restart { id, life });
        });
        self.tell_topology();
    }

    fn act(&mut self, id: &str, action: Action) -> Result<(), String> {
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

    fn scale(&mut self, role: Role, to: u16) -> Result<(), String> {
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

    fn tell_lag(&self) {
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

    /// Asks every node how it is, in the background, one round at a time.
    fn poll(&mut self) {
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
            let answers = status::ask(&peers, whom).await;
            let _over = messages.send(Message::Status(answers));
        });
    }

    /// The run is ready when every process listens and every shard has a primary. Then the load
    /// starts, if there is to be any.
    fn check_ready(&mut self) {
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

    fn publish(&mut self) {
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

    /// Ends everything in order: who makes work first, who keeps it last. What does not end in time
    /// is killed.
    async fn end(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        self.ending = true;
        for node in &self.nodes {
            if let Some(running) = &node.running {
                if node.condition == Condition::Paused {
                    let _gone = running.signal(Signal::CONT);
                }
                running.order(&ToNode::Stop);
            }
        }
        let deadline = tokio::time::sleep(STOP_GRACE);
        tokio::pin!(deadline);
        while self.nodes.iter().any(|node| node.running.is_some()) {
            tokio::select! {
                message = inbox.recv() => match message {
                    None => break,
                    // A second request means: at once.
                    Some(Message::Down) => break,
                    Some(message) => self.take(message),
                },
                () = &mut deadline => break,
            }
        }
        for node in &mut self.nodes {
            if let Some(running) = node.running.take() {
                let _gone = running.signal(Signal::KILL);
            }
        }
        self.guard
            .finish(self.folder.temporary.then_some(&self.folder.path))
            .await;
    }
}
