//! The others, each doing what a user of it would do to be as safe.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Result, measure::dir};

/// The disk alone: one write and one `fdatasync` into blocks that were written before.
pub(super) struct RawDisk {
    file: File,
    block: Vec<u8>,
    at: u64,
    _dir: tempfile::TempDir,
}

const RAW_BYTES: u64 = 64 << 20;

impl RawDisk {
    pub(super) fn new(block: usize) -> Result<Self> {
        let dir = dir()?;
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open(dir.path().join("raw"))?;
        file.write_all_at(&vec![0; RAW_BYTES as usize], 0)?;
        file.sync_all()?;
        Ok(Self {
            file,
            block: vec![7; block],
            at: 0,
            _dir: dir,
        })
    }

    pub(super) fn commit(&mut self) {
        self.file
            .write_all_at(&self.block, self.at)
            .expect("written");
        self.file.sync_data().expect("synced");
        self.at = (self.at + self.block.len() as u64) % RAW_BYTES;
    }
}

pub(super) struct Fjall {
    db: fjall::Database,
    items: fjall::Keyspace,
    next: AtomicU64,
    _dir: tempfile::TempDir,
}

impl Fjall {
    pub(super) fn new() -> Result<Self> {
        let dir = dir()?;
        let db = fjall::Database::builder(dir.path()).open()?;
        let items = db.keyspace("q", fjall::KeyspaceCreateOptions::default)?;
        Ok(Self {
            db,
            items,
            next: AtomicU64::new(0),
            _dir: dir,
        })
    }

    pub(super) fn commit(&self, body: &[u8], count: usize) {
        for _ in 0..count {
            let key = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            self.items.insert(key, body).expect("inserted");
        }
        self.db
            .persist(fjall::PersistMode::SyncData)
            .expect("synced");
    }
}

pub(super) struct OkayWal {
    log: okaywal::WriteAheadLog,
    _dir: tempfile::TempDir,
}

impl OkayWal {
    pub(super) fn new() -> Result<Self> {
        let dir = dir()?;
        let log = okaywal::WriteAheadLog::recover(dir.path(), okaywal::LogVoid)?;
        Ok(Self { log, _dir: dir })
    }

    pub(super) fn commit(&self, body: &[u8], count: usize) {
        let mut entry = self.log.begin_entry().expect("an entry");
        for _ in 0..count {
            entry.write_chunk(body).expect("written");
        }
        entry.commit().expect("synced");
    }
}

pub(super) struct Raft {
    engine: raft_engine::Engine,
    next: AtomicU64,
    _dir: tempfile::TempDir,
}

impl Raft {
    pub(super) fn new() -> Result<Self> {
        let dir = dir()?;
        let config = raft_engine::Config {
            dir: dir
                .path()
                .to_str()
                .ok_or("a path that is no text")?
                .to_owned(),
            ..raft_engine::Config::default()
        };
        Ok(Self {
            engine: raft_engine::Engine::open(config)?,
            next: AtomicU64::new(0),
            _dir: dir,
        })
    }

    /// Writes as key-values, each thread to a region of its own.
    pub(super) fn commit(&self, region: usize, body: &[u8], count: usize) {
        let mut batch = raft_engine::LogBatch::default();
        for _ in 0..count {
            // A thousand keys a region are written again and again, so that memory does not grow.
            let key = self.next.fetch_add(1, Ordering::Relaxed) % 1000;
            batch
                .put(region as u64 + 1, key.to_be_bytes().to_vec(), body.to_vec())
                .expect("put");
        }
        self.engine.write(&mut batch, true).expect("synced");
    }

    /// Puts batch `n` there to be taken.
    pub(super) fn fill(&self, n: usize, body: &[u8], count: usize) {
        let mut batch = raft_engine::LogBatch::default();
        for i in 0..count {
            let key = ((n * count + i) as u64).to_be_bytes().to_vec();
            batch.put(1, key, body.to_vec()).expect("put");
        }
        self.engine.write(&mut batch, false).expect("written");
    }

    /// Reads batch `n` and deletes it durably.
    pub(super) fn take(&self, n: usize, count: usize) {
        let mut batch = raft_engine::LogBatch::default();
        for i in 0..count {
            let key = ((n * count + i) as u64).to_be_bytes().to_vec();
            std::hint::black_box(self.engine.get(1, &key));
            batch.delete(1, key);
        }
        self.engine.write(&mut batch, true).expect("synced");
    }
}

pub(super) struct Yaque {
    runtime: tokio::runtime::Runtime,
    send: yaque::Sender,
    receive: yaque::Receiver,
    _dir: tempfile::TempDir,
}

impl Yaque {
    pub(super) fn new() -> Result<Self> {
        let dir = dir()?;
        let (send, receive) = yaque::channel(dir.path().join("q"))?;
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            send,
            receive,
            _dir: dir,
        })
    }

    pub(super) fn send(&mut self, body: &[u8]) {
        self.runtime.block_on(self.send.send(body)).expect("sent");
    }

    pub(super) fn take(&mut self) {
        let taken = self
            .runtime
            .block_on(self.receive.recv())
            .expect("received");
        taken.commit().expect("committed");
    }
}
