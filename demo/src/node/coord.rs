//! The failover coordinator: watches every shard's copies and promotes when a primary is gone.
//!
//! It keeps nothing on disk. Killed and started again it asks the copies, and what they promised.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::json;
use stackbeam_replica_pool::{
    Action, Coordinator, CoordinatorOptions, Engine, Evidence, FailoverConfig, Failure, MemberId,
    Notice,
};
use tokio::sync::watch;

use super::config::Topology;
use super::peer::{PeerClient, PeerError};
use super::store::wire::{addr_of, member_of, node_of};
use super::{NodeContext, NodeError};

/// What a copy may take to answer. A stopped process accepts connections and says nothing.
const ORDER_PATIENCE: Duration = Duration::from_millis(300);
/// A promise or promotion waits for a disk.
const DISK_PATIENCE: Duration = Duration::from_millis(900);

/// The copies of one shard, over HTTP.
#[derive(Debug)]
struct Stores {
    peers: PeerClient,
    topology: watch::Receiver<Arc<Topology>>,
    shard: u16,
}

impl Engine for Stores {
    /// Orders need no connection of their own: the client of the process pools them.
    type Connection = ();
    type Error = Infallible;

    async fn connect(&self, _: MemberId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn perform(&self, action: &Action) -> Result<Evidence, Failure> {
        let addr = addr_of(&self.topology.borrow(), self.shard, action.member())
            .ok_or(Failure::Refused)?;
        let patience = match action {
            Action::Probe { .. } => ORDER_PATIENCE,
            _ => DISK_PATIENCE,
        };
        self.peers
            .post(addr, "/order", action, patience)
            .await
            .map_err(|error| match error {
                PeerError::Connect { .. } => Failure::Refused,
                _ => Failure::Lost,
            })
    }
}

/// What the status page shows of a shard.
type Shown = Arc<Mutex<BTreeMap<u16, (Option<String>, u64)>>>;

/// Coordinates until told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let listener = context.listen().await?;
    let shown = Shown::default();
    let shards = context.topology.borrow().shard_count();
    for shard in 0..shards {
        tokio::spawn(coordinate(context.clone(), shard, Arc::clone(&shown)));
    }
    let router = Router::new()
        .route("/status", get(status))
        .with_state(shown)
        .merge(context.base_routes());
    context.serve(listener, router).await
}

async fn status(State(shown): State<Shown>) -> Json<serde_json::Value> {
    let shards: Vec<_> = shown
        .lock()
        .iter()
        .map(|(shard, (primary, epoch))| {
            json!({ "shard": shard, "primary": primary, "epoch": epoch })
        })
        .collect();
    Json(json!({ "shards": shards }))
}

async fn coordinate(context: NodeContext, shard: u16, shown: Shown) {
    let members: Vec<MemberId> = context
        .topology
        .borrow()
        .copies(shard)
        .filter_map(|node| member_of(&node.id))
        .collect();
    let engine = Arc::new(Stores {
        peers: context.peers.clone(),
        topology: context.topology.clone(),
        shard,
    });
    let options = CoordinatorOptions {
        failover: FailoverConfig {
            fencing: !context.config.without.fencing,
            ..FailoverConfig::default()
        },
        probe_wait_max: ORDER_PATIENCE,
        order_wait_max: DISK_PATIENCE,
        ..CoordinatorOptions::default()
    };
    let topology = context.topology.clone();
    let name = move |member: MemberId| {
        node_of(&topology.borrow(), shard, member)
            .map_or_else(|| format!("copy {member}"), |node| node.id.clone())
    };
    let name_of = name.clone();
    let coordinator = Coordinator::start(engine, members, options, move |notice| {
        context.event(tell(shard, notice, &name_of));
    });
    let mut watch = coordinator.watch();
    loop {
        let situation = watch.now();
        shown
            .lock()
            .insert(shard, (situation.primary.map(&name), situation.epoch));
        if watch.changed().await.is_err() {
            return;
        }
    }
}

fn tell(shard: u16, notice: &Notice, name: impl Fn(MemberId) -> String) -> String {
    match notice {
        Notice::Fencing {
            lost: Some(lost),
            epoch,
        } => format!(
            "shard {shard}: {} does not answer as its primary; asking the copies to promise epoch {epoch}",
            name(*lost)
        ),
        Notice::Fencing { lost: None, epoch } => {
            format!("shard {shard}: no primary; asking the copies to promise epoch {epoch}")
        }
        Notice::Promoting {
            member,
            epoch,
            received,
        } => format!(
            "shard {shard}: a majority promised epoch {epoch}; {} has the most ({received}) and is promoted",
            name(*member)
        ),
        Notice::Reigns { member, epoch } => {
            format!(
                "shard {shard}: {} is the primary in epoch {epoch}",
                name(*member)
            )
        }
        other => format!("shard {shard}: {other:?}"),
    }
}
