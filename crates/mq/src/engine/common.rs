//! What the brokers' engines have in common: names, options that they cannot do, time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Capabilities;
use crate::error::{PublishError, TopicError};
use crate::message::{Message, NotBefore};
use crate::options::{GroupOptions, TopicOptions, WhenFull};
use crate::queue::check_name;

/// Longest delay or lease that goes to a broker: 100 years. More is as good as for ever.
const LONGEST: Duration = Duration::from_hours(24 * 36_500);

/// Microseconds, bounded so that they fit wherever they are added.
pub(super) fn bounded_micros(d: Duration) -> i64 {
    i64::try_from(d.min(LONGEST).as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn since_epoch(t: SystemTime) -> i64 {
    t.duration_since(UNIX_EPOCH).map_or(0, bounded_micros)
}

fn refuse(is: bool, what: &'static str) -> Result<(), TopicError> {
    if is {
        Err(TopicError::Unsupported(what))
    } else {
        Ok(())
    }
}

/// Refuses options of a topic that an engine cannot do, where they are not the defaults.
pub(super) fn check_topic(
    name: &str,
    options: &TopicOptions,
    can: Capabilities,
    brokers_limits: bool,
) -> Result<(), TopicError> {
    check_name(name)?;
    let default = TopicOptions::default();
    refuse(
        options.keep_bytes != 0,
        "keeping settled messages for a replay",
    )?;
    refuse(options.compact, "compaction by key")?;
    refuse(
        options.dedup_max != default.dedup_max,
        "a bound on the number of dedup ids",
    )?;
    if !can.bounds {
        refuse(
            options.messages_max != default.messages_max,
            "a bound on messages",
        )?;
        refuse(
            options.when_full != WhenFull::Wait,
            "a policy for full topics",
        )?;
    }
    if !brokers_limits {
        refuse(options.bytes_max != default.bytes_max, "a bound on bytes")?;
        refuse(!options.age_max.is_zero(), "a maximum age")?;
        refuse(
            options.when_full == WhenFull::DropOldest,
            "dropping the oldest when full",
        )?;
    }
    Ok(())
}

/// Refuses options of a group that an engine cannot do, where they are not the defaults.
pub(super) fn check_group(
    topic: &str,
    group: &str,
    options: &GroupOptions,
    can: Capabilities,
) -> Result<(), TopicError> {
    check_name(topic)?;
    check_name(group)?;
    let default = GroupOptions::default();
    refuse(options.ordered_keys && !can.ordered_keys, "per-key order")?;
    refuse(!options.idle_max.is_zero(), "removing idle groups")?;
    let bounded = options.in_flight_max != default.in_flight_max;
    refuse(
        bounded && !can.in_flight_max,
        "a bound on what is in flight in the whole group",
    )
}

/// The dead-letter topic of a group.
pub(super) fn dead_letter(topic: &str, options: &GroupOptions) -> String {
    options
        .dead_letter
        .clone()
        .unwrap_or_else(|| format!("{topic}.dead"))
}

/// Refuses messages that ask for what an engine cannot do, and hands all of them back.
pub(super) fn check_messages(
    messages: Vec<Message>,
    can: Capabilities,
) -> Result<Vec<Message>, PublishError> {
    let what = messages.iter().find_map(|m| {
        if m.not_before != NotBefore::Now && !can.delays {
            Some("delayed messages")
        } else if m.priority != 0 && !can.priorities {
            Some("priorities")
        } else if m.dedup.is_some() && !can.dedup {
            Some("dedup ids")
        } else {
            None
        }
    });
    match what {
        None => Ok(messages),
        Some(what) => Err(PublishError::Unsupported { messages, what }),
    }
}
