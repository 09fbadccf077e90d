//! Synthetic users: an open loop of journeys through the edge, judged, recorded and kept in a ledger.
//!
//! Latency counts from the moment at which a person meant to begin, so that a stall of the service
//! shows in full and not only in the one request that met it. Nothing is repeated here: repeating
//! reads is the edge's job, and a write without an answer is unknown, never acknowledged.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod generator;
pub(crate) mod ledger;
pub(crate) mod mix;
pub(crate) mod picture;
pub(crate) mod record;
mod schedule;
#[cfg(test)]
mod tests;
pub(crate) mod words;
pub(crate) mod world;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::config::{FromNode, Role, Topology};
use super::{NodeContext, NodeError};
use audit::Audit;
use client::Client;
use generator::Pace;
use ledger::Ledger;
use record::Recorder;
use world::World;

/// How often figures are reported.
const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Users at the start. Each costs a password hash.
const PEOPLE: usize = 24;

/// Where a load node keeps its ledger.
pub(crate) fn ledger_path(dir: &Path) -> PathBuf {
    dir.join("ledger.jsonl")
}

/// A tag for a new ledger, drawn from a seed: four letters and digits.
pub(crate) fn tag(seed: u64) -> String {
    const LETTERS: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
    let mut chance = fastrand::Rng::with_seed(seed);
    (0..4)
        .map(|_| char::from(*chance.choice(LETTERS).unwrap_or(&b'x')))
        .collect()
}

fn edge(topology: &Topology) -> Option<SocketAddr> {
    topology.of(Role::Edge).next().map(|node| node.addr)
}

/// Runs synthetic users until it is told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let failed =
        |error: &dyn std::fmt::Display| NodeError::Role(format!("synthetic users: {error}"));
    let config = Arc::clone(&context.config);
    std::fs::create_dir_all(&config.dir).map_err(|error| failed(&error))?;
    let mut topology = context.topology.clone();
    let (edge_addr, shards) = {
        let topology = topology
            .wait_for(|topology| edge(topology).is_some())
            .await
            .map_err(|error| failed(&error))?;
        let addr = edge(&topology).ok_or_else(|| failed(&"there is no edge"))?;
        (addr, topology.shard_count())
    };
    let (ledger, known) = Ledger::open(&ledger_path(&config.dir), &tag(config.seed))
        .map_err(|error| failed(&error))?;
    let client = Client::new(edge_addr);
    let recorder = Recorder::new(Instant::now(), false);
    let world = World::new(client.clone(), ledger, recorder, shards, config.seed);
    let world = Arc::new(world);
    tokio::spawn(async move {
        while topology.changed().await.is_ok() {
            if let Some(addr) = edge(&topology.borrow_and_update()) {
                client.follow(addr);
            }
        }
    });
    let audit = Arc::new(Audit::new(world.ledger.tag(), Arc::clone(&world.facts)));
    tokio::spawn({
        let (audit, client) = (Arc::clone(&audit), world.client.clone());
        let context = context.clone();
        async move {
            audit
                .keep_looking(&client, |text| context.event(text))
                .await;
        }
    });
    tokio::spawn(report({
        let (world, audit) = (Arc::clone(&world), Arc::clone(&audit));
        move || {
            let mut figures = world.recorder.report(Instant::now());
            figures["checked_total"] = audit.checked().into();
            figures["lost_total"] = audit.lost().into();
            figures
        }
    }));
    let listener = context.listen().await?;
    let served = context.serve(listener, context.base_routes::<()>());
    let pace = Pace {
        per_second: config.rps,
        pulse: None,
        // Another life of this node does not repeat what the life before did.
        seed: config.seed.wrapping_add(known.len() as u64),
    };
    let stopping = context.clone();
    let load = async {
        world
            .settle(&known, PEOPLE)
            .await
            .map_err(|error| failed(&error))?;
        context.event(format!("{PEOPLE} synthetic users have logged in"));
        let (_crowds, no_crowds) = mpsc::unbounded_channel();
        generator::drive(&world, &pace, no_crowds, stopping.stopping())
            .await
            .map_err(|error| failed(&error))
    };
    tokio::select! {
        ended = load => ended,
        ended = served => ended,
    }
}

async fn report(figures: impl Fn() -> serde_json::Value) {
    let mut tick = tokio::time::interval(REPORT_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        super::report(&FromNode::Load(figures()));
    }
}
