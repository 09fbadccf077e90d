//! The shell that runs a [`Failover`]: it asks, waits, hands the answers back and tells what it sees.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use crate::engine::Engine;
use crate::evidence::{Epoch, Evidence, MemberId};
use crate::failover::{Action, Failover, FailoverConfig, FailoverStats, Failure, Notice};

/// Bounds of a [`Coordinator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a configuration, written with `..Default::default()`"
)]
pub struct CoordinatorOptions {
    /// Bounds of the decisions.
    pub failover: FailoverConfig,
    /// How long a copy may take to answer a probe; then it has missed it. A stopped process accepts
    /// connections and says nothing, so this is what finds it out: about `misses_max` times this and
    /// [`probe_every`](FailoverConfig::probe_every). Defaults to 300 ms.
    pub probe_wait_max: Duration,
    /// How long a copy may take for any other order, which waits for a disk. Make it shorter than
    /// [`step_max`](FailoverConfig::step_max), or answers come too late to count. Defaults to 900 ms.
    pub order_wait_max: Duration,
    /// Tells coordinators apart that claim the same epoch: it must differ between any two, also between
    /// two lives of one. `None`, the default, draws one.
    pub seed: Option<u64>,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            failover: FailoverConfig::default(),
            probe_wait_max: Duration::from_millis(300),
            order_wait_max: Duration::from_millis(900),
            seed: None,
        }
    }
}

/// What a coordinator knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Situation {
    /// The primary that reigns and answers, if there is one.
    pub primary: Option<MemberId>,
    /// The highest epoch seen or claimed.
    pub epoch: Epoch,
    /// Every copy, in the order of the list.
    pub copies: Vec<CopyStatus>,
    /// The counters of the decisions.
    pub stats: FailoverStats,
}

/// What a coordinator knows about one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyStatus {
    /// The copy.
    pub member: MemberId,
    /// Whether it counts as alive.
    pub alive: bool,
    /// What it said last.
    pub evidence: Option<Evidence>,
}

/// A [`Failover`] at work: a task on the tokio runtime that asks the copies through an [`Engine`].
///
/// At most one probe a copy is under way, and as many other orders a copy as fit into
/// `order_wait_max`: one for each fencing, promotion and repointing.
///
/// # Cancel safety
/// Dropping it ends the task and every order under way; whether those are carried out is then open, as
/// for any coordinator that dies. The next one asks the copies what they promised.
#[derive(Debug)]
pub struct Coordinator {
    situation: watch::Receiver<Arc<Situation>>,
    task: JoinHandle<()>,
}

impl Coordinator {
    /// Starts to coordinate `members`. `tell` hears each [`Notice`] in order, from within the task: it
    /// must not block.
    ///
    /// # Panics
    /// Outside a tokio runtime, or on one without time.
    pub fn start<E: Engine>(
        engine: Arc<E>,
        members: impl IntoIterator<Item = MemberId>,
        options: CoordinatorOptions,
        tell: impl FnMut(&Notice) + Send + 'static,
    ) -> Self {
        let seed = options
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one("seed"));
        let now = Instant::now().into_std();
        let failover = Failover::new(options.failover, members, seed, now);
        let (publish, situation) = watch::channel(Arc::new(Situation::of(&failover)));
        let task = tokio::spawn(run(engine, failover, options, publish, tell));
        Self { situation, task }
    }

    /// What it knows now.
    #[must_use]
    pub fn situation(&self) -> Arc<Situation> {
        Arc::clone(&self.situation.borrow())
    }

    /// A view that goes on to show what the coordinator knows.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            situation: self.situation.clone(),
        }
    }

    /// Ends it and waits until nothing of it is left: no order is under way in this process.
    ///
    /// # Cancel safety
    /// Dropped, it has been told to end all the same.
    pub async fn stop(mut self) {
        self.task.abort();
        let _aborted = (&mut self.task).await;
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Shows what a [`Coordinator`] knows. Clones watch on their own.
#[derive(Clone, Debug)]
pub struct Watch {
    situation: watch::Receiver<Arc<Situation>>,
}

/// The coordinator that was watched is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator has ended")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Ended;

impl Watch {
    /// What the coordinator knows now, or knew last.
    #[must_use]
    pub fn now(&self) -> Arc<Situation> {
        Arc::clone(&self.situation.borrow())
    }

    /// Waits for news since the last call of this method. Only the newest is kept.
    ///
    /// # Errors
    /// [`Ended`] when there will be none.
    ///
    /// # Cancel safety
    /// Nothing is lost: the news is still there for the next call.
    pub async fn changed(&mut self) -> Result<Arc<Situation>, Ended> {
        self.situation.changed().await.map_err(|_| Ended)?;
        Ok(Arc::clone(&self.situation.borrow_and_update()))
    }

    /// Waits until `copy` reigns, whoever it is when it is `None`.
    ///
    /// # Errors
    /// [`Ended`] when that will not be.
    ///
    /// # Cancel safety
    /// Nothing happens.
    pub async fn reigns(&mut self, copy: Option<MemberId>) -> Result<Arc<Situation>, Ended> {
        self.situation
            .wait_for(|seen| match copy {
                Some(_) => seen.primary == copy,
                None => seen.primary.is_some(),
            })
            .await
            .map(|seen| Arc::clone(&seen))
            .map_err(|_| Ended)
    }
}

impl Situation {
    fn of(failover: &Failover) -> Self {
        let alive = |id| {
            failover
                .copies()
                .any(|(copy, _, alive)| copy == id && alive)
        };
        Self {
            primary: failover.primary().filter(|id| alive(*id)),
            epoch: failover.epoch(),
            copies: failover
                .copies()
                .map(|(member, evidence, alive)| CopyStatus {
                    member,
                    alive,
                    evidence: evidence.cloned(),
                })
                .collect(),
            stats: failover.stats(),
        }
    }
}

type Outcome = Result<Evidence, Failure>;

async fn run<E: Engine>(
    engine: Arc<E>,
    mut failover: Failover,
    options: CoordinatorOptions,
    publish: watch::Sender<Arc<Situation>>,
    mut tell: impl FnMut(&Notice) + Send,
) {
    // Ends what is under way when this future is dropped.
    let mut working: JoinSet<Outcome> = JoinSet::new();
    let mut orders: HashMap<Id, Action> = HashMap::new();
    loop {
        while let Some(action) = failover.poll(Instant::now().into_std()) {
            let wait_max = match action {
                Action::Probe { .. } => options.probe_wait_max,
                _ => options.order_wait_max,
            };
            let (engine, order) = (Arc::clone(&engine), action.clone());
            let task = working.spawn(async move {
                timeout(wait_max, engine.perform(&order))
                    .await
                    .unwrap_or(Err(Failure::Lost))
            });
            orders.insert(task.id(), action);
        }
        for notice in failover.notices() {
            tracing::info!(?notice, "failover");
            tell(&notice);
        }
        let situation = Situation::of(&failover);
        publish.send_if_modified(|seen| {
            let news = **seen != situation;
            if news {
                *seen = Arc::new(situation);
            }
            news
        });
        let done = async {
            match working.join_next_with_id().await {
                Some(done) => done,
                None => std::future::pending().await,
            }
        };
        let done = match failover.next_deadline() {
            Some(at) => timeout_at(Instant::from_std(at), done).await.ok(),
            None => Some(done.await),
        };
        let Some(done) = done else { continue };
        let (id, outcome) = match done {
            Ok(done) => done,
            // The engine panicked: nobody knows how far it came.
            Err(error) => (JoinError::id(&error), Err(Failure::Lost)),
        };
        if let Some(action) = orders.remove(&id) {
            failover.answered(&action, outcome, Instant::now().into_std());
        }
    }
}
