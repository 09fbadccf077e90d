//! The durable queue: one process that owns the files, and through which the others hand work over.
//!
//! * Topic `photos`: the ids of uploaded photos; the group `workers` does them.
//! * Topic `revocations`: ended sessions; each web server has a group of its own, and the group
//!   `ledger` is this process, which remembers them for those that come later.
//!
//! A second process on the same folder is kept out by the queue's own lock.
//!
//! # Who can reach it
//!
//! Jobs travel over the queue's own protocol on a port of loopback, which every user of the machine can
//! connect to, and every page that the person has open in a browser. A page cannot get far: the first
//! four bytes that a browser sends are text or a TLS greeting, hence no frame. To keep out other users
//! and other programs too, the port serves only connections that begin with a secret of this run.

mod ledger;
pub(crate) mod link;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stackbeam_mq::net::{Address, Server};
use stackbeam_mq::{GroupOptions, OpenError, Queue, TopicOptions, WhenFull};
use stackbeam_session::{Key, MemoryRevocations, Policy};

use super::config::Secrets;
use super::peer::peers_only;
use super::{NodeContext, NodeError};
use ledger::Ledger;

const PHOTOS: &str = "photos";
const REVOCATIONS: &str = "revocations";
const WORKERS: &str = "workers";

/// Jobs that may wait; beyond that a publish is refused, and a sweep publishes the job later.
const JOBS_MAX: u64 = 100_000;
/// How long a job is remembered, so that publishing it again is no second job.
const JOB_REMEMBERED: Duration = Duration::from_mins(10);
/// How long a worker that says nothing keeps its job: after that, another one gets it.
const JOB_LEASE: Duration = Duration::from_secs(5);
/// Size of a log file. Jobs are small.
const SEGMENT_BYTES: u64 = 2 << 20;
/// When told to stop, how long jobs in hand may take to be settled.
const SETTLE_MAX: Duration = Duration::from_secs(2);

fn photos_topic() -> TopicOptions {
    TopicOptions::new()
        .messages_max(JOBS_MAX)
        .when_full(WhenFull::Refuse)
        .dedup(JOB_REMEMBERED, 100_000)
}

/// Without a bound on deliveries: a job ends by a result in the database, which also counts how often
/// it was begun. What can never be done is buried by the worker.
fn workers_group() -> GroupOptions {
    GroupOptions::new().lease(JOB_LEASE).deliveries_max(0)
}

fn revocations_topic() -> TopicOptions {
    TopicOptions::fan_out().when_full(WhenFull::Refuse)
}

/// How long sessions live, the same for all who check them.
pub(crate) fn session_policy() -> Policy {
    Policy::aal1()
}

/// An empty set of ended sessions, under the key of this run.
pub(crate) fn revocations(key: &Key) -> Result<MemoryRevocations, NodeError> {
    MemoryRevocations::new(key, session_policy().absolute())
        .map_err(|error| NodeError::Role(format!("sessions: {error}")))
}

/// What the queue's own port asks for: made from the peer secret, so that who learns it cannot call
/// the other nodes with it.
fn port_secret(peer: &str) -> String {
    let hash = blake2b_simd::Params::new()
        .hash_length(32)
        .personal(b"stackbeam queue")
        .hash(peer.as_bytes());
    hash.to_hex().to_string()
}

/// The answer of `/mq`: where the queue's own protocol is spoken. It moves with each start.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Port {
    addr: SocketAddr,
}

/// The queue of a run, open and served. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct QueueNode {
    id: String,
    queue: Queue,
    port: Port,
    ledger: Arc<Ledger>,
    remembering: tokio::task::JoinHandle<()>,
    _server: Server,
}

impl QueueNode {
    /// Opens the queue in `dir` and serves its protocol on a free port of loopback.
    pub(crate) async fn open(id: &str, dir: &Path, secrets: &Secrets) -> Result<Self, NodeError> {
        let folder = dir.to_owned();
        let queue = blocking(move || {
            let queue = Queue::options()
                .segment_bytes(SEGMENT_BYTES)
                .open(&folder)
                .map_err(|error| match error {
                    OpenError::Locked => NodeError::Role(format!(
                        "another process has the queue in {}; stop it first",
                        folder.display()
                    )),
                    error => NodeError::Role(format!("the queue: {error}")),
                })?;
            let topic = |name, options| queue.topic_with(name, options);
            topic(PHOTOS, photos_topic())
                .and_then(|photos| photos.group_with(WORKERS, workers_group()))
                .map_err(|error| NodeError::Role(format!("the queue: {error}")))?;
            Ok(queue)
        })
        .await?;
        let ledger = Arc::new(Ledger::open(&queue, dir, &secrets.token_key).await?);
        let server = Server::bind_with_secret(
            queue.clone(),
            SocketAddr::from(([127, 0, 0, 1], 0)),
            port_secret(&secrets.peer),
        )
        .await
        .map_err(|source| NodeError::Io {
            what: "listening for the queue's clients".to_owned(),
            source,
        })?;
        let Address::Tcp(addr) = *server.address() else {
            return Err(NodeError::Role("the queue has no TCP address".to_owned()));
        };
        Ok(Self {
            id: id.to_owned(),
            port: Port { addr },
            remembering: tokio::spawn(Arc::clone(&ledger).remember()),
            ledger,
            queue,
            _server: server,
        })
    }

    /// `/mq`, `/status` and `/revocations`, for peers.
    pub(crate) fn routes(self: &Arc<Self>, peer_secret: &str) -> Router {
        Router::new()
            .route(
                "/mq",
                get(|State(node): Node| async move { Json(node.port) }),
            )
            .route(
                "/status",
                get(|State(node): Node| async move { Json(node.status()) }),
            )
            .route("/revocations", get(ended_sessions))
            .route_layer(from_fn_with_state(Arc::from(peer_secret), peers_only))
            .with_state(Arc::clone(self))
    }

    pub(crate) fn status(&self) -> Value {
        let stats = self.queue.stats();
        let jobs = stats.group(PHOTOS, WORKERS).cloned().unwrap_or_default();
        let topic = |name: &str| stats.topics.iter().find(|topic| topic.name == name);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("stackbeam_mq_queue_depth", "topic" => PHOTOS)
            .set((jobs.ready + jobs.leased + jobs.delayed) as f64);
        metrics::gauge!("stackbeam_mq_oldest_message_age_seconds", "topic" => PHOTOS)
            .set(jobs.oldest_ready.as_secs_f64());
        let listeners = topic(REVOCATIONS).map_or(0, |topic| topic.groups.len());
        json!({
            "id": self.id,
            "role": "queue",
            "depth": jobs.ready + jobs.leased + jobs.delayed,
            "waiting": jobs.ready,
            "delayed": jobs.delayed,
            "in_flight": jobs.leased,
            "dead": jobs.dead,
            "oldest_ms": u64::try_from(jobs.oldest_ready.as_millis()).unwrap_or(u64::MAX),
            "published": jobs.published,
            "duplicates": topic(PHOTOS).map_or(0, |topic| topic.duplicates),
            "done": jobs.acked,
            "deliveries": jobs.delivered,
            "redelivered": jobs.redelivered,
            "expired": jobs.expired,
            "revocations": self.ledger.len(),
            "listeners": listeners,
            "disk_faults": stats.disk_faults,
        })
    }

    /// Waits until no job is in anybody's hands, but not for long.
    async fn settle(&self) {
        let idle = async {
            while (self.queue.stats().group(PHOTOS, WORKERS)).is_some_and(|jobs| jobs.leased > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _in_hand = tokio::time::timeout(SETTLE_MAX, idle).await;
    }
}

impl Drop for QueueNode {
    fn drop(&mut self) {
        self.remembering.abort();
        self.queue.close();
    }
}

type Node = State<Arc<QueueNode>>;

async fn ended_sessions(State(node): Node) -> Result<Vec<u8>, StatusCode> {
    node.ledger
        .snapshot()
        .await
        .ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| NodeError::Role(error.to_string()))?
}

/// Serves the queue until it is told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let config = &context.config;
    let node = Arc::new(QueueNode::open(&config.id, &config.dir, &config.secrets).await?);
    let waiting = node.status()["depth"].as_u64().unwrap_or(0);
    if waiting > 0 {
        context.event(format!("{waiting} jobs have outlived the restart"));
    }
    let router = node
        .routes(&config.secrets.peer)
        .merge(context.base_routes::<()>());
    let listener = context.listen().await?;
    let served = context.serve(listener, router).await;
    node.settle().await;
    served
}
