//! `cargo xtask conduit <folder>`: the RealWorld API suite, which others wrote, through the balancer.
//!
//! The suite is not part of this repository: `<folder>` holds its `*.hurl` files, and the program `hurl`
//! (`cargo install hurl`) runs them.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::step::{self, cargo, root};

/// Rounds of the suite while web servers are killed.
const ROUNDS_WITH_KILLS: u32 = 5;
/// Time between two kills: longer than a killed server needs to be back.
const KILL_EVERY: Duration = Duration::from_millis(1_500);
/// The replica lag of the second run.
const LAG_MS: &str = "300";

pub(crate) fn run(folder: &str) -> Result<(), String> {
    let mut suite: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|error| format!("{folder}: {error}"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "hurl"))
        .collect();
    suite.sort();
    if suite.is_empty() {
        return Err(format!("{folder} has no *.hurl files"));
    }
    step::run(
        "demo-build",
        &mut cargo(&["build", "--release", "--package", "demo"]),
    )?;
    let demo = Demo::start()?;
    let host = demo.edge()?;
    step::run("conduit", &mut hurl(&suite, &host))?;
    demo.order(&["lag", LAG_MS])?;
    step::run("conduit-lag", &mut hurl(&suite, &host))?;
    demo.order(&["lag", "0"])?;
    with_kills(&demo, &suite, &host)
}

/// The suite again and again while web servers are killed, one after the other. The suite repeats no
/// request by itself: only the balancer may.
fn with_kills(demo: &Demo, suite: &[PathBuf], host: &str) -> Result<(), String> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0;
            while !over.load(Ordering::Relaxed) {
                thread::sleep(KILL_EVERY);
                let victim = format!("web-{}", kills % 2 + 1);
                // A victim that is not back yet is no failure of the suite.
                kills += u32::from(demo.order(&["kill", &victim]).is_ok());
            }
            kills
        });
        let mut done = Ok(());
        for round in 1..=ROUNDS_WITH_KILLS {
            done = step::run(&format!("conduit-kills-{round}"), &mut hurl(suite, host)).map(drop);
            if done.is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        let kills = killer
            .join()
            .map_err(|_| "the killing thread panicked".to_owned())?;
        println!("      {kills} web servers were killed meanwhile");
        match done {
            Ok(()) if kills == 0 => Err("no web server could be killed".to_owned()),
            done => done,
        }
    })
}

fn hurl(suite: &[PathBuf], host: &str) -> Command {
    // Names that no earlier round has taken.
    let unique = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let mut command = Command::new("hurl");
    command
        .args(["--test", "--jobs", "1", "--variable"])
        .arg(format!("host={host}"))
        .arg("--variable")
        .arg(format!("uid={unique}"))
        .args(suite);
    command
}

/// A run of the demo, ended when this goes out of scope.
struct Demo {
    child: Child,
    port: String,
}

impl Demo {
    fn binary() -> PathBuf {
        root().join(Path::new("target/release/stackbeam"))
    }

    fn start() -> Result<Self, String> {
        let mut child = Command::new(Self::binary())
            .args(["up", "--quiet", "--rps", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("stackbeam up: {error}"))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .map_err(|error| format!("stackbeam up: {error}"))?;
        }
        let run: Value =
            serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))?;
        let port = run["control"]
            .as_str()
            .and_then(|addr| addr.rsplit_once(':'))
            .map(|(_, port)| port.to_owned())
            .ok_or_else(|| format!("{line:?} names no address"))?;
        Ok(Self { child, port })
    }

    fn order(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(Self::binary())
            .args(words)
            .args(["--port", &self.port])
            .output()
            .map_err(|error| format!("stackbeam: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The balancer's address, once everything answers.
    fn edge(&self) -> Result<String, String> {
        for _ in 0..100 {
            let status: Value = serde_json::from_str(&self.order(&["status", "--json"])?)
                .map_err(|error| error.to_string())?;
            if let (Some(edge), Some(_)) = (status["edge"].as_str(), status["ready_ms"].as_u64()) {
                return Ok(format!("http://{edge}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err("the demo is not ready after 10 s; `stackbeam status` says what is missing".to_owned())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _gone = self.order(&["down"]);
        let _ended = self.child.wait();
    }
}
