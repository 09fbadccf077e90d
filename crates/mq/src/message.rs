//! What is published and what comes back.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::log::record::Stored;

/// Identifies a message within one queue. Ids grow in publish order, across all topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(crate) u64);

impl MessageId {
    /// The id as a number, to log or to store.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a message may first be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NotBefore {
    #[default]
    Now,
    After(Duration),
    At(SystemTime),
}

/// A message: a body and what the queue should know about it.
///
/// Everything but the body is optional. A body converts into a message, so
/// `topic.publish("hello")` works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub(crate) body: Bytes,
    pub(crate) key: Option<Bytes>,
    pub(crate) dedup: Option<Bytes>,
    pub(crate) priority: u8,
    pub(crate) not_before: NotBefore,
    pub(crate) headers: Vec<(String, Bytes)>,
}

impl Message {
    /// The highest priority.
    pub const PRIORITY_MAX: u8 = 7;

    /// A message with this body.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Messages with equal keys are delivered one after another, in order, in groups with
    /// [`ordered_keys`](crate::GroupOptions::ordered_keys). Defaults to none.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// A second publish with the same id to the same topic within the topic's window stores nothing
    /// and returns the receipt of the first. Defaults to none.
    #[must_use]
    pub fn dedup_id(mut self, id: impl Into<Bytes>) -> Self {
        self.dedup = Some(id.into());
        self
    }

    /// Higher is delivered first, 0 to 7; larger values count as 7. Defaults to 0.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority.min(Self::PRIORITY_MAX);
        self
    }

    /// Hold the message back for this long after it is published. Defaults to no delay.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.not_before = NotBefore::After(delay);
        self
    }

    /// Hold the message back until this time. Defaults to no delay.
    #[must_use]
    pub fn at(mut self, at: SystemTime) -> Self {
        self.not_before = NotBefore::At(at);
        self
    }

    /// Adds a header. Names may repeat.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A stored message, whose delay is over or does not matter.
    pub(crate) fn from_stored(stored: Stored) -> Self {
        Self {
            body: stored.body,
            key: stored.key,
            dedup: stored.dedup,
            priority: stored.priority,
            not_before: NotBefore::Now,
            headers: stored.headers,
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The key, if one was set.
    #[must_use]
    pub fn ordering_key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The dedup id, if one was set.
    #[must_use]
    pub fn deduplication_id(&self) -> Option<&Bytes> {
        self.dedup.as_ref()
    }

    /// The priority, 0 to 7.
    #[must_use]
    pub fn priority_class(&self) -> u8 {
        self.priority
    }

    /// The first header of this name.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// All headers, in the order they were added.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.headers.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// The body, without a copy.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

macro_rules! from_body {
    ($($t:ty),*) => {$(
        impl From<$t> for Message {
            fn from(body: $t) -> Self {
                Self::new(body)
            }
        }
    )*};
}
from_body!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// What a successful publish tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The id under which the message is stored.
    pub id: MessageId,
    /// Whether an earlier message with the same dedup id was found instead.
    pub duplicate: bool,
}

/// Headers that a dead letter carries beside its own.
pub mod dead_header {
    /// What all of them begin with.
    pub const PREFIX: &str = "mq-dead-";
    /// Why the message died (UTF-8).
    pub const REASON: &str = "mq-dead-reason";
    /// The topic it died in (UTF-8).
    pub const TOPIC: &str = "mq-dead-topic";
    /// The group it died in (UTF-8).
    pub const GROUP: &str = "mq-dead-group";
    /// Its id there (decimal).
    pub const ID: &str = "mq-dead-id";
    /// How often it had been delivered (decimal).
    pub const ATTEMPTS: &str = "mq-dead-attempts";
}
