//! Copies one queue into another: to a broker, from region to region, or from an outbox.
//!
//! A [`Bridge`] takes from any [`Consumer`] and publishes to any [`Producer`]. Each copy has the dedup id
//! `<bridge's name>-<message's id>`, so a batch that is sent twice (after a crash, a lost connection, a lost
//! acknowledgement) is stored once where the target knows dedup ids, within its window: exactly once in effect. The
//! source's group remembers how far the bridge came; it goes on there after any stop.
//!
//! Batches are copied one after another, so messages arrive in order. A delivery whose lease is lost comes again
//! later: for order per key even then, let the source's group have
//! [`ordered_keys`](crate::GroupOptions::ordered_keys), and one bridge. Give it
//! [`deliveries_max(0)`](crate::GroupOptions::deliveries_max): the target's outages are no fault of the messages.
//!
//! # Outbox
//!
//! With the `postgres` feature, `PostgresTopic::publish_in` enqueues in the application's own transaction. A bridge
//! from that topic's group relays it to any other queue: what was committed is relayed once in effect, and nothing is
//! that was rolled back.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (a, b) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! use stackbeam_mq::bridge::Bridge;
//! use stackbeam_mq::{GroupOptions, Queue};
//!
//! let (here, there) = (Queue::open(a.path())?, Queue::open(b.path())?);
//! here.topic("photos")?.publish("17").await?;
//! let group = here.topic("photos")?.group_with("mirror", GroupOptions::new().deliveries_max(0))?;
//! let copied = Bridge::new("here").step(&group, &there.topic("photos")?).await;
//! assert_eq!(copied?.copied, 1);
//! # Ok(()) }
//! ```

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{PublishError, TakeError};
use crate::lease::Settle;
use crate::message::{Message, Receipt};
use crate::traits::{Consumer, Delivery, Producer};

/// Shortest and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long a stop waits for the batch under way.
const GRACE: Duration = Duration::from_secs(5);

/// A copy from one queue to another, to be run.
#[derive(Debug, Clone)]
pub struct Bridge {
    name: String,
    batch: NonZeroUsize,
}

/// What a bridge did. `taken = copied + duplicates + dead + lost`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bridged {
    /// Deliveries taken from the source.
    pub taken: u64,
    /// Stored in the target and acknowledged in the source.
    pub copied: u64,
    /// Found in the target already, and acknowledged in the source.
    pub duplicates: u64,
    /// Refused by the target for ever (too large, or asking for what it cannot do); to the source's dead letters.
    pub dead: u64,
    /// Stored, but the source's lease had ended: they come, or came, again, as duplicates.
    pub lost: u64,
    /// Publishes that were tried again.
    pub retries: u64,
}

impl Bridged {
    fn add(&mut self, other: Self) {
        self.taken += other.taken;
        self.copied += other.copied;
        self.duplicates += other.duplicates;
        self.dead += other.dead;
        self.lost += other.lost;
        self.retries += other.retries;
    }
}

impl Bridge {
    /// A bridge. Its name goes into the dedup ids: one name for each source, equal after a restart.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            batch: NonZeroUsize::new(100).unwrap_or(NonZeroUsize::MIN),
        }
    }

    /// Messages that are copied at once. Defaults to 100.
    #[must_use]
    pub fn batch(mut self, messages: NonZeroUsize) -> Self {
        self.batch = messages;
        self
    }

    /// Waits for messages and copies one batch. While the target refuses or is out of reach, it tries again, and
    /// extends the leases.
    ///
    /// # Errors
    /// What the source said; nothing was taken.
    ///
    /// # Cancel safety
    /// Messages that were taken go back to the source as failed attempts; those that were stored by then are
    /// duplicates the next time.
    pub async fn step<C: Consumer, P: Producer>(
        &self,
        from: &C,
        to: &P,
    ) -> Result<Bridged, TakeError> {
        let deliveries = from.receive(self.batch).await?;
        Ok(self.carry(deliveries, to).await)
    }

    async fn carry<D: Delivery, P: Producer>(&self, mut deliveries: Vec<D>, to: &P) -> Bridged {
        let mut done = Bridged {
            taken: deliveries.len() as u64,
            ..Bridged::default()
        };
        match self.publish(&mut deliveries, to, &mut done).await {
            Ok(receipts) => settle(deliveries, &receipts, &mut done).await,
            // Something in it is refused for ever: one at a time shows what.
            Err(_) => {
                for delivery in deliveries {
                    let mut alone = vec![delivery];
                    match self.publish(&mut alone, to, &mut done).await {
                        Ok(receipts) => settle(alone, &receipts, &mut done).await,
                        Err(error) => {
                            let reason = error.to_string();
                            for delivery in alone {
                                let reason = reason.clone();
                                let buried = delivery.settle(Settle::Dead { reason }).await;
                                *if buried.is_ok() {
                                    &mut done.dead
                                } else {
                                    &mut done.lost
                                } += 1;
                            }
                        }
                    }
                }
            }
        }
        done
    }

    /// Publishes until it is done, or refused for ever. Leases are extended meanwhile.
    async fn publish<D: Delivery, P: Producer>(
        &self,
        deliveries: &mut [D],
        to: &P,
        done: &mut Bridged,
    ) -> Result<Vec<Receipt>, PublishError> {
        let copy = |d: &D| -> Message {
            let id = format!("{}-{}", self.name, d.id());
            d.message().clone().dedup_id(id)
        };
        let lease = deliveries.iter().map(Delivery::remaining).min();
        let lease = lease.unwrap_or_default().max(Duration::from_millis(30));
        let mut beat = tokio::time::interval(lease / 3);
        beat.tick().await;
        let mut pause = PAUSES.0;
        loop {
            let wait = pause;
            let batch = deliveries.iter().map(copy).collect();
            let mut publish = std::pin::pin!(async {
                let published = to.publish(batch).await;
                if matches!(
                    published,
                    Err(PublishError::Full { .. }
                        | PublishError::Unknown(_)
                        | PublishError::Closed)
                ) {
                    tokio::time::sleep(wait).await;
                }
                published
            });
            let published = loop {
                tokio::select! {
                    published = &mut publish => break published,
                    _ = beat.tick() => {
                        for delivery in &mut *deliveries {
                            // A lost lease shows at the settlement.
                            drop(delivery.extend(lease).await);
                        }
                    }
                }
            };
            match published {
                Err(
                    PublishError::Full { .. } | PublishError::Unknown(_) | PublishError::Closed,
                ) => {
                    done.retries += 1;
                    pause = (pause * 2).min(PAUSES.1);
                }
                other => return other,
            }
        }
    }

    /// Runs until it is stopped, or the source's group or queue is gone. Must be called on a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start<C: Consumer + 'static, P: Producer + 'static>(self, from: C, to: P) -> Bridging {
        let (stop, mut stopped) = watch::channel(false);
        let (tell, stats) = watch::channel(Bridged::default());
        let task = tokio::spawn(async move {
            let mut pause = PAUSES.0;
            loop {
                let taken = tokio::select! {
                    taken = from.receive(self.batch) => taken,
                    _ = stopped.wait_for(|stop| *stop) => return None,
                };
                match taken {
                    Ok(deliveries) => {
                        pause = PAUSES.0;
                        let late = async {
                            drop(stopped.wait_for(|stop| *stop).await);
                            tokio::time::sleep(GRACE).await;
                        };
                        tokio::select! {
                            done = self.carry(deliveries, &to) => tell.send_modify(|all| all.add(done)),
                            () = late => return None,
                        }
                    }
                    Err(e @ (TakeError::NoGroup | TakeError::Closed)) => return Some(e),
                    Err(_) => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        });
        Bridging { stop, stats, task }
    }
}

async fn settle<D: Delivery>(deliveries: Vec<D>, receipts: &[Receipt], done: &mut Bridged) {
    for (delivery, receipt) in deliveries.into_iter().zip(receipts) {
        *match delivery.ack().await {
            Err(_) => &mut done.lost,
            Ok(()) if receipt.duplicate => &mut done.duplicates,
            Ok(()) => &mut done.copied,
        } += 1;
    }
}

/// A running bridge. Dropping it stops it.
#[derive(Debug)]
pub struct Bridging {
    stop: watch::Sender<bool>,
    stats: watch::Receiver<Bridged>,
    task: JoinHandle<Option<TakeError>>,
}

impl Bridging {
    /// What it did, as of its last batch.
    #[must_use]
    pub fn stats(&self) -> Bridged {
        *self.stats.borrow()
    }

    /// Waits until it has taken and finished at least so many; false when it ended before.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn reached(&mut self, taken: u64) -> bool {
        self.stats.wait_for(|s| s.taken >= taken).await.is_ok()
    }

    /// Stops it after the batch under way, which gets 5 s; then it goes back to the source as failed attempts, and is
    /// a duplicate the next time if it was stored. Returns the error that had ended it, if one had.
    ///
    /// # Cancel safety
    /// It stops all the same.
    pub async fn stop(self) -> (Bridged, Option<TakeError>) {
        self.stop.send_replace(true);
        let ended = self.task.await.ok().flatten();
        let stats = *self.stats.borrow();
        (stats, ended)
    }
}
