//! A real process is killed while it publishes and acknowledges; a ledger on its pipe says what it had promised.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(clippy::print_stdout, reason = "the ledger is written to a pipe")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use stackbeam_mq::{GroupOptions, Queue};

const DIR: &str = "MQ_KILL_TEST_DIR";
const CYCLES: u64 = 12;

fn open(dir: &std::path::Path) -> Queue {
    Queue::options().segment_bytes(256 << 10).open(dir).unwrap()
}

/// Not a test by itself: the process that is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let queue = open(dir.as_ref());
    let topic = queue.topic("t").unwrap();
    // The test holds everything that is left at once, and a fast disk leaves more than the default.
    let options = GroupOptions::new()
        .deliveries_max(0)
        .in_flight_max(u32::MAX);
    let group = topic.group_with("g", options).unwrap();
    let publishers: Vec<_> = (0..3)
        .map(|_| {
            let topic = topic.clone();
            std::thread::spawn(move || {
                loop {
                    let id = topic.publish_blocking("x".repeat(700)).unwrap().id;
                    writeln!(std::io::stdout(), "\nP {id}").unwrap();
                }
            })
        })
        .collect();
    loop {
        for lease in group
            .take_blocking(3, Some(Duration::from_millis(100)))
            .unwrap()
        {
            let id = lease.id();
            if id.as_u64().is_multiple_of(3) {
                continue;
            }
            // Asked for before, promised after.
            writeln!(std::io::stdout(), "\nL {id}").unwrap();
            lease.ack_blocking().unwrap();
            writeln!(std::io::stdout(), "\nA {id}").unwrap();
        }
        assert!(!publishers.is_empty());
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_had_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut said: BTreeMap<char, BTreeSet<u64>> = BTreeMap::new();
    for cycle in 0..CYCLES {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
        #[expect(clippy::disallowed_methods, reason = "a kill needs real time to pass")]
        std::thread::sleep(Duration::from_millis(60 + cycle * 37 % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            if let Some((kind, id)) = line.split_once(' ')
                && let (Some(kind @ ('P' | 'L' | 'A')), Ok(id)) = (kind.chars().next(), id.parse())
            {
                said.entry(kind).or_default().insert(id);
            }
        }
    }
    let empty = BTreeSet::new();
    let of = |kind| said.get(&kind).unwrap_or(&empty);
    assert!(
        of('P').len() > 50,
        "only {} publishes in all cycles",
        of('P').len()
    );
    let queue = open(dir.path());
    let group = queue.topic("t").unwrap().group("g").unwrap();
    let mut left = BTreeSet::new();
    let mut held = Vec::new();
    loop {
        let leases = group
            .take_blocking(1000, Some(Duration::from_millis(200)))
            .unwrap();
        if leases.is_empty() {
            break;
        }
        left.extend(leases.iter().map(|l| l.id().as_u64()));
        held.extend(leases);
    }
    let lost: Vec<_> = of('P')
        .iter()
        .filter(|id| !of('L').contains(id) && !left.contains(id))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    let back: Vec<_> = of('A').intersection(&left).collect();
    assert!(back.is_empty(), "acked and back: {back:?}");
}
