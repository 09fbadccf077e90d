//! What a replica does by itself: it pulls records, fetches snapshots, and applies what is due.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::{Inner, Peers};
use crate::evidence::MemberId;
use crate::sqlite::copy::{Apply, Next};
use crate::sqlite::message::{Pull, Shipment};

impl<A: Apply> Inner<A> {
    /// Follows whoever this copy is told to follow.
    pub(super) async fn follow_for_ever(self: Arc<Self>, peers: impl Peers) {
        let mut seen = self.seen.subscribe();
        loop {
            let question = self.core.lock().copy.pull();
            let Some((primary, pull)) = question else {
                let changed = seen.wait_for(|seen| seen.following.is_some()).await;
                if changed.is_err() {
                    return;
                }
                continue;
            };
            let next = match peers.pull(primary, pull).await {
                Some(shipment) => {
                    let inner = Arc::clone(&self);
                    spawn_blocking(move || inner.receive(&pull, shipment)).await
                }
                None => Ok(Next::Wait),
            };
            match next {
                Ok(Next::Pull) => {}
                Ok(Next::Snapshot) => {
                    if self.fetch(&peers, primary).await.is_none() {
                        tokio::time::sleep(self.options.retry_after).await;
                    }
                }
                Ok(Next::Wait) | Err(_) => tokio::time::sleep(self.options.retry_after).await,
            }
        }
    }

    fn receive(&self, pull: &Pull, shipment: Shipment) -> Next {
        let mut core = self.core.lock();
        let caught_up = match &shipment {
            Shipment::Entries { entries, end, .. } => {
                entries.last().map_or(pull.last, |entry| entry.lsn) >= *end
            }
            _ => false,
        };
        let next = core.copy.receive(pull, shipment).unwrap_or_else(|error| {
            tracing::error!(%error, "storing records");
            Next::Wait
        });
        if next == Next::Pull && caught_up {
            core.heard = Some(Instant::now());
        }
        self.advance(&mut core);
        next
    }

    /// Fetches a snapshot piece by piece into a file of this copy's folder, and installs it.
    async fn fetch(self: &Arc<Self>, peers: &impl Peers, primary: MemberId) -> Option<()> {
        let path = self.state.with_file_name("incoming.db");
        let mut file = std::fs::File::create(&path).ok()?;
        let epoch = self.seen.borrow().epoch;
        let mut id = None;
        let mut offset = 0;
        loop {
            let piece = peers.piece(primary, id, offset).await?;
            let fits = id.is_none_or(|id| id == piece.id) && piece.offset == offset;
            if !fits || (piece.bytes.is_empty() && offset < piece.total) {
                return None;
            }
            id = Some(piece.id);
            offset += piece.bytes.len() as u64;
            file.write_all(&piece.bytes).ok()?;
            if offset >= piece.total {
                break;
            }
        }
        drop(file);
        let (inner, id) = (Arc::clone(self), id?);
        spawn_blocking(move || {
            let mut core = inner.core.lock();
            let done = core.copy.install(id, &path, epoch);
            if let Err(error) = &done {
                tracing::error!(%error, "installing a snapshot");
            }
            core.due.clear();
            inner.advance(&mut core);
            let _best_effort = std::fs::remove_file(&path);
            done.ok()
        })
        .await
        .ok()?
    }

    /// Applies on replicas what is due; with a lag, later.
    pub(super) async fn apply_for_ever(self: Arc<Self>) {
        let mut seen = self.seen.subscribe();
        loop {
            if seen
                .wait_for(|seen| seen.usable && seen.committed > seen.applied)
                .await
                .is_err()
            {
                return;
            }
            let wait = {
                let core = self.core.lock();
                let lag = Duration::from_millis(self.lag_ms.load(Ordering::Relaxed));
                core.due
                    .front()
                    .map_or(Duration::from_millis(1), |(at, _)| {
                        (*at + lag).saturating_duration_since(Instant::now())
                    })
            };
            // News may be another lag.
            let _which = timeout(wait.max(Duration::from_millis(1)), seen.changed()).await;
            let inner = Arc::clone(&self);
            let _done = spawn_blocking(move || inner.advance(&mut inner.core.lock())).await;
        }
    }
}
