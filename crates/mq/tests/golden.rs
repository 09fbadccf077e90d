//! Files that an earlier build left are read as ever. Vectors: one killed process of format version 2, with the
//! zeros at the end of the segment left out.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::time::Duration;

use stackbeam_mq::sim::{Directory, SimDisk};
use stackbeam_mq::{OpenError, Options, Queue, Storage, dead_header};

const SEGMENT: &str = "0000000000000001.seg";

fn disk() -> SimDisk {
    let disk = SimDisk::new(Directory::Ordered);
    let mut bytes = include_bytes!("vectors/v2.seg").to_vec();
    bytes.resize(64 << 10, 0);
    let file = disk.open(SEGMENT, true).unwrap();
    assert_eq!(file.write_at(&bytes, 0).unwrap(), bytes.len());
    file.sync_data().unwrap();
    disk
}

fn open(disk: SimDisk) -> Result<Queue, OpenError> {
    Options::default().segment_bytes(64 << 10).open_on(disk)
}

#[test]
fn a_log_of_version_2_is_read() {
    let queue = open(disk()).unwrap();
    let jobs = queue.topic("jobs").unwrap().group("workers").unwrap();
    let got: Vec<_> = (0..2)
        .flat_map(|_| {
            jobs.take_blocking(10, Some(Duration::from_millis(50)))
                .unwrap()
        })
        .collect();
    let said = |l: &stackbeam_mq::Lease| (l.message().body().to_vec(), l.attempt());
    let bodies: Vec<_> = got.iter().map(said).collect();
    // The first was acked, the second delivered once, the third buried, the fourth is urgent.
    assert_eq!(
        bodies,
        [(b"4".to_vec(), 1), (b"2".to_vec(), 2), (b"5".to_vec(), 1)]
    );
    let urgent = got[0].message();
    assert_eq!(urgent.priority_class(), 7);
    assert_eq!(urgent.ordering_key().unwrap(), "key");
    assert_eq!(urgent.deduplication_id().unwrap(), "id");
    assert_eq!(urgent.header_value("name").unwrap(), "value");
    let dead = queue.topic("jobs.dead").unwrap().group("g").unwrap();
    let dead = dead.take_blocking(1, None).unwrap().pop().unwrap();
    assert_eq!(dead.message().body(), "3");
    assert_eq!(
        dead.message().header_value(dead_header::REASON).unwrap(),
        "bad"
    );
}

#[test]
fn a_log_of_another_version_is_left_alone() {
    let disk = disk();
    disk.damage(SEGMENT, |bytes| {
        bytes[8] = 3;
        let crc = crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    let before = disk.files();
    match open(disk.clone()) {
        Err(OpenError::Version { version: 3, .. }) => assert_eq!(disk.files(), before),
        other => panic!("{other:?}"),
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| {
            (c >> 1) ^ (0x82F6_3B78 & (c & 1).wrapping_neg())
        })
    })
}
