//! A file system of four megabytes that is full: nobody is told a lie, nobody hangs, and it goes on when there is room.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stackbeam_mq::{PublishError, Queue, TopicOptions};

const DIR: &str = "MQ_FULL_DISK_DIR";

fn open(dir: &Path) -> Queue {
    Queue::options().segment_bytes(256 << 10).open(dir).unwrap()
}

/// Not a test by itself: it runs in a mount namespace of its own.
#[test]
fn inside() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    // So that there is something to make room with.
    std::fs::write(dir.join("ballast"), vec![7; 1 << 20]).unwrap();
    let queue = open(&dir.join("q"));
    let topic = queue.topic_with("t", TopicOptions::new()).unwrap();
    let group = topic.group("g").unwrap();
    let body = |n: u32| format!("{n} {}", "x".repeat(3000));
    let mut promised = Vec::new();
    let refused = loop {
        let n = u32::try_from(promised.len()).unwrap();
        match topic.publish_blocking(body(n)) {
            Ok(receipt) => promised.push(receipt.id),
            Err(error) => break error,
        }
        assert!(promised.len() < 2_000, "four megabytes are never full");
    };
    let PublishError::Unknown(what) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        what.contains("No space left") || what.contains("os error 28"),
        "{what}"
    );
    // Room is made, and the service goes on by itself.
    std::fs::remove_file(dir.join("ballast")).unwrap();
    let again = (0..100).find_map(|_| match topic.publish_blocking("again") {
        Ok(receipt) => Some(receipt.id),
        Err(_) => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the disk is tried again in real time"
            )]
            std::thread::sleep(Duration::from_millis(50));
            None
        }
    });
    promised.push(again.expect("it goes on"));
    drop(group);
    queue.close();
    drop((topic, queue));
    let queue = open(&dir.join("q"));
    let group = queue.topic("t").unwrap().group("g").unwrap();
    let mut found = Vec::new();
    loop {
        let leases = group.take_blocking(50, Some(Duration::ZERO)).unwrap();
        if leases.is_empty() {
            break;
        }
        found.extend(leases.iter().map(stackbeam_mq::Lease::id));
        group.ack_all_blocking(leases).unwrap();
    }
    let lost: Vec<_> = promised.iter().filter(|id| !found.contains(id)).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    // An open on a full disk says so, or finds the room that it has.
    queue.close();
    drop((group, queue));
    let mut n = 0_u64;
    while std::fs::write(dir.join(format!("filler{n}")), vec![7; 4096]).is_ok() {
        n += 1;
    }
    if let Err(error) = Queue::open(dir.join("other")) {
        let text = error.to_string();
        assert!(
            text.contains("No space left") || text.contains("os error 28"),
            "{text}"
        );
    }
}

#[test]
#[ignore = "mounts a file system of 4 MB: needs root, or user namespaces"]
fn a_full_disk_loses_nothing_and_service_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$MQ_FULL_DISK_DIR\" && exec \"$0\" inside --exact --nocapture";
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut unshare = Command::new("unshare");
    if !root {
        unshare.args(["--user", "--map-root-user"]);
    }
    let run = unshare
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(
        run.status.success() && said.contains("1 passed"),
        "{said}\n{errors}"
    );
}
