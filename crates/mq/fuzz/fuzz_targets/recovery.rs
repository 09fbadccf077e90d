//! Arbitrary bytes as the files of a queue: refused with the file and offset, or a queue that works and adds up.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stackbeam_mq::sim::{Directory, SimDisk};
use stackbeam_mq::{OpenError, Queue, Storage};

const SEGMENT: u64 = 64 << 10;
const HEADER: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let disk = SimDisk::new(Directory::Ordered);
    match kind % 4 {
        0 => write(&disk, "0000000000000001.seg", bytes),
        1 => write(&disk, "0000000000000001.seg", &segment(1, bytes)),
        2 => write(&disk, "0000000000000000.snap", &snapshot(bytes)),
        _ => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            write(&disk, "0000000000000000.snap", &snapshot(first));
            write(&disk, "0000000000000001.seg", &segment(1, second));
        }
    }
    for salvage in [false, true] {
        let options = Queue::options().segment_bytes(SEGMENT).salvage(salvage);
        match options.open_on(disk.clone()) {
            Ok(queue) => works(&queue),
            Err(OpenError::Damaged { file, .. } | OpenError::Version { file, .. }) => {
                assert!(!file.is_empty());
            }
            Err(OpenError::Locked) => panic!("nobody else has it"),
            Err(_) => {}
        }
    }
});

fn write(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(name, true).expect("a file");
    if !bytes.is_empty() {
        assert_eq!(file.write_at(bytes, 0).expect("written"), bytes.len());
    }
    file.sync_data().expect("synced");
}

/// A snapshot whose magic and checksum are right.
fn snapshot(body: &[u8]) -> Vec<u8> {
    let mut out = b"SBMQSNP\x02".to_vec();
    out.extend(body);
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

/// A segment whose frames and records have the right checksums: each record is a length byte and so many bytes.
fn segment(id: u64, mut input: &[u8]) -> Vec<u8> {
    let mut out = b"SBMQSEG\0\x02\0\0\0\0\0\0\0".to_vec();
    out.extend(id.to_le_bytes());
    out.extend(SEGMENT.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out.resize(HEADER, 0);
    let mut index = 0_u64;
    let mut seq = 1_u64;
    while let Some((flags, rest)) = input.split_first() {
        input = rest;
        let mut records = Vec::new();
        let mut count = 0_u32;
        for _ in 0..flags % 8 {
            let Some((len, rest)) = input.split_first() else {
                break;
            };
            let (payload, rest) = rest.split_at(rest.len().min(usize::from(*len)));
            input = rest;
            if payload.is_empty() {
                continue;
            }
            let mut record = (payload.len() as u32).to_le_bytes().to_vec();
            record.extend(payload);
            let crc = crc32c::crc32c(&record) ^ bind(id, index, count);
            records.extend(crc.to_le_bytes());
            records.extend(record);
            count += 1;
            seq += u64::from(payload[0] == 1);
        }
        let offset = out.len() as u64;
        let mut head = [0; 64];
        head[..4].copy_from_slice(&0x514D_4253_u32.to_le_bytes());
        head[4] = 1;
        head[5] = 1;
        head[16..24].copy_from_slice(&id.to_le_bytes());
        head[24..32].copy_from_slice(&index.to_le_bytes());
        head[32..40].copy_from_slice(&seq.to_le_bytes());
        head[48..52].copy_from_slice(&(records.len() as u32).to_le_bytes());
        head[52..56].copy_from_slice(&count.to_le_bytes());
        head[56..60].copy_from_slice(&u32::from(flags >> 6).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), &head[..60]);
        head[60..].copy_from_slice(&crc.to_le_bytes());
        out.extend(head);
        out.extend(records);
        out.resize(out.len().next_multiple_of(4096), 0);
        if flags & 8 != 0 {
            // One byte of it is damaged.
            let at = offset as usize + usize::from(*flags) * 3 % 80;
            out[at] ^= 1;
        }
        index += 1;
        if out.len() as u64 >= SEGMENT {
            break;
        }
    }
    out.resize(SEGMENT as usize, 0);
    out
}

/// As the log binds a record to its frame, in epoch 0.
fn bind(segment: u64, index: u64, ordinal: u32) -> u32 {
    let mut z = segment.rotate_left(40) ^ index ^ (u64::from(ordinal) << 32);
    z = (z ^ (z >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 32) as u32
}

fn adds_up(queue: &Queue) {
    for group in queue.stats().topics.iter().flat_map(|t| &t.groups) {
        let sum = group.acked + group.ready + group.leased + group.delayed + group.dead;
        assert_eq!(group.published, sum + group.discarded);
    }
}

fn works(queue: &Queue) {
    adds_up(queue);
    let mut groups = Vec::new();
    for topic in queue.stats().topics {
        let Ok(handle) = queue.topic(&topic.name) else {
            continue;
        };
        groups.extend(topic.groups.iter().take(4).map(|g| handle.group(&g.name)));
    }
    for group in groups.into_iter().flatten().take(8) {
        if let Ok(leases) = group.take_blocking(3, Some(Duration::ZERO)) {
            drop(group.ack_all_blocking(leases));
        }
    }
    let topic = queue.topic("does it work?").expect("a place for it");
    drop(topic.publish_blocking("works"));
    adds_up(queue);
}
