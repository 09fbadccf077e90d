//! The end of a run, in order.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;

use super::handle::Message;
use super::run::Run;
use super::snapshot::Condition;
use crate::node::config::ToNode;

/// How long nodes may take to end in order before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(4);

impl Run {
    /// Ends everything in order: who makes work first, who keeps it last. What does not end in time
    /// is killed.
    pub(super) async fn end(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
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
