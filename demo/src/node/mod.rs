//! The shell that every child process runs in: orders and life from stdin, reports to stdout.
//!
//! The first line on stdin is the [`NodeConfig`]; later lines are [`ToNode`] orders. The end of stdin
//! means that the supervisor is gone, however it went, and the process exits at once: nobody is
//! orphaned. Reports go to stdout as [`FromNode`] lines, logs to stderr.

pub(crate) mod config;
mod coord;
mod edge;
pub(crate) mod load;
mod objects;
pub(crate) mod peer;
pub(crate) mod queue;
mod shards;
#[cfg(test)]
mod stage;
mod store;
mod web;
mod worker;

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::watch;

use config::{FromNode, NodeConfig, Role, ToNode, Topology};
use peer::PeerClient;

/// Why a node ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The first line on stdin was no configuration.
    #[error("no configuration on stdin ({0}); `stackbeam node` is started by `stackbeam up`")]
    Config(String),
    /// No port could be had.
    #[error("{id} cannot listen on {listen} or the {PORTS_TRIED} ports after it: {source}")]
    Listen {
        id: String,
        listen: SocketAddr,
        source: io::Error,
    },
    /// A file or socket failed.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// Anything else that the role cannot go on after.
    #[error("{0}")]
    Role(String),
}

/// How far a node looks for a free port beyond the one it was given.
const PORTS_TRIED: u16 = 50;

/// How long a node that was told to stop may take to finish what it has.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Where a node is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Takes work.
    Serving,
    /// Not ready for new work; finishes what it has.
    Draining,
    /// Ends as soon as the work in hand is done.
    Stopping,
}

/// What a role gets to work with. Clones share everything.
#[derive(Clone)]
pub(crate) struct NodeContext {
    pub(crate) config: Arc<NodeConfig>,
    /// The newest topology; changes arrive while the node runs.
    pub(crate) topology: watch::Receiver<Arc<Topology>>,
    /// Serving, draining, stopping.
    pub(crate) phase: watch::Receiver<Phase>,
    /// Calls other nodes, showing this run's peer secret.
    pub(crate) peers: PeerClient,
    metrics: PrometheusHandle,
}

impl std::fmt::Debug for NodeContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeContext")
            .field("id", &self.config.id)
            .finish_non_exhaustive()
    }
}

impl NodeContext {
    /// Binds the node's address, or the next free port after it.
    pub(crate) async fn listen(&self) -> Result<TcpListener, NodeError> {
        let wanted = self.config.listen;
        let mut last = None;
        for step in 0..=PORTS_TRIED {
            let Some(port) = wanted.port().checked_add(step) else {
                break;
            };
            match TcpListener::bind(SocketAddr::new(wanted.ip(), port)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(NodeError::Listen {
            id: self.config.id.clone(),
            listen: wanted,
            source: last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()),
        })
    }

    /// Tells the supervisor that this node listens at `addr` and can serve.
    pub(crate) fn ready(&self, addr: SocketAddr) {
        report(&FromNode::Ready { addr });
    }

    /// Puts a line into the event log that the person watches: what happened, and why.
    pub(crate) fn event(&self, text: impl Into<String>) {
        report(&FromNode::Event { text: text.into() });
    }

    /// Resolves when the node is told to stop.
    pub(crate) async fn stopping(&self) {
        let mut phase = self.phase.clone();
        // A closed channel means that the stdin thread is gone; the process is about to exit.
        let _ended = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    }

    /// `/healthz`, `/readyz` and `/metrics`, which every node answers.
    pub(crate) fn base_routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let metrics = self.metrics.clone();
        let phase = self.phase.clone();
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move || {
                    let serving = *phase.borrow() == Phase::Serving;
                    async move {
                        if serving {
                            (http::StatusCode::OK, "ready\n")
                        } else {
                            (http::StatusCode::SERVICE_UNAVAILABLE, "draining\n")
                        }
                    }
                }),
            )
            .route(
                "/metrics",
                get(move || async move {
                    metrics.run_upkeep();
                    (
                        [(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")],
                        metrics.render(),
                    )
                }),
            )
    }

    /// Serves `router` until the node is told to stop, then lets requests in hand finish, but no
    /// longer than three seconds.
    pub(crate) async fn serve(
        &self,
        listener: TcpListener,
        router: Router,
    ) -> Result<(), NodeError> {
        let addr = listener.local_addr().map_err(|source| NodeError::Io {
            what: "reading the listening address".to_owned(),
            source,
        })?;
        let context = self.clone();
        let server = axum::serve(
            listener,
            router.into_make_service_with_connect_info::<SocketAddr>(),
        )
        .with_graceful_shutdown(async move { context.stopping().await });
        self.ready(addr);
        let grace = async {
            self.stopping().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            ended = server => ended.map_err(|source| NodeError::Io {
                what: format!("serving on {addr}"),
                source,
            }),
            () = grace => Ok(()),
        }
    }
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a node is a shell; what it stores and shows has wall time"
)]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Writes one report. A supervisor that no longer reads is about to close stdin, which ends us.
pub(crate) fn report(line: &FromNode) {
    if let Ok(mut text) = serde_json::to_string(line) {
        text.push('\n');
        let mut out = io::stdout().lock();
        let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// Runs the role that stdin asks for, until it is told to stop or the supervisor goes away.
pub(crate) fn main() -> Result<(), NodeError> {
    let mut first = String::new();
    io::stdin()
        .lock()
        .read_line(&mut first)
        .map_err(|error| NodeError::Config(error.to_string()))?;
    let config: NodeConfig =
        serde_json::from_str(&first).map_err(|error| NodeError::Config(error.to_string()))?;
    std::fs::create_dir_all(&config.dir).map_err(|source| NodeError::Io {
        what: format!("creating {}", config.dir.display()),
        source,
    })?;
    let metrics = install_metrics()?;
    let (topology_in, topology) = watch::channel(Arc::new(config.topology.clone()));
    let (phase_in, phase) = watch::channel(Phase::Serving);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || obey(&topology_in, &phase_in))
        .map_err(|source| NodeError::Io {
            what: "starting the stdin thread".to_owned(),
            source,
        })?;
    let context = NodeContext {
        peers: PeerClient::new(&config.secrets.peer),
        config: Arc::new(config),
        topology,
        phase,
        metrics,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| NodeError::Io {
            what: "starting the runtime".to_owned(),
            source,
        })?;
    let ended = runtime.block_on(run(context));
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

async fn run(context: NodeContext) -> Result<(), NodeError> {
    match context.config.role {
        Role::Edge => edge::run(context).await,
        Role::Web => web::run(context).await,
        Role::Store => store::run(context).await,
        Role::Coord => coord::run(context).await,
        Role::Queue => queue::run(context).await,
        Role::Worker => worker::run(context).await,
        Role::Load => load::run(context).await,
    }
}

/// Follows the orders on stdin; its end is the end of this process.
fn obey(topology: &watch::Sender<Arc<Topology>>, phase: &watch::Sender<Phase>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(ToNode::Topology(new)) => {
                topology.send_replace(Arc::new(new));
            }
            Ok(ToNode::Drain) => {
                phase.send_if_modified(|phase| {
                    let later = (*phase).max(Phase::Draining);
                    std::mem::replace(phase, later) != later
                });
            }
            Ok(ToNode::Stop) => {
                phase.send_replace(Phase::Stopping);
            }
            Err(error) => tracing::warn!(%error, "an order that this version does not know"),
        }
    }
    std::process::exit(0);
}

/// The recorder behind `/metrics`. Buckets are set so that histograms can be added up over processes.
fn install_metrics() -> Result<PrometheusHandle, NodeError> {
    const SECONDS: [f64; 16] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5,
        5.0, 10.0,
    ];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| NodeError::Role(format!("installing the metrics recorder: {error}")))
}
