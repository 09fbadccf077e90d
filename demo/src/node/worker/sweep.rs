//! Looks for photos whose job was lost between the database and the queue, and publishes it again.
//!
//! An upload is first a row on its owner's shard, then a job in the queue. A web server that dies
//! between the two, or a queue that is away, leaves a row without a job. The queue knows jobs that it
//! has seen, so publishing one too many changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Worker;
use crate::app::store::{Read, ReadReply};
use crate::node::now_ms;
use crate::node::queue::link::{QueueError, QueueLink};

/// Time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(3);
/// A photo that nobody touched for so long may be one whose job was lost.
const UNTOUCHED_MS: u64 = 5_000;

/// Sweeps now and then, for as long as it is polled.
pub(super) async fn sweep(worker: Arc<Worker>, link: QueueLink) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if !link.is_found() {
            continue;
        }
        let before_ms = now_ms().saturating_sub(UNTOUCHED_MS);
        if let Err(error) = worker.sweep(&link, before_ms).await {
            tracing::warn!(%error, "a sweep ends early");
        }
    }
}

impl Worker {
    /// Publishes the jobs of photos without a result that nobody touched since then. A shard that does
    /// not answer is left for the next time.
    pub(super) async fn sweep(&self, link: &QueueLink, before_ms: u64) -> Result<(), QueueError> {
        for shard in 0..self.shards.count() {
            let unfinished = self
                .shards
                .read(shard, Read::Unfinished { before_ms }, 0)
                .await;
            let Ok((_, Ok(ReadReply::Photos(photos)))) = unfinished else {
                continue;
            };
            for photo in photos {
                if link.publish_job(photo.id).await? {
                    self.counts.swept.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}
