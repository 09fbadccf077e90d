//! What one server ends, the others know: over a log in memory, and over a real Redis between processes.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]
#![expect(
    clippy::print_stdout,
    reason = "processes of a test speak on standard output"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stackbeam_session::{
    AskLayer, Claims, Key, KeyRing, LogEntry, LogError, MemoryLog, MemoryRevocations,
    NoRevocations, Policy, RedisLog, Refusal, RevocationFeed, RevocationLog, RevocationQuery,
    Revocations, SessionId, SessionLayer, Sessions, Timestamp, Verdict, VerifyError, WhenStale,
};
use stackbeam_test_support as servers;
use tower::{Layer, ServiceExt};

const DAY: Duration = Duration::from_secs(86_400);

fn key() -> Key {
    Key::from_bytes(&(0..32).map(|number| number * 7).collect::<Vec<u8>>()).unwrap()
}

fn server<L: RevocationLog>(log: L) -> Arc<RevocationFeed<L>> {
    let known = MemoryRevocations::new(&key(), DAY)
        .unwrap()
        .following(Duration::from_secs(30), WhenStale::Refuse);
    Arc::new(RevocationFeed::new(log, Arc::new(known)))
}

/// The claims of a session of this id.
fn claims(id: u64) -> Claims<()> {
    let policy = Policy::aal2();
    let ring = KeyRing::new(key(), policy.absolute()).unwrap();
    let sessions = Sessions::<(), _>::new(ring, "login", "a", policy, NoRevocations).unwrap();
    let now = Timestamp::now();
    let token = sessions.issue("7", (), now).unwrap();
    let mut claims = sessions.verify(&token, now).unwrap().claims;
    claims.session = session(id);
    claims
}

fn session(id: u64) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    SessionId::from_bytes(bytes)
}

fn verdict<L: RevocationLog>(feed: &RevocationFeed<L>, id: u64) -> Verdict {
    let now = Timestamp::now();
    feed.revocations()
        .check(&RevocationQuery::new(&claims(id)), now)
}

async fn end<L: RevocationLog>(feed: &RevocationFeed<L>, id: u64) {
    let message = feed
        .revocations()
        .revoke_session(session(id), Timestamp::now());
    feed.send(message.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_starts_serves_nothing_before_it_knows_what_was_ended() {
    let log = MemoryLog::default();
    let one = server(log.clone());
    one.catch_up().await.unwrap();
    end(&one, 1).await;
    let two = server(log);
    assert_eq!(verdict(&two, 2), Verdict::Unknown);
    two.catch_up().await.unwrap();
    assert_eq!(verdict(&two, 1), Verdict::Revoked);
    assert_eq!(verdict(&two, 2), Verdict::Good);
}

#[tokio::test]
async fn a_connection_of_another_server_ends_with_its_session() {
    let log = MemoryLog::default();
    let (one, two) = (server(log.clone()), server(log));
    let follow = {
        let two = Arc::clone(&two);
        tokio::spawn(async move { two.follow().await })
    };
    let waiting = two
        .revocations()
        .ended(&RevocationQuery::new(&claims(1)), Timestamp::now());
    end(&one, 1).await;
    tokio::time::timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap();
    follow.abort();
}

#[tokio::test]
async fn what_is_no_revocation_in_the_log_is_passed_over() {
    let log = MemoryLog::default();
    let (one, two) = (server(log.clone()), server(log.clone()));
    log.append(b"garbage".to_vec()).await.unwrap();
    end(&one, 1).await;
    two.catch_up().await.unwrap();
    assert_eq!(verdict(&two, 1), Verdict::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis: cargo xtask services"]
async fn a_redis_that_lost_everything_is_told_again_and_nothing_that_ended_comes_back() {
    let mut redis = servers::redis::start().unwrap();
    let connect = async || {
        let log = RedisLog::connect(&redis.url(), "revoked", DAY).await;
        server(log.unwrap())
    };
    let (one, two) = (connect().await, connect().await);
    one.catch_up().await.unwrap();
    two.catch_up().await.unwrap();
    end(&one, 1).await;
    two.catch_up().await.unwrap();
    assert_eq!(verdict(&two, 1), Verdict::Revoked);
    redis.kill().unwrap();
    // Ended while there is no Redis: here at once, for the others later.
    let message = one
        .revocations()
        .revoke_session(session(2), Timestamp::now());
    assert!(one.send(message.unwrap()).await.is_err());
    assert_eq!(verdict(&one, 2), Verdict::Revoked);
    redis.restart().unwrap();
    let mut told = one.catch_up().await;
    for _ in 0..100 {
        if told.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        told = one.catch_up().await;
    }
    told.unwrap();
    let log = RedisLog::connect(&redis.url(), "revoked", DAY)
        .await
        .unwrap();
    let three = server(log);
    three.catch_up().await.unwrap();
    assert_eq!(verdict(&three, 1), Verdict::Revoked);
    assert_eq!(verdict(&three, 2), Verdict::Revoked);
    assert_eq!(verdict(&three, 3), Verdict::Good);
}

const LOGOUTS: u64 = 300;

#[expect(
    clippy::disallowed_methods,
    reason = "processes compare what the machine's clock says"
)]
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

/// A server: says that it is ready, and then when each session has ended.
async fn be_a_server(url: &str) {
    let log = RedisLog::connect(url, "revoked", DAY).await.unwrap();
    let feed = server(log);
    feed.catch_up().await.unwrap();
    let ended: Vec<_> = (0..LOGOUTS)
        .map(|id| {
            feed.revocations()
                .ended(&RevocationQuery::new(&claims(id)), Timestamp::now())
        })
        .collect();
    let follow = tokio::spawn(async move { feed.follow().await });
    println!("\nseen ready");
    for (id, ended) in ended.into_iter().enumerate() {
        ended.await;
        println!("\nseen {id} {}", nanos());
    }
    follow.abort();
}

/// The next line that a server says to us, among those of the test harness.
fn said(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> String {
    loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(said) = line.strip_prefix("seen ") {
            return said.to_owned();
        }
    }
}

fn start_a_server(url: &str) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_logout_is_seen_by_three_other_processes_within_fifty_milliseconds",
        ])
        .args(["--ignored", "--nocapture"])
        .env(FOLLOW, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

const FOLLOW: &str = "STACKBEAM_SESSION_FOLLOWS";

/// This process ends sessions; three others, which are this test started anew, say when they see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis: cargo xtask services"]
async fn a_logout_is_seen_by_three_other_processes_within_fifty_milliseconds() {
    if let Ok(url) = std::env::var(FOLLOW) {
        return be_a_server(&url).await;
    }
    let redis = servers::redis::start().unwrap();
    let log = RedisLog::connect(&redis.url(), "revoked", DAY).await;
    let feed = server(log.unwrap());
    let mut others: Vec<_> = (0..3).map(|_| start_a_server(&redis.url())).collect();
    for (_, lines) in &mut others {
        assert_eq!(said(lines), "ready");
    }
    let mut begun = Vec::new();
    for id in 0..LOGOUTS {
        begun.push(nanos());
        end(&feed, id).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let mut waits = Vec::new();
    for (mut child, mut lines) in others {
        for (id, begun) in begun.iter().enumerate() {
            let line = said(&mut lines);
            let (seen, at) = line.split_once(' ').unwrap();
            assert_eq!(seen, id.to_string());
            waits.push(at.parse::<u64>().unwrap().saturating_sub(*begun));
        }
        assert!(child.wait().unwrap().success());
    }
    waits.sort_unstable();
    let at = |share: usize| Duration::from_nanos(waits[waits.len() * share / 1000]);
    println!(
        "{LOGOUTS} logouts, 3 processes: median {:?}, p99 {:?}",
        at(500),
        at(990)
    );
    assert!(at(990) <= Duration::from_millis(50), "p99 {:?}", at(990));
}

/// A log that counts its readers, and fails when it is told to.
#[derive(Clone, Default)]
struct Watched(MemoryLog, Arc<AtomicUsize>, Arc<AtomicBool>);

impl RevocationLog for Watched {
    type Position = usize;
    async fn append(&self, entry: Vec<u8>) -> Result<(), LogError> {
        self.0.append(entry).await
    }
    async fn read(
        &self,
        after: Option<usize>,
        wait: bool,
    ) -> Result<Vec<LogEntry<usize>>, LogError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        if self.2.load(Ordering::Relaxed) {
            return Err(LogError::Unavailable("down".to_owned()));
        }
        self.0.read(after, wait).await
    }
}

#[tokio::test]
async fn a_request_that_comes_when_too_little_is_known_waits_for_the_log_and_is_refused_without_it()
{
    let log = Watched::default();
    let other = server(log.clone());
    let policy = Policy::aal2();
    let ring = KeyRing::new(key(), policy.absolute()).unwrap();
    let known = MemoryRevocations::new(&key(), DAY)
        .unwrap()
        .following(Duration::from_secs(3600), WhenStale::AskStore);
    let known = Arc::new(known);
    let sessions = Sessions::<(), _>::new(ring, "login", "a", policy, Arc::clone(&known)).unwrap();
    let good = sessions.issue("7", (), Timestamp::now()).unwrap();
    let ended = sessions.issue("8", (), Timestamp::now()).unwrap();
    let feed = Arc::new(RevocationFeed::new(log.clone(), known));
    let inner = tower::service_fn(async |request: http::Request<()>| {
        let found = stackbeam_session::claims_of::<()>(request.extensions());
        Ok::<_, std::convert::Infallible>(http::Response::new(
            found.map(|claims| claims.subject.clone()),
        ))
    });
    let service =
        AskLayer::new(feed).layer(SessionLayer::authorization(sessions, "Token").layer(inner));
    let ask = async |token: &str| {
        let request = http::Request::get("/").header("authorization", format!("Token {token}"));
        let service = service.clone();
        service
            .oneshot(request.body(()).unwrap())
            .await
            .unwrap()
            .into_body()
    };
    log.2.store(true, Ordering::Relaxed);
    assert_eq!(ask(&good).await, Err(Refusal::Invalid(VerifyError::Stale)));
    log.2.store(false, Ordering::Relaxed);
    let message = other
        .revocations()
        .revoke_subject("8", Timestamp::now())
        .unwrap();
    other.send(message).await.unwrap();
    let before = log.1.load(Ordering::Relaxed);
    let (one, two) = tokio::join!(ask(&ended), ask(&good));
    assert_eq!(one, Err(Refusal::Invalid(VerifyError::Revoked)));
    assert_eq!(two, Ok("7".to_owned()));
    // One look brought the entry, one more that there is no other; nobody else had to ask.
    assert_eq!(log.1.load(Ordering::Relaxed) - before, 2);
    assert_eq!(ask(&good).await, Ok("7".to_owned()));
    assert_eq!(log.1.load(Ordering::Relaxed) - before, 2);
}
