//! The committer's half of the log: frames into segments, one sync each, and what to do when the disk refuses.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{
    BLOCK, FRAME_HEADER, FrameHeader, Pos, SEGMENT_HEADER, align, seal, segment_header,
    segment_name, unseal,
};
use crate::state::Chunk;
use crate::storage::{Storage, StorageFile, write_all};

/// Unsynced frames kept in memory, so that they can be written elsewhere when a sync fails.
const UNSYNCED_MAX: usize = 8 << 20;
/// Recycled segments kept for reuse.
const SPARES_MAX: usize = 1;

#[derive(Debug)]
struct Unsynced {
    header: FrameHeader,
    pos: Pos,
    messages: u64,
    frame: Bytes,
}

#[derive(Debug)]
pub(crate) struct Writer {
    storage: Arc<dyn Storage>,
    segment_size: u64,
    epoch: u64,
    segment: u64,
    file: Arc<dyn StorageFile>,
    offset: u64,
    next_index: u64,
    /// Frames below this index are on disk.
    durable: u64,
    unsynced: Vec<Unsynced>,
    unsynced_bytes: usize,
    /// The segment refused a write or a sync: nothing more goes there.
    sealed: bool,
    spares: Vec<String>,
    prepared: Option<u64>,
    /// Somebody is making the next one.
    making: bool,
    /// Highest number given to a segment.
    last_id: u64,
}

/// A frame that was written again: from, to, its first message and the one behind its last.
pub(crate) type Moved = (Pos, Pos, u64, u64);

/// A segment to be made.
#[derive(Debug)]
pub(crate) struct SegmentJob {
    storage: Arc<dyn Storage>,
    id: u64,
    size: u64,
    spare: Option<String>,
}

impl SegmentJob {
    pub(crate) fn make(&self) -> io::Result<()> {
        make_segment(&*self.storage, self.id, self.size, self.spare.as_deref()).map(drop)
    }
}

/// What a commit did.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) pos: Pos,
    pub(crate) synced: bool,
    /// Unsynced frames that had to be written again.
    pub(crate) moved: Vec<Moved>,
    pub(crate) frame: Bytes,
}

impl Writer {
    #[allow(
        clippy::too_many_arguments,
        reason = "one call site: recovery hands over all it found"
    )]
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        segment_size: u64,
        epoch: u64,
        at: Option<(u64, u64)>,
        last_segment: u64,
        next_index: u64,
        spares: Vec<String>,
    ) -> io::Result<Self> {
        let (segment, file, offset) = match at {
            Some((segment, offset)) => (
                segment,
                storage.open(&segment_name(segment), false)?,
                offset,
            ),
            None => {
                let id = last_segment + 1;
                (
                    id,
                    make_segment(&*storage, id, segment_size, None)?,
                    SEGMENT_HEADER,
                )
            }
        };
        Ok(Self {
            storage,
            segment_size,
            epoch,
            segment,
            file,
            offset: align(offset, BLOCK),
            next_index,
            durable: next_index,
            unsynced: Vec::new(),
            unsynced_bytes: 0,
            sealed: false,
            spares,
            prepared: None,
            making: false,
            last_id: segment.max(last_segment),
        })
    }

    /// Where the next frame will go, and its index.
    pub(crate) fn position(&self) -> (Pos, u64) {
        (
            Pos {
                segment: self.segment,
                offset: self.offset,
            },
            self.next_index,
        )
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// Largest body a frame may have.
    pub(crate) fn body_max(segment_size: u64) -> usize {
        let room = segment_size.saturating_sub(SEGMENT_HEADER) / 4;
        usize::try_from(room)
            .unwrap_or(usize::MAX)
            .saturating_sub(FRAME_HEADER)
    }

    /// Writes one chunk as a frame. After an error nothing is known of it, and it may be tried again.
    pub(crate) fn commit(&mut self, chunk: &mut Chunk) -> io::Result<Committed> {
        let body = chunk.body_len();
        let mut header = FrameHeader {
            epoch: self.epoch,
            segment: 0,
            index: self.next_index,
            first_seq: chunk.first_seq,
            time: chunk.time,
            body_len: u32::try_from(body)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
            records: chunk.records,
            unsynced: 0,
            padded: false,
        };
        let sync = chunk.sync || self.unsynced_bytes + body > UNSYNCED_MAX;
        let mut moved = Vec::new();
        if self.sealed {
            self.rewrite(&mut moved)?;
        }
        let pos = match self.try_commit(&mut header, &mut chunk.buf, sync) {
            Ok(pos) => pos,
            Err(_) => {
                // A sync that failed is never retried: the same bytes go to a fresh segment.
                self.sealed = true;
                self.rewrite(&mut moved)?;
                self.try_commit(&mut header, &mut chunk.buf, sync)
                    .inspect_err(|_| self.sealed = true)?
            }
        };
        let frame = Bytes::from(std::mem::take(&mut chunk.buf));
        if sync {
            self.unsynced.clear();
            self.unsynced_bytes = 0;
        } else {
            self.unsynced_bytes += body;
            self.unsynced.push(Unsynced {
                header,
                pos,
                messages: chunk.messages,
                frame: frame.clone(),
            });
        }
        Ok(Committed {
            pos,
            synced: sync,
            moved,
            frame,
        })
    }

    /// Writes a frame, and syncs it if asked to. After an error the frame is as it was.
    fn try_commit(
        &mut self,
        header: &mut FrameHeader,
        frame: &mut Vec<u8>,
        sync: bool,
    ) -> io::Result<Pos> {
        if self.sealed || align(self.offset + frame.len() as u64, BLOCK) > self.segment_size {
            if !self.sealed && self.durable < self.next_index {
                self.sync_file()?;
            }
            self.roll()?;
        }
        header.index = self.next_index;
        header.segment = self.segment;
        header.padded = sync;
        header.unsynced = u32::try_from(header.index - self.durable).unwrap_or(u32::MAX);
        let pos = Pos {
            segment: self.segment,
            offset: self.offset,
        };
        seal(header, self.offset, frame);
        let done = if sync {
            self.file.write_synced_at(frame, self.offset)
        } else {
            write_all(&*self.file, frame, self.offset)
        };
        if let Err(e) = done {
            unseal(header, frame);
            return Err(e);
        }
        self.offset = header.next(self.offset);
        self.next_index = header.index + 1;
        if sync {
            self.durable = self.next_index;
        }
        Ok(pos)
    }

    /// Writes the unsynced frames of a failed segment again, into a fresh one, and syncs them.
    fn rewrite(&mut self, moved: &mut Vec<Moved>) -> io::Result<()> {
        let index = self.durable;
        self.roll()?;
        self.next_index = index;
        let mut frames = std::mem::take(&mut self.unsynced);
        let result = self.rewrite_frames(&mut frames, moved);
        if result.is_err() {
            self.sealed = true;
            moved.clear();
        }
        self.unsynced = frames;
        result
    }

    fn rewrite_frames(
        &mut self,
        frames: &mut [Unsynced],
        moved: &mut Vec<Moved>,
    ) -> io::Result<()> {
        let count = frames.len();
        for (i, u) in frames.iter_mut().enumerate() {
            let mut frame = u.frame.to_vec();
            unseal(&u.header, &mut frame);
            if align(self.offset + frame.len() as u64, BLOCK) > self.segment_size {
                return Err(io::Error::other(
                    "unsynced frames do not fit into one segment",
                ));
            }
            let unsynced = u.header.index.saturating_sub(self.durable);
            u.header.segment = self.segment;
            u.header.padded = i + 1 == count;
            u.header.unsynced = u32::try_from(unsynced).unwrap_or(u32::MAX);
            seal(&u.header, self.offset, &mut frame);
            u.frame = Bytes::from(frame);
            let to = Pos {
                segment: self.segment,
                offset: self.offset,
            };
            write_all(&*self.file, &u.frame, self.offset)?;
            self.offset = u.header.next(self.offset);
            self.next_index = u.header.index + 1;
            moved.push((
                u.pos,
                to,
                u.header.first_seq,
                u.header.first_seq + u.messages,
            ));
        }
        if count > 0 {
            self.file.sync_data()?;
            self.durable = self.next_index;
        }
        for (u, (_, to, _, _)) in frames.iter_mut().zip(moved.iter()) {
            u.pos = *to;
        }
        Ok(())
    }

    /// Makes everything written durable. `moved` as in [`Committed`].
    pub(crate) fn sync(&mut self) -> io::Result<Vec<Moved>> {
        let mut moved = Vec::new();
        if self.unsynced.is_empty() {
            return Ok(moved);
        }
        if self.sealed || self.sync_file().is_err() {
            self.sealed = true;
            self.rewrite(&mut moved)?;
        }
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        Ok(moved)
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    fn sync_file(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.durable = self.next_index;
        self.offset = align(self.offset, BLOCK);
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        Ok(())
    }

    fn roll(&mut self) -> io::Result<()> {
        if self.prepared.is_none() {
            self.prepare()?;
        }
        let Some(id) = self.prepared.take() else {
            return Err(io::Error::other("no segment prepared"));
        };
        self.file = self.storage.open(&segment_name(id), false)?;
        self.segment = id;
        self.offset = SEGMENT_HEADER;
        self.sealed = false;
        Ok(())
    }

    /// Makes the next segment ahead of need, so that a full disk is met here and not in a commit.
    pub(crate) fn prepare(&mut self) -> io::Result<()> {
        if self.prepared.is_some() {
            return Ok(());
        }
        let job = self.next_segment();
        make_segment(&*job.storage, job.id, job.size, job.spare.as_deref())?;
        self.prepared = Some(job.id);
        Ok(())
    }

    fn next_segment(&mut self) -> SegmentJob {
        self.last_id = self.last_id.max(self.segment) + 1;
        SegmentJob {
            storage: Arc::clone(&self.storage),
            id: self.last_id,
            size: self.segment_size,
            spare: self.spares.pop(),
        }
    }

    /// A segment that should be made now, without holding up commits. Its maker calls
    /// [`segment_made`](Self::segment_made).
    pub(crate) fn segment_to_make(&mut self) -> Option<SegmentJob> {
        if !self.wants_prepare() {
            return None;
        }
        self.making = true;
        Some(self.next_segment())
    }

    pub(crate) fn segment_made(&mut self, job: SegmentJob, made: io::Result<()>) {
        self.making = false;
        // A full disk is met again when the segment is needed; publishers are told then.
        if made.is_err() {
            return;
        }
        if self.prepared.is_none() && job.id > self.segment {
            self.prepared = Some(job.id);
        } else {
            // The log went on without it.
            drop(self.recycle(job.id));
        }
    }

    /// Whether the segment is more than half full and the next one is not there yet.
    pub(crate) fn wants_prepare(&self) -> bool {
        self.prepared.is_none() && !self.making && self.offset > self.segment_size / 2
    }

    /// A dead segment: keep it for reuse or remove it.
    pub(crate) fn recycle(&mut self, id: u64) -> io::Result<()> {
        let name = segment_name(id);
        if self.spares.len() < SPARES_MAX {
            let spare = spare_name(id);
            self.storage.rename(&name, &spare)?;
            self.spares.push(spare);
        } else {
            self.storage.remove(&name)?;
        }
        Ok(())
    }
}

pub(crate) fn spare_name(id: u64) -> String {
    format!("{id:016x}.spare")
}

/// Creates segment `id` full of zeros (or takes a spare over), durably and under its name.
fn make_segment(
    storage: &dyn Storage,
    id: u64,
    size: u64,
    spare: Option<&str>,
) -> io::Result<Arc<dyn StorageFile>> {
    if spare.is_some() {
        // It must not be found under its old name with the header of a new one.
        storage.sync_dir()?;
    }
    let tmp = format!("{id:016x}.tmp");
    let from = spare.unwrap_or(&tmp);
    let file = storage.open(from, true)?;
    // What an earlier attempt left may read back and yet not be on the disk: only a spare is whole.
    let whole = spare.is_some() && file.len()? == size;
    if !whole {
        // Zeros, not `fallocate`: a sync into unwritten extents drags a journal commit along.
        let zeros = vec![0; 256 << 10];
        let mut at = 0;
        while at < size {
            let n = (size - at).min(zeros.len() as u64);
            write_all(&*file, &zeros[..usize::try_from(n).unwrap_or(0)], at)?;
            at += n;
        }
    }
    let mut block = segment_header(id, size);
    block.resize(usize::try_from(SEGMENT_HEADER).unwrap_or(4096), 0);
    write_all(&*file, &block, 0)?;
    file.sync_data()?;
    storage.rename(from, &segment_name(id))?;
    storage.sync_dir()?;
    Ok(file)
}
