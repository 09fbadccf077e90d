//! Recovery: newest snapshot, then the frames behind it; a torn end is cut, damage inside is reported.

mod replay;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{Pos, SEGMENT_HEADER, SegmentHeader, VERSION, read_segment_header};
use super::record::{Record, put_record};
use super::writer::{Writer, spare_name};
use crate::error::OpenError;
use crate::state::snapshot::{self, Resume};
use crate::state::{Chunk, Effect, Limits, State};
use crate::storage::{Storage, StorageFile, read_full, write_all};
use replay::{Replay, Scan, first_index};

/// Damage that an open with `salvage` skipped. The damaged bytes are kept beside the log, in a file named after
/// segment and offset that ends in `.bad`; nothing reads it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// File name in the queue's directory.
    pub file: String,
    /// Byte offset where the damage starts.
    pub offset: u64,
    /// Bytes until the next good frame.
    pub bytes: u64,
    /// Records that were recovered from it, and written again.
    pub recovered: u64,
}

/// How far an open has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of log that are replayed.
    pub bytes: u64,
    /// Bytes of log that are to be replayed.
    pub total: u64,
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

fn io_error(what: &str, name: &str) -> impl Fn(io::Error) -> OpenError {
    let what = format!("{what} {name}");
    move |source| OpenError::Io {
        what: what.clone(),
        source,
    }
}

fn read_file(file: &dyn StorageFile, name: &str) -> Result<Bytes, OpenError> {
    let len = file.len().map_err(io_error("length of", name))?;
    let mut buf = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let n = read_full(file, &mut buf, 0).map_err(io_error("read", name))?;
    buf.truncate(n);
    Ok(Bytes::from(buf))
}

/// The files of a directory, by what they are.
#[derive(Debug, Default)]
struct Files {
    segments: BTreeMap<u64, String>,
    snapshots: BTreeMap<u64, String>,
    spares: Vec<String>,
}

impl Files {
    fn list(storage: &dyn Storage) -> Result<Self, OpenError> {
        let mut files = Self::default();
        for name in storage.list().map_err(io_error("list", "directory"))? {
            let numbered = |suffix: &str| {
                let number = name.strip_suffix(suffix)?;
                u64::from_str_radix(number, 16).ok()
            };
            if let Some(id) = numbered(".seg") {
                files.segments.insert(id, name);
            } else if let Some(index) = numbered(".snap") {
                files.snapshots.insert(index, name);
            } else if name.ends_with(".spare") {
                files.spares.push(name);
            } else if name.ends_with(".tmp") {
                storage.remove(&name).map_err(io_error("remove", &name))?;
            }
        }
        Ok(files)
    }
}

/// The newest good snapshot and where replay goes on after each good one, oldest first.
fn snapshots(
    storage: &dyn Storage,
    files: &Files,
    limits: Limits,
    wall: u64,
    report: &mut Recovery,
) -> Result<(Option<State>, Vec<Resume>), OpenError> {
    let mut newest = None;
    let mut resumes = Vec::new();
    for name in files.snapshots.values().rev() {
        let file = storage.open(name, false).map_err(io_error("open", name))?;
        let bytes = read_file(&*file, name)?;
        match snapshot::decode(&bytes, limits, wall) {
            Some((state, resume)) => {
                resumes.insert(0, resume);
                newest.get_or_insert(state);
            }
            None => report.snapshots_skipped += 1,
        }
    }
    Ok((newest, resumes))
}

/// Opens the log and folds it into a state. The caller holds the lock.
pub(crate) fn open(
    storage: &Arc<dyn Storage>,
    segment_size: u64,
    limits: Limits,
    salvage: bool,
    wall: u64,
    progress: &dyn Fn(Progress),
) -> Result<Opened, OpenError> {
    let mut report = Recovery::default();
    let mut files = Files::list(&**storage)?;
    let (found, resumes) = snapshots(&**storage, &files, limits, wall, &mut report)?;
    if found.is_none()
        && report.snapshots_skipped > 0
        && files.segments.keys().next().is_some_and(|id| *id > 1)
        && !salvage
    {
        return Err(OpenError::Damaged {
            file: "*.snap".into(),
            offset: 0,
            what: "no snapshot is readable and the log no longer starts at its first segment"
                .into(),
        });
    }
    let fresh = found.is_none();
    let resume = resumes.last().copied().unwrap_or_else(|| {
        let first = files.segments.keys().next().copied().unwrap_or(1);
        Resume {
            pos: Pos {
                segment: first,
                offset: SEGMENT_HEADER,
            },
            index: 0,
            epoch: 0,
            time: 0,
        }
    });
    let mut replay = Replay {
        state: found.unwrap_or_else(|| State::new(limits)),
        report,
        expected: resume.index,
        epoch: resume.epoch,
        time: resume.time,
        salvage,
        now: wall,
        rescued: Vec::new(),
        quarantine: Vec::new(),
    };

    let firsts = first_indexes(&**storage, &files, resume.pos.segment, &mut replay)?;
    storage.sync_dir().map_err(io_error("sync", "directory"))?;
    let tail = firsts.last_key_value().map(|(id, _)| *id);
    let mut at = (!fresh && tail.is_none() && files.segments.contains_key(&resume.pos.segment))
        .then_some((resume.pos.segment, resume.pos.offset));
    let ids: Vec<u64> = files
        .segments
        .range(resume.pos.segment..=tail.unwrap_or(0).max(resume.pos.segment))
        .map(|(id, _)| *id)
        .collect();
    let ids: Vec<u64> = (ids.into_iter())
        .filter(|id| tail.is_some_and(|t| *id <= t))
        .collect();
    // All segments are of one size, but for what an option has changed since.
    let mut done = Progress {
        bytes: 0,
        total: segment_size.saturating_mul(ids.len() as u64),
    };
    progress(done);
    for id in ids {
        let name = &files.segments[&id];
        let file = storage.open(name, false).map_err(io_error("open", name))?;
        let bytes = read_file(&*file, name)?;
        if fresh && replay.expected == 0 {
            replay.expected = firsts.get(&id).copied().unwrap_or(0);
        }
        let scan = Scan {
            id,
            bytes: &bytes,
            limit: firsts
                .range(id + 1..)
                .map(|(_, f)| *f)
                .min()
                .unwrap_or(u64::MAX),
            tail: Some(id) == tail,
        };
        let start = if id == resume.pos.segment {
            resume.pos.offset
        } else {
            SEGMENT_HEADER
        };
        at = Some((id, replay.segment(&scan, start)?));
        done.bytes = done.total.min(done.bytes.saturating_add(segment_size));
        progress(done);
    }
    missing_segments(&files, &mut replay)?;
    let last = tail
        .or_else(|| at.map(|(id, _)| id))
        .unwrap_or_else(|| resume.pos.segment.max(1) - 1);
    // Numbers of segments are not used again: two spares must never claim one name.
    let highest = files
        .segments
        .last_key_value()
        .map_or(last, |(id, _)| last.max(*id));
    for (id, name) in files.segments.range(last + 1..) {
        // Prepared ahead and never written to.
        let spare = spare_name(*id);
        let renamed = storage.rename(name, &spare);
        renamed.map_err(io_error("rename", name))?;
        files.spares.push(spare);
    }
    files.spares.truncate(8);
    for id in files.segments.keys().filter(|id| **id < last) {
        replay.state.segments.entry(*id).or_default();
    }
    start_epoch(
        storage,
        segment_size,
        wall,
        (at, highest),
        files,
        replay,
        resumes,
    )
}

/// Checks the segments that are to be replayed, makes them durable, and finds the first frame of each.
fn first_indexes(
    storage: &dyn Storage,
    files: &Files,
    from: u64,
    replay: &mut Replay,
) -> Result<BTreeMap<u64, u64>, OpenError> {
    let mut firsts = BTreeMap::new();
    for (id, name) in files.segments.range(from..) {
        let file = storage.open(name, false).map_err(io_error("open", name))?;
        // What the page cache shows may not be on the disk: make it so before trusting it.
        file.sync_data().map_err(io_error("sync", name))?;
        let len = file.len().map_err(io_error("length of", name))?;
        let mut head = vec![0; 64 << 10];
        let n = read_full(&*file, &mut head, 0).map_err(io_error("read", name))?;
        head.truncate(n);
        let head = Bytes::from(head);
        match read_segment_header(&head) {
            SegmentHeader::Version(version) => {
                return Err(OpenError::Version {
                    file: name.clone(),
                    version,
                    known: VERSION,
                });
            }
            SegmentHeader::Valid { id: named, size } if named == *id => {
                if len < size {
                    let what = format!("the file has {len} bytes of {size}");
                    replay.damaged(*id, len, Bytes::new(), 0, &what)?;
                }
            }
            SegmentHeader::Valid { .. } | SegmentHeader::Invalid => {
                let end = head.len().min(4096);
                let what = "the segment's header does not match its checksum or name";
                replay.damaged(*id, 0, head.slice(..end), 0, what)?;
            }
        }
        let first = match first_index(*id, &head) {
            Some(first) => Some(first),
            // A segment that was never written to is all zeros behind its header.
            None if head.iter().skip(4096).all(|b| *b == 0) => None,
            None => first_index(*id, &read_file(&*file, name)?),
        };
        firsts.extend(first.map(|f| (*id, f)));
    }
    Ok(firsts)
}

/// Live messages need their segments.
fn missing_segments(files: &Files, replay: &mut Replay) -> Result<(), OpenError> {
    let missing: Vec<u64> = replay
        .state
        .segments
        .iter()
        .filter(|(id, s)| s.live > 0 && !files.segments.contains_key(id))
        .map(|(id, _)| *id)
        .collect();
    for id in missing {
        replay.damaged(id, 0, Bytes::new(), 0, "the file is missing")?;
    }
    Ok(())
}

/// Writes what belongs on the disk before anything else: the start of a generation, and what was rescued.
fn start_epoch(
    storage: &Arc<dyn Storage>,
    segment_size: u64,
    wall: u64,
    (at, last): (Option<(u64, u64)>, u64),
    files: Files,
    replay: Replay,
    resumes: Vec<Resume>,
) -> Result<Opened, OpenError> {
    let Replay {
        mut state,
        report,
        epoch,
        time,
        expected,
        rescued,
        quarantine,
        ..
    } = replay;
    for (segment, offset, bytes) in &quarantine {
        let name = format!("{segment:016x}-{offset:08x}.bad");
        keep(&**storage, &name, bytes).map_err(io_error("write", &name))?;
    }
    let make = io_error("open the log in", "directory");
    let next_epoch = epoch + u64::from(!crate::weak::same_epoch());
    // Behind damage no offset is to be trusted: go on in a fresh segment.
    let at = at.filter(|_| report.damage.is_empty());
    let mut writer = Writer::new(
        Arc::clone(storage),
        segment_size,
        next_epoch,
        at,
        last,
        expected,
        files.spares,
    )
    .map_err(make)?;
    // A new epoch, on disk before anything else: half-written frames behind the cut stay dead for ever.
    let time = time.max(wall);
    let mut records = vec![Record::Mark];
    records.extend(rescued.into_iter().filter_map(|r| {
        let topic = state.topics.get(&r.stored.topic)?;
        let held = state.is_held(topic, r.seq);
        held.then_some(Record::Moved(r.seq, r.time, r.stored))
    }));
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut chunk = Chunk::new(state.next_seq, time, 0);
        chunk.sync = true;
        while let Some(record) = records.next_if(|_| chunk.buf.len() < state.limits.frame_max / 2) {
            put_record(&mut chunk.buf, &record);
            chunk.records += 1;
            chunk.effects.push(Effect::Other(record));
        }
        let done = writer
            .commit(&mut chunk)
            .map_err(io_error("start an epoch in", "directory"))?;
        for effect in chunk.effects {
            state.apply(effect, 0, done.pos, time, wall);
        }
    }
    state.close_extents();
    state.replaying = false;
    // Tokens of leases that another process life gave out never match again.
    state.next_token = ((epoch + 1) << 40) + 1;
    for g in state.groups.values_mut() {
        if let Some(t) = state.topics.get(&g.topic) {
            g.bury_spent(&t.attrs, &mut state.dying);
        }
    }
    Ok(Opened {
        state,
        writer,
        resumes,
        report,
        time,
    })
}

fn keep(storage: &dyn Storage, name: &str, bytes: &[u8]) -> io::Result<()> {
    let file = storage.open(name, true)?;
    write_all(&*file, bytes, 0)?;
    file.sync_data()
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
