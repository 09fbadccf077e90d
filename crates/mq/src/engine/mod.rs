//! Engines: where topics and groups live, be it the embedded queue, a served one or a broker.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod common;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod held;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

#[cfg(any(feature = "postgres", feature = "redis"))]
pub use held::{Held, Leases};
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresDelivery, PostgresGroup, PostgresTicket, PostgresTopic};
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisDelivery, RedisGroup, RedisTicket, RedisTopic};

use crate::error::TopicError;
use crate::group::Group;
use crate::options::{GroupOptions, TopicOptions};
use crate::queue::{Queue, Topic};
use crate::traits::{Consumer, Producer};

/// Makes producers and consumers.
///
/// Implementors keep this true: what an option or a message asks for is done, or refused with `Unsupported`;
/// nothing is passed over in silence. `engine::conformance` (feature `conformance`) is the suite that shows it.
pub trait Engine: Send + Sync {
    /// Publishes to one topic.
    type Producer: Producer + 'static;
    /// Takes from one topic in one group.
    type Consumer: Consumer + 'static;
    /// What this engine can do.
    const CAPABILITIES: Capabilities;

    /// The topic of this name, made with these options if it is new.
    fn producer(
        &self,
        topic: &str,
        options: TopicOptions,
    ) -> impl Future<Output = Result<Self::Producer, TopicError>> + Send;

    /// The consumer group of this name, made with these options if it is new. The topic is made with default
    /// options if there is none.
    fn consumer(
        &self,
        topic: &str,
        group: &str,
        options: GroupOptions,
    ) -> impl Future<Output = Result<Self::Consumer, TopicError>> + Send;
}

/// What an engine can do, beyond what all can: durable topics, competing consumers, leases, attempts, immediate
/// retries and dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Message::delay`](crate::Message::delay) and [`Message::at`](crate::Message::at).
    pub delays: bool,
    /// [`Message::priority`](crate::Message::priority).
    pub priorities: bool,
    /// [`GroupOptions::ordered_keys`].
    pub ordered_keys: bool,
    /// [`Message::dedup_id`](crate::Message::dedup_id), within the topic's window.
    pub dedup: bool,
    /// A batch is stored whole or not at all. Without it, a batch whose outcome is unknown may be stored in part.
    pub atomic_batches: bool,
    /// Several groups of one topic that keeps messages until a first group comes. Without it, such a topic has
    /// one group, and a [`fan_out`](TopicOptions::fan_out) topic has several.
    pub groups_of_held: bool,
    /// [`Start::End`](crate::Start::End) in a topic that keeps messages until a first group comes.
    pub start_at_end: bool,
    /// [`Settle::Retry`](crate::Settle::Retry) after a delay.
    pub retry_delays: bool,
    /// [`Settle::Release`](crate::Settle::Release), which uses up no attempt.
    pub release: bool,
    /// [`GroupOptions::in_flight_max`] over all consumers of the group.
    pub in_flight_max: bool,
    /// [`TopicOptions::messages_max`].
    pub bounds: bool,
}

impl Capabilities {
    /// Everything.
    pub const ALL: Self = Self {
        delays: true,
        priorities: true,
        ordered_keys: true,
        dedup: true,
        atomic_batches: true,
        groups_of_held: true,
        start_at_end: true,
        retry_delays: true,
        release: true,
        in_flight_max: true,
        bounds: true,
    };

    /// Nothing beyond what all engines can. Engines elsewhere start from it: fields may be added.
    pub const NONE: Self = Self {
        delays: false,
        priorities: false,
        ordered_keys: false,
        dedup: false,
        atomic_batches: false,
        groups_of_held: false,
        start_at_end: false,
        retry_delays: false,
        release: false,
        in_flight_max: false,
        bounds: false,
    };
}

/// The embedded queue. A topic or group that is new blocks the thread for one commit.
impl Engine for Queue {
    type Producer = Topic;
    type Consumer = Group;
    const CAPABILITIES: Capabilities = Capabilities::ALL;

    async fn producer(&self, topic: &str, options: TopicOptions) -> Result<Topic, TopicError> {
        self.topic_with(topic, options)
    }

    async fn consumer(
        &self,
        topic: &str,
        group: &str,
        options: GroupOptions,
    ) -> Result<Group, TopicError> {
        self.topic(topic)?.group_with(group, options)
    }
}

/// A served queue.
#[cfg(feature = "server")]
impl Engine for crate::net::Client {
    type Producer = crate::net::RemoteTopic;
    type Consumer = crate::net::RemoteGroup;
    const CAPABILITIES: Capabilities = Capabilities::ALL;

    async fn producer(
        &self,
        topic: &str,
        options: TopicOptions,
    ) -> Result<Self::Producer, TopicError> {
        self.topic(topic, options).await
    }

    async fn consumer(
        &self,
        topic: &str,
        group: &str,
        options: GroupOptions,
    ) -> Result<Self::Consumer, TopicError> {
        let topic = self.topic(topic, TopicOptions::new()).await?;
        topic.group(group, options).await
    }
}
