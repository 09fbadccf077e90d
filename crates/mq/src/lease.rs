//! Leases: a message in somebody's hands, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::SettleError;
use crate::group::Group;
use crate::log::codec::micros;
use crate::log::record::{Record, Stored, ranges};
use crate::message::{Message, MessageId};
use crate::options::Durability;
use crate::shell::{Committed, Core, NotCommitted, block_on};
use crate::state::group::Picked;

/// A message in your hands until its lease ends. Settle it by [`ack`](Self::ack), [`nack`](Self::nack),
/// [`release`](Self::release) or [`bury`](Self::bury).
///
/// A lease that is dropped unsettled goes back at once, as a failed attempt.
#[derive(Debug)]
pub struct Lease {
    group: Group,
    seq: u64,
    token: u64,
    attempt: u32,
    time: u64,
    deadline: u64,
    message: Message,
    settled: bool,
}

impl Lease {
    pub(crate) fn new(group: Group, p: &Picked, time: u64, stored: Stored) -> Self {
        Self {
            group,
            seq: p.seq,
            token: p.token,
            attempt: p.attempt,
            time,
            deadline: p.deadline,
            message: Message::from_stored(stored),
            settled: false,
        }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message's id, equal for every delivery of it.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId(self.seq)
    }

    /// Which delivery this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the message was stored.
    #[must_use]
    pub fn published_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.time)
    }

    /// Time until the lease ends, zero when it has.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        Duration::from_micros(self.deadline.saturating_sub(self.core().clock.now()))
    }

    /// Group, message and token: enough to settle from elsewhere. The handle no longer gives it back.
    #[cfg(feature = "server")]
    pub(crate) fn detach(mut self) -> (u32, u64, u64) {
        self.settled = true;
        (self.group.number(), self.seq, self.token)
    }

    #[cfg(feature = "server")]
    pub(crate) fn published_micros(&self) -> u64 {
        self.time
    }

    fn core(&self) -> &Arc<Core> {
        self.group.core()
    }

    /// Done: the message never comes back. The future ends when that is as durable as the group's options say.
    ///
    /// # Errors
    /// [`SettleError::LeaseLost`] when the lease had ended; the message then comes, or came, again.
    ///
    /// # Cancel safety
    /// The acknowledgement is staged when this is called, not when it is awaited; a dropped future only
    /// leaves it open whether it is durable.
    pub fn ack(self) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settle(Settle::Done)
    }

    /// Failed: deliver again after this delay. Uses up one delivery.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub fn nack(self, delay: Duration) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settle(Settle::Retry { after: delay })
    }

    /// Not handled (a shutdown, say): deliver again at once, without using up a delivery.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub fn release(self) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settle(Settle::Release)
    }

    /// Hopeless: to the dead-letter topic, with this reason.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub fn bury(
        self,
        reason: impl Into<String>,
    ) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settle(Settle::Dead {
            reason: reason.into(),
        })
    }

    /// [`ack`](Self::ack) for a thread without a runtime.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn ack_blocking(self) -> Result<(), SettleError> {
        let core = Arc::clone(self.core());
        block_on(&core, async { self.ack().await }, None).unwrap_or(Err(SettleError::Closed))
    }

    /// [`nack`](Self::nack) for a thread without a runtime.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack_blocking(self, delay: Duration) -> Result<(), SettleError> {
        let core = Arc::clone(self.core());
        block_on(&core, async { self.nack(delay).await }, None).unwrap_or(Err(SettleError::Closed))
    }

    /// Any of the four outcomes.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    ///
    /// # Cancel safety
    /// As [`ack`](Self::ack).
    pub fn settle(mut self, how: Settle) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settled = true;
        let core = Arc::clone(self.core());
        let staged = settle(&core, self.group.number(), self.seq, self.token, how);
        // The handle stays until the commit, and with it the queue.
        async move {
            let _keep = self;
            let (ticket, durability) = staged?;
            Committed {
                core,
                ticket,
                durability,
            }
            .await
            .map_err(settle_error)
        }
    }

    /// Moves the end of the lease to this far from now (visibility timeout, heartbeat).
    ///
    /// # Errors
    /// [`SettleError::LeaseLost`] when it had ended.
    pub fn extend(&mut self, by: Duration) -> Result<(), SettleError> {
        let core = Arc::clone(self.core());
        self.deadline = extend(&core, self.group.number(), self.seq, self.token, by)?;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            drop(settle(
                self.core(),
                self.group.number(),
                self.seq,
                self.token,
                Settle::Retry {
                    after: Duration::ZERO,
                },
            ));
        }
    }
}

/// The outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settle {
    /// Handled; never deliver again.
    Done,
    /// Failed; deliver again after this delay. Counts as a delivery.
    Retry {
        /// How long to hold it back.
        after: Duration,
    },
    /// Not handled; deliver again at once. Does not count as a delivery.
    Release,
    /// Hopeless; move to the dead-letter topic.
    Dead {
        /// Kept with the dead letter.
        reason: String,
    },
}

pub(crate) fn settle_error(e: NotCommitted) -> SettleError {
    match e {
        NotCommitted::Disk(what) => SettleError::Unknown(what),
        NotCommitted::Closed => SettleError::Closed,
    }
}

/// Stages the outcome of a lease.
pub(crate) fn settle(
    core: &Core,
    group: u32,
    seq: u64,
    token: u64,
    how: Settle,
) -> Result<(u64, Durability), SettleError> {
    if let Settle::Dead { reason } = how {
        return bury(core, group, seq, token, &reason);
    }
    core.with(|state, now| {
        if state.closed {
            return Err(SettleError::Closed);
        }
        let g = state.groups.get_mut(&group).ok_or(SettleError::LeaseLost)?;
        let durability = g.options.durability;
        let attempts = g.begin_settle(seq, token).ok_or(SettleError::LeaseLost)?;
        let (record, durability) = match how {
            Settle::Done => (
                Record::Settle {
                    group,
                    ranges: vec![(seq, 1)],
                    dead: false,
                },
                durability,
            ),
            Settle::Retry { after } => {
                let until = if after.is_zero() {
                    0
                } else {
                    now.saturating_add(micros(after))
                };
                (
                    Record::Nack {
                        group,
                        seq,
                        until,
                        attempts,
                    },
                    Durability::Interval,
                )
            }
            Settle::Release => {
                let attempts = attempts.saturating_sub(1);
                (
                    Record::Nack {
                        group,
                        seq,
                        until: 0,
                        attempts,
                    },
                    Durability::Interval,
                )
            }
            Settle::Dead { .. } => return Err(SettleError::Unsupported("handled above")),
        };
        Ok((state.stage_one(record, durability, now), durability))
    })
}

/// Acknowledges leases of one group as one record.
pub(crate) fn ack_all(
    group: &Group,
    mut leases: Vec<Lease>,
) -> impl Future<Output = Result<usize, SettleError>> + Send + use<> {
    let core = Arc::clone(group.core());
    let id = group.number();
    let staged = core.with(|state, now| {
        if state.closed {
            return Err(SettleError::Closed);
        }
        let g = state.groups.get_mut(&id).ok_or(SettleError::LeaseLost)?;
        let durability = g.options.durability;
        let held = |l: &&Lease| l.group.number() == id && g.begin_settle(l.seq, l.token).is_some();
        let mut seqs: Vec<u64> = leases.iter().filter(held).map(|l| l.seq).collect();
        seqs.sort_unstable();
        let lost = leases.len() - seqs.len();
        if seqs.is_empty() {
            return Ok((state.written, durability, lost));
        }
        let record = Record::Settle {
            group: id,
            ranges: ranges(&seqs),
            dead: false,
        };
        Ok((state.stage_one(record, durability, now), durability, lost))
    });
    for lease in &mut leases {
        lease.settled = lease.settled || lease.group.number() == id;
    }
    async move {
        let _keep = leases;
        let (ticket, durability, lost) = staged?;
        Committed {
            core,
            ticket,
            durability,
        }
        .await
        .map_err(settle_error)?;
        Ok(lost)
    }
}

/// Loads a leased message and stages its move to the dead letters.
fn bury(
    core: &Core,
    group: u32,
    seq: u64,
    token: u64,
    reason: &str,
) -> Result<(u64, Durability), SettleError> {
    let (attempts, pos) = core.with(|state, _| {
        if state.closed {
            return Err(SettleError::Closed);
        }
        let g = state.groups.get_mut(&group).ok_or(SettleError::LeaseLost)?;
        let attempts = g.begin_settle(seq, token).ok_or(SettleError::LeaseLost)?;
        let pos = state.locate(group, seq).ok_or(SettleError::LeaseLost)?;
        Ok((attempts, pos))
    })?;
    let loaded = core.reader.message(pos, seq);
    let (stored, reason) = match loaded {
        Ok((stored, _)) => (stored, reason.to_owned()),
        Err(e) if e.refused => {
            // What cannot be read now is not thrown away: the lease goes on, and ends as any other.
            let restored = core.with(|state, _| {
                let g = state.groups.get_mut(&group);
                g.is_some_and(|g| g.cancel_settle(seq, token))
            });
            return Err(if restored {
                SettleError::Unknown(e.what)
            } else {
                SettleError::LeaseLost
            });
        }
        Err(e) => (
            Stored::default(),
            format!("{reason}; its bytes are damaged: {}", e.what),
        ),
    };
    let ticket =
        core.with(|state, now| state.stage_dead(group, seq, attempts, stored, &reason, now));
    Ok((ticket.ok_or(SettleError::LeaseLost)?, Durability::Synced))
}

/// Extends a lease; returns its new end.
pub(crate) fn extend(
    core: &Core,
    group: u32,
    seq: u64,
    token: u64,
    by: Duration,
) -> Result<u64, SettleError> {
    core.with(|state, now| {
        if state.closed {
            return Err(SettleError::Closed);
        }
        let until = now.saturating_add(micros(by));
        let g = state.groups.get_mut(&group).ok_or(SettleError::LeaseLost)?;
        if g.extend(seq, token, until) {
            Ok(until)
        } else {
            Err(SettleError::LeaseLost)
        }
    })
}
