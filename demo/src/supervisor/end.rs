//! The end of a run, in order.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;

use super::handle::Message;
use super::run::{Node, Run};
use super::snapshot::Condition;
use crate::node::config::{Role, ToNode};

/// How long nodes may take to end in order before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// How long killed nodes may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Who ends before whom: first who makes work, last who keeps it. The coordinator goes before the
/// stores, so that it sees none of them die.
const fn turn(role: Role) -> u8 {
    match role {
        Role::Load => 0,
        Role::Edge => 1,
        Role::Web => 2,
        Role::Worker => 3,
        Role::Queue | Role::Coord => 4,
        Role::Store => 5,
    }
}

impl Run {
    /// Ends everything in order. What does not end in time is killed.
    pub(super) async fn end(&mut self, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        self.ending = true;
        for node in &self.nodes {
            if let Some(running) = &node.running
                && node.condition == Condition::Paused
            {
                let _gone = running.signal(Signal::CONT);
            }
        }
        self.all_gone(inbox, STOP_GRACE, |run| {
            let running = |node: &&Node| node.running.is_some();
            let next = run
                .nodes
                .iter()
                .filter(running)
                .map(|node| turn(node.spec.role))
                .min();
            for node in run.nodes.iter().filter(running) {
                if Some(turn(node.spec.role)) == next
                    && let Some(running) = &node.running
                {
                    running.order(&ToNode::Stop);
                }
            }
        })
        .await;
        for node in &self.nodes {
            if let Some(running) = &node.running {
                let _gone = running.signal(Signal::KILL);
            }
        }
        self.all_gone(inbox, KILL_GRACE, |_| {}).await;
        self.guard
            .finish(self.folder.temporary.then_some(&self.folder.path));
    }

    /// Waits until no node is left, at most for `grace`; calls `step` at the start and after each end.
    async fn all_gone(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Message>,
        grace: Duration,
        step: impl Fn(&Self),
    ) {
        let deadline = tokio::time::sleep(grace);
        tokio::pin!(deadline);
        let mut left = usize::MAX;
        loop {
            let running = self.nodes.iter().filter(|node| node.running.is_some());
            let still = running.count();
            if still == 0 {
                return;
            }
            if still < left {
                left = still;
                step(self);
            }
            tokio::select! {
                message = inbox.recv() => match message {
                    // A second request means: at once.
                    None | Some(Message::Down) => return,
                    Some(message) => self.take(message),
                },
                () = &mut deadline => return,
            }
        }
    }
}
