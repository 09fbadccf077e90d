//! The drills in which processes are killed, stopped or made late.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::stage::{Outcomes, Stage, Users, kept_folder, primaries, window};
use super::{Check, DrillError, trouble, what};
use crate::control::client::ControlClient;
use crate::control::run_file::RunFile;
use crate::keys;
use crate::node::config::{Role, Without};
use crate::node::load::client::Ask;
use crate::node::load::ledger::LedgerError;
use crate::node::load::mix::Journey;
use crate::node::load::picture::Format;
use crate::node::load::record::Outcome;
use crate::node::load::world::what::PULSE;
use crate::options::UpOptions;
use crate::supervisor::{Action, Condition, Snapshot, program};

/// How long a run may take until everything answers.
const READY: Duration = Duration::from_secs(5);
/// What all its processes may take together; pages that they share count for each of them.
const MEMORY_MB: u64 = 300;
/// How long a shard may take no writes when its primary dies.
const WRITES_BACK: Duration = Duration::from_secs(3);
/// GETs sent to a stopped web server before it dies, besides those of the load.
const IN_FLIGHT: u64 = 8;
/// For how long it is stopped, so that they and some of the load's are in its hands.
const FROZEN: Duration = Duration::from_millis(100);
/// For how long replicas are stopped before the primary dies, so that it has what they lack.
const BEHIND: Duration = Duration::from_millis(300);
/// The lag of the drill of that name.
const LAG: Duration = Duration::from_millis(300);
/// Rotations of the session keys, and reads with each token that was just issued.
const ROTATIONS: u64 = 6;
const READS: usize = 4;
/// Rounds of uploads with a kill each.
const WORKER_KILLS: u64 = 4;
/// Uploads in each.
const UPLOADS: u64 = 4;
/// A photo that takes a worker some while.
const PHOTO: (u32, u32) = (2_400, 1_800);

pub(super) async fn steady(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    stage.work();
    window(10.0).await;
    let snapshot = stage.supervisor.snapshot.borrow().clone();
    let outcomes = stage.finish("steady").await?;
    let ready = snapshot.ready_ms.unwrap_or(u64::MAX);
    let memory = snapshot.memory.rss_kb / 1024;
    let failed = outcomes.totals.failed;
    Ok(vec![
        outcomes.sound(),
        outcomes.check(
            "from the start until everything answers",
            format!("{ready} ms"),
            format!("{} ms", READY.as_millis()),
            u128::from(ready) <= READY.as_millis(),
        ),
        outcomes.check(
            "resident memory of all processes, added up",
            format!("{memory} MB"),
            format!("{MEMORY_MB} MB"),
            memory > 0 && memory <= MEMORY_MB,
        ),
        outcomes.check("failed requests", failed, 0, failed == 0),
        outcomes.nothing_lost(),
    ])
}

pub(super) async fn web_kill(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    stage.work();
    window(3.0).await;
    for victim in ["web-1", "web-2"] {
        // A kill between two requests would show nothing, so that it dies with some in its hands.
        stage.act(victim, Action::Pause).await?;
        let reads = read_at_once(&stage, seed);
        sleep(FROZEN).await;
        stage.act(victim, Action::Kill).await?;
        for read in reads.join_all().await {
            read.map_err(|error| trouble("the ledger")(&error))?;
        }
        window(1.0).await;
        back(&stage, victim).await?;
        window(2.0).await;
    }
    let outcomes = stage.finish("web-kill").await?;
    Ok(vec![
        outcomes.sound(),
        outcomes.failed_gets(),
        outcomes.nothing_lost(),
    ])
}

/// Sends GETs that no cache answers, all at the same time.
fn read_at_once(stage: &Stage, seed: u64) -> JoinSet<Result<(), LedgerError>> {
    (0..IN_FLIGHT)
        .map(|n| {
            let world = Arc::clone(&stage.users.world);
            let chance = fastrand::Rng::with_seed(seed ^ n);
            async move { world.carry_out(Journey::Me, Instant::now(), chance).await }
        })
        .collect()
}

async fn back(stage: &Stage, node: &str) -> Result<(), DrillError> {
    stage
        .until("the node is back", |snapshot| {
            snapshot
                .node(node)
                .is_some_and(|node| node.condition == Condition::Up && node.restarts > 0)
        })
        .await
        .map(drop)
}

pub(super) async fn primary_kill(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    let (primary, replicas) = stage.copies(0).await?;
    stage.work();
    window(3.0).await;
    // What the primary writes from now on, it alone has. It must acknowledge none of it.
    for replica in &replicas {
        stage.act(replica, Action::Pause).await?;
    }
    sleep(BEHIND).await;
    let killed = Instant::now();
    // Held down, so that it cannot come back with what it alone has before a replica is promoted.
    stage.act(&primary, Action::Hold).await?;
    for replica in &replicas {
        stage.act(replica, Action::Resume).await?;
    }
    window(5.0).await;
    stage.act(&primary, Action::Start).await?;
    stage
        .until("the old primary is a replica", |snapshot| {
            snapshot
                .node(&primary)
                .is_some_and(|node| node.status.is_some() && !node.is_primary())
        })
        .await?;
    window(2.0).await;
    let outcomes = stage.finish("primary-kill").await?;
    let back = outcomes
        .samples
        .iter()
        .filter(|sample| sample.what == PULSE && sample.shard == Some(0))
        .filter(|sample| sample.outcome == Outcome::Good && sample.intended >= killed)
        .map(|sample| sample.ended - killed)
        .min();
    let elsewhere = outcomes.failed_on(1);
    Ok(vec![
        outcomes.sound(),
        outcomes.check(
            "until the shard takes writes again",
            back.map_or_else(
                || "never".to_owned(),
                |back| format!("{} ms", back.as_millis()),
            ),
            format!("{} ms", WRITES_BACK.as_millis()),
            back.is_some_and(|back| back <= WRITES_BACK),
        ),
        outcomes.check("failures on the other shard", elsewhere, 0, elsewhere == 0),
        outcomes.failed_gets(),
        outcomes.nothing_lost(),
    ])
}

pub(super) async fn worker_kill(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    stage.work();
    let mut uploaded: Vec<String> = Vec::new();
    for round in 0..WORKER_KILLS {
        for n in 0..UPLOADS {
            let world = &stage.users.world;
            let mut chance = fastrand::Rng::with_seed(seed ^ (round * UPLOADS + n));
            let Some(person) = world.crowd.lock().person(&mut chance) else {
                continue;
            };
            let id = world
                .upload(Instant::now(), &person, chance.u64(..), PHOTO, Format::Jpeg)
                .await
                .map_err(|error| trouble("the ledger")(&error))?;
            uploaded.extend(id);
        }
        stage
            .until("the worker has a job in hand", |snapshot| {
                snapshot
                    .node("worker-1")
                    .is_some_and(|node| node.condition == Condition::Up && node.status.is_some())
            })
            .await?;
        stage.act("worker-1", Action::Kill).await?;
        back(&stage, "worker-1").await?;
    }
    let begun_again = wait_for_photos(&stage.users, &uploaded).await;
    let outcomes = stage.finish("worker-kill").await?;
    let asked = WORKER_KILLS * UPLOADS;
    Ok(vec![
        outcomes.sound(),
        outcomes.check(
            "uploads acknowledged",
            uploaded.len(),
            asked,
            uploaded.len() as u64 == asked,
        ),
        outcomes.check(
            "jobs that a kill interrupted",
            begun_again,
            "1 or more",
            begun_again > 0,
        ),
        outcomes.nothing_lost(),
    ])
}

/// Waits a while for the photos to be done, and says how many of them were begun more than once.
async fn wait_for_photos(users: &Users, ids: &[String]) -> usize {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let mut done = 0;
        let mut begun_again = 0;
        for id in ids {
            let ask = Ask::get(format!("/api/photos/{id}"));
            let Ok(answer) = users.world.client.send(ask).await else {
                continue;
            };
            let json = answer.json();
            let photo = &json["photo"];
            done += usize::from(photo["status"] == "ready" || photo["status"] == "failed");
            begun_again += usize::from(photo["attempts"].as_u64() > Some(1));
        }
        if done == ids.len() || Instant::now() > patience {
            return begun_again;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

pub(super) async fn lag(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let options = UpOptions {
        without,
        lag: LAG,
        ..UpOptions::default()
    };
    let mut stage = Stage::set(options, seed).await?;
    stage.work();
    window(10.0).await;
    let outcomes = stage.finish("lag").await?;
    // What a writer does not find is refused or wrong in its eyes.
    let unseen = outcomes.refused();
    Ok(vec![
        outcomes.sound(),
        outcomes.check(what::OWN_WRITES, unseen, 0, unseen == 0),
        outcomes.nothing_lost(),
    ])
}

pub(super) async fn paused_primary(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    let (old, _) = stage.copies(0).await?;
    stage.work();
    window(2.0).await;
    stage.act(&old, Action::Pause).await?;
    stage
        .until("another copy is the primary", |snapshot| {
            let now = primaries(snapshot, 0);
            now.len() == 1 && now.first() != Some(&old.as_str())
        })
        .await?;
    window(1.0).await;
    stage.act(&old, Action::Resume).await?;
    // It may believe that it reigns until it is told, and must acknowledge nothing meanwhile.
    window(2.0).await;
    let most = most_primaries(&stage, Duration::from_secs(4)).await;
    let outcomes = stage.finish("paused-primary").await?;
    let elsewhere = outcomes.failed_on(1);
    Ok(vec![
        outcomes.sound(),
        outcomes.check(what::ONE_PRIMARY, most.len(), 1, most.len() == 1),
        outcomes.check("failures on the other shard", elsewhere, 0, elsewhere == 0),
        outcomes.nothing_lost(),
    ])
}

pub(super) async fn key_rotation(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let mut stage = Stage::plain(without, seed).await?;
    stage.work();
    window(1.0).await;
    let soon = keys::PROPAGATION + keys::LOOK_EVERY;
    for round in 0..ROTATIONS {
        let rotated = stage.supervisor.rotate_keys().await;
        rotated.map_err(|why| trouble("rotating keys")(&why))?;
        log_in_and_read(&stage, seed ^ round, keys::LOOK_EVERY).await?;
    }
    log_in_and_read(&stage, seed ^ ROTATIONS, soon).await?;
    stage.act("web-1", Action::Kill).await?;
    back(&stage, "web-1").await?;
    log_in_and_read(&stage, seed, soon).await?;
    let all = usize::try_from(ROTATIONS).unwrap_or(usize::MAX) + 1;
    let snapshot = stage.supervisor.snapshot.borrow().clone();
    let rings: BTreeSet<String> = snapshot
        .nodes
        .iter()
        .filter(|node| node.role == Role::Web)
        .map(|node| {
            node.status
                .as_ref()
                .map_or_else(String::new, |status| status["keys"].to_string())
        })
        .collect();
    let alike = rings.len() == 1
        && rings
            .iter()
            .all(|ring| ring.contains(&format!("\"known\":{all},")));
    let outcomes = stage.finish("key-rotation").await?;
    let refused = outcomes.refused();
    Ok(vec![
        outcomes.sound(),
        outcomes.check(what::LOGGED_OUT, refused, 0, refused == 0),
        outcomes.check(
            "web servers have all keys, and sign with one",
            if alike { "yes" } else { "no" },
            "yes",
            alike,
        ),
        outcomes.failed_gets(),
        outcomes.nothing_lost(),
    ])
}

/// People log in one after the other; each shows the new token at once to whichever server it meets.
async fn log_in_and_read(stage: &Stage, seed: u64, during: Duration) -> Result<(), DrillError> {
    let until = Instant::now() + during;
    let world = &stage.users.world;
    for person in 0.. {
        if Instant::now() > until {
            break;
        }
        let again = [Journey::Me; READS];
        for journey in std::iter::once(Journey::Login).chain(again) {
            // The same chance draws the same person.
            let chance = fastrand::Rng::with_seed(seed ^ person);
            world
                .carry_out(journey, Instant::now(), chance)
                .await
                .map_err(|error| trouble("the ledger")(&error))?;
        }
    }
    Ok(())
}

/// All copies of shard 0 that said within this time that they are the primary.
async fn most_primaries(stage: &Stage, during: Duration) -> BTreeSet<String> {
    let mut snapshots = stage.supervisor.snapshot.clone();
    let mut seen = BTreeSet::new();
    let until = Instant::now() + during;
    while tokio::time::timeout_at(until, snapshots.changed())
        .await
        .is_ok_and(|changed| changed.is_ok())
    {
        let snapshot = snapshots.borrow_and_update().clone();
        seen.extend(primaries(&snapshot, 0).into_iter().map(str::to_owned));
    }
    seen
}

pub(super) async fn kill_all(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let (_folder, state) = kept_folder()?;
    let mut first = Up::start(&state, without).await?;
    let ready = first.ready().await?;
    let shards = UpOptions::default().shards;
    let edge = ready
        .edge
        .ok_or_else(|| DrillError("the run has no edge".to_owned()))?;
    let mut users = Users::register(edge, shards, seed).await?;
    users.work(shards, seed);
    window(4.0).await;
    let victims: Vec<u32> = ready.nodes.iter().map(|node| node.pid).collect();
    kill(first.run.pid);
    victims.iter().copied().for_each(kill);
    let _status = first.child.wait().await;
    users.stop().await?;
    let mut second = Up::start(&state, without).await?;
    let again = second.ready().await?;
    if let Some(edge) = again.edge {
        users.world.client.follow(edge);
    }
    let found = users.audit().await;
    second.down().await?;
    let recorder = &users.world.recorder;
    let outcomes = Outcomes {
        drill: "kill-all",
        totals: recorder.totals(),
        samples: Vec::new(),
        reasons: Vec::new(),
        found: found?,
    };
    let acked = outcomes.totals.acked;
    Ok(vec![
        outcomes.check(
            "processes killed at once",
            victims.len() + 1,
            "13",
            victims.len() >= 12,
        ),
        outcomes.check(
            "writes acknowledged before",
            acked,
            "100 or more",
            acked >= 100,
        ),
        outcomes.nothing_lost(),
    ])
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Whoever is gone already needs no signal.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// `stackbeam up` as a process of its own, so that its supervisor can be killed too.
struct Up {
    child: Child,
    run: RunFile,
}

impl Up {
    async fn start(state: &Path, without: Without) -> Result<Self, DrillError> {
        let failed = trouble("stackbeam up");
        let program = program().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command
            .args(["up", "--quiet", "--rps", "0", "--state"])
            .arg(state)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for device in without.names() {
            command.args(["--without", device]);
        }
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .await
                .map_err(|error| failed(&error))?;
        }
        let run = serde_json::from_str(&line)
            .map_err(|error| failed(&format!("it said {line:?} ({error})")))?;
        Ok(Self { child, run })
    }

    async fn ready(&self) -> Result<Snapshot, DrillError> {
        let control = ControlClient::new(self.run.clone());
        let mut last = String::new();
        for _ in 0..150 {
            match control.status().await {
                Ok(snapshot) if snapshot.ready_ms.is_some() => return Ok(snapshot),
                Ok(_) => "not everything answers yet".clone_into(&mut last),
                Err(error) => last = error.to_string(),
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(DrillError(format!("the run is not ready: {last}")))
    }

    async fn down(&mut self) -> Result<(), DrillError> {
        let failed = trouble("stopping the run");
        ControlClient::new(self.run.clone())
            .order("/api/down")
            .await
            .map_err(|error| failed(&error))?;
        self.child
            .wait()
            .await
            .map(drop)
            .map_err(|error| failed(&error))
    }
}
