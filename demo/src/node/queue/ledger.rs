//! Ended sessions, remembered by the queue's process for web servers that start.
//!
//! The topic carries a message to the servers that are there. The ledger is a consumer like them that
//! is never away for good: it takes each message, keeps the whole set in a file, and only then says
//! that it is done. So a message is always in the queue or in the file, and the set survives
//! everything that the disk survives.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stackbeam_mq::{Group, GroupOptions, Queue};
use stackbeam_session::{FeedError, Key, MemoryRevocations, Timestamp};

use super::{REVOCATIONS, blocking, revocations, revocations_topic};
use crate::node::NodeError;

const LEDGER: &str = "ledger";
const FILE: &str = "revocations.snapshot";

/// Messages that one write of the file covers. The file takes 25 bytes for each ended session, and is
/// written anew each time.
const AT_ONCE: usize = 1_000;
/// The wait after a disk that refused.
const PAUSE: Duration = Duration::from_millis(500);
/// How long who asks for the set waits for the messages that came before the question.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Ledger {
    queue: Queue,
    group: Group,
    known: MemoryRevocations,
    dir: PathBuf,
}

impl Ledger {
    pub(super) async fn open(queue: &Queue, dir: &Path, key: &str) -> Result<Self, NodeError> {
        let failed = |error: &dyn std::fmt::Display| NodeError::Role(format!("sessions: {error}"));
        let key = Key::from_text(key).map_err(|error| failed(&error))?;
        let known = revocations(&key)?;
        let file = dir.join(FILE);
        match fs::read(&file) {
            Ok(snapshot) => known.load(&snapshot, Timestamp::now()).map_err(|error| {
                failed(&format!(
                    "{}: {error}; ended sessions would hold again without it, \
                     so remove it only together with the run's secrets",
                    file.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(NodeError::Io {
                    what: format!("reading {}", file.display()),
                    source,
                });
            }
        }
        let open = queue.clone();
        let group = blocking(move || {
            open.topic_with(REVOCATIONS, revocations_topic())
                .and_then(|topic| topic.group_with(LEDGER, GroupOptions::new().deliveries_max(0)))
                .map_err(|error| NodeError::Role(format!("the queue: {error}")))
        })
        .await?;
        Ok(Self {
            queue: queue.clone(),
            group,
            known,
            dir: dir.to_owned(),
        })
    }

    /// How many ended sessions are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Takes messages until the queue is closed.
    pub(super) async fn remember(self: Arc<Self>) {
        loop {
            let leases = match self.group.take(AT_ONCE).await {
                Ok(leases) => leases,
                Err(stackbeam_mq::TakeError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "taking ended sessions");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let mut room = true;
            for lease in &leases {
                match self.known.apply(lease.message().body(), Timestamp::now()) {
                    Ok(_) => {}
                    Err(FeedError::Full(_)) => room = false,
                    Err(error) => tracing::warn!(%error, "a message that ends no session"),
                }
            }
            let (dir, snapshot) = (self.dir.clone(), self.known.snapshot(Timestamp::now()));
            let kept = tokio::task::spawn_blocking(move || keep(&dir, &snapshot)).await;
            if let (true, Ok(Ok(()))) = (room, &kept) {
                for lease in leases {
                    // One that is lost comes again and changes nothing.
                    let _again = lease.ack().await;
                }
            } else {
                tracing::warn!(
                    ?kept,
                    room,
                    "ended sessions stay in the queue until there is room"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// All sessions that had been ended when this was called; `None` if that takes too long.
    pub(super) async fn snapshot(&self) -> Option<Vec<u8>> {
        let count = || {
            let stats = self.queue.stats();
            let group = stats.group(REVOCATIONS, LEDGER)?;
            Some((group.published, group.acked))
        };
        let (before, _) = count()?;
        let caught_up = async {
            while count().is_some_and(|(_, done)| done < before) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(CATCH_UP_MAX, caught_up).await.ok()?;
        Some(self.known.snapshot(Timestamp::now()))
    }
}

fn keep(dir: &Path, snapshot: &[u8]) -> io::Result<()> {
    let unfinished = dir.join("revocations.unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(snapshot)?;
    file.sync_all()?;
    fs::rename(unfinished, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}
