//! Flipped bits in durable data are found, named, and never delivered as good data.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::time::Duration;

use stackbeam_mq::sim::{Crash, Directory, SimDisk};
use stackbeam_mq::{OpenError, Options, Queue, TakeError};

fn open(disk: &SimDisk, salvage: bool) -> Result<Queue, OpenError> {
    Options::default()
        .segment_bytes(64 << 10)
        .salvage(salvage)
        .open_on(disk.clone())
}

#[test]
fn a_flipped_bit_is_reported_and_the_other_messages_are_salvaged() {
    let disk = SimDisk::new(Directory::Ordered);
    let queue = open(&disk, false).unwrap();
    let topic = queue.topic("t").unwrap();
    topic.group("g").unwrap();
    for n in 0..8 {
        topic.publish_blocking(format!("message {n}")).unwrap();
    }
    // As a killed process leaves it: no snapshot, all is replayed.
    let killed = disk.crash(Crash::KeepAll, 0);
    drop(topic);
    drop(queue);
    let (mut reported, mut fine) = (0, 0);
    for frame in 0..12_usize {
        for byte in [0, 20, 61, 65, 70, 80, 84] {
            let damaged = killed.crash(Crash::KeepAll, 0);
            damaged.flip(
                "0000000000000001.seg",
                4096 + frame * 4096 + byte,
                u8::try_from(byte % 8).unwrap(),
            );
            match open(&damaged, false) {
                Err(OpenError::Damaged { file, offset, .. }) => {
                    reported += 1;
                    assert_eq!(
                        (file.as_str(), offset),
                        ("0000000000000001.seg", (4096 + frame * 4096) as u64)
                    );
                    // Nothing was changed; with salvage the rest is there.
                    let queue = open(&damaged, true).unwrap();
                    assert_eq!(queue.recovery().damage.len(), 1);
                    let topics = queue.topics();
                    if topics.is_empty() {
                        continue;
                    }
                    let group = queue.topic("t").unwrap().group("g").unwrap();
                    let taken = group
                        .take_blocking(20, Some(Duration::from_millis(50)))
                        .unwrap();
                    for lease in &taken {
                        let body = String::from_utf8(lease.message().body().to_vec()).unwrap();
                        assert!(body.starts_with("message ") && body.len() == 9, "{body}");
                    }
                }
                Err(e) => panic!("{e}"),
                Ok(queue) => {
                    fine += 1;
                    let group = queue.topic("t").unwrap().group("g").unwrap();
                    match group.take_blocking(20, Some(Duration::from_millis(50))) {
                        Ok(leases) => {
                            for (n, lease) in leases.iter().enumerate() {
                                assert_eq!(
                                    lease.message().body(),
                                    format!("message {n}").as_bytes()
                                );
                            }
                        }
                        Err(TakeError::Damaged { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        }
    }
    assert!(
        reported > 40 && fine > 5,
        "{reported} reported, {fine} without effect"
    );
}

#[test]
fn an_open_that_replays_says_how_far_it_has_come() {
    let disk = SimDisk::new(Directory::Ordered);
    let queue = open(&disk, false).unwrap();
    let topic = queue.topic("t").unwrap();
    topic.publish_blocking("x").unwrap();
    let killed = disk.crash(Crash::KeepAll, 0);
    let (tell, told) = std::sync::mpsc::channel();
    let options = Options::default().segment_bytes(64 << 10);
    let options = options.on_progress(move |p| tell.send((p.bytes, p.total)).unwrap());
    let again = options.open_on(killed).unwrap();
    assert_eq!(again.recovery().frames, 3);
    drop(again);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, [(0, 65_536), (65_536, 65_536)]);
}
