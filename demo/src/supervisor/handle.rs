//! The door to a run: what everybody but its owner holds, and what travels through it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::StartError;
use super::events::Events;
use super::memory::Memory;
use super::orders::Action;
use super::run::Run;
use super::snapshot::Snapshot;
use crate::node::config::{FromNode, Role};
use crate::options::UpOptions;

/// What a child did.
#[derive(Debug)]
pub(super) enum Heard {
    Report(FromNode),
    Exit(String),
}

/// What the owning task is told.
#[derive(Debug)]
pub(super) enum Message {
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
    Memory(BTreeMap<u32, Memory>),
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
    RotateKeys {
        answer: oneshot::Sender<Result<(), String>>,
    },
    Remove {
        path: PathBuf,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// A node that was told to stop has had its time.
    Overdue {
        id: String,
        life: u64,
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
        let events = Events::new();
        let (messages, inbox) = mpsc::unbounded_channel();
        let (snapshot_in, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let (ended_in, ended) = watch::channel(false);
        let mut run = Run::begin(options, messages.clone(), snapshot_in, events.clone())?;
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

    /// Has a new session key sign from soon on.
    pub(crate) async fn rotate_keys(&self) -> Result<(), String> {
        self.ask(|answer| Message::RotateKeys { answer }).await
    }

    /// Has the file removed, and its folder once that is empty, if this process is killed before it can do
    /// so itself.
    pub(crate) async fn remove_file_at_end(&self, path: PathBuf) -> Result<(), String> {
        self.ask(|answer| Message::Remove { path, answer }).await
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
