//! Counters that add up.

use std::time::Duration;

use crate::state::State;

/// Counters of a queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Each topic, in the order they were made.
    pub topics: Vec<TopicStats>,
    /// Refused commits since the queue was opened. While it grows, the disk is refusing.
    pub disk_faults: u64,
}

/// Counters of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// The topic's name.
    pub name: String,
    /// Messages ever stored (without the duplicates).
    pub published: u64,
    /// Publishes since open that found their dedup id known.
    pub duplicates: u64,
    /// Messages held for at least one group, or for the first group to come.
    pub held: u64,
    /// Bytes of their records in the log. Of neighbours that are partly settled, the mean counts.
    pub held_bytes: u64,
    /// Each group of the topic.
    pub groups: Vec<GroupStats>,
}

/// Counters of one consumer group.
///
/// `published = acked + ready + leased + delayed + dead + discarded` holds at every moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// The group's name.
    pub name: String,
    /// Messages that became this group's business.
    pub published: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that could be delivered now (those behind a busy key included).
    pub ready: u64,
    /// Messages with a consumer, or whose outcome is being committed.
    pub leased: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Messages that went to the dead-letter topic.
    pub dead: u64,
    /// Messages that left otherwise: too old, dropped for newer ones, superseded, or skipped by a seek.
    pub discarded: u64,
    /// Deliveries, first and repeated.
    pub delivered: u64,
    /// Deliveries after the first of the same message.
    pub redelivered: u64,
    /// Leases that ended without an outcome.
    pub expired: u64,
    /// Age of the oldest message that is ready, to 10 ms, zero when none is.
    pub oldest_ready: Duration,
}

impl Stats {
    pub(crate) fn of(state: &State, now: u64) -> Self {
        let topics = state
            .topics
            .values()
            .map(|t| TopicStats {
                name: t.name.clone(),
                published: t.published,
                duplicates: t.duplicates,
                held: t.extents.held,
                held_bytes: t.extents.bytes,
                groups: t
                    .groups
                    .iter()
                    .filter_map(|id| state.groups.get(id))
                    .map(|g| {
                        let oldest = g
                            .oldest_ready()
                            .and_then(|seq| t.extents.of(seq))
                            .map(|(_, e)| e.time);
                        GroupStats {
                            name: g.name.clone(),
                            published: g.published,
                            acked: g.acked,
                            ready: g.ready_len(),
                            leased: g.leased,
                            delayed: g.delayed,
                            dead: g.dead,
                            discarded: g.discarded,
                            delivered: g.delivered,
                            redelivered: g.redelivered,
                            expired: g.expired,
                            oldest_ready: Duration::from_micros(
                                oldest.map_or(0, |at| now.saturating_sub(at)),
                            ),
                        }
                    })
                    .collect(),
            })
            .collect();
        Self {
            topics,
            disk_faults: state.faults,
        }
    }

    /// The counters of one group.
    #[must_use]
    pub fn group(&self, topic: &str, group: &str) -> Option<&GroupStats> {
        self.topics
            .iter()
            .find(|t| t.name == topic)?
            .groups
            .iter()
            .find(|g| g.name == group)
    }
}
