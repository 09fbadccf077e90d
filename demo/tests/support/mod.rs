//! A real run of the demo for a test, in temporary folders of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world ends"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything in a test may take, on a machine that has other things to do. It only
/// bounds a hang: what must be fast is measured by the drills.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whose turn it is: a run is more than a dozen processes, and two at once only wait for each other.
static TURN: Mutex<()> = Mutex::new(());

/// Tries until `what` gives something; panics with `wish` when it takes too long.
pub(crate) fn eventually<T>(
    wish: &str,
    patience: Duration,
    mut what: impl FnMut() -> Option<T>,
) -> T {
    let deadline = now() + patience;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(now() < deadline, "not within {patience:?}: {wish}");
        pause(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A temporary world: whatever runs in it leaves its files here, and can be told by it.
#[derive(Debug)]
pub(crate) struct World {
    folder: TempDir,
    program: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// Waits until no other test has one.
    pub(crate) fn new() -> Self {
        Self::of(Path::new(env!("CARGO_BIN_EXE_stackbeam")))
    }

    /// One in which the program is another file.
    pub(crate) fn of(program: &Path) -> Self {
        // A test that failed in its turn has still had it.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        for part in ["tmp", "runtime"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
        }
        Self {
            folder,
            program: program.to_owned(),
            _turn: turn,
        }
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    /// The program, ready to be given its words.
    pub(crate) fn stackbeam(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.stackbeam().args(words).output().unwrap()
    }

    /// `up --quiet` with `options`, started and not waited for.
    pub(crate) fn spawn(&self, options: &[&str]) -> Child {
        let port = free_port().to_string();
        self.stackbeam()
            .args(["up", "--quiet", "--base-port", &port])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// `up --quiet` with `options`, up to where its page answers.
    pub(crate) fn up(&self, options: &[&str]) -> Up<'_> {
        let started = now();
        let mut child = self.spawn(options);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("`up --quiet` says one line of JSON, not {line:?}"));
        Up {
            world: self,
            child,
            started,
            control: said["control"].as_str().unwrap().parse().unwrap(),
            token: said["token"].as_str().unwrap().to_owned(),
        }
    }

    /// The living processes that were started in this world, supervisor and all.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.path("tmp").display());
        let is_ours = |process: &Path| {
            // Of a process that is dead and not yet waited for, this is empty.
            std::fs::read(process.join("environ")).is_ok_and(|all| {
                all.split(|byte| *byte == 0)
                    .any(|one| one == mark.as_bytes())
            })
        };
        let name = |process: &Path| {
            let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            format!("{} {words}", process.display())
        };
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|process| is_ours(process))
            .map(|process| name(&process))
            .collect()
    }

    /// Every file and folder that is left in the temporary and runtime folders.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        ["tmp", "runtime"]
            .iter()
            .flat_map(|part| std::fs::read_dir(self.path(part)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// Panics unless within a few seconds no process, no listener on `ports` and no file is left.
    pub(crate) fn assert_nothing_is_left(&self, ports: &BTreeSet<u16>) {
        let patience = Duration::from_secs(8);
        let deadline = now() + patience;
        loop {
            let (processes, files) = (self.processes(), self.files());
            let listeners: Vec<&u16> = ports
                .iter()
                .filter(|port| TcpListener::bind(("127.0.0.1", **port)).is_err())
                .collect();
            if processes.is_empty() && files.is_empty() && listeners.is_empty() {
                return;
            }
            assert!(
                now() < deadline,
                "left after {patience:?}: processes {processes:?}, listeners {listeners:?}, \
                 files {files:?}"
            );
            pause(Duration::from_millis(20));
        }
    }
}

/// A run that is up. Dropping it kills the supervisor, and its guard cleans up.
#[derive(Debug)]
pub(crate) struct Up<'a> {
    world: &'a World,
    pub(crate) child: Child,
    pub(crate) started: Instant,
    pub(crate) control: SocketAddr,
    pub(crate) token: String,
}

impl Up<'_> {
    /// Sends the supervisor a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Runs a command on this run to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let port = self.control.port().to_string();
        let out = self
            .world
            .stackbeam()
            .args(words)
            .args(["--port", &port])
            .output();
        out.unwrap()
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn say(&self, words: &[&str]) -> String {
        let out = self.run(words);
        assert!(out.status.success(), "{words:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.say(&["status", "--json"])).unwrap()
    }

    /// Waits until everything answers.
    pub(crate) fn wait_ready(&self) -> Value {
        eventually("everything answers", PATIENCE, || {
            Some(self.status()).filter(|status| status["ready_ms"].is_u64())
        })
    }

    /// Waits until `id` is in `condition`.
    pub(crate) fn wait_node(&self, id: &str, condition: &str) -> Value {
        eventually(&format!("{id} is {condition}"), PATIENCE, || {
            node(&self.status(), id).filter(|node| node["condition"] == condition)
        })
    }

    /// Every port that this run listens on, of nodes that have said that they listen.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let port = |addr: &Value| addr.as_str().unwrap().rsplit_once(':').unwrap().1.parse();
        let mut ports: BTreeSet<u16> = self.status()["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["pid"] != 0 && node["condition"] != "starting")
            .map(|node| port(&node["addr"]).unwrap())
            .collect();
        ports.insert(self.control.port());
        ports
    }

    /// One raw request to the control port: `POST /api/down`, headers; gives status and body.
    pub(crate) fn http(&self, line: &str, headers: &[(&str, &str)]) -> (u16, String) {
        http(self.control, line, headers)
    }

    /// Waits for the supervisor to end by itself.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        eventually("the supervisor ends", PATIENCE, || {
            self.child.try_wait().unwrap()
        })
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The node `id` of a status.
pub(crate) fn node(status: &Value, id: &str) -> Option<Value> {
    let mut nodes = status["nodes"].as_array()?.iter();
    nodes.find(|node| node["id"] == id).cloned()
}

/// One raw request; gives status and whole answer, headers and all.
pub(crate) fn http(addr: SocketAddr, line: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Room for the page's port above it.
    listener.local_addr().unwrap().port().min(60_000)
}
