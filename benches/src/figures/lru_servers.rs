//! lru-cache's example `memcached` beside memcached itself.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::kit::{Figure, Goal, Report, Zipf};

type Failure = Box<dyn Error>;

/// What both are given, in MiB, and their threads.
const MEMORY: u64 = 32;
const THREADS: u64 = 2;
/// Requests that a client sends before it reads their answers.
const WINDOW: usize = 32;
/// Over so many connections: clients that send many at once, and many that send one at a time.
const CONNECTIONS: [(usize, &str); 2] = [(1, "pipelined"), (WINDOW, "one at a time")];
/// Requests of a trace that are replayed.
const REQUESTS_MAX: usize = 500_000;
/// Longest value of a trace: of larger ones memcached wastes more.
const VALUE_MAX: usize = 16 << 10;
/// Rounds in which each server is loaded once, and for how long.
const ROUNDS: usize = 9;
const TURN: Duration = Duration::from_millis(300);
/// Clock ticks a second, as Linux counts a process's time.
const TICKS: f64 = 100.0;

/// A server under measurement; ended on drop.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    /// The example, built here.
    fn ours() -> Result<Self, Failure> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = Command::new("cargo")
            .current_dir(&root)
            .args([
                "build",
                "--quiet",
                "--release",
                "--package",
                "stackbeam-lru-cache",
            ])
            .args(["--example", "memcached"])
            .status()?;
        if !built.success() {
            return Err("the example memcached does not build".into());
        }
        let target = std::env::var_os("CARGO_TARGET_DIR");
        let target = target.map_or_else(|| root.join("target"), PathBuf::from);
        let mut child = Command::new(target.join("release/examples/memcached"))
            .args(["0", &MEMORY.to_string(), &THREADS.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("it has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Self { child, address })
    }

    /// Debian's memcached.
    fn theirs() -> Result<Self, Failure> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new("memcached")
            .args(["-u", "nobody", "-l", "127.0.0.1", "-U", "0"])
            .args(["-p", &free.port().to_string(), "-m", &MEMORY.to_string()])
            .args(["-t", &THREADS.to_string()])
            .spawn()
            .map_err(|error| format!("memcached (package memcached): {error}"))?;
        let server = Self {
            child,
            address: free,
        };
        for _ in 0..100 {
            if TcpStream::connect(free).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err("memcached does not answer".into())
    }

    fn client(&self) -> Result<Client, Failure> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        Ok(Client {
            answers: BufReader::with_capacity(64 << 10, stream.try_clone()?),
            stream,
            requests: Vec::new(),
            line: Vec::new(),
        })
    }

    /// Seconds of processor time so far.
    fn cpu(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let times = after_name.split_whitespace().skip(11).take(2);
        let ticks: Result<Vec<f64>, _> = times.map(str::parse).collect();
        Ok(ticks?.iter().sum::<f64>() / TICKS)
    }

    /// The most memory that it had, in MiB.
    fn resident(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kibibytes.ok_or("no VmHWM")?.parse::<f64>()? / 1024.0)
    }
}

/// One connection, many requests at once.
struct Client {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
    requests: Vec<u8>,
    line: Vec<u8>,
}

impl Client {
    fn get(&mut self, key: u64) {
        self.requests.extend(format!("get key-{key}\r\n").bytes());
    }

    fn set(&mut self, key: u64, value: &[u8]) {
        let line = format!("set key-{key} 0 0 {}\r\n", value.len());
        self.requests.extend(line.bytes());
        self.requests.extend(value);
        self.requests.extend(b"\r\n");
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.requests)?;
        self.requests.clear();
        Ok(())
    }

    /// Reads the next answer; for a `get`, whether there was a value.
    fn answer(&mut self) -> Result<bool, Failure> {
        self.line.clear();
        self.answers.read_until(b'\n', &mut self.line)?;
        if self.line.starts_with(b"VALUE") {
            let len = self.line.trim_ascii().rsplit(|byte| *byte == b' ').next();
            let len: usize = std::str::from_utf8(len.unwrap_or_default())?.parse()?;
            // The value and the two line ends after it.
            let mut left = len + 2 + 5;
            while left > 0 {
                let here = self.answers.fill_buf()?.len().min(left);
                if here == 0 {
                    return Err("the server has hung up".into());
                }
                self.answers.consume(here);
                left -= here;
            }
            return Ok(true);
        }
        match &*self.line {
            b"END\r\n" => Ok(false),
            line if line.starts_with(b"SERVER_ERROR out of memory") => Ok(false),
            b"STORED\r\n" => Ok(true),
            other => Err(format!("it says {:?}", String::from_utf8_lossy(other)).into()),
        }
    }
}

pub(super) fn figures(report: &mut Report<'_>, traces: &[Vec<u64>]) -> Result<(), Failure> {
    requests_a_second(report)?;
    misses(report, traces)
}

/// How many requests a second does it serve, 95 of 100 of them GET, and at what cost?
fn requests_a_second(report: &mut Report<'_>) -> Result<(), Failure> {
    let servers = [Server::ours()?, Server::theirs()?];
    let keys = Zipf::new(100_000, 0.99).draw(7, 1 << 18);
    for server in &servers {
        let mut client = server.client()?;
        for keys in (0..100_000).collect::<Vec<u64>>().chunks(WINDOW) {
            keys.iter().for_each(|key| client.set(*key, &[b'x'; 100]));
            client.send()?;
            for _ in keys {
                client.answer()?;
            }
        }
    }
    for (connections, name) in CONNECTIONS {
        let (mut rates, mut cpu, mut served) = ([vec![], vec![]], [0.0; 2], [0.0; 2]);
        for _ in 0..ROUNDS {
            for (at, server) in servers.iter().enumerate() {
                let (before, start) = (server.cpu()?, Instant::now());
                let count = load(server, &keys, connections)? as f64;
                rates[at].push(count / start.elapsed().as_secs_f64());
                cpu[at] += server.cpu()? - before;
                served[at] += count;
            }
        }
        let [ours, theirs] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        });
        let how = format!(
            "two clients with {WINDOW} requests each under way over {connections} connections each, Zipf 0.99 \
             over 100 000 keys, values of 100 bytes, {THREADS} threads each, median of {ROUNDS} turns in turn"
        );
        report.figure(
            Figure::new(
                format!("memcached example, GET 95%, {name}"),
                ours,
                "requests/s",
            )
            .more_is_better()
            .against("memcached", theirs)
            .goal(Goal::Times(1.0))
            .how(how.clone()),
        );
        let each = |at: usize| cpu[at] / served[at] * 1e6;
        let name = format!("memcached example, processor time of a request, {name}");
        report.figure(
            Figure::new(name, each(0), "us")
                .against("memcached", each(1))
                .how(how),
        );
    }
    Ok(())
}

/// Loads a server for one turn from two clients and says how many requests it served.
fn load(server: &Server, keys: &[u64], connections: usize) -> Result<usize, Failure> {
    let one = |from: usize| -> Result<usize, Failure> {
        let clients: Result<Vec<_>, _> = (0..connections).map(|_| server.client()).collect();
        let mut clients = clients?;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < TURN {
            for client in &mut clients {
                for _ in 0..WINDOW / connections {
                    let key = keys[(from + count) % keys.len()];
                    if count % 20 == 0 {
                        client.set(key, &[b'y'; 100]);
                    } else {
                        client.get(key);
                    }
                    count += 1;
                }
                client.send()?;
            }
            for client in &mut clients {
                for _ in 0..WINDOW / connections {
                    client.answer()?;
                }
            }
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| one(keys.len() / 2).map_err(|error| error.to_string()));
        let own = one(0)?;
        Ok(own + other.join().map_err(|_| "a client panicked")??)
    })
}

/// With the same memory, how many requests of the shared traces are missed?
fn misses(report: &mut Report<'_>, traces: &[Vec<u64>]) -> Result<(), Failure> {
    let (mut sums, mut resident) = ([0.0; 2], [0.0_f64; 2]);
    for keys in traces {
        let keys = &keys[..keys.len().min(REQUESTS_MAX)];
        let distinct = keys.iter().collect::<std::collections::HashSet<_>>().len();
        // About a tenth of the keys fits.
        let len = usize::try_from((MEMORY << 20) * 10)? / distinct;
        let value = vec![b'x'; len.clamp(64, VALUE_MAX)];
        for (at, server) in [Server::ours()?, Server::theirs()?].iter().enumerate() {
            sums[at] += replay(server, keys, &value)? as f64 / keys.len() as f64;
            resident[at] = resident[at].max(server.resident()?);
        }
    }
    let [ours, theirs] = sums.map(|sum| sum / traces.len() as f64);
    let how = format!(
        "{MEMORY} MiB each, about a tenth of what the keys would need; first {REQUESTS_MAX} requests of each of {} \
         traces, mean; resident at most {:.1} MiB, memcached {:.1}",
        traces.len(),
        resident[0],
        resident[1]
    );
    report.figure(
        Figure::new("memcached example, misses of all requests", ours, "share")
            .against("memcached", theirs)
            .goal(Goal::AtMostTimes(1.0))
            .how(how),
    );
    Ok(())
}

/// Gets every key and sets what was missing, a window at a time.
fn replay(server: &Server, keys: &[u64], value: &[u8]) -> Result<u64, Failure> {
    let mut client = server.client()?;
    let mut misses = 0;
    for keys in keys.chunks(WINDOW) {
        keys.iter().for_each(|key| client.get(*key));
        client.send()?;
        let mut missed = Vec::new();
        for key in keys {
            if !client.answer()? {
                missed.push(*key);
            }
        }
        misses += missed.len() as u64;
        missed.iter().for_each(|key| client.set(*key, value));
        client.send()?;
        for _ in missed {
            client.answer()?;
        }
    }
    Ok(misses)
}
