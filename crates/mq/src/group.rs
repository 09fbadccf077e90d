//! Consuming: groups, takes and leases.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{SettleError, TakeError};
use crate::log::format::{Pos, Record, Stored, micros};
use crate::message::{Message, MessageId, NotBefore};
use crate::options::Durability;
use crate::queue::{Queue, deadline};
use crate::shell::{Committed, Core, NotCommitted, block_on, place};
use crate::state::group::Picked;

/// A consumer group: every message of the topic goes to one of its consumers. Clones compete.
#[derive(Debug, Clone)]
pub struct Group {
    queue: Queue,
    id: u32,
    name: Arc<str>,
}

impl Group {
    pub(crate) fn new(queue: Queue, id: u32, name: &str) -> Self {
        Self {
            queue,
            id,
            name: name.into(),
        }
    }

    #[cfg(feature = "server")]
    pub(crate) fn number(&self) -> u32 {
        self.id
    }

    #[cfg(feature = "server")]
    pub(crate) fn by_number(queue: &Queue, id: u32) -> Option<Self> {
        let name = queue.core.state.lock().groups.get(&id)?.name.clone();
        Some(Self::new(queue.clone(), id, &name))
    }

    /// The group's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until something is ready and leases up to `max` messages, in order (at least 1 is asked for).
    ///
    /// The attempt is written to the log before the messages are handed out, so a process that dies while
    /// it handles them has used one up. The last allowed delivery of a message comes alone.
    ///
    /// # Errors
    /// See [`TakeError`].
    ///
    /// # Cancel safety
    /// Dropping the future leases nothing; no attempt is counted while the queue is open.
    pub fn take(&self, max: usize) -> Take {
        Take {
            group: self.clone(),
            max: max.max(1),
            picked: None,
        }
    }

    /// [`take`](Self::take) for a thread without a runtime. `None` waits for ever; after the timeout the
    /// list is empty.
    ///
    /// # Errors
    /// See [`TakeError`].
    pub fn take_blocking(
        &self,
        max: usize,
        timeout: Option<Duration>,
    ) -> Result<Vec<Lease>, TakeError> {
        let until: Option<Instant> = timeout.and_then(deadline);
        block_on(self.take(max), until).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Removes the group and what waits in it. Its leases are lost.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn remove_blocking(self) -> Result<(), SettleError> {
        let ticket = self.queue.core.with(|s, now| s.drop_group(self.id, now));
        let core = Arc::clone(&self.queue.core);
        let wait = Committed {
            core,
            ticket,
            durability: Durability::Synced,
        };
        // A dropped group is synced with the next synced commit; written is enough here.
        let wait = Committed {
            durability: Durability::Buffered,
            ..wait
        };
        block_on(wait, None)
            .unwrap_or(Err(NotCommitted::Closed))
            .map_err(settle_error)
    }
}

/// A picked message, where it is, and when it was published.
type Located = (Picked, Pos, u64);

/// The future of [`Group::take`].
#[derive(Debug)]
#[must_use = "nothing is leased until the future is polled"]
pub struct Take {
    group: Group,
    max: usize,
    picked: Option<(Committed, Vec<Located>)>,
}

impl Future for Take {
    type Output = Result<Vec<Lease>, TakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let core = Arc::clone(&self.group.queue.core);
        let id = self.group.id;
        if self.picked.is_none() {
            let max = self.max;
            let picked = core.with(|state, now| {
                if state.closed {
                    return Err(TakeError::Closed);
                }
                if let Some(what) = &state.fault {
                    return Err(TakeError::Disk(what.clone()));
                }
                let (ticket, picked) = state.take(id, max, now);
                let Some(g) = state.groups.get_mut(&id) else {
                    return Err(TakeError::NoGroup);
                };
                if picked.is_empty() {
                    if !g.wakers.iter().any(|w| w.will_wake(cx.waker())) {
                        g.wakers.push(cx.waker().clone());
                    }
                    return Ok(None);
                }
                let with_pos: Vec<_> = picked
                    .into_iter()
                    .filter_map(|p| {
                        let item = state.item(id, p.seq)?;
                        let (pos, time) = (item.pos, item.time);
                        Some((p, pos, time))
                    })
                    .collect();
                Ok(Some((ticket, with_pos)))
            });
            match picked {
                Err(e) => return Poll::Ready(Err(e)),
                Ok(None) => return Poll::Pending,
                Ok(Some((ticket, picked))) => {
                    let wait = Committed {
                        core: Arc::clone(&core),
                        ticket,
                        durability: Durability::Buffered,
                    };
                    self.picked = Some((wait, picked));
                }
            }
        }
        let Some((wait, _)) = &mut self.picked else {
            return Poll::Pending;
        };
        let Poll::Ready(done) = Pin::new(wait).poll(cx) else {
            return Poll::Pending;
        };
        if let Err(e) = done {
            // The drop of this future gives the messages back.
            return Poll::Ready(Err(match e {
                NotCommitted::Disk(what) => TakeError::Disk(what),
                NotCommitted::Closed => TakeError::Closed,
            }));
        }
        let picked = self.picked.take().map(|(_, p)| p).unwrap_or_default();
        let mut leases = Vec::with_capacity(picked.len());
        let mut damaged = None;
        for (p, pos, time) in picked {
            // A failed segment may have been left meanwhile: the index knows where the message is now.
            let pos = core.state.lock().item(id, p.seq).map_or(pos, |i| i.pos);
            match core.reader.message(pos, p.seq) {
                Ok(stored) => leases.push(Lease::new(self.group.clone(), &p, time, stored)),
                Err(e) => {
                    let (file, offset) = place(pos);
                    damaged = Some(TakeError::Damaged {
                        id: p.seq,
                        file,
                        offset,
                        what: e.what,
                    });
                }
            }
        }
        match damaged {
            Some(e) if leases.is_empty() => Poll::Ready(Err(e)),
            _ => Poll::Ready(Ok(leases)),
        }
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        if let Some((_, picked)) = self.picked.take() {
            let id = self.group.id;
            self.group.queue.core.with(|state, now| {
                if let Some(g) = state.groups.get_mut(&id) {
                    for (p, _, _) in &picked {
                        g.undo(p.seq, p.token, now);
                    }
                    state.wake.append(&mut g.wakers);
                }
            });
        }
    }
}

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
    fn new(group: Group, p: &Picked, time: u64, stored: Stored) -> Self {
        let message = Message {
            body: stored.body,
            key: stored.key,
            dedup: stored.dedup,
            priority: stored.priority,
            not_before: NotBefore::Now,
            headers: stored.headers,
        };
        Self {
            group,
            seq: p.seq,
            token: p.token,
            attempt: p.attempt,
            time,
            deadline: p.deadline,
            message,
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
        (self.group.id, self.seq, self.token)
    }

    #[cfg(feature = "server")]
    pub(crate) fn published_micros(&self) -> u64 {
        self.time
    }

    fn core(&self) -> &Arc<Core> {
        &self.group.queue.core
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
        block_on(self.ack(), None).unwrap_or(Err(SettleError::Closed))
    }

    /// [`nack`](Self::nack) for a thread without a runtime.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack_blocking(self, delay: Duration) -> Result<(), SettleError> {
        block_on(self.nack(delay), None).unwrap_or(Err(SettleError::Closed))
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
        let staged = settle(&core, self.group.id, self.seq, self.token, how);
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
        self.deadline = extend(&core, self.group.id, self.seq, self.token, by)?;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            drop(settle(
                self.core(),
                self.group.id,
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
                    seqs: vec![seq],
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
                    Durability::Buffered,
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
                    Durability::Buffered,
                )
            }
            Settle::Dead { .. } => return Err(SettleError::Unsupported("handled above")),
        };
        Ok((state.stage_one(record, durability, now), durability))
    })
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
        let pos = state.item(group, seq).ok_or(SettleError::LeaseLost)?.pos;
        Ok((attempts, pos))
    })?;
    let loaded = core.reader.message(pos, seq);
    let (stored, reason) = match loaded {
        Ok(stored) => (stored, reason.to_owned()),
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
