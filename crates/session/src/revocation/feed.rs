//! The feed over a log that all servers append to and read: it is the bus and the snapshot in one.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{FeedError, MemoryRevocations};
use crate::event::event;
use crate::time::Timestamp;

/// Why a log did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// It could not be reached, or answered nonsense. Try again later.
    #[error("the log is not to be had: {0}")]
    Unavailable(String),
    /// It was lost and begun anew. All servers tell it again what they know.
    #[error("the log was lost")]
    Lost,
}

/// An entry and where it is.
pub type LogEntry<P> = (P, Vec<u8>);

/// A log of all servers: what one appends, every one reads, in one order, from wherever it wants.
///
/// Entries must be kept for the absolute lifetime of a session and twenty minutes. `RedisLog` (feature `redis`) is one,
/// [`MemoryLog`] another.
pub trait RevocationLog: Send + Sync + 'static {
    /// Where an entry is.
    type Position: Clone + Send + Sync;
    /// Appends an entry.
    ///
    /// # Errors
    /// [`LogError`]. It may have been appended all the same; twice does no harm.
    fn append(&self, entry: Vec<u8>) -> impl Future<Output = Result<(), LogError>> + Send;
    /// The entries after a position, or from the beginning; perhaps not all of them. None when there is none, with `wait`
    /// only after a second ([`LOG_WAIT`]) without one.
    ///
    /// # Errors
    /// [`LogError::Lost`] once, when the log was begun anew since the last call.
    fn read(
        &self,
        after: Option<Self::Position>,
        wait: bool,
    ) -> impl Future<Output = Result<Vec<LogEntry<Self::Position>>, LogError>> + Send;
}

/// Keeps [`MemoryRevocations`] of several servers the same over a [`RevocationLog`].
///
/// ```
/// # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::time::Duration;
/// use stackbeam_session::{Key, MemoryLog, MemoryRevocations, RevocationFeed, Timestamp, WhenStale};
///
/// let known = MemoryRevocations::new(&Key::generate()?, Duration::from_secs(86_400))?
///     .following(Duration::from_secs(30), WhenStale::Refuse);
/// let feed = Arc::new(RevocationFeed::new(MemoryLog::default(), Arc::new(known)));
/// feed.catch_up().await?; // From now on tokens are accepted.
/// let message = feed.revocations().revoke_subject("user-42", Timestamp::now())?;
/// feed.send(message).await?;
/// # Ok(())
/// # }
/// ```
///
/// Spawn [`follow`](Self::follow) in a loop; it says when something is wrong. What was ended here while the log could not be
/// reached is told later, all at once.
pub struct RevocationFeed<L: RevocationLog> {
    log: L,
    revocations: Arc<MemoryRevocations>,
    position: Mutex<Option<L::Position>>,
    /// What is known here may not be in the log.
    untold: AtomicBool,
    /// A thousand requests that find that too little is known ask once.
    asking: tokio::sync::Mutex<()>,
}

impl<L: RevocationLog> RevocationFeed<L> {
    /// A feed between this log and what is known here.
    #[must_use]
    pub fn new(log: L, revocations: Arc<MemoryRevocations>) -> Self {
        Self {
            log,
            revocations,
            position: Mutex::new(None),
            untold: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// What is known here.
    #[must_use]
    pub fn revocations(&self) -> &Arc<MemoryRevocations> {
        &self.revocations
    }

    /// Tells the other servers what a `revoke_*` returned.
    ///
    /// # Errors
    /// [`LogError`]; it is ended here, and [`follow`](Self::follow) tells the others when it can.
    ///
    /// # Cancel safety
    /// When it is dropped, [`follow`](Self::follow) tells the others.
    pub async fn send(&self, message: Vec<u8>) -> Result<(), LogError> {
        let untold = Untold(Some(&self.untold));
        self.log.append(message).await?;
        untold.not();
        Ok(())
    }

    /// Takes all that the log has: at the start, before anything is served, and when what is known is too old.
    ///
    /// # Errors
    /// [`FeedFailure`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn catch_up(&self) -> Result<(), FeedFailure> {
        while self.step(false).await? > 0 {}
        Ok(())
    }

    /// [`catch_up`](Self::catch_up), if what is known is too old, and only once for all who ask at a time.
    ///
    /// # Errors
    /// [`FeedFailure`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ask(&self) -> Result<(), FeedFailure> {
        let _asking = self.asking.lock().await;
        if self.revocations.is_too_old(Timestamp::now()) {
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Takes what other servers say, for as long as it is polled. Loop over it: after an error of the log it goes on where
    /// it was; wait a moment between.
    ///
    /// # Errors
    /// [`FeedFailure`]. After [`FeedFailure::Full`] this server does not know all: take it out of service.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn follow(&self) -> Result<std::convert::Infallible, FeedFailure> {
        loop {
            // There may be more than one read brings.
            if self.step(true).await? > 0 {
                self.catch_up().await?;
            }
        }
    }

    /// Two at a time do no harm: an entry may be taken twice.
    async fn step(&self, wait: bool) -> Result<usize, FeedFailure> {
        let after = self.position.lock().clone();
        // What is read was known before this, whatever comes while it is read.
        let now = Timestamp::now();
        let entries = match self.log.read(after, wait).await {
            Ok(entries) => entries,
            Err(LogError::Lost) => {
                event!(warn, "the log of revocations was lost; it is told again");
                *self.position.lock() = None;
                self.untold.store(true, Ordering::Release);
                self.tell(now).await?;
                return Ok(1);
            }
            Err(error) => return Err(error.into()),
        };
        if self.untold.load(Ordering::Acquire) {
            self.tell(now).await?;
        }
        let count = entries.len();
        for (position, entry) in entries {
            let taken = match self.revocations.apply(&entry, now) {
                Err(FeedError::Malformed) => self.revocations.load(&entry, now),
                taken => taken.map(|_| ()),
            };
            match taken {
                Err(FeedError::Full(held)) => return Err(FeedFailure::Full(held)),
                Err(FeedError::Malformed) => {
                    event!(warn, "an entry of the log is no revocation");
                }
                Ok(()) => {}
            }
            *self.position.lock() = Some(position);
        }
        if count == 0 {
            self.revocations.mark_current(now);
        }
        Ok(count)
    }

    /// Appends all that is known here.
    async fn tell(&self, now: Timestamp) -> Result<(), LogError> {
        // First, so that what fails meanwhile is told at the next time.
        self.untold.store(false, Ordering::Release);
        let untold = Untold(Some(&self.untold));
        self.log.append(self.revocations.snapshot(now)).await?;
        untold.not();
        Ok(())
    }
}

/// Remembers that something is untold, unless it was told: also when a future is dropped.
struct Untold<'a>(Option<&'a AtomicBool>);

impl Untold<'_> {
    fn not(mut self) {
        self.0 = None;
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(untold) = self.0 {
            untold.store(true, Ordering::Release);
        }
    }
}

impl<L: RevocationLog> fmt::Debug for RevocationFeed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationFeed")
            .field("revocations", &self.revocations)
            .finish_non_exhaustive()
    }
}

/// Why a feed stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedFailure {
    /// The log failed; go on after a moment.
    #[error(transparent)]
    Log(#[from] LogError),
    /// This many revocations are held, and another came: take the server out of service.
    #[error("{0} revocations are held and none may be forgotten yet")]
    Full(usize),
}

/// How long a [`RevocationLog`] waits for an entry.
pub const LOG_WAIT: Duration = Duration::from_secs(1);

/// A log in memory, for one process and for tests. Clones share it. It keeps everything.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<MemoryLogShared>);

#[derive(Debug, Default)]
struct MemoryLogShared {
    entries: Mutex<Vec<Vec<u8>>>,
    appended: tokio::sync::Notify,
}

impl RevocationLog for MemoryLog {
    type Position = usize;
    async fn append(&self, entry: Vec<u8>) -> Result<(), LogError> {
        self.0.entries.lock().push(entry);
        self.0.appended.notify_waiters();
        Ok(())
    }
    async fn read(
        &self,
        after: Option<usize>,
        wait: bool,
    ) -> Result<Vec<LogEntry<usize>>, LogError> {
        let first = after.map_or(0, |last| last + 1);
        loop {
            // First the ticket, then the look: what comes between wakes.
            let appended = self.0.appended.notified();
            let entries: Vec<_> = {
                let entries = self.0.entries.lock();
                let entries = entries.iter().enumerate().skip(first);
                entries.map(|(at, entry)| (at, entry.clone())).collect()
            };
            if !wait || !entries.is_empty() {
                return Ok(entries);
            }
            if tokio::time::timeout(LOG_WAIT, appended).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }
}
