//! The tool `stackbeam-mq` on a queue that is sound, in use, and damaged.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::Path;
use std::process::Command;

use stackbeam_mq::Queue;

/// Exit code and standard output.
fn tool(args: &[&str], dir: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackbeam-mq"));
    let out = command
        .arg(args[0])
        .arg(dir)
        .args(&args[1..])
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (out.status.code().unwrap(), text)
}

#[test]
fn the_tool_says_what_is_there_and_mends_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let queue = Queue::options().segment_bytes(64 << 10).open(dir).unwrap();
    let topic = queue.topic("t").unwrap();
    topic.group("g").unwrap();
    for n in 0..5 {
        topic.publish_blocking(format!("message {n}")).unwrap();
    }
    assert_eq!(tool(&["stats"], dir).0, 3, "in use");
    let (code, text) = tool(&["verify"], dir);
    assert!(code == 0 && text.contains("5 messages: sound"), "{text}");
    let (_, text) = tool(&["tail", "-n", "2"], dir);
    assert!(
        text.lines().count() == 2 && text.contains("message 4"),
        "{text}"
    );
    // As a killed process leaves it.
    let killed = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
    }
    queue.close();
    let (code, text) = tool(&["stats"], dir);
    assert!(
        code == 0 && text.contains("5 published = 0 acked + 5 ready"),
        "{text}"
    );

    let dir = killed.path();
    let file = dir.join("0000000000000001.seg");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(9).position(|w| w == b"message 1").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, text) = tool(&["verify"], dir);
    assert!(code == 1 && text.contains("DAMAGED at byte"), "{text}");
    assert_eq!(tool(&["stats"], dir).0, 1, "a damaged queue is not opened");
    let (code, text) = tool(&["repair"], dir);
    assert!(code == 0 && text.contains("1 places skipped"), "{text}");
    let (code, text) = tool(&["stats"], dir);
    assert!(
        code == 0 && text.contains("4 published = 0 acked + 4 ready"),
        "{text}"
    );
    assert_eq!(tool(&["fly"], dir).0, 2);
}

#[test]
fn the_tool_redrives_and_measures() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (code, text) = tool(&["bench", "-n", "20"], dir);
    assert!(
        code == 0 && text.contains("20 messages, each synced"),
        "{text}"
    );
    assert_eq!(tool(&["redrive", "bench.dead"], dir).0, 1, "no such topic");
    {
        let queue = Queue::open(dir).unwrap();
        let topic = queue.topic("t").unwrap();
        let options = stackbeam_mq::GroupOptions::new().deliveries_max(1);
        let group = topic.group_with("g", options).unwrap();
        topic.publish_blocking("poison").unwrap();
        drop(group.take_blocking(1, None).unwrap());
        while queue.stats().group("t", "g").is_some_and(|g| g.dead == 0) {
            std::thread::yield_now();
        }
    }
    let (code, text) = tool(&["redrive", "t.dead"], dir);
    assert!(code == 0 && text.contains("1 messages sent back"), "{text}");
}
