//! No server and no folder outlives a test, however the test ends.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A process that holds servers, as a test does.
struct Holder {
    process: Child,
    /// Process ids and folders of its servers.
    servers: Vec<(u32, String)>,
}

fn hold(words: &[&str]) -> Holder {
    let mut process = Command::new(env!("CARGO_BIN_EXE_servers"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut servers = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready" {
            break;
        }
        let mut fields = line.split(' ');
        let id = fields.next().unwrap().parse().unwrap();
        servers.push((id, fields.nth(1).unwrap().to_owned()));
    }
    assert!(servers.len() >= words.len());
    assert!(servers.iter().all(|(id, _)| lives(*id)));
    Holder { process, servers }
}

/// A zombie has ended; only its parent has not asked yet.
fn lives(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

#[expect(clippy::disallowed_methods, reason = "waits for real processes")]
fn all_end(servers: &[(u32, String)]) {
    let started = Instant::now();
    while servers
        .iter()
        .any(|(id, folder)| lives(*id) || Path::new(folder).exists())
    {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "left behind: {servers:?}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

fn signal(process: &Child, signal: &str) {
    let id = process.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
#[ignore = "needs redis, memcached and nats: cargo xtask services"]
fn a_test_killed_by_sigkill_leaves_nothing() {
    let mut holder = hold(&["redis", "memcached", "nats"]);
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    all_end(&holder.servers);
}

#[test]
#[ignore = "needs redis and nginx: cargo xtask services"]
fn a_test_ended_by_ctrl_c_leaves_nothing() {
    let mut holder = hold(&["redis", "nginx"]);
    signal(&holder.process, "INT");
    assert!(!holder.process.wait().unwrap().success());
    all_end(&holder.servers);
}

#[test]
#[ignore = "needs postgres: cargo xtask services"]
fn a_killed_test_leaves_no_postgres() {
    let mut holder = hold(&["postgres:1"]);
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    all_end(&holder.servers);
}
