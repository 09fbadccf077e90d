//! Recovery: newest snapshot, then the frames behind it; a torn end is cut, damage inside is reported.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{
    ALIGN, BLOCK, FRAME_HEADER, FrameHeader, Pos, Record, SEGMENT_HEADER, SegmentHeader, VERSION,
    align, read_segment_header, records, salvage, segment_name,
};
use super::writer::Writer;
use crate::error::OpenError;
use crate::state::snapshot::{self, Resume};
use crate::state::{Chunk, Limits, State};
use crate::storage::{Storage, StorageFile, read_full, write_all};

/// Damage that an open with `salvage` skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// File name in the queue's directory.
    pub file: String,
    /// Byte offset where the damage starts.
    pub offset: u64,
    /// Bytes until the next good frame.
    pub bytes: u64,
    /// Records that were recovered from it.
    pub recovered: u64,
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Frames replayed behind the snapshot.
    pub frames: u64,
    /// Whether the log ended in a frame that was never complete (normal after a crash).
    pub torn_tail: bool,
    /// Snapshots that were damaged and passed over.
    pub snapshots_skipped: u64,
    /// Damage that was skipped because `salvage` allows it.
    pub damage: Vec<Damage>,
}

pub(crate) struct Opened {
    pub(crate) state: State,
    pub(crate) writer: Writer,
    pub(crate) resumes: Vec<Resume>,
    pub(crate) report: Recovery,
    pub(crate) time: u64,
}

struct Scan<'a> {
    id: u64,
    bytes: &'a Bytes,
    limit: u64,
    tail: bool,
    salvage: bool,
}

fn io_error(what: &str, name: &str) -> impl Fn(io::Error) -> OpenError {
    let what = format!("{what} {name}");
    move |source| OpenError::Io {
        what: what.clone(),
        source,
    }
}

fn read_file(file: &dyn StorageFile, from: u64, name: &str) -> Result<Bytes, OpenError> {
    let len = file.len().map_err(io_error("length of", name))?;
    let mut buf = vec![0; usize::try_from(len.saturating_sub(from)).unwrap_or(usize::MAX)];
    let n = read_full(file, &mut buf, from).map_err(io_error("read", name))?;
    buf.truncate(n);
    Ok(Bytes::from(buf))
}

/// Opens the log and folds it into a state. The caller holds the lock.
pub(crate) fn open(
    storage: &Arc<dyn Storage>,
    segment_size: u64,
    limits: Limits,
    allow_salvage: bool,
    wall: u64,
) -> Result<Opened, OpenError> {
    let mut report = Recovery::default();
    let names = storage.list().map_err(io_error("list", "directory"))?;
    let mut segments: BTreeMap<u64, String> = BTreeMap::new();
    let mut snapshots: BTreeMap<u64, String> = BTreeMap::new();
    let mut spares = Vec::new();
    for name in names {
        if let Some(id) = name
            .strip_suffix(".seg")
            .and_then(|s| u64::from_str_radix(s, 16).ok())
        {
            segments.insert(id, name);
        } else if let Some(index) = name
            .strip_suffix(".snap")
            .and_then(|s| u64::from_str_radix(s, 16).ok())
        {
            snapshots.insert(index, name);
        } else if name.ends_with(".spare") {
            spares.push(name);
        } else if name.ends_with(".tmp") {
            storage.remove(&name).map_err(io_error("remove", &name))?;
        }
    }

    let mut found = None;
    let mut resumes = Vec::new();
    for (_, name) in snapshots.iter().rev() {
        let file = storage.open(name, false).map_err(io_error("open", name))?;
        let bytes = read_file(&*file, 0, name)?;
        match snapshot::decode(&bytes, limits, wall) {
            Some((_, resume)) if found.is_some() => resumes.insert(0, resume),
            Some((state, resume)) => {
                resumes.push(resume);
                found = Some((state, resume));
            }
            None => {
                report.snapshots_skipped += 1;
                storage.remove(name).map_err(io_error("remove", name))?;
            }
        }
    }
    if found.is_none()
        && report.snapshots_skipped > 0
        && segments.keys().next().is_some_and(|id| *id > 1)
        && !allow_salvage
    {
        return Err(OpenError::Damaged {
            file: "*.snap".into(),
            offset: 0,
            what: "no snapshot is readable and the log no longer starts at its first segment"
                .into(),
        });
    }
    let fresh = found.is_none();
    let (mut state, resume) = found.unwrap_or_else(|| {
        let first = segments.keys().next().copied().unwrap_or(1);
        let pos = Pos {
            segment: first,
            offset: SEGMENT_HEADER,
        };
        (
            State::new(limits),
            Resume {
                pos,
                index: 0,
                epoch: 0,
                time: 0,
            },
        )
    });

    // Load what must be replayed, and find for each segment the first frame that it holds.
    let mut loaded: BTreeMap<u64, (Bytes, Option<u64>)> = BTreeMap::new();
    for (id, name) in segments.range(resume.pos.segment..) {
        let file = storage.open(name, false).map_err(io_error("open", name))?;
        // What the page cache shows may not be on the disk: make it so before trusting it.
        file.sync_data().map_err(io_error("sync", name))?;
        let bytes = read_file(&*file, 0, name)?;
        match read_segment_header(&bytes) {
            SegmentHeader::Version(version) => {
                return Err(OpenError::Version {
                    file: name.clone(),
                    version,
                    known: VERSION,
                });
            }
            SegmentHeader::Valid { .. } | SegmentHeader::Invalid => {}
        }
        let first = first_index(*id, &bytes);
        loaded.insert(*id, (bytes, first));
    }
    storage.sync_dir().map_err(io_error("sync", "directory"))?;
    let tail = loaded
        .iter()
        .rev()
        .find(|(_, (_, first))| first.is_some())
        .map(|(id, _)| *id);

    let mut epoch = resume.epoch;
    let mut expected = resume.index;
    let mut time = resume.time;
    let mut at = None;
    if !fresh
        && tail.is_none_or(|t| t < resume.pos.segment)
        && segments.contains_key(&resume.pos.segment)
    {
        at = Some((resume.pos.segment, resume.pos.offset));
    }
    let ids: Vec<u64> = loaded.keys().copied().collect();
    for id in &ids {
        let Some(tail) = tail else { break };
        if *id > tail {
            break;
        }
        let (bytes, first) = &loaded[id];
        let limit = loaded
            .range(id + 1..)
            .filter_map(|(_, (_, f))| *f)
            .min()
            .unwrap_or(u64::MAX);
        let start = if *id == resume.pos.segment {
            resume.pos.offset
        } else {
            SEGMENT_HEADER
        };
        if fresh && expected == 0 {
            expected = first.unwrap_or(0);
        }
        let scan = Scan {
            id: *id,
            bytes,
            limit,
            tail: *id == tail,
            salvage: allow_salvage,
        };
        let end = replay(
            &scan,
            start,
            &mut expected,
            &mut epoch,
            &mut time,
            &mut state,
            &mut report,
            wall,
        )?;
        at = Some((*id, end));
    }

    // Live messages need their segments.
    let missing: Vec<u64> = state
        .segments
        .iter()
        .filter(|(id, n)| **n > 0 && !segments.contains_key(id))
        .map(|(id, _)| *id)
        .collect();
    if let Some(id) = missing.first()
        && !allow_salvage
    {
        return Err(OpenError::Damaged {
            file: segment_name(*id),
            offset: 0,
            what: "the file is missing".into(),
        });
    }
    let last = tail
        .or_else(|| at.map(|(id, _)| id))
        .unwrap_or_else(|| resume.pos.segment.max(1) - 1);
    for (id, name) in segments.range(last + 1..) {
        // Prepared ahead and never written to.
        let _ = id;
        spares.push(name.clone());
    }
    spares.truncate(8);
    for id in segments.keys().filter(|id| **id < last) {
        state.segments.entry(*id).or_insert(0);
    }
    let make = io_error("open the log in", "directory");
    let mut writer = Writer::new(
        Arc::clone(storage),
        segment_size,
        epoch + 1,
        at,
        last,
        expected,
        spares,
    )
    .map_err(make)?;
    // A new epoch, on disk before anything else: half-written frames behind the cut stay dead for ever.
    let mut buf = Vec::new();
    super::format::put_record(&mut buf, &Record::Mark);
    let time = time.max(wall);
    let mark = Chunk {
        ticket: 0,
        first_seq: state.next_seq,
        time,
        buf,
        records: vec![Record::Mark],
        sync: true,
    };
    writer
        .commit(&mark)
        .map_err(io_error("start an epoch in", "directory"))?;
    state.replaying = false;
    // Tokens of leases that another process life gave out never match again.
    state.next_token = ((epoch + 1) << 40) + 1;
    for g in state.groups.values_mut() {
        g.bury_spent(&mut state.dying);
    }
    Ok(Opened {
        state,
        writer,
        resumes,
        report,
        time,
    })
}

/// Index of the first frame of a segment; `None` when nothing in it was ever completed.
fn first_index(id: u64, bytes: &Bytes) -> Option<u64> {
    let start = usize::try_from(SEGMENT_HEADER).ok()?;
    if let Some((h, _)) = frame_at(id, bytes, start)
        && records(&h, &body_of(&h, bytes, start)).is_ok()
    {
        return Some(h.index);
    }
    // Damage at the front: a later frame proves that it was durable.
    let (_, h) = later_frame(id, bytes, start, 0, 0)?;
    let known_durable = h.index - u64::from(h.unsynced);
    (u64::from(h.unsynced) < h.index && known_durable > 0)
        .then_some(known_durable.min(h.index - 1))
        .filter(|_| {
            // Only frames behind the first one can prove it.
            h.unsynced == 0
        })
}

fn frame_at(id: u64, bytes: &Bytes, at: usize) -> Option<(FrameHeader, usize)> {
    let h = FrameHeader::decode(bytes.get(at..)?, id, at as u64)?;
    let end = at
        .checked_add(FRAME_HEADER)?
        .checked_add(h.body_len as usize)?;
    (end <= bytes.len()).then_some((h, end))
}

fn body_of(h: &FrameHeader, bytes: &Bytes, at: usize) -> Bytes {
    bytes.slice(at + FRAME_HEADER..at + FRAME_HEADER + h.body_len as usize)
}

/// The next frame behind `from` that was written when frame `expected` was known to be durable.
fn later_frame(
    id: u64,
    bytes: &Bytes,
    from: usize,
    expected: u64,
    epoch: u64,
) -> Option<(usize, FrameHeader)> {
    let step = usize::try_from(ALIGN).ok()?;
    let mut at = from + step;
    while at + FRAME_HEADER <= bytes.len() {
        if let Some((h, _)) = frame_at(id, bytes, at)
            && h.epoch >= epoch
            && h.index > expected
            && h.index - u64::from(h.unsynced) > expected
        {
            return Some((at, h));
        }
        at += step;
    }
    None
}

#[allow(clippy::too_many_arguments, reason = "the running state of one replay")]
fn replay(
    scan: &Scan<'_>,
    start: u64,
    expected: &mut u64,
    epoch: &mut u64,
    time: &mut u64,
    state: &mut State,
    report: &mut Recovery,
    now: u64,
) -> Result<u64, OpenError> {
    let mut at = usize::try_from(start).unwrap_or(usize::MAX);
    loop {
        if *expected >= scan.limit {
            return Ok(at as u64);
        }
        let block = usize::try_from(align(at as u64, BLOCK)).unwrap_or(usize::MAX);
        let hit = [at, block].into_iter().find_map(|a| {
            let (h, _) = frame_at(scan.id, scan.bytes, a)?;
            (h.index == *expected && h.epoch >= *epoch).then_some((a, h))
        });
        if let Some((a, h)) = hit
            && let Ok(payloads) = records(&h, &body_of(&h, scan.bytes, a))
        {
            apply(&h, a, &payloads, state, now);
            report.frames += 1;
            *epoch = h.epoch;
            *time = (*time).max(h.time);
            *expected += 1;
            at = usize::try_from(h.next(a as u64)).unwrap_or(usize::MAX);
            continue;
        }
        // No good frame here. Was there one once?
        let from = hit.map_or(at, |(a, _)| a);
        let later = later_frame(scan.id, scan.bytes, from, *expected, *epoch);
        if scan.tail && later.is_none() {
            report.torn_tail |= scan
                .bytes
                .get(at..)
                .is_some_and(|b| b.iter().take(FRAME_HEADER).any(|x| *x != 0));
            return Ok(at as u64);
        }
        if !scan.salvage {
            return Err(OpenError::Damaged {
                file: segment_name(scan.id),
                offset: from as u64,
                what: "a frame that was durable does not match its checksum".into(),
            });
        }
        let recovered = hit.map_or(0, |(a, h)| apply_salvaged(&h, a, scan, state, now));
        let next = later.map_or(scan.bytes.len(), |(a, _)| a);
        report.damage.push(Damage {
            file: segment_name(scan.id),
            offset: from as u64,
            bytes: (next - from.min(next)) as u64,
            recovered,
        });
        match later {
            Some((a, h)) => {
                // Skip to the frame behind the damage, or one that follows the damaged one directly.
                at = a;
                *expected = h.index;
                state.next_seq = state.next_seq.max(h.first_seq);
            }
            None => {
                *expected = scan.limit;
                return Ok(scan.bytes.len() as u64);
            }
        }
    }
}

fn apply(h: &FrameHeader, at: usize, payloads: &[Bytes], state: &mut State, now: u64) {
    let pos = Pos {
        segment: h.segment,
        offset: at as u64,
    };
    let mut seq = h.first_seq;
    for payload in payloads {
        // A record kind of a later minor version is passed over.
        let Some(record) = Record::decode(payload) else {
            continue;
        };
        let message = matches!(record, Record::Message(_));
        state.apply(&record, seq, pos, h.time, now);
        seq += u64::from(message);
    }
    state.next_seq = state.next_seq.max(seq);
    state.committed_seq = state.committed_seq.max(seq);
}

fn apply_salvaged(h: &FrameHeader, at: usize, scan: &Scan<'_>, state: &mut State, now: u64) -> u64 {
    let pos = Pos {
        segment: h.segment,
        offset: at as u64,
    };
    let good = salvage(h, &body_of(h, scan.bytes, at));
    let only_messages = good.iter().all(|(_, p)| p.first() == Some(&1));
    let (mut seq, mut gap, mut n) = (h.first_seq, 0, 0);
    for (ordinal, payload) in &good {
        let Some(record) = Record::decode(payload) else {
            continue;
        };
        let message = matches!(record, Record::Message(_));
        if only_messages {
            seq = h.first_seq + u64::from(*ordinal);
        } else if message && *ordinal != gap {
            // A mixed frame with a hole: which number this message has is not known.
            continue;
        }
        state.apply(&record, seq, pos, h.time, now);
        seq += u64::from(message);
        gap = ordinal + 1;
        n += 1;
    }
    // Numbers of the lost ones are not used again.
    state.next_seq = state.next_seq.max(h.first_seq + u64::from(h.records));
    state.committed_seq = state.next_seq;
    n
}

/// Writes a snapshot durably and removes all but the newest two.
pub(crate) fn write_snapshot(
    storage: &dyn Storage,
    bytes: &[u8],
    index: u64,
    keep_from: Option<u64>,
) -> io::Result<()> {
    let name = format!("{index:016x}.snap");
    let tmp = format!("{name}.tmp");
    let file = storage.open(&tmp, true)?;
    write_all(&*file, bytes, 0)?;
    file.sync_data()?;
    storage.rename(&tmp, &name)?;
    storage.sync_dir()?;
    let keep = keep_from.unwrap_or(index);
    for old in storage.list()? {
        if let Some(i) = old
            .strip_suffix(".snap")
            .and_then(|s| u64::from_str_radix(s, 16).ok())
            && i < keep
        {
            storage.remove(&old)?;
        }
    }
    Ok(())
}
