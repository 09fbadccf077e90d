//! What a drill plays on: a run, synthetic users on it, and the judgement of what they got.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{Check, DrillError, trouble, what};
use crate::node::config::{Role, Without};
use crate::node::load::check::{Findings, check};
use crate::node::load::client::{Class, Client};
use crate::node::load::generator::{self, Pace};
use crate::node::load::ledger::{self, Expected, Ledger, LedgerError};
use crate::node::load::record::{Outcome, Recorder, Sample, Totals};
use crate::node::load::world::World;
use crate::node::load::{ledger_path, tag};
use crate::options::UpOptions;
use crate::supervisor::{Action, Condition, Snapshot, Supervisor};

/// Journeys a second. One journey is one to a few requests.
const JOURNEYS: u32 = 40;
/// Time between two small writes on each shard.
const PULSE: Duration = Duration::from_millis(50);
/// Users. Each costs a password hash at the start and another one at the check.
const PEOPLE: usize = 16;
/// How long a run may take to be ready, and a node to be back.
const READY_MAX: Duration = Duration::from_secs(15);

/// Synthetic users at work.
pub(super) struct Users {
    pub(super) world: Arc<World>,
    folder: TempDir,
    driving: Option<Driving>,
}

/// The load under way: what stops it, and what it ends with.
type Driving = (oneshot::Sender<()>, JoinHandle<Result<(), LedgerError>>);

impl Users {
    /// Registers users on the service at `edge`, which has so many shards.
    pub(super) async fn register(
        edge: SocketAddr,
        shards: u16,
        seed: u64,
    ) -> Result<Self, DrillError> {
        let failed = trouble("synthetic users");
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let (ledger, known) = Ledger::open(&ledger_path(folder.path()), &tag(seed))
            .map_err(|error| failed(&error))?;
        let recorder = Recorder::new(Instant::now(), true);
        let world = World::new(Client::new(edge), ledger, recorder, shards, seed);
        let world = Arc::new(world);
        world
            .settle(&known, PEOPLE)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self {
            world,
            folder,
            driving: None,
        })
    }

    /// Lets them work until [`stop`](Self::stop).
    pub(super) fn work(&mut self, shards: u16, seed: u64) {
        let (stop, stopped) = oneshot::channel();
        let world = Arc::clone(&self.world);
        let pace = Pace {
            per_second: JOURNEYS,
            pulse: Some((shards, PULSE)),
            seed,
        };
        let driving = tokio::spawn(async move {
            let (_crowds, no_crowds) = mpsc::unbounded_channel();
            generator::drive(&world, &pace, no_crowds, async {
                let _gone = stopped.await;
            })
            .await
        });
        self.driving = Some((stop, driving));
    }

    pub(super) async fn stop(&mut self) -> Result<(), DrillError> {
        if let Some((stop, driving)) = self.driving.take() {
            let _ended = stop.send(());
            driving
                .await
                .map_err(|error| trouble("the load")(&error))?
                .map_err(|error| trouble("the load")(&error))?;
        }
        Ok(())
    }

    /// Reads back all that was acknowledged.
    pub(super) async fn audit(&self) -> Result<Findings, DrillError> {
        let lines = ledger::read(&ledger_path(self.folder.path()))
            .map_err(|error| trouble("the ledger")(&error))?;
        Ok(check(&self.world.client, &Expected::of(&lines)).await)
    }
}

/// What users got in a drill.
pub(super) struct Outcomes {
    pub(super) drill: &'static str,
    pub(super) totals: Totals,
    pub(super) samples: Vec<Sample>,
    pub(super) reasons: Vec<String>,
    pub(super) found: Findings,
}

impl Outcomes {
    pub(super) fn check(
        &self,
        what: &'static str,
        measured: impl ToString,
        budget: impl ToString,
        holds: bool,
    ) -> Check {
        Check {
            drill: self.drill,
            what,
            measured: measured.to_string(),
            budget: budget.to_string(),
            holds,
            why: self.reasons.clone(),
        }
    }

    /// Nothing counts that a generator measured which could not keep its own pace, or sent nothing.
    pub(super) fn sound(&self) -> Check {
        let Totals {
            arrivals,
            late,
            unsent,
            ..
        } = self.totals;
        self.check(
            "arrivals; late; not sent",
            format!("{arrivals}; {late}; {unsent}"),
            "100; 5 %; 0",
            arrivals >= 100 && !self.totals.saturated(),
        )
    }

    pub(super) fn failed_gets(&self) -> Check {
        let failed = self.totals.failed_gets;
        self.check(what::FAILED_GETS, failed, 0, failed == 0)
    }

    pub(super) fn nothing_lost(&self) -> Check {
        let found = &self.found;
        let bad = found.lost.len() + found.duplicated.len() + found.wrong.len();
        let unread = found.unread.len();
        let mut check = self.check(
            what::LOST,
            format!("{bad} of {}, {unread} unread", found.checked),
            "0, 0 unread",
            bad == 0 && unread == 0 && found.checked > 0,
        );
        check.why = [&found.lost, &found.duplicated, &found.wrong, &found.unread]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        check
    }

    /// Requests that were in order and yet refused, or answered with what cannot be right.
    pub(super) fn refused(&self) -> u64 {
        Class::ALL
            .iter()
            .zip(self.totals.by_class)
            .filter(|(class, _)| matches!(class, Class::Refused | Class::Wrong))
            .map(|(_, count)| count)
            .sum()
    }

    /// Failed requests that concern this shard alone.
    pub(super) fn failed_on(&self, shard: u16) -> usize {
        self.samples
            .iter()
            .filter(|sample| {
                sample.shard == Some(shard) && matches!(sample.outcome, Outcome::Failed(_))
            })
            .count()
    }
}

/// A run with users on it, started by this process.
pub(super) struct Stage {
    pub(super) supervisor: Supervisor,
    pub(super) users: Users,
    shards: u16,
    seed: u64,
}

impl Stage {
    /// Starts a run with these options, without load of its own, and registers users.
    pub(super) async fn set(options: UpOptions, seed: u64) -> Result<Self, DrillError> {
        let options = UpOptions {
            rps: 0,
            seed,
            quiet: true,
            ..options
        };
        let supervisor =
            Supervisor::start(&options).map_err(|error| trouble("starting a run")(&error))?;
        let ready = until(&supervisor, "the run is ready", |snapshot| {
            snapshot.ready_ms.is_some()
        })
        .await;
        let users = match ready {
            Ok(snapshot) => match snapshot.edge {
                Some(edge) => Users::register(edge, options.shards, seed).await,
                None => Err(DrillError("the run has no edge".to_owned())),
            },
            Err(error) => Err(error),
        };
        match users {
            Ok(users) => Ok(Self {
                supervisor,
                users,
                shards: options.shards,
                seed,
            }),
            Err(error) => {
                supervisor.down();
                supervisor.ended().await;
                Err(error)
            }
        }
    }

    /// The default run, with safety devices taken out.
    pub(super) async fn plain(without: Without, seed: u64) -> Result<Self, DrillError> {
        let options = UpOptions {
            without,
            ..UpOptions::default()
        };
        Self::set(options, seed).await
    }

    pub(super) fn work(&mut self) {
        self.users.work(self.shards, self.seed);
    }

    pub(super) async fn act(&self, node: &str, action: Action) -> Result<(), DrillError> {
        self.supervisor
            .act(node, action)
            .await
            .map_err(|why| trouble(node)(&why))
    }

    /// Waits until the run looks as it should.
    pub(super) async fn until(
        &self,
        what: &str,
        holds: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Arc<Snapshot>, DrillError> {
        until(&self.supervisor, what, holds).await
    }

    /// The ids of a shard's primary and of its replicas.
    pub(super) async fn copies(&self, shard: u16) -> Result<(String, Vec<String>), DrillError> {
        let snapshot = self
            .until("the shard has a primary", |snapshot| {
                primaries(snapshot, shard).len() == 1
            })
            .await?;
        let (primary, replicas): (Vec<_>, Vec<_>) = snapshot
            .nodes
            .iter()
            .filter(|node| node.role == Role::Store && node.shard == Some(shard))
            .partition(|node| node.is_primary());
        let ids = |nodes: Vec<&crate::supervisor::NodeView>| {
            nodes
                .into_iter()
                .map(|node| node.id.clone())
                .collect::<Vec<_>>()
        };
        let primary = ids(primary)
            .pop()
            .ok_or_else(|| DrillError(format!("shard {shard} has no primary")))?;
        Ok((primary, ids(replicas)))
    }

    /// Stops the load, reads everything back, and ends the run.
    pub(super) async fn finish(mut self, drill: &'static str) -> Result<Outcomes, DrillError> {
        let done = async {
            self.users.stop().await?;
            self.users.audit().await
        }
        .await;
        let recorder = &self.users.world.recorder;
        let (samples, dropped) = recorder.samples();
        let outcomes = done.map(|found| Outcomes {
            drill,
            totals: recorder.totals(),
            samples,
            reasons: recorder.reasons(),
            found,
        });
        self.supervisor.down();
        self.supervisor.ended().await;
        if dropped > 0 {
            return Err(DrillError(format!("{dropped} samples did not fit")));
        }
        outcomes
    }
}

impl Drop for Stage {
    /// A drill that ends early leaves no run behind: the guard ends what this cannot wait for.
    fn drop(&mut self) {
        self.supervisor.down();
    }
}

/// The nodes of a shard that say they are its primary.
pub(super) fn primaries(snapshot: &Snapshot, shard: u16) -> Vec<&str> {
    snapshot
        .nodes
        .iter()
        .filter(|node| node.shard == Some(shard) && node.condition == Condition::Up)
        .filter(|node| node.is_primary())
        .map(|node| node.id.as_str())
        .collect()
}

async fn until(
    supervisor: &Supervisor,
    what: &str,
    mut holds: impl FnMut(&Snapshot) -> bool,
) -> Result<Arc<Snapshot>, DrillError> {
    let mut snapshots = supervisor.snapshot.clone();
    let found = timeout(READY_MAX, snapshots.wait_for(|snapshot| holds(snapshot)))
        .await
        .map(|found| found.map(|snapshot| Arc::clone(&snapshot)));
    match found {
        Ok(Ok(snapshot)) => Ok(snapshot),
        Ok(Err(_)) => Err(DrillError("the run is over".to_owned())),
        Err(_) => Err(DrillError(format!(
            "after {READY_MAX:?} it is still not so that {what}"
        ))),
    }
}

/// A window of a drill.
pub(super) async fn window(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// Where the data of a run is, for a drill that needs a kept folder.
pub(super) fn kept_folder() -> Result<(TempDir, PathBuf), DrillError> {
    let folder = tempfile::tempdir().map_err(|error| trouble("a folder")(&error))?;
    let path = folder.path().join("state");
    Ok((folder, path))
}
