//! A logout in one process, seen by three others over a real Redis.

use std::{
    env,
    error::Error,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use stackbeam_session::{
    Key, KeyRing, MemoryRevocations, NoRevocations, Policy, RedisLog, RevocationFeed,
    RevocationQuery, Revocations, SessionId, Sessions, Timestamp, WhenStale,
};

use crate::kit::{Figure, Goal, Report};

/// The variable that makes a process of these figures one of the servers that follow.
const FOLLOWS: &str = "STACKBEAM_FIGURES_FOLLOW";
const LOGOUTS: u64 = 500;
const SERVERS: usize = 3;
const DAY: Duration = Duration::from_secs(86_400);

type Feed = RevocationFeed<RedisLog>;
type Fallible<T> = Result<T, Box<dyn Error>>;

/// When this process is to be a server that follows, it is one until all is seen.
pub fn follow_if_asked() -> Option<Fallible<()>> {
    let url = env::var(FOLLOWS).ok()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    Some(
        runtime
            .map_err(Into::into)
            .and_then(|it| it.block_on(follow(&url))),
    )
}

async fn feed(url: &str) -> Fallible<Arc<Feed>> {
    let log = RedisLog::connect(url, "revoked", DAY).await?;
    let key = Key::from_bytes(&(0..32).map(|number| number * 7).collect::<Vec<u8>>())?;
    let known =
        MemoryRevocations::new(&key, DAY)?.following(Duration::from_secs(30), WhenStale::Refuse);
    let feed = Arc::new(RevocationFeed::new(log, Arc::new(known)));
    feed.catch_up().await?;
    Ok(feed)
}

fn session(number: u64) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SessionId::from_bytes(bytes)
}

/// The machine's clock, the same for all processes.
fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

async fn follow(url: &str) -> Fallible<()> {
    let feed = feed(url).await?;
    let policy = Policy::aal2();
    let ring = KeyRing::new(Key::generate()?, policy.absolute())?;
    let sessions = Sessions::<(), _>::new(ring, "login", "a", policy, NoRevocations)?;
    let now = Timestamp::now();
    let token = sessions.issue("7", (), now)?;
    let mut claims = sessions.verify(&token, now)?.claims;
    let mut ended = Vec::new();
    for number in 0..LOGOUTS {
        claims.session = session(number);
        ended.push(
            feed.revocations()
                .ended(&RevocationQuery::new(&claims), now),
        );
    }
    let follow = tokio::spawn(async move { feed.follow().await.map(|_| ()) });
    println!("ready");
    for ended in ended {
        ended.await;
        println!("{}", nanoseconds());
    }
    follow.abort();
    Ok(())
}

fn start(url: &str) -> Fallible<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = Command::new(env::current_exe()?)
        .env(FOLLOWS, url)
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no standard output")?;
    Ok((child, BufReader::new(out).lines()))
}

/// How long is a user still logged in elsewhere after logging out here?
pub(super) fn logout(report: &mut Report<'_>) -> Fallible<()> {
    let redis = stackbeam_test_support::redis::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut others = (0..SERVERS)
        .map(|_| start(&redis.url()))
        .collect::<Fallible<Vec<_>>>()?;
    for (_, lines) in &mut others {
        assert_eq!(lines.next().ok_or("a server is gone")??, "ready");
    }
    let begun = runtime.block_on(async {
        let feed = feed(&redis.url()).await?;
        let mut begun = Vec::new();
        for number in 0..LOGOUTS {
            begun.push(nanoseconds());
            let message = feed
                .revocations()
                .revoke_session(session(number), Timestamp::now())?;
            feed.send(message).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<_, Box<dyn Error>>(begun)
    })?;
    let mut waits = Vec::new();
    for (mut child, mut lines) in others {
        for begun in &begun {
            let seen: u64 = lines.next().ok_or("a server is gone")??.parse()?;
            waits.push(seen.saturating_sub(*begun));
        }
        child.wait()?;
    }
    waits.sort_unstable();
    let at = |share: usize| waits[waits.len() * share / 1000] as f64 / 1e6;
    report.figure(
        Figure::new("logout seen by the other servers, p99", at(990), "ms")
            .goal(Goal::AtMost(50.0))
            .how(format!(
                "{LOGOUTS} logouts, {SERVERS} other processes over a real Redis, by the machine's clock; median {:.2} ms",
                at(500)
            )),
    );
    Ok(())
}
