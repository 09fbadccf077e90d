//! How one node calls another: JSON over HTTP/1.1 on loopback, with a deadline and a shared secret.
//!
//! The secret travels in a header of its own, so that a web page which the person has open can
//! neither read nor forge a call: a browser asks first before it sends such a header elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;

/// Carries the peer secret.
pub(crate) const PEER_HEADER: HeaderName = HeaderName::from_static("x-stackbeam-peer");

/// The largest answer that a peer may send. Snapshots travel in pieces below this.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Idle connections that are kept to one peer.
const IDLE_MAX: usize = 64;

/// Why a call to a peer gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// No connection: the call was certainly not carried out.
    #[error("{addr} cannot be reached: {reason}")]
    Connect { addr: SocketAddr, reason: String },
    /// The connection broke or the deadline passed: the call may have been carried out.
    #[error("{addr} did not answer: {reason}")]
    Lost { addr: SocketAddr, reason: String },
    /// It answered, but not with success.
    #[error("{addr} answered {status}: {}", String::from_utf8_lossy(body))]
    Status {
        addr: SocketAddr,
        status: StatusCode,
        body: Bytes,
    },
    /// It answered with something else than expected.
    #[error("{addr} answered what this version does not understand: {reason}")]
    Decode { addr: SocketAddr, reason: String },
}

/// A pooled HTTP client for peers. Clones share the pool.
#[derive(Clone)]
pub(crate) struct PeerClient {
    client: Client<HttpConnector, Full<Bytes>>,
    secret: HeaderValue,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerClient(..)")
    }
}

impl PeerClient {
    /// A client that shows `secret`.
    pub(crate) fn new(secret: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_millis(500)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        let mut secret =
            HeaderValue::from_str(secret).unwrap_or_else(|_| HeaderValue::from_static(""));
        secret.set_sensitive(true);
        Self { client, secret }
    }

    /// Asks with GET and decodes the JSON answer. Dropping the future gives the call up.
    pub(crate) async fn get<R: DeserializeOwned>(
        &self,
        addr: SocketAddr,
        path: &str,
        deadline: Duration,
    ) -> Result<R, PeerError> {
        let body = self
            .call(Method::GET, addr, path, Bytes::new(), deadline)
            .await?;
        decode(addr, &body)
    }

    /// Sends `question` as JSON with POST and decodes the JSON answer. Dropping the future gives the
    /// call up; the peer may have carried it out.
    pub(crate) async fn post<Q: Serialize + Sync, R: DeserializeOwned>(
        &self,
        addr: SocketAddr,
        path: &str,
        question: &Q,
        deadline: Duration,
    ) -> Result<R, PeerError> {
        let question = serde_json::to_vec(question).map_err(|error| PeerError::Decode {
            addr,
            reason: error.to_string(),
        })?;
        let body = self
            .call(Method::POST, addr, path, question.into(), deadline)
            .await?;
        decode(addr, &body)
    }

    /// One call with raw bytes both ways.
    pub(crate) async fn call(
        &self,
        method: Method,
        addr: SocketAddr,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{addr}{path}"))
            .header(PEER_HEADER, self.secret.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| PeerError::Decode {
                addr,
                reason: error.to_string(),
            })?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| {
                let reason = format!("{error:?}");
                if error.is_connect() {
                    PeerError::Connect { addr, reason }
                } else {
                    PeerError::Lost { addr, reason }
                }
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| PeerError::Lost {
                    addr,
                    reason: error.to_string(),
                })?
                .to_bytes();
            if status.is_success() {
                Ok(body)
            } else {
                Err(PeerError::Status { addr, status, body })
            }
        };
        tokio::time::timeout(deadline, answer)
            .await
            .map_err(|_| PeerError::Lost {
                addr,
                reason: format!("no answer within {deadline:?}"),
            })?
    }
}

fn decode<R: DeserializeOwned>(addr: SocketAddr, body: &[u8]) -> Result<R, PeerError> {
    serde_json::from_slice(body).map_err(|error| PeerError::Decode {
        addr,
        reason: error.to_string(),
    })
}

/// Middleware for the routes that only peers may call: `route_layer(from_fn_with_state(secret, peers_only))`.
pub(crate) async fn peers_only(
    axum::extract::State(secret): axum::extract::State<Arc<str>>,
    request: Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(PEER_HEADER);
    if shown.is_some_and(|shown| same(shown.as_bytes(), secret.as_bytes())) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "peers of this run only\n").into_response()
    }
}

/// Equality in a time that depends on the lengths alone.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}
