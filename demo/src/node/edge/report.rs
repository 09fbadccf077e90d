//! What the edge tells: its status for the page, and changes of its servers for the event log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use stackbeam_lb::EndpointStats;

use super::proxy::Edge;
use crate::node::NodeContext;

/// Time between looks at the servers' states.
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn state(server: &EndpointStats) -> &'static str {
    if server.draining {
        "draining"
    } else if server.ejected {
        "ejected"
    } else if server.up {
        "ready"
    } else {
        "down"
    }
}

/// `web-1@127.0.0.1:4000` is shown as `web-1`.
fn node(id: &str) -> &str {
    id.split_once('@').map_or(id, |(node, _)| node)
}

fn status(edge: &Edge, id: &str) -> Value {
    let stats = edge
        .balancer()
        .stats(tokio::time::Instant::now().into_std());
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let upstreams: Vec<Value> = stats
        .endpoints
        .iter()
        .map(|server| {
            json!({
                "id": node(&server.id),
                "addr": server.id.split_once('@').map_or("", |(_, addr)| addr),
                "state": state(server),
                "in_flight": server.in_flight,
                "latency_ms": server.latency.as_secs_f64() * 1_000.0,
                "requests": server.picked,
                "failures": server.failed,
                "ejections": server.ejections,
            })
        })
        .collect();
    let counts = &edge.counts;
    json!({
        "id": id,
        "role": "edge",
        "in_flight": edge.in_flight(),
        "requests": count(&counts.requests),
        "answered": count(&counts.answered),
        "refused": count(&counts.refused),
        "retries": count(&counts.retries),
        "retries_denied": count(&counts.retries_denied),
        "connect_failures": count(&counts.connect_failures),
        "lost_connections": count(&counts.lost_connections),
        "timeouts": count(&counts.timeouts),
        "ejections": stats.ejections,
        "upstreams": upstreams,
    })
}

/// `/status`.
pub(super) fn routes(edge: Arc<Edge>, id: String) -> Router {
    Router::new().route(
        "/status",
        get(move || {
            let answer = Json(status(&edge, &id));
            async move { answer }
        }),
    )
}

/// Writes an event whenever a server is taken out or comes back, for as long as it is polled.
pub(super) async fn tell_changes(edge: Arc<Edge>, context: NodeContext) {
    let mut known: BTreeMap<String, &'static str> = BTreeMap::new();
    loop {
        let stats = edge
            .balancer()
            .stats(tokio::time::Instant::now().into_std());
        let current: BTreeMap<String, &'static str> = stats
            .endpoints
            .iter()
            .map(|server| (server.id.clone(), state(server)))
            .collect();
        for (id, state) in &current {
            let name = node(id);
            match (known.get(id), *state) {
                (Some(before), now) if *before == now => {}
                (None, "ready") => context.event(format!("{name} joined the balancer")),
                (_, "ready") => context.event(format!("{name} gets requests again")),
                (_, "ejected") => context.event(format!(
                    "{name} gets no requests: its connections fail one after the other"
                )),
                (_, "down") => context.event(format!(
                    "{name} gets no requests: it fails its readiness checks"
                )),
                (_, other) => context.event(format!("{name} is {other}: no new requests")),
            }
        }
        for id in known.keys().filter(|id| !current.contains_key(*id)) {
            context.event(format!("{} left the balancer", node(id)));
        }
        known = current;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
