//! The edge: the one public address, in front of web servers that come, drain, die and return.
//!
//! A request goes to the cheaper of two servers by latency and load. A server that dies costs no
//! request: attempts that got no connection are repeated elsewhere, and so are attempts whose
//! connection broke before the answer was whole, as far as the retry budget goes. That is safe for
//! writes too, because the edge gives each request an id and the application carries out an id once.

mod answers;
mod headers;
mod proxy;
mod report;
#[cfg(test)]
mod tests;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use stackbeam_lb::probing::keep_probing;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{NodeContext, NodeError};
use proxy::Edge;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type OutBody = UnsyncBoxBody<Bytes, BoxError>;

/// Client connections held at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 4_096;

/// A client that takes longer for a request's head, or stays idle for longer, is let go.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// Header lines of one request; more are answered with 431.
const HEADERS_MAX: usize = 100;

/// Bytes of one request's head; more are answered with 431.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long requests under way may take to finish when the edge is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// A web server that does not answer its readiness check within this is not ready.
const CHECK_PATIENCE: Duration = Duration::from_millis(400);

/// Serves until it is told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let listener = context.listen().await?;
    let addr = listener.local_addr().map_err(|source| NodeError::Io {
        what: "reading the listening address".to_owned(),
        source,
    })?;
    let edge = Arc::new(Edge::new(
        !context.config.without.retries,
        context.config.seed,
    ));
    edge.follow(&context.topology.borrow());

    let following = Arc::clone(&edge);
    let mut topology = context.topology.clone();
    tokio::spawn(async move {
        while topology.changed().await.is_ok() {
            let now = Arc::clone(&topology.borrow_and_update());
            following.follow(&now);
        }
    });
    let peers = context.peers.clone();
    let check = move |addr: SocketAddr| {
        let peers = peers.clone();
        async move {
            peers
                .call(
                    http::Method::GET,
                    addr,
                    "/readyz",
                    Bytes::new(),
                    CHECK_PATIENCE,
                )
                .await
                .is_ok()
        }
    };
    tokio::spawn(keep_probing(edge.balancer().clone(), check, CHECK_PATIENCE));
    tokio::spawn(report::tell_changes(Arc::clone(&edge), context.clone()));

    let own = Router::new().nest(
        "/_edge",
        context
            .base_routes()
            .merge(report::routes(Arc::clone(&edge), context.config.id.clone())),
    );
    context.ready(addr);
    serve(edge, listener, own, context.stopping()).await;
    Ok(())
}

/// Accepts until `stop` resolves, then lets requests under way finish within the grace.
async fn serve(
    edge: Arc<Edge>,
    listener: TcpListener,
    own: Router,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a connection that was gone before it was ours.
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let _best_effort = stream.set_nodelay(true);
        let (edge, own) = (Arc::clone(&edge), own.clone());
        let service = hyper::service::service_fn(move |request| {
            let (edge, own) = (Arc::clone(&edge), own.clone());
            async move { Ok::<_, std::convert::Infallible>(edge.answer(request, client, own).await) }
        });
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection");
            }
            drop(place);
        });
    }
    drop(listener);
    let _unfinished = tokio::time::timeout(STOP_GRACE, graceful.shutdown()).await;
}

/// The pooled client towards the web servers.
fn client(
    repeat_stale: bool,
) -> hyper_util::client::legacy::Client<hyper_util::client::legacy::connect::HttpConnector, OutBody>
{
    let mut connector = hyper_util::client::legacy::connect::HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_millis(500)));
    hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(256)
        .retry_canceled_requests(repeat_stale)
        .build(connector)
}
