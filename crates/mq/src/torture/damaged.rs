//! Bits of a log flip, its end is cut, its blocks are moved.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::world::{World, open};
use super::{Report, Sabotage};
use crate::message::Message;
use crate::options::{GroupOptions, TopicOptions};
use crate::sim::{Crash, Directory, SimDisk};
use crate::state::Batch;

const SEGMENT: &str = "0000000000000001.seg";
const BLOCK: usize = 4096;

/// What happens to the bytes of a log of 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damaging {
    /// Each bit is flipped: 524 288 states.
    Bits,
    /// The file is cut at each length: 65 536 states.
    Cuts,
    /// Each 4 KiB block takes the place of each other one, and each two are swapped: 480 states.
    Blocks,
}

/// A log as a killed process leaves it, and the frame and bytes of each message in it.
struct Log {
    disk: SimDisk,
    messages: BTreeMap<u64, (Range<usize>, Bytes)>,
    last_frame: usize,
}

fn body(n: usize, len: usize) -> Bytes {
    let mut body = format!("{n}/").into_bytes();
    body.resize(len.max(8), b'a' + u8::try_from(n % 26).unwrap_or(0));
    body.into()
}

fn log() -> Option<Log> {
    let disk = SimDisk::new(Directory::Ordered);
    let mut world = open(&disk, false).ok()?;
    let topic = {
        let mut s = world.core.state.lock();
        let (topic, _) = s.topic("t", &TopicOptions::new(), 1)?;
        s.group(topic, "g", &GroupOptions::new(), 1)?;
        topic
    };
    world.settle_down();
    let mut messages = BTreeMap::new();
    let mut last_frame = 0;
    // Two frames of two blocks whose second records begin at a block, so that blocks of records can trade places.
    let pair = [4020, 4084];
    let frames: [&[usize]; 11] = [
        &[100],
        &[700],
        &pair,
        &pair,
        &[30, 40, 50, 60, 70],
        &[3000],
        &[1],
        &[900, 900],
        &[20],
        &[21],
        &[500, 600, 700],
    ];
    let mut n = 0;
    for lens in frames {
        let bodies: Vec<Bytes> = lens
            .iter()
            .map(|len| {
                n += 1;
                body(n, *len)
            })
            .collect();
        let batch = bodies.iter().cloned().map(Message::new).collect();
        let batch = Batch::new(topic, batch, 1);
        let staged = world.core.state.lock().publish(topic, batch, 1).ok()?;
        let pos = world.next_frame();
        world.settle_down();
        let start = usize::try_from(pos.offset).ok()?;
        let len = 64 + bodies.iter().map(|b| b.len() + 12).sum::<usize>();
        let place = start..start + len.next_multiple_of(BLOCK);
        last_frame = start;
        for (seq, body) in (staged.first..).zip(bodies) {
            messages.insert(seq, (place.clone(), body));
        }
    }
    Some(Log {
        disk: world.killed(&disk),
        messages,
        last_frame,
    })
}

/// Damages a log in each way (every `every`th) and opens it: no wrong byte may be delivered, what is lost must be
/// said, nothing beside the damage may be lost, and what an open with salvage has mended must stay so.
#[must_use]
pub fn damage(how: Damaging, every: usize, sabotage: Sabotage) -> Report {
    let _weak = sabotage.weaken();
    let mut report = Report::default();
    let Some(log) = log() else {
        report.failures.push("the log could not be made".into());
        return report;
    };
    let len = log.disk.files()[SEGMENT];
    let every = every.max(1);
    let mut one = |touched: &[Range<usize>], what: String, change: &dyn Fn(&mut Vec<u8>)| {
        let damaged = log.disk.crash(Crash::KeepAll, 0);
        damaged.damage(SEGMENT, change);
        report.check(log.check(&damaged, touched), || what);
        report.failures.len() < 20
    };
    match how {
        Damaging::Bits => {
            for bit in (0..len * 8).step_by(every) {
                let at = bit / 8;
                let flip = |b: &mut Vec<u8>| b[at] ^= 1 << (bit % 8);
                let touched = at..at + 1;
                if !one(std::slice::from_ref(&touched), format!("bit {bit}"), &flip) {
                    break;
                }
            }
        }
        Damaging::Cuts => {
            for cut in (0..len).step_by(every) {
                let touched = cut..usize::MAX;
                if !one(&[touched], format!("cut to {cut}"), &|b| b.truncate(cut)) {
                    break;
                }
            }
        }
        Damaging::Blocks => {
            let blocks = len / BLOCK;
            let of = |n: usize| n * BLOCK..(n + 1) * BLOCK;
            for (a, b) in (0..blocks).flat_map(|a| (0..blocks).map(move |b| (a, b))) {
                let copy = |bytes: &mut Vec<u8>| bytes.copy_within(of(a), b * BLOCK);
                let swap = |bytes: &mut Vec<u8>| {
                    let kept = bytes[of(b)].to_vec();
                    bytes.copy_within(of(a), b * BLOCK);
                    bytes[of(a)].copy_from_slice(&kept);
                };
                let copied = a == b || one(&[of(b)], format!("block {a} over block {b}"), &copy);
                let swapped = a >= b || one(&[of(a), of(b)], format!("blocks {a} and {b}"), &swap);
                if !(copied && swapped) {
                    break;
                }
            }
        }
    }
    report
}

impl Log {
    fn check(&self, disk: &SimDisk, touched: &[Range<usize>]) -> Result<(), String> {
        match open(disk, false) {
            Ok(world) => {
                let torn = world.torn_tail;
                // Without an error only touched frames at the end may be gone, as a torn end, and that is said.
                self.compare(&world, touched, |frame| torn && self.is_end(frame, touched))
            }
            Err(crate::OpenError::Damaged { file, offset, .. }) => {
                let near = |t: &Range<usize>| offset <= t.start.max(65_536) as u64;
                if file != SEGMENT || !touched.iter().any(near) {
                    return Err(format!("damage is reported in {file} at {offset}"));
                }
                let world = open(disk, true).map_err(|e| format!("salvage: {e}"))?;
                self.compare(&world, touched, |_| true)?;
                let kept = world.found()?;
                drop(world);
                let again = open(disk, false).map_err(|e| format!("after salvage: {e}"))?;
                let found = again.found()?;
                if found.messages != kept.messages {
                    return Err("another open after the salvage finds other messages".into());
                }
                Ok(())
            }
            Err(e) => Err(format!("open: {e}")),
        }
    }

    /// Whether this frame and all behind it were touched.
    fn is_end(&self, frame: usize, touched: &[Range<usize>]) -> bool {
        let hit = |f: &Range<usize>| touched.iter().any(|t| t.start < f.end && f.start < t.end);
        self.messages
            .values()
            .all(|(f, _)| f.start < frame || hit(f))
    }

    fn compare(
        &self,
        world: &World,
        touched: &[Range<usize>],
        may_go: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        let found = world.found()?.messages;
        for (seq, (_, body)) in &found {
            match self.messages.get(seq) {
                Some((_, there)) if there == body => {}
                _ => return Err(format!("message {seq} has wrong bytes")),
            }
        }
        let mut lost: BTreeMap<usize, u32> = BTreeMap::new();
        for (seq, (frame, _)) in &self.messages {
            if found.contains_key(seq) {
                continue;
            }
            let hit = touched
                .iter()
                .any(|t| t.start < frame.end && frame.start < t.end);
            if !hit || !may_go(frame.start) {
                return Err(format!("message {seq} is lost"));
            }
            *lost.entry(frame.start).or_insert(0) += 1;
        }
        // One flipped bit costs one record, unless it hit what nobody vouches for.
        let flipped = touched.len() == 1 && touched[0].len() == 1;
        match lost
            .iter()
            .find(|(frame, n)| flipped && **frame != self.last_frame && **n > 1)
        {
            Some((frame, n)) => Err(format!(
                "one bit costs {n} messages of the frame at {frame}"
            )),
            None => Ok(()),
        }
    }
}
