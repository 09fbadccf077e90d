//! What the queue, its client and other engines have in common.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::error::{PublishError, SettleError, TakeError};
use crate::group::Group;
use crate::lease::{Lease, Settle};
use crate::message::{Message, MessageId, Receipt};
use crate::queue::Topic;

/// Takes messages over.
///
/// Implementors keep this true: `Ok` means that the messages are as durable as the engine was set up for.
pub trait Producer: Send + Sync {
    /// Publishes a batch.
    fn publish(
        &self,
        batch: Vec<Message>,
    ) -> impl Future<Output = Result<Vec<Receipt>, PublishError>> + Send;
}

/// Hands messages out.
///
/// Implementors keep this true: dropping the future of `receive` loses no message.
pub trait Consumer: Send + Sync {
    /// One message in somebody's hands.
    type Delivery: Delivery;
    /// Waits for at least one message and leases up to `max`.
    fn receive(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<Self::Delivery>, TakeError>> + Send;
}

/// A leased message.
pub trait Delivery: Send + Sync + 'static {
    /// The message.
    fn message(&self) -> &Message;
    /// Its id.
    fn id(&self) -> MessageId;
    /// Which delivery this is, from 1.
    fn attempt(&self) -> u32;
    /// How long the lease still holds.
    fn remaining(&self) -> Duration;
    /// Moves the end of the lease to this far from now.
    fn extend(&mut self, by: Duration) -> impl Future<Output = Result<(), SettleError>> + Send;
    /// Ends the lease with an outcome.
    fn settle(self, how: Settle) -> impl Future<Output = Result<(), SettleError>> + Send;

    /// Done: the message never comes back.
    fn ack(self) -> impl Future<Output = Result<(), SettleError>> + Send
    where
        Self: Sized,
    {
        self.settle(Settle::Done)
    }

    /// Failed: deliver again after this delay.
    fn nack(self, delay: Duration) -> impl Future<Output = Result<(), SettleError>> + Send
    where
        Self: Sized,
    {
        self.settle(Settle::Retry { after: delay })
    }
}

impl Producer for Topic {
    fn publish(
        &self,
        batch: Vec<Message>,
    ) -> impl Future<Output = Result<Vec<Receipt>, PublishError>> + Send {
        self.publish_all(batch)
    }
}

impl Consumer for Group {
    type Delivery = Lease;

    fn receive(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<Lease>, TakeError>> + Send {
        self.take(max.get())
    }
}

impl Delivery for Lease {
    fn message(&self) -> &Message {
        self.message()
    }

    fn id(&self) -> MessageId {
        self.id()
    }

    fn attempt(&self) -> u32 {
        self.attempt()
    }

    fn remaining(&self) -> Duration {
        self.remaining()
    }

    async fn extend(&mut self, by: Duration) -> Result<(), SettleError> {
        Self::extend(self, by)
    }

    fn settle(self, how: Settle) -> impl Future<Output = Result<(), SettleError>> + Send {
        self.settle(how)
    }
}
