//! Settings of queues, topics and groups, with their bounds and defaults.

use std::time::Duration;

/// What an acknowledged publish (or settled delivery) survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// On the disk: survives power loss. One `fdatasync` is shared by everybody who waits for it.
    #[default]
    Synced,
    /// Written: survives the death of the process, and power loss after at most
    /// [`sync_interval`](crate::Options::sync_interval).
    Interval,
    /// Handed over: written together with what else comes up, after at most
    /// [`write_interval`](crate::Options::write_interval), or at once when a consumer waits. What was not written
    /// yet is lost when the process dies. A group at this level may also forget that it had delivered.
    Buffered,
}

/// What a publish does when its topic is at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// Waits until there is room.
    #[default]
    Wait,
    /// Returns [`PublishError::Full`](crate::PublishError::Full) with the messages.
    Refuse,
    /// Lets the oldest messages go, also those that are leased, until the new ones have room. They count as
    /// `discarded`.
    DropOldest,
}

/// Where a new group starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// With everything that the topic still holds.
    #[default]
    Beginning,
    /// With the next message.
    End,
}

/// Settings of a topic. They are fixed when the topic is made; opening it again ignores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOptions {
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) dedup_window: Duration,
    pub(crate) dedup_max: u32,
    pub(crate) durability: Durability,
    pub(crate) hold: bool,
    pub(crate) age_max: Duration,
    pub(crate) keep_for: Duration,
    pub(crate) keep_bytes: u64,
    pub(crate) compact: bool,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            messages_max: 1_000_000,
            bytes_max: 1 << 30,
            when_full: WhenFull::Wait,
            dedup_window: Duration::from_mins(10),
            dedup_max: 100_000,
            durability: Durability::Synced,
            hold: true,
            age_max: Duration::ZERO,
            keep_for: Duration::ZERO,
            keep_bytes: 0,
            compact: false,
        }
    }
}

impl TopicOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For fan-out: a message that no group is there to take is not kept.
    #[must_use]
    pub fn fan_out() -> Self {
        Self::new().hold_without_groups(false)
    }

    /// Whether messages are kept while the topic has no group at all, for the first one to come.
    /// Defaults to yes.
    #[must_use]
    pub fn hold_without_groups(mut self, hold: bool) -> Self {
        self.hold = hold;
        self
    }

    /// Messages that may wait in the topic's slowest group. Defaults to 1 000 000.
    #[must_use]
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages.max(1);
        self
    }

    /// Bytes that the topic's messages may hold. Defaults to 1 GiB.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes.max(1);
        self
    }

    /// What a publish does at either bound. Defaults to waiting.
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// How long, and for how many ids, a dedup id is remembered. The oldest is forgotten first.
    /// Defaults to 10 minutes and 100 000 ids.
    #[must_use]
    pub fn dedup(mut self, window: Duration, ids_max: u32) -> Self {
        self.dedup_window = window;
        self.dedup_max = ids_max;
        self
    }

    /// Discard messages that are older than this, whoever waits for them; looked at once a second, and a
    /// message goes together with its neighbours of the same 10 ms. Zero is without limit. Defaults to zero.
    #[must_use]
    pub fn age_max(mut self, age: Duration) -> Self {
        self.age_max = age;
        self
    }

    /// Keep messages for [`Group::seek_blocking`](crate::Group::seek_blocking) after every group has settled them: for this long,
    /// and up to this many bytes in the whole topic; the oldest go first. Zero bytes keep nothing, a time of
    /// zero has no limit. Defaults to zero bytes.
    #[must_use]
    pub fn keep(mut self, time: Duration, bytes: u64) -> Self {
        self.keep_for = time;
        self.keep_bytes = bytes;
        self
    }

    /// Of the messages with one key only the newest is kept, and it is kept although every group has settled
    /// it: a new group starts with the last word on each key. An older one that nobody has begun with is
    /// discarded. Messages without a key are not touched. Defaults to no.
    #[must_use]
    pub fn compact(mut self, compact: bool) -> Self {
        self.compact = compact;
        self
    }

    /// What an acknowledged publish survives. Defaults to [`Durability::Synced`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// Settings of a consumer group. They are fixed when the group is made; opening it again ignores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    pub(crate) start: Start,
    pub(crate) lease: Duration,
    pub(crate) deliveries_max: u32,
    pub(crate) dead_letter: Option<String>,
    pub(crate) ordered_keys: bool,
    pub(crate) in_flight_max: u32,
    pub(crate) idle_max: Duration,
    pub(crate) durability: Durability,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            start: Start::Beginning,
            lease: Duration::from_secs(30),
            deliveries_max: 5,
            dead_letter: None,
            ordered_keys: false,
            in_flight_max: 10_000,
            idle_max: Duration::ZERO,
            durability: Durability::Synced,
        }
    }
}

impl GroupOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For fan-out: the group starts at the end, acknowledges without waiting for a sync, delivers
    /// without a limit (no dead letters), and is removed after one minute in which nobody took from it.
    #[must_use]
    pub fn broadcast() -> Self {
        Self::new()
            .start(Start::End)
            .durability(Durability::Interval)
            .deliveries_max(0)
            .idle_max(Duration::from_mins(1))
    }

    /// Where the group starts. Defaults to [`Start::Beginning`].
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How long a delivered message stays hidden from others (visibility timeout), at least 1 ms.
    /// Defaults to 30 s.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(1));
        self
    }

    /// How often a message is delivered before it goes to the dead-letter topic; 0 is without limit.
    /// A crash in mid-delivery counts. The last delivery comes alone. Defaults to 5.
    #[must_use]
    pub fn deliveries_max(mut self, deliveries: u32) -> Self {
        self.deliveries_max = deliveries;
        self
    }

    /// The topic that takes the dead letters. Defaults to the topic's name followed by `.dead`.
    #[must_use]
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter = Some(topic.into());
        self
    }

    /// Deliver messages of one key one after another: while one is leased or waits for its retry, its
    /// successors are held back. Defaults to off.
    #[must_use]
    pub fn ordered_keys(mut self, on: bool) -> Self {
        self.ordered_keys = on;
        self
    }

    /// Messages that may be leased at once in the whole group; a take beyond that waits.
    /// Defaults to 10 000.
    #[must_use]
    pub fn in_flight_max(mut self, messages: u32) -> Self {
        self.in_flight_max = messages.max(1);
        self
    }

    /// Remove the group when nobody took from it for this long; zero keeps it for ever. Defaults to zero.
    #[must_use]
    pub fn idle_max(mut self, idle: Duration) -> Self {
        self.idle_max = idle;
        self
    }

    /// What a settled delivery survives. Defaults to [`Durability::Synced`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}
