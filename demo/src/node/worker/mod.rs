//! A photo worker: takes uploaded photos from the queue, makes their sizes, and records the result.
//!
//! A job may come more than once: its worker was killed, or stopped for so long that the queue gave the
//! job to another one. So every step may be repeated. Sizes are named by their content, and on the
//! owner's shard the first result stays: each upload gets exactly one.
//!
//! An image that cannot be processed is a result. A shard or a disk that does not answer is not: the
//! job goes back and is tried again later, without end. A photo that [`BEGUN_MAX`] lives of workers
//! have begun, and none has finished, has taken its workers with it, and ends as failed.

#[cfg(test)]
pub(crate) mod pictures;
mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod variants;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stackbeam_mq::worker::{Outcome, Pool, Workers};
use stackbeam_shard_router::{Key, Router as ShardRouter};
use tokio::time::Instant;

use super::objects::{Kind, Name, Objects};
use super::peer::peers_only;
use super::queue::link::{Jobs, QueueLink};
use super::shards::{self, Shards, ShardsError};
use super::{NodeContext, NodeError, Phase, now_ms};
use crate::app::id::Id;
use crate::app::store::{
    PhotoResult, PhotoRow, Read, ReadReply, Refusal, Variant, Write, WriteReply,
};

/// Lives of workers that may begin a photo before it counts as one that kills its workers.
const BEGUN_MAX: u64 = 5;
/// Photos in hand at once, one for each core that a worker should take. More workers do more.
const AT_ONCE: usize = 1;
/// The wait before a job is tried again; doubled each time.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// How often a worker says that it still has its job, and for how long that holds.
const BEAT_EVERY: Duration = Duration::from_secs(1);
const BEAT_HOLDS: Duration = Duration::from_secs(5);
/// When told to stop, how long the job in hand may take; then it goes back to the queue.
const DRAIN_MAX: Duration = Duration::from_millis(2_500);

/// What a worker works with.
#[derive(Debug)]
pub(crate) struct Worker {
    id: String,
    /// Drawn at each start of the process.
    life: u64,
    shards: Shards,
    map: ShardRouter,
    objects: Objects,
    counts: Counts,
    in_hand: Mutex<Option<InHand>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Photos whose result came from here.
    done: AtomicU64,
    failed: AtomicU64,
    /// Jobs that had a result already.
    repeated: AtomicU64,
    /// Jobs that went back because something did not answer.
    retried: AtomicU64,
    /// Jobs that name no photo.
    buried: AtomicU64,
    /// Jobs published again by a sweep.
    swept: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct InHand {
    photo: Id,
    attempt: u32,
    step: &'static str,
    since: Instant,
}

/// Why a job has no result yet.
enum Trouble {
    /// Try again later.
    Later(String),
    /// There is nothing to be done, now or later.
    Never(String),
}

impl From<ShardsError> for Trouble {
    fn from(error: ShardsError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Numbers of the commands of one job.
#[derive(Clone, Copy)]
enum Step {
    /// Begun by this life of a worker: it counts once, however often it is delivered to it.
    Start { life: u64 },
    /// Whoever finishes a photo finishes it by the same command.
    Finish,
}

/// The id of a command about a photo: the same however often the job is delivered.
fn command_id(photo: Id, step: Step) -> u128 {
    let (kind, life) = match step {
        Step::Start { life } => (1_u8, life),
        Step::Finish => (2, 0),
    };
    let half = |which: u8| {
        let mut bytes = vec![which, kind];
        bytes.extend_from_slice(&photo.0.to_le_bytes());
        bytes.extend_from_slice(&life.to_le_bytes());
        u128::from(Key::Bytes(&bytes).hash())
    };
    half(b'h') << 64 | half(b'l')
}

impl Worker {
    pub(crate) fn new(id: &str, shards: Shards, objects: Objects) -> Result<Self, NodeError> {
        Ok(Self {
            id: id.to_owned(),
            life: fastrand::u64(..),
            map: ShardRouter::new(shards::placed(shards.count())?),
            shards,
            objects,
            counts: Counts::default(),
            in_hand: Mutex::new(None),
        })
    }

    /// Starts taking jobs.
    pub(crate) fn start(self: Arc<Self>, jobs: Jobs) -> Pool {
        Workers::new()
            .concurrency(AT_ONCE)
            .backoff(RETRY_AFTER, RETRY_AFTER_MAX)
            .heartbeat(BEAT_EVERY, BEAT_HOLDS)
            .drain_deadline(DRAIN_MAX)
            .start(jobs, move |job| {
                let worker = Arc::clone(&self);
                async move { worker.handle(job.message.body(), job.attempt).await }
            })
    }

    /// Does one job, and says what is to become of it.
    ///
    /// Dropping the future leaves the photo begun and without a result; the job has to come again.
    pub(crate) async fn handle(&self, job: &[u8], attempt: u32) -> Outcome {
        let photo = std::str::from_utf8(job).ok().and_then(Id::parse);
        let Some(photo) = photo else {
            count(&self.counts.buried, "buried");
            return Outcome::Dead("it is not the id of a photo".to_owned());
        };
        let began = Instant::now();
        let done = self.process(photo, attempt).await;
        *self.in_hand.lock() = None;
        metrics::histogram!("stackbeam_worker_job_duration_seconds")
            .record(began.elapsed().as_secs_f64());
        match done {
            Ok(()) => Outcome::Done,
            Err(Trouble::Later(why)) => {
                count(&self.counts.retried, "retried");
                tracing::warn!(photo = photo.text(), why, "a job has to wait");
                Outcome::Retry
            }
            Err(Trouble::Never(why)) => {
                count(&self.counts.buried, "buried");
                Outcome::Dead(why)
            }
        }
    }

    fn now_at(&self, photo: Id, attempt: u32, step: &'static str) {
        *self.in_hand.lock() = Some(InHand {
            photo,
            attempt,
            step,
            since: Instant::now(),
        });
    }

    async fn process(&self, photo: Id, attempt: u32) -> Result<(), Trouble> {
        self.now_at(photo, attempt, "begins");
        let start = Write::StartPhoto {
            id: photo,
            now_ms: now_ms(),
        };
        let row = self
            .write(photo, Step::Start { life: self.life }, start)
            .await?;
        // The second time in this life the answer is that of the first, hence the question.
        if row.result.is_some() || self.has_result(photo).await? {
            count(&self.counts.repeated, "repeated");
            return Ok(());
        }
        let result = if row.attempts > BEGUN_MAX {
            PhotoResult::Failed(format!(
                "{BEGUN_MAX} workers have begun it and none has finished"
            ))
        } else {
            match self.make(&row, attempt).await? {
                Ok(variants) => PhotoResult::Ready(variants),
                Err(why) => PhotoResult::Failed(why),
            }
        };
        self.now_at(photo, attempt, "records the result");
        let finish = Write::FinishPhoto {
            id: photo,
            result,
            now_ms: now_ms(),
        };
        match self.write(photo, Step::Finish, finish).await?.result {
            Some(PhotoResult::Ready(_)) => count(&self.counts.done, "done"),
            Some(PhotoResult::Failed(_)) => count(&self.counts.failed, "failed"),
            None => return Err(Trouble::Later("the shard has kept no result".to_owned())),
        }
        Ok(())
    }

    /// Whether a photo is known to be done. A copy that is behind may not know yet: then the work is done
    /// once more, for nothing.
    async fn has_result(&self, photo: Id) -> Result<bool, Trouble> {
        let shard = shards::home(&self.map.map(), photo.slot());
        let (_, reply) = self.shards.read(shard, Read::Photo(photo), 0).await?;
        Ok(matches!(reply, Ok(ReadReply::Photo(row)) if row.result.is_some()))
    }

    /// Makes and keeps the variants. The inner error is the photo's fault, hence a result.
    async fn make(
        &self,
        row: &PhotoRow,
        attempt: u32,
    ) -> Result<Result<Vec<Variant>, String>, Trouble> {
        let disk = |error: std::io::Error| Trouble::Later(format!("the object store: {error}"));
        let name = Name::parse(&row.original)
            .ok_or_else(|| Trouble::Never(format!("{} is no object", row.original)))?;
        let Some(upload) = self
            .objects
            .get(Kind::Original, &name)
            .await
            .map_err(disk)?
        else {
            return Ok(Err("what was uploaded is no longer there".to_owned()));
        };
        self.now_at(row.id, attempt, "makes sizes");
        let made = tokio::task::spawn_blocking(move || variants::variants(&upload))
            .await
            .unwrap_or_else(|_| Err("the image cannot be read: the decoder broke".to_owned()));
        let made = match made {
            Ok(made) => made,
            Err(why) => return Ok(Err(why)),
        };
        self.now_at(row.id, attempt, "keeps sizes");
        let mut variants = Vec::with_capacity(made.len());
        for one in made {
            let name = self
                .objects
                .put(Kind::Photo, one.bytes, one.format)
                .await
                .map_err(disk)?;
            variants.push(Variant {
                file: name.as_str().to_owned(),
                width: one.width,
                height: one.height,
            });
        }
        Ok(Ok(variants))
    }

    async fn write(&self, photo: Id, step: Step, command: Write) -> Result<PhotoRow, Trouble> {
        let shard = shards::home(&self.map.map(), photo.slot());
        let (_, reply) = self
            .shards
            .write(shard, command_id(photo, step), command)
            .await?;
        match reply {
            Ok(WriteReply::Photo(row)) => Ok(row),
            Ok(other) => Err(Trouble::Later(format!(
                "an answer of another version: {other:?}"
            ))),
            Err(Refusal::NotFound(_)) => Err(Trouble::Never("there is no such photo".to_owned())),
            Err(refusal) => Err(Trouble::Never(format!("{refusal:?}"))),
        }
    }

    fn status(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let in_hand = self.in_hand.lock().map(|job| {
            json!({
                "photo": job.photo.text(),
                "attempt": job.attempt,
                "step": job.step,
                "for_ms": u64::try_from(job.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        });
        json!({
            "id": self.id,
            "role": "worker",
            "done": count(&counts.done),
            "failed": count(&counts.failed),
            "repeated": count(&counts.repeated),
            "retried": count(&counts.retried),
            "buried": count(&counts.buried),
            "swept": count(&counts.swept),
            "working_on": in_hand,
        })
    }
}

fn count(counter: &AtomicU64, result: &'static str) {
    counter.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("stackbeam_worker_jobs_total", "result" => result).increment(1);
}

/// Works until it is told to stop; then finishes the job in hand.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let config = &context.config;
    if context.topology.borrow().shard_count() == 0 {
        return Err(NodeError::Role(
            "a worker needs store nodes: results of photos are kept there".to_owned(),
        ));
    }
    let objects = Objects::open(&config.objects, &config.id).map_err(|source| NodeError::Io {
        what: format!("opening {}", config.objects.display()),
        source,
    })?;
    let worker = Arc::new(Worker::new(&config.id, Shards::of(&context)?, objects)?);
    let link = QueueLink::follow(
        context.topology.clone(),
        context.peers.clone(),
        &config.secrets.peer,
    );
    let listener = context.listen().await?;
    let status = Router::new()
        .route(
            "/status",
            get(|State(worker): State<Arc<Worker>>| async move { Json(worker.status()) }),
        )
        .route_layer(from_fn_with_state(
            Arc::from(config.secrets.peer.as_str()),
            peers_only,
        ))
        .with_state(Arc::clone(&worker));
    let router = status.merge(context.base_routes::<()>());
    let pool = Arc::clone(&worker).start(link.jobs());
    let sweeping = tokio::spawn(sweep::sweep(worker, link));
    let mut phase = context.phase.clone();
    let drained = async {
        let _ended = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        sweeping.abort();
        let (stats, _) = pool.drain().await;
        if stats.released > 0 {
            context.event("gave a job back that would have taken too long");
        }
    };
    let (served, ()) = tokio::join!(context.serve(listener, router), drained);
    served
}
