//! Two processes over cache servers that are killed, started again and frozen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::tier::{Memcached, Pool, Redis, Tier, Tiered};
use stackbeam_lru_cache::{Lru, sync};
use stackbeam_test_support::{Server, memcached, redis};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use crate::suite::WordsCodec;

const KEYS: u32 = 40;
/// Set in the processes that a test starts: the store's address, and the cache servers' after it.
const ROLE: &str = "STACKBEAM_TIERS_CHILD";
const TIER_TIMEOUT: Duration = Duration::from_millis(150);

fn wall() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "real servers, real time")]
    Instant::now()
}

fn wait(ms: u64) {
    #[expect(clippy::disallowed_methods, reason = "real servers, real time")]
    std::thread::sleep(Duration::from_millis(ms));
}

/// The store that both processes share: `get <key>` and `put <key>` answer with the key's version.
fn store(versions: &Arc<Mutex<Vec<u64>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let versions = Arc::clone(versions);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let versions = Arc::clone(&versions);
            std::thread::spawn(move || serve(stream, &versions));
        }
    });
    address
}

fn serve(mut stream: TcpStream, versions: &Mutex<Vec<u64>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    while lines.read_line(&mut line).ok()? > 0 {
        let (what, key) = line.trim().split_once(' ')?;
        let key: usize = key.parse().ok()?;
        let version = {
            let mut versions = versions.lock().unwrap();
            versions[key] += u64::from(what == "put");
            versions[key]
        };
        stream.write_all(format!("{version}\n").as_bytes()).ok()?;
        line.clear();
    }
    None
}

async fn ask_store(address: &str, what: &str, key: u32) -> Result<u64, String> {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream
            .write_all(format!("{what} {key}\n").as_bytes())
            .await?;
        let mut line = String::new();
        tokio::io::BufReader::new(stream)
            .read_line(&mut line)
            .await?;
        std::io::Result::Ok(line)
    };
    let line = asked.await.map_err(|error| error.to_string())?;
    line.trim().parse().map_err(|_| line)
}

type Versions<T> = Tiered<u32, String, String, Pool<T>, WordsCodec, Lru>;

async fn read<T: Tier + 'static>(versions: &Versions<T>, store: &str, key: u32) -> u64 {
    let load = || async move { Ok(ask_store(store, "get", key).await?.to_string()) };
    let value = versions.get_or_load(&key, load).await;
    value
        .expect("a cache server that dies is no error")
        .parse()
        .unwrap()
}

/// One of the processes: reads and writes until it is told to be quiet, then says what it reads.
async fn child<T: Tier + 'static>(store: &str, servers: Vec<(String, T)>) {
    let pool = Pool::builder(servers)
        .with_timeout(TIER_TIMEOUT * 2)
        .build()
        .unwrap();
    let memory = sync::Builder::new(20)
        .with_ttl(Duration::from_millis(20))
        .build();
    let versions: Versions<T> = Tiered::new(ReadThrough::new(memory), pool, WordsCodec);
    let mut told = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    // The newest version of each key whose invalidation this process has seen end.
    let floors = Mutex::new(vec![0; KEYS as usize]);
    let is_quiet = std::sync::atomic::AtomicBool::new(false);
    let work = |seed: u64| {
        let (versions, floors, is_quiet) = (&versions, &floors, &is_quiet);
        async move {
            let mut random = seed;
            while !is_quiet.load(std::sync::atomic::Ordering::Relaxed) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let key = u32::try_from((random >> 33) % u64::from(KEYS)).unwrap();
                let floor = floors.lock().unwrap()[key as usize];
                if random >> 60 == 0 {
                    let version = ask_store(store, "put", key).await.unwrap();
                    versions.invalidate(&key).await.unwrap();
                    let mut floors = floors.lock().unwrap();
                    floors[key as usize] = version.max(floors[key as usize]);
                } else {
                    let version = read(versions, store, key).await;
                    assert!(version >= floor, "{key}: {version} after {floor}");
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        }
    };
    let listen = async {
        assert_eq!(told.next_line().await.unwrap().as_deref(), Some("quiet"));
        is_quiet.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(work(1), work(2), work(3), work(4), listen);
    let is_settled = || {
        let mut servers = versions.tier().servers().into_iter();
        servers.all(|server| server.is_in_use && server.owed == 0)
    };
    while !is_settled() {
        for key in 0..KEYS {
            let _version = read(&versions, store, key).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    say(&format!("settled {}\n", versions.tier_stats().hits));
    assert_eq!(told.next_line().await.unwrap().as_deref(), Some("tell"));
    for key in 0..KEYS {
        say(&format!("{key} {}\n", read(&versions, store, key).await));
    }
}

/// Tells the test that has started this process.
fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(test: &str, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", test, "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn tell(&mut self, word: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
    }

    /// The numbers of its next line that has two words, of which the second is a number.
    fn pair(&mut self) -> (String, u64) {
        loop {
            let line = self.lines.next().expect("it lives").unwrap();
            if let Some((word, number)) = line.split_once(' ')
                && let Ok(number) = number.parse()
            {
                return (word.to_owned(), number);
            }
        }
    }
}

/// Kills, freezes and restarts the servers under two processes, and compares what they read at the end.
fn two_processes(test: &str, servers: &mut [Server]) {
    let versions = Arc::new(Mutex::new(vec![0; KEYS as usize]));
    let mut role = store(&versions);
    for server in &*servers {
        role.push(' ');
        role.push_str(&server.address().to_string());
    }
    let mut processes = [Process::start(test, &role), Process::start(test, &role)];
    let begun = wall();
    let mut round = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        wait(250);
        let server = &mut servers[round % 3];
        if round % 4 == 3 {
            server.freeze().unwrap();
            wait(600);
            server.thaw().unwrap();
        } else {
            server.kill().unwrap();
            wait(150);
            server.restart().unwrap();
        }
        round += 1;
    }
    for process in &mut processes {
        process.tell("quiet");
    }
    for process in &mut processes {
        let (word, hits) = process.pair();
        assert_eq!(word, "settled");
        assert!(hits > 100, "{hits} hits: the tier was of no use");
    }
    // What the memories held has expired.
    wait(50);
    let versions = versions.lock().unwrap().clone();
    assert!(
        versions.iter().sum::<u64>() > 100,
        "hardly anything was written"
    );
    for process in &mut processes {
        process.tell("tell");
        for (key, version) in versions.iter().enumerate() {
            assert_eq!(process.pair(), (key.to_string(), *version));
        }
        assert!(process.child.wait().unwrap().success());
    }
}

/// What this process is to be, if a test started it: the store, and names and addresses of servers.
fn role() -> Option<(String, Vec<(String, String)>)> {
    let role = std::env::var(ROLE).ok()?;
    let mut words = role.split(' ').map(str::to_owned);
    let store = words.next()?;
    let named = |(at, address): (usize, String)| (format!("server-{at}"), address);
    Some((store, words.enumerate().map(named).collect()))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[test]
#[ignore = "needs memcached: cargo xtask services"]
fn two_processes_over_memcacheds_that_die_read_no_error_and_nothing_stale() {
    if let Some((store, servers)) = role() {
        let tier = |(name, address): (String, String)| {
            (name, Memcached::new(address).with_timeout(TIER_TIMEOUT))
        };
        runtime().block_on(child(&store, servers.into_iter().map(tier).collect()));
        return;
    }
    let mut servers: Vec<_> = (0..3).map(|_| memcached::start().unwrap()).collect();
    let test = "processes::two_processes_over_memcacheds_that_die_read_no_error_and_nothing_stale";
    two_processes(test, &mut servers);
}

#[test]
#[ignore = "needs redis: cargo xtask services"]
fn two_processes_over_redises_that_die_read_no_error_and_nothing_stale() {
    if let Some((store, servers)) = role() {
        runtime().block_on(async {
            let tier = |(name, address): (String, String)| {
                let redis = Redis::new(&format!("redis://{address}"), "").unwrap();
                (name, redis.with_timeout(TIER_TIMEOUT))
            };
            child(&store, servers.into_iter().map(tier).collect()).await;
        });
        return;
    }
    let mut servers: Vec<_> = (0..3).map(|_| redis::start().unwrap()).collect();
    let test = "processes::two_processes_over_redises_that_die_read_no_error_and_nothing_stale";
    two_processes(test, &mut servers);
}
