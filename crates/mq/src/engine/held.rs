//! A leased message of a broker, and what keeps a receive safe to drop.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::{SettleError, TakeError};
use crate::lease::Settle;
use crate::message::{Message, MessageId};
use crate::shell::instant;
use crate::traits::Delivery;

/// How an engine ends and extends leases. [`Held`] makes a [`Delivery`] of it.
pub trait Leases: Clone + Send + Sync + 'static {
    /// Names one delivery to the engine.
    type Ticket: Send + Sync + 'static;

    /// Ends a lease with an outcome.
    fn settle(
        &self,
        ticket: Self::Ticket,
        how: Settle,
    ) -> impl Future<Output = Result<(), SettleError>> + Send;

    /// Moves the end of a lease to this far from now.
    fn extend(
        &self,
        ticket: &Self::Ticket,
        by: Duration,
    ) -> impl Future<Output = Result<(), SettleError>> + Send;
}

/// A leased message of a broker. One that is dropped unsettled is given back in the background as a failed attempt,
/// if it is dropped on a tokio runtime; else its lease ends by itself.
///
/// # Cancel safety
/// A dropped future of `settle` or `extend` leaves it open whether the broker has recorded it; if it has not, the
/// lease ends by itself.
#[derive(Debug)]
pub struct Held<L: Leases> {
    leases: L,
    ticket: Option<L::Ticket>,
    message: Message,
    id: MessageId,
    attempt: u32,
    until: Instant,
    unseen: bool,
}

impl<L: Leases> Held<L> {
    pub(super) fn new(
        leases: L,
        ticket: L::Ticket,
        message: Message,
        id: u64,
        attempt: u32,
        lease: Duration,
    ) -> Self {
        Self {
            leases,
            ticket: Some(ticket),
            message,
            id: MessageId(id),
            attempt,
            until: instant() + lease,
            unseen: true,
        }
    }

    /// It is handed out: from now on, dropping it is a failure.
    pub(super) fn seen(&mut self) {
        self.unseen = false;
    }
}

impl<L: Leases> Delivery for Held<L> {
    fn message(&self) -> &Message {
        &self.message
    }

    fn id(&self) -> MessageId {
        self.id
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }

    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(instant())
    }

    async fn extend(&mut self, by: Duration) -> Result<(), SettleError> {
        let from = instant();
        let lost = self.until <= from;
        let ticket = self.ticket.as_ref().filter(|_| !lost);
        let ticket = ticket.ok_or(SettleError::LeaseLost)?;
        self.leases.extend(ticket, by).await?;
        self.until = from + by;
        Ok(())
    }

    async fn settle(mut self, how: Settle) -> Result<(), SettleError> {
        let lost = self.remaining().is_zero();
        match self.ticket.take() {
            Some(ticket) if !lost => self.leases.settle(ticket, how).await,
            _ => Err(SettleError::LeaseLost),
        }
    }
}

impl<L: Leases> Drop for Held<L> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        if self.remaining().is_zero() {
            return;
        }
        let how = if self.unseen {
            Settle::Release
        } else {
            Settle::Retry {
                after: Duration::ZERO,
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let leases = self.leases.clone();
            runtime.spawn(async move { drop(leases.settle(ticket, how).await) });
        }
    }
}

/// Looks until there is something to hand out: at once, when notified, and when a look says that something is due.
///
/// A look runs to its end even when the caller goes away. What it brought is then released, and uses up no attempt
/// where the engine can do that.
pub(super) async fn receive<L: Leases, F>(
    notify: &Notify,
    look: impl Fn() -> F,
) -> Result<Vec<Held<L>>, TakeError>
where
    F: Future<Output = Result<(Vec<Held<L>>, Duration), TakeError>> + Send + 'static,
{
    loop {
        let mut woken = pin!(notify.notified());
        woken.as_mut().enable();
        // Dropping what it returns, here or in the task, releases it.
        let looked = tokio::spawn(look()).await;
        let (mut taken, due) = looked.map_err(|_| TakeError::Closed)??;
        if !taken.is_empty() {
            taken.iter_mut().for_each(Held::seen);
            return Ok(taken);
        }
        drop(tokio::time::timeout(due, woken).await);
    }
}
