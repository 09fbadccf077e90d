//! The edge in front of real processes that are really killed.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stackbeam_lb::probing::keep_probing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::proxy::Edge;
use super::serve;
use crate::node::config::{NodeInfo, NodeState, Role, Topology};

const BACKEND: &str = "STACKBEAM_EDGE_TEST_BACKEND";

/// Not a test of its own: the process that the others start and kill. Run as a test it does nothing.
#[test]
fn the_backend_process() {
    if std::env::var_os(BACKEND).is_none() {
        return;
    }
    // The end of stdin is the end of the test that started us.
    std::thread::spawn(|| {
        let _end = std::io::stdin().lock().lines().last();
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("\nlistening {}", listener.local_addr().expect("bound"));
        let router = Router::new()
            .route(
                "/",
                get(|| async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    "hello"
                }),
            )
            .route(
                "/length",
                post(|body: Bytes| async move {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    body.len().to_string()
                })
                .layer(axum::extract::DefaultBodyLimit::disable()),
            )
            .route(
                "/headers",
                get(|headers: http::HeaderMap| async move { format!("{headers:?}") }),
            );
        axum::serve(listener, router).await.expect("serving");
    });
}

struct Backend {
    process: Child,
    addr: SocketAddr,
}

impl Backend {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("our own path"))
            .args([
                "--exact",
                "node::edge::tests::the_backend_process",
                "--nocapture",
            ])
            .env(BACKEND, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting a backend");
        let out = BufReader::new(process.stdout.take().expect("piped"));
        let addr = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ")?.parse().ok())
            .expect("the backend tells its address");
        Self { process, addr }
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.process.kill().expect("killing");
        self.process.wait().expect("reaping");
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn topology(servers: &[SocketAddr]) -> Topology {
    Topology {
        version: 1,
        nodes: servers
            .iter()
            .enumerate()
            .map(|(number, addr)| NodeInfo {
                id: format!("web-{number}"),
                role: Role::Web,
                addr: *addr,
                shard: None,
                state: NodeState::Live,
            })
            .collect(),
    }
}

async fn start(retries: bool, servers: &[SocketAddr]) -> (Arc<Edge>, SocketAddr) {
    let edge = Arc::new(Edge::new(retries, 7));
    edge.follow(&topology(servers));
    let check = |addr: SocketAddr| async move { TcpStream::connect(addr).await.is_ok() };
    tokio::spawn(keep_probing(
        edge.balancer().clone(),
        check,
        Duration::from_millis(400),
    ));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(serve(
        Arc::clone(&edge),
        listener,
        Router::new(),
        std::future::pending(),
    ));
    (edge, addr)
}

type TestClient = Client<HttpConnector, Full<Bytes>>;

fn http() -> TestClient {
    Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build_http()
}

async fn ask(
    client: &TestClient,
    method: &str,
    url: String,
    body: Bytes,
) -> Result<(StatusCode, String), String> {
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("x-request-id", "forged")
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let response = client
        .request(request)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    Ok((
        status,
        String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    ))
}

/// Two servers under load, one of which is killed in the middle: requests done and requests failed.
async fn kill_one_of_two(retries: bool) -> (u32, Vec<String>, Arc<Edge>) {
    let survivor = Backend::start();
    let mut victim = Backend::start();
    let (edge, addr) = start(retries, &[survivor.addr, victim.addr]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU32::new(0));
    // What the failed ones got, so that a failure says why.
    let failed = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let client = http();
    let mut users = Vec::new();
    for user in 0..16 {
        let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
        let client = client.clone();
        users.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = if user % 4 == 0 {
                    let body = Bytes::from(vec![b'x'; 2_000]);
                    ask(&client, "POST", format!("http://{addr}/length"), body).await
                } else {
                    ask(&client, "GET", format!("http://{addr}/"), Bytes::new()).await
                };
                done.fetch_add(1, Ordering::Relaxed);
                if !matches!(&answer, Ok((StatusCode::OK, body)) if body == "hello" || body == "2000")
                {
                    failed.lock().push(format!("{answer:?}"));
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    victim.kill();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    stop.store(true, Ordering::Relaxed);
    for user in users {
        user.await.expect("a user");
    }
    let failed = std::mem::take(&mut *failed.lock());
    (done.load(Ordering::Relaxed), failed, edge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kill_of_one_of_two_servers_under_load_fails_no_request() {
    let (done, failed, edge) = kill_one_of_two(true).await;
    assert!(done > 100, "only {done} requests: no load");
    assert!(
        edge.counts.retries.load(Ordering::Relaxed) > 0,
        "the kill hit no request, so nothing was shown"
    );
    assert!(failed.is_empty(), "of {done}: {failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_retries_the_same_kill_fails_requests() {
    let (done, failed, _) = kill_one_of_two(false).await;
    assert!(
        !failed.is_empty(),
        "of {done}: the retries show nothing then"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_carries_our_id_and_the_clients_address_and_a_long_body_streams() {
    let backend = Backend::start();
    let (_, addr) = start(true, &[backend.addr]).await;
    let client = http();
    let (status, seen) = ask(
        &client,
        "GET",
        format!("http://{addr}/headers"),
        Bytes::new(),
    )
    .await
    .expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert!(!seen.contains("forged"), "{seen}");
    assert!(
        seen.contains("\"x-forwarded-for\": \"127.0.0.1\""),
        "{seen}"
    );
    let long = Bytes::from(vec![7; 10_000_000]);
    let answer = ask(&client, "POST", format!("http://{addr}/length"), long).await;
    assert_eq!(answer, Ok((StatusCode::OK, "10000000".to_owned())));
}

/// Sends a head and `bytes` of body, all of it, and only then reads the answer.
async fn push(addr: SocketAddr, head: &str, chunked: bool, bytes: usize) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connecting");
    stream.write_all(head.as_bytes()).await.expect("the head");
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < bytes {
        if chunked && stream.write_all(b"100000\r\n").await.is_err() {
            break;
        }
        if stream.write_all(&block).await.is_err() {
            break;
        }
        if chunked && stream.write_all(b"\r\n").await.is_err() {
            break;
        }
        sent += block.len();
    }
    let mut answer = Vec::new();
    let _closed =
        tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_100_mb_is_refused_and_the_client_that_sends_it_all_still_reads_why() {
    let backend = Backend::start();
    let (edge, addr) = start(true, &[backend.addr]).await;
    let bytes = 100 << 20;
    let head = format!("POST /length HTTP/1.1\r\nhost: edge\r\ncontent-length: {bytes}\r\n\r\n");
    let answer = push(addr, &head, false, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("longer than 12 MB"), "{answer}");
    let asked = edge
        .balancer()
        .stats(tokio::time::Instant::now().into_std())
        .picked;
    assert_eq!(asked, 0, "no server was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_that_never_says_its_length_is_cut_at_the_cap() {
    let backend = Backend::start();
    let (_, addr) = start(true, &[backend.addr]).await;
    let head = "POST /length HTTP/1.1\r\nhost: edge\r\ntransfer-encoding: chunked\r\n\r\n";
    // Just over the cap, so that the answer is there when all is sent.
    let answer = push(addr, head, true, 12 << 20).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_server_the_answer_is_a_503_that_says_when_to_come_back() {
    let (_, addr) = start(true, &[]).await;
    let mut stream = TcpStream::connect(addr).await.expect("connecting");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n")
        .await
        .expect("sending");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reading");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("no web server is up"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_joins_is_used_by_the_request_that_waits_for_one() {
    let (edge, addr) = start(true, &[]).await;
    let waiting =
        tokio::spawn(
            async move { ask(&http(), "GET", format!("http://{addr}/"), Bytes::new()).await },
        );
    tokio::time::sleep(Duration::from_millis(100)).await;
    let backend = tokio::task::spawn_blocking(Backend::start)
        .await
        .expect("starting");
    edge.follow(&topology(&[backend.addr]));
    let answer = waiting.await.expect("the request");
    assert_eq!(answer, Ok((StatusCode::OK, "hello".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_only_server_is_dead_the_answer_says_that_nothing_was_carried_out() {
    let mut backend = Backend::start();
    let (_, addr) = start(true, &[backend.addr]).await;
    backend.kill();
    let answer = ask(
        &http(),
        "POST",
        format!("http://{addr}/length"),
        Bytes::new(),
    )
    .await
    .expect("an answer");
    assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.1.contains("no web server is up"), "{}", answer.1);
}
