//! Consuming: groups and takes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{SettleError, TakeError};
use crate::lease::{Lease, ack_all, settle_error};
use crate::log::codec::micros;
use crate::log::record::Record;
use crate::message::MessageId;
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

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.queue.core
    }

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
        block_on(self.core(), self.take(max), until).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Acknowledges many deliveries of this group as one record; the future ends when that is as durable as
    /// the group's options say. Returns how many leases had ended before: their messages come, or came, again.
    ///
    /// # Errors
    /// See [`SettleError`]; a lost lease is counted and is no error.
    ///
    /// # Cancel safety
    /// As [`Lease::ack`].
    pub fn ack_all(
        &self,
        leases: Vec<Lease>,
    ) -> impl Future<Output = Result<usize, SettleError>> + Send + use<> {
        ack_all(self, leases)
    }

    /// [`ack_all`](Self::ack_all) for a thread without a runtime.
    ///
    /// # Errors
    /// As [`ack_all`](Self::ack_all).
    pub fn ack_all_blocking(&self, leases: Vec<Lease>) -> Result<usize, SettleError> {
        block_on(self.core(), async { self.ack_all(leases).await }, None)
            .unwrap_or(Err(SettleError::Closed))
    }

    /// Goes on at this position: what the topic still holds from there on is delivered (again), and what is
    /// before it is not. Leases of the group are lost. What was skipped counts as discarded, what comes again
    /// as published. Topics that [`keep`](crate::TopicOptions::keep) messages can be replayed. Blocks for one commit.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn seek_blocking(&self, to: Seek) -> Result<(), SettleError> {
        let ticket = self.core().with(|state, now| {
            let topic = state.groups.get(&self.id)?.topic;
            let t = state.topics.get(&topic)?;
            let from = match to {
                Seek::Beginning => 0,
                Seek::End => state.next_seq,
                Seek::Id(id) => id.0,
                Seek::Time(time) => {
                    let time = time
                        .duration_since(SystemTime::UNIX_EPOCH)
                        .map_or(0, micros);
                    let before = t.extents.runs.iter().take_while(|(_, e)| e.time <= time);
                    before.last().map_or(0, |(first, _)| *first)
                }
            };
            let group = self.id;
            Some(state.stage_one(Record::Seek { group, from }, Durability::Synced, now))
        });
        let ticket = ticket.ok_or(SettleError::LeaseLost)?;
        self.confirm(ticket, Durability::Synced)
    }

    /// Removes the group and what waits in it. Its leases are lost.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn remove_blocking(self) -> Result<(), SettleError> {
        let ticket = self.core().with(|s, now| s.drop_group(self.id, now));
        // It is synced with the next synced commit; written is enough here.
        self.confirm(ticket, Durability::Interval)
    }

    fn confirm(&self, ticket: u64, durability: Durability) -> Result<(), SettleError> {
        let wait = Committed {
            core: Arc::clone(self.core()),
            ticket,
            durability,
        };
        block_on(self.core(), wait, None)
            .unwrap_or(Err(NotCommitted::Closed))
            .map_err(settle_error)
    }
}

/// Where [`Group::seek_blocking`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seek {
    /// To the oldest message that is held.
    Beginning,
    /// Behind the newest message.
    End,
    /// To this message, or the next one that is held.
    Id(MessageId),
    /// To the messages of this time: at or up to 10 ms before the first one that was stored then.
    Time(SystemTime),
}

/// The future of [`Group::take`].
#[derive(Debug)]
#[must_use = "nothing is leased until the future is polled"]
pub struct Take {
    group: Group,
    max: usize,
    picked: Option<(Committed, Vec<Picked>)>,
}

impl Take {
    /// Leases what is ready and stages the record of it; `None` when nothing is.
    fn pick(&self, cx: &Context<'_>) -> Result<Option<(Committed, Vec<Picked>)>, TakeError> {
        let core = self.group.core();
        let picked = core.with(|state, now| {
            if state.closed {
                return Err(TakeError::Closed);
            }
            if let Some(what) = &state.fault {
                return Err(TakeError::Disk(what.clone()));
            }
            let (ticket, picked) = state.take(self.group.id, self.max, now);
            let Some(g) = state.groups.get_mut(&self.group.id) else {
                return Err(TakeError::NoGroup);
            };
            if picked.is_empty() {
                if !g.wakers.iter().any(|w| w.will_wake(cx.waker())) {
                    g.wakers.push(cx.waker().clone());
                }
                // What lingers may be for this consumer.
                let staged = !state.staging.is_empty();
                state.hungry |= staged;
                state.nudge |= staged;
                return Ok(None);
            }
            // Written before it is delivered, unless the group may forget that.
            let durability = match g.options.durability {
                Durability::Buffered => Durability::Buffered,
                Durability::Synced | Durability::Interval => Durability::Interval,
            };
            Ok(Some((ticket, durability, picked)))
        })?;
        Ok(picked.map(|(ticket, durability, picked)| {
            let wait = Committed {
                core: Arc::clone(core),
                ticket,
                durability,
            };
            (wait, picked)
        }))
    }

    /// Reads the messages; those that are damaged are told when nothing else is there.
    fn deliver(&self, picked: &[Picked]) -> Result<Vec<Lease>, TakeError> {
        let core = self.group.core();
        let places: Vec<_> = {
            let state = core.state.lock();
            let locate = |p: &Picked| state.locate(self.group.id, p.seq);
            picked.iter().map(locate).collect()
        };
        let mut leases = Vec::with_capacity(picked.len());
        let mut damaged = None;
        for (p, pos) in picked.iter().zip(places) {
            let Some(pos) = pos else { continue };
            match core.reader.message(pos, p.seq) {
                Ok((stored, time)) => {
                    leases.push(Lease::new(self.group.clone(), p, time, stored));
                }
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
            Some(e) if leases.is_empty() => Err(e),
            _ => Ok(leases),
        }
    }
}

impl Future for Take {
    type Output = Result<Vec<Lease>, TakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.picked.is_none() {
            match self.pick(cx) {
                Err(e) => return Poll::Ready(Err(e)),
                Ok(None) => return Poll::Pending,
                Ok(picked) => self.picked = picked,
            }
        }
        let Some((wait, _)) = &mut self.picked else {
            return Poll::Pending;
        };
        let Poll::Ready(done) = Pin::new(wait).poll(cx) else {
            return Poll::Pending;
        };
        // After an error the drop of this future gives the messages back.
        Poll::Ready(match done {
            Err(NotCommitted::Disk(what)) => Err(TakeError::Disk(what)),
            Err(NotCommitted::Closed) => Err(TakeError::Closed),
            Ok(()) => {
                let picked = self.picked.take().map(|(_, p)| p).unwrap_or_default();
                self.deliver(&picked)
            }
        })
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        if let Some((_, picked)) = self.picked.take() {
            let id = self.group.id;
            self.group.core().with(|state, now| {
                for p in &picked {
                    let topic = state.groups.get(&id).map_or(0, |g| g.topic);
                    let attr = state.attr(topic, p.seq);
                    if let Some(g) = state.groups.get_mut(&id) {
                        g.undo(p.seq, p.token, attr, now);
                        state.wake.append(&mut g.wakers);
                    }
                }
            });
        }
    }
}
