//! One request through the edge: admission, attempts, and the answer.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, Lease, Outcome, PeakEwma, ProbeConfig, RetryBudget,
    TwoChoices,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::answers::Refusal;
use super::headers::{REQUEST_ID, for_upstream, new_request_id, strip_hop_by_hop};
use super::upload::{BODY_BYTES_MAX, Upload, linger};
use super::{BoxError, OutBody, client};
use crate::node::config::{NodeState, Role, Topology};

type Strategy = TwoChoices<PeakEwma>;

/// Requests under way at once; further ones are answered with 503 at once.
const IN_FLIGHT_MAX: usize = 1_024;

/// Attempts for one request that reached a server. Those that got no connection are bounded by
/// [`WAIT_MAX`] alone.
const ATTEMPTS_MAX: usize = 6;

/// How long a request waits for a server when there is none, or all were tried, before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Time between looks for a server while a request waits.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// The time a web server has to begin its answer; uploads that stream have longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const STREAM_TIME_MAX: Duration = Duration::from_secs(60);

/// Answers up to this length are read whole before they are passed on, so that a server that dies in
/// the middle of one costs nothing.
const HOLD_BYTES_MAX: u64 = 256 << 10;

/// Time between two checks of a web server.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// What happened so far. `requests = answered + refused + under way + abandoned by the client`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) retries_denied: AtomicU64,
    pub(super) connect_failures: AtomicU64,
    pub(super) lost_connections: AtomicU64,
    pub(super) timeouts: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The edge's state, shared by all connections.
pub(super) struct Edge {
    balancer: Balancer<SocketAddr, Strategy>,
    client: Client<HttpConnector, OutBody>,
    budget: RetryBudget,
    retries: bool,
    places: Arc<Semaphore>,
    pub(super) counts: Counts,
}

/// Why an attempt brought no answer.
enum Failed {
    /// No connection: nothing was sent.
    Connect,
    /// The connection broke before the answer was whole: it may have been carried out.
    Lost,
    /// No answer in time.
    Slow,
}

#[expect(clippy::disallowed_methods, reason = "the edge is a shell")]
fn now() -> Instant {
    Instant::now()
}

impl Edge {
    pub(super) fn new(retries: bool, seed: u64) -> Self {
        let config = Config::default()
            .with_failure_penalty(Duration::from_secs(1))
            .with_ejection(
                EjectionConfig::default()
                    .with_failures(2)
                    .with_rest(Duration::from_secs(5), Duration::from_secs(60)),
            )
            .with_probes(
                ProbeConfig::default()
                    .with_every(CHECK_EVERY)
                    .with_thresholds(1, 2),
            )
            .with_panic(true);
        Self {
            balancer: Balancer::new(TwoChoices::new(PeakEwma, seed), config),
            client: client(retries),
            budget: RetryBudget::default(),
            retries,
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            counts: Counts::default(),
        }
    }

    pub(super) fn balancer(&self) -> &Balancer<SocketAddr, Strategy> {
        &self.balancer
    }

    pub(super) fn in_flight(&self) -> usize {
        IN_FLIGHT_MAX - self.places.available_permits()
    }

    /// Takes the web servers of the topology. A server that came back at another address starts anew.
    pub(super) fn follow(&self, topology: &Topology) {
        let servers = topology.of(Role::Web).map(|node| {
            Endpoint::new(format!("{}@{}", node.id, node.addr), node.addr)
                .with_draining(node.state == NodeState::Draining)
        });
        self.balancer.set_endpoints(servers, now());
    }

    /// Answers one request, whatever happens.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        own: Router,
    ) -> Response<OutBody> {
        if request.uri().path().starts_with("/_edge/") {
            let request = request.map(axum::body::Body::new);
            let Ok(response) = own.oneshot(request).await;
            return response.map(|body| body.map_err(Into::into).boxed_unsync());
        }
        let began = now();
        add(&self.counts.requests);
        let id = new_request_id();
        let mut response = match self.admit(request, client, &id).await {
            Ok(response) => {
                add(&self.counts.answered);
                response
            }
            Err(refusal) => {
                add(&self.counts.refused);
                refusal.answer()
            }
        };
        response.headers_mut().insert(REQUEST_ID, id);
        let class = match response.status().as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        metrics::counter!("stackbeam_edge_requests_total", "class" => class).increment(1);
        metrics::histogram!("stackbeam_edge_request_duration_seconds")
            .record(now().saturating_duration_since(began).as_secs_f64());
        response
    }

    async fn admit(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Result<Response<OutBody>, Refusal> {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err(Refusal::Method);
        }
        if body.size_hint().lower() > BODY_BYTES_MAX {
            // A client that waits for our word before it sends has nothing on its way.
            if !head.headers.contains_key(header::EXPECT) {
                linger(body);
            }
            return Err(Refusal::TooLarge);
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Refusal::TooBusy);
        };
        for_upstream(&mut head.headers, client.ip(), id);
        head.version = Version::HTTP_11;
        let upload = Upload::read(body).await?;
        self.forward(&head, &upload, place).await
    }

    /// Tries servers until one answers or there is no point in going on.
    async fn forward(
        &self,
        head: &http::request::Parts,
        upload: &Upload,
        place: OwnedSemaphorePermit,
    ) -> Result<Response<OutBody>, Refusal> {
        self.budget.deposit(now());
        let give_up = now() + WAIT_MAX;
        let mut tried: Vec<String> = Vec::new();
        let mut sent = 0;
        loop {
            let lease = self.pick(&mut tried, give_up).await?;
            let failed = match self.attempt(*lease.target(), head, upload).await {
                Ok(response) => {
                    return Ok(finish(lease, response, place));
                }
                Err(failed) => failed,
            };
            if let Some(refusal) = upload.fault() {
                // The client's doing: the server is not to blame, and the lease says nothing.
                return Err(refusal);
            }
            tried.push(lease.id().to_owned());
            lease.report(Outcome::Failure, now());
            let connected = !matches!(failed, Failed::Connect);
            sent += usize::from(connected);
            let (counter, reason, refusal) = match failed {
                Failed::Connect if sent == 0 => {
                    (&self.counts.connect_failures, "connect", Refusal::NoServer)
                }
                Failed::Connect => (&self.counts.connect_failures, "connect", Refusal::Lost),
                Failed::Lost => (&self.counts.lost_connections, "lost", Refusal::Lost),
                Failed::Slow => (&self.counts.timeouts, "timeout", Refusal::Slow),
            };
            add(counter);
            metrics::counter!("stackbeam_edge_attempt_failures_total", "reason" => reason)
                .increment(1);
            let may_repeat = self.retries
                && if connected {
                    sent < ATTEMPTS_MAX
                } else {
                    now() < give_up
                }
                && upload.can_repeat()
                && !matches!(failed, Failed::Slow);
            if !may_repeat {
                return Err(refusal);
            }
            // An attempt without a connection has put no load on anybody, so it costs no budget.
            if connected && !self.budget.withdraw(now()) {
                add(&self.counts.retries_denied);
                return Err(refusal);
            }
            add(&self.counts.retries);
            metrics::counter!("stackbeam_edge_retries_total", "reason" => reason).increment(1);
        }
    }

    /// Picks a server that was not tried; when all were, or there is none, waits a little.
    async fn pick(
        &self,
        tried: &mut Vec<String>,
        give_up: Instant,
    ) -> Result<Lease<SocketAddr, Strategy>, Refusal> {
        loop {
            let names: Vec<&str> = tried.iter().map(String::as_str).collect();
            match self.balancer.pick_except(&names, now()) {
                Ok(lease) => return Ok(lease),
                Err(_) if !self.retries || now() >= give_up => return Err(Refusal::NoServer),
                Err(_) => {
                    tried.clear();
                    tokio::time::sleep(WAIT_STEP).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        server: SocketAddr,
        head: &http::request::Parts,
        upload: &Upload,
    ) -> Result<Response<OutBody>, Failed> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme("http")
            .authority(server.to_string())
            .path_and_query(path)
            .build()
            .map_err(|_| Failed::Lost)?;
        let mut request = Request::new(upload.for_attempt());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = head.headers.clone();
        let patience = if upload.is_stream() {
            STREAM_TIME_MAX
        } else {
            ANSWER_TIME_MAX
        };
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| {
                tracing::debug!(%server, ?error, "an attempt failed");
                if error.is_connect() {
                    Failed::Connect
                } else {
                    Failed::Lost
                }
            })?;
            let (mut head, body) = response.into_parts();
            strip_hop_by_hop(&mut head.headers);
            let short = body
                .size_hint()
                .exact()
                .is_some_and(|length| length <= HOLD_BYTES_MAX);
            let body = if short {
                let whole = body.collect().await.map_err(|_| Failed::Lost)?.to_bytes();
                full(whole)
            } else {
                body.map_err(Into::into).boxed_unsync()
            };
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or(Err(Failed::Slow))
    }
}

fn full(bytes: Bytes) -> OutBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Reports the answer and keeps the request's place until its body has gone out.
fn finish(
    lease: Lease<SocketAddr, Strategy>,
    response: Response<OutBody>,
    place: OwnedSemaphorePermit,
) -> Response<OutBody> {
    // A server error may be the request's fault or the database's: it makes the server look slow, but
    // must not take one web server after the other out.
    let outcome = match response.status() {
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => {
            Outcome::Busy
        }
        _ => Outcome::Success,
    };
    lease.report(outcome, now());
    response.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Held {
            body,
            _place: place,
        }
        .boxed_unsync()
    })
}

/// A body that keeps the request's place.
struct Held {
    body: OutBody,
    _place: OwnedSemaphorePermit,
}

impl Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
