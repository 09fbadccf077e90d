//! The queue, its publisher and its consumer, each a process of its own, killed and stopped in turns; ledgers on their
//! pipes say what each was promised.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use stackbeam_mq::net::{Address, Client, Server};
use stackbeam_mq::{Delivery, GroupOptions, Message, Queue, TopicOptions};

const ROLE: &str = "MQ_PROCESS_ROLE";
/// The queue's directory, or the address to connect to.
const WHERE: &str = "MQ_PROCESS_WHERE";
const RUN: &str = "MQ_PROCESS_RUN";

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

fn open(dir: &Path) -> Queue {
    Queue::options().segment_bytes(256 << 10).open(dir).unwrap()
}

fn group_options() -> GroupOptions {
    // The test holds everything that is left at once.
    GroupOptions::new()
        .deliveries_max(0)
        .in_flight_max(u32::MAX)
        .lease(Duration::from_millis(300))
}

/// Not a test by itself: one of the processes that are killed.
#[test]
fn process() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(WHERE)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "queue" => serve(&place).await,
            "publisher" => publish(&place).await,
            _ => consume(&place).await,
        }
    });
}

async fn serve(dir: &str) {
    let loopback: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(open(dir.as_ref()), loopback).await.unwrap();
    let Address::Tcp(address) = server.address() else {
        panic!("bound to TCP");
    };
    say(&format!("ADDRESS {address}"));
    std::future::pending::<()>().await;
}

fn connect(place: &str) -> Client {
    let address: std::net::SocketAddr = place.parse().unwrap();
    Client::connect(address)
}

async fn publish(place: &str) {
    let topic = connect(place)
        .topic("t", TopicOptions::new())
        .await
        .unwrap();
    let run = std::env::var(RUN).unwrap();
    for n in 0.. {
        let name = format!("{run}-{n}");
        say(&format!("T {name}"));
        let body = format!("{name} {}", "x".repeat(600));
        let message = Message::new(body).dedup_id(name.clone());
        if topic.publish(message).await.is_ok() {
            say(&format!("P {name}"));
        }
    }
}

async fn consume(place: &str) {
    let topic = connect(place)
        .topic("t", TopicOptions::new())
        .await
        .unwrap();
    let group = topic.group("g", group_options()).await.unwrap();
    loop {
        let Ok(leases) = group.take(4).await else {
            continue;
        };
        for lease in leases {
            let name = name_of(lease.message());
            if lease.id().as_u64().is_multiple_of(3) {
                // Held until the lease ends, or the process does.
                std::mem::forget(lease);
                continue;
            }
            // Asked for before, promised after.
            say(&format!("L {name}"));
            if lease.ack().await.is_ok() {
                say(&format!("A {name}"));
            }
        }
    }
}

fn name_of(message: &Message) -> String {
    let body = String::from_utf8_lossy(message.body()).into_owned();
    body.split(' ').next().unwrap_or_default().to_owned()
}

fn spawn(role: &str, place: &str, run: u64) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["processes::process", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(WHERE, place)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn pass(millis: u64) {
    #[expect(clippy::disallowed_methods, reason = "a kill needs real time to pass")]
    std::thread::sleep(Duration::from_millis(millis));
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[derive(Default)]
struct Ledger {
    tried: BTreeSet<String>,
    published: BTreeSet<String>,
    leaving: BTreeSet<String>,
    acked: BTreeSet<String>,
}

impl Ledger {
    fn read(&mut self, lines: &[String]) {
        for (kind, name) in lines.iter().filter_map(|l| l.split_once(' ')) {
            let set = match kind {
                "T" => &mut self.tried,
                "P" => &mut self.published,
                "L" => &mut self.leaving,
                "A" => &mut self.acked,
                _ => continue,
            };
            set.insert(name.to_owned());
        }
    }
}

fn reader(lines: Lines<BufReader<ChildStdout>>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || lines.map_while(Result::ok).collect())
}

/// Lets the three run so many times, ends them in ways that take turns, and compares the ledgers with what is left.
pub(crate) fn survive(cycles: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for cycle in 0..cycles {
        let (queue, mut lines) = spawn("queue", dir.path().to_str().unwrap(), cycle);
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|l| Some(l.strip_prefix("ADDRESS ")?.to_owned()));
        let address = address.expect("the queue opens and is served");
        let (publisher, published) = spawn("publisher", &address, cycle);
        let (consumer, consumed) = spawn("consumer", &address, cycle);
        let readers = [reader(published), reader(consumed)];
        pass(60 + cycle * 37 % 90);
        match cycle % 4 {
            // All at once.
            0 => [queue, publisher, consumer].into_iter().for_each(end),
            // The others see it go.
            1 => {
                end(queue);
                pass(10);
                [publisher, consumer].into_iter().for_each(end);
            }
            2 => {
                end(consumer);
                end(publisher);
                end(queue);
            }
            // The writer is stopped where it stands, goes on, and is killed while it stands again.
            _ => {
                signal(&queue, "-STOP");
                pass(20);
                signal(&queue, "-CONT");
                pass(20);
                signal(&queue, "-STOP");
                [queue, publisher, consumer].into_iter().for_each(end);
            }
        }
        for reader in readers {
            ledger.read(&reader.join().unwrap());
        }
    }
    check(&ledger, dir.path(), cycles);
}

fn check(ledger: &Ledger, dir: &Path, cycles: u64) {
    let enough = usize::try_from(cycles).unwrap();
    let done = (ledger.published.len(), ledger.acked.len());
    assert!(done.0 > enough && done.1 > enough, "{done:?} in all cycles");
    let queue = open(dir);
    let topic = queue.topic("t").unwrap();
    let group = topic.group_with("g", group_options()).unwrap();
    let mut left = BTreeSet::new();
    let mut held = Vec::new();
    loop {
        let leases = group.take_blocking(1000, Some(Duration::from_millis(100)));
        let leases = leases.unwrap();
        if leases.iter().all(|l| left.contains(&name_of(l.message()))) {
            break;
        }
        for lease in leases {
            let name = name_of(lease.message());
            assert!(ledger.tried.contains(&name), "{name} was never published");
            left.insert(name);
            held.push(lease);
        }
    }
    let stats = queue.stats();
    let g = stats.group("t", "g").unwrap();
    assert_eq!(
        g.published,
        g.acked + g.ready + g.leased + g.delayed + g.dead + g.discarded
    );
    assert_eq!(
        g.published - g.acked,
        left.len() as u64,
        "each is there once"
    );
    let lost: Vec<_> = (ledger.published.difference(&ledger.leaving))
        .filter(|name| !left.contains(*name))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    let back: Vec<_> = ledger.acked.intersection(&left).collect();
    assert!(back.is_empty(), "acked and back: {back:?}");
}
