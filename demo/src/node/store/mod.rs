//! One copy of one shard's database: `stackbeam_replica_pool::sqlite` behind HTTP.

pub(crate) mod state;
pub(crate) mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::json;
use stackbeam_replica_pool::sqlite::{
    Copy, CopyOptions, Peers, Piece, Pull, ReadError, Server, ServerOptions, Shipment, SnapshotId,
    WriteError,
};
use stackbeam_replica_pool::{Action, MemberId, Role};

use super::config::Topology;
use super::peer::{PeerClient, peers_only};
use super::{NodeContext, NodeError};
use crate::app::store;
use state::State;
use wire::{Lag, ReadAnswer, ReadQuestion, Refused, WriteAnswer, member_of};

/// What a replica waits for its primary, beyond the time that the primary may take for an answer.
const PULL_PATIENCE: Duration = Duration::from_secs(1);
/// What it waits for a piece of a snapshot; the first comes when all of it is written.
const PIECE_PATIENCE: Duration = Duration::from_secs(10);
/// The longest that a reader waits for a position.
const READ_WAIT_MAX: Duration = Duration::from_secs(2);
/// A replica that has heard nothing for so long says that it lags, even if it knows of no record.
const SILENCE: Duration = Duration::from_millis(600);
/// The largest body that a peer sends: a command with an article in it.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Store {
    server: Server<State>,
    id: Arc<str>,
}

/// The other copies of the shard, over HTTP.
struct Others {
    peers: PeerClient,
    topology: tokio::sync::watch::Receiver<Arc<Topology>>,
    shard: u16,
}

impl Others {
    async fn ask<Q: serde::Serialize, R: serde::de::DeserializeOwned>(
        &self,
        member: MemberId,
        path: &str,
        question: &Q,
        deadline: Duration,
    ) -> Option<R> {
        let addr = wire::addr_of(&self.topology.borrow(), self.shard, member)?;
        let question = postcard::to_stdvec(question).ok()?;
        let answer = self
            .peers
            .call(http::Method::POST, addr, path, question.into(), deadline)
            .await
            .ok()?;
        postcard::from_bytes(&answer).ok()
    }
}

impl Peers for Others {
    async fn pull(&self, member: MemberId, pull: Pull) -> Option<Shipment> {
        self.ask(member, "/pull", &pull, PULL_PATIENCE).await
    }

    async fn piece(&self, member: MemberId, id: Option<SnapshotId>, offset: u64) -> Option<Piece> {
        let question = (id, offset);
        let piece: Option<Piece> = self
            .ask(member, "/piece", &question, PIECE_PATIENCE)
            .await?;
        piece
    }
}

/// Serves the copy until the node is told to stop or the copy fails.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let config = &context.config;
    let shard = config
        .shard
        .ok_or_else(|| NodeError::Role("a store without a shard".to_owned()))?;
    let me = member_of(&config.id)
        .ok_or_else(|| NodeError::Role(format!("{} does not name a copy", config.id)))?;
    let options = CopyOptions {
        fencing: !config.without.fencing,
        majority: !config.without.semi_sync,
        ..CopyOptions::new(me, context.topology.borrow().copies(shard).count().max(1))
    };
    let dir = config.dir.join("copy");
    let copy = tokio::task::spawn_blocking(move || Copy::open(&dir, options, State))
        .await
        .map_err(|error| NodeError::Role(error.to_string()))?
        .map_err(|error| NodeError::Role(format!("the database: {error}")))?;
    let others = Others {
        peers: context.peers.clone(),
        topology: context.topology.clone(),
        shard,
    };
    let server =
        Server::start(copy, others, ServerOptions::default()).map_err(|source| NodeError::Io {
            what: "starting the writer".to_owned(),
            source,
        })?;
    server.set_lag(Duration::from_millis(config.lag_ms));
    let failed = server.clone();
    let router = routes(
        Store {
            server,
            id: config.id.as_str().into(),
        },
        &config.secrets.peer,
    )
    .merge(context.base_routes());
    let listener = context.listen().await?;
    tokio::select! {
        ended = context.serve(listener, router) => ended,
        () = failed.failed() => Err(NodeError::Role(
            "the database failed; it is opened again at the next start".to_owned(),
        )),
    }
}

fn routes(store: Store, secret: &str) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/evidence", get(evidence))
        .route("/order", post(order))
        .route("/write", post(write))
        .route("/read", post(read))
        .route("/pull", post(pull))
        .route("/piece", post(piece))
        .route("/lag", post(lag))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route_layer(from_fn_with_state(Arc::<str>::from(secret), peers_only))
        .with_state(store)
}

async fn status(Shared(store): Shared<Store>) -> Json<serde_json::Value> {
    let evidence = store.server.evidence();
    let role = match evidence.role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    };
    let delay = store.server.delay();
    let lag = match evidence.role {
        Role::Primary => Duration::ZERO,
        Role::Replica if evidence.age > SILENCE => evidence.age,
        Role::Replica => delay,
    };
    Json(json!({
        "id": &*store.id, "role": role, "epoch": evidence.epoch,
        "received": evidence.received, "applied": evidence.applied,
        "committed": evidence.committed, "voter": evidence.voter,
        "following": evidence.following,
        "lag_ms": u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
    }))
}

async fn evidence(Shared(store): Shared<Store>) -> Response {
    Json(store.server.evidence()).into_response()
}

async fn order(Shared(store): Shared<Store>, Json(action): Json<Action>) -> Response {
    match store.server.perform(action).await {
        Some(evidence) => Json(evidence).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn write(Shared(store): Shared<Store>, command: Bytes) -> Response {
    match store.server.write(command.into()).await {
        Ok((lsn, reply)) => Json(WriteAnswer { lsn, reply }).into_response(),
        Err(error) => {
            let status = match error {
                WriteError::NotPrimary { .. } => StatusCode::MISDIRECTED_REQUEST,
                WriteError::Full => StatusCode::INSUFFICIENT_STORAGE,
                WriteError::Unknown => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refuse(status, &error, 0)
        }
    }
}

async fn read(Shared(store): Shared<Store>, Json(question): Json<ReadQuestion>) -> Response {
    let wait = Duration::from_millis(question.wait_ms).min(READ_WAIT_MAX);
    let query = question.query;
    let answered = store
        .server
        .read(question.min_lsn, wait, move |db| store::read(db, &query))
        .await;
    match answered {
        Ok((lsn, reply)) => Json(ReadAnswer { lsn, reply }).into_response(),
        Err(ReadError::Behind { applied }) => refuse(
            StatusCode::TOO_EARLY,
            &ReadError::Behind { applied },
            applied,
        ),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error, 0),
    }
}

fn refuse(status: StatusCode, why: &dyn std::fmt::Display, applied: u64) -> Response {
    let refused = Refused {
        why: why.to_string(),
        applied,
    };
    (status, Json(refused)).into_response()
}

/// Answers what another copy sent as bytes.
fn bytes<T: serde::Serialize>(answer: &T) -> Response {
    postcard::to_stdvec(answer).map_or_else(
        |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        IntoResponse::into_response,
    )
}

async fn pull(Shared(store): Shared<Store>, question: Bytes) -> Response {
    match postcard::from_bytes(&question) {
        Ok(question) => bytes(&store.server.pull(question).await),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn piece(Shared(store): Shared<Store>, question: Bytes) -> Response {
    match postcard::from_bytes(&question) {
        Ok((id, offset)) => bytes(&store.server.piece(id, offset).await),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn lag(Shared(store): Shared<Store>, Json(lag): Json<Lag>) -> Json<()> {
    store.server.set_lag(Duration::from_millis(lag.ms));
    Json(())
}
