//! The options of topics and groups as bytes.

use std::time::Duration;

use super::codec::{Reader, micros, put, put_bytes};
use crate::options::{Durability, GroupOptions, Start, TopicOptions, WhenFull};

pub(crate) fn put_topic_options(b: &mut Vec<u8>, o: &TopicOptions) {
    put(b, o.messages_max);
    put(b, o.bytes_max);
    b.push(match o.when_full {
        WhenFull::Wait => 0,
        WhenFull::Refuse => 1,
        WhenFull::DropOldest => 2,
    });
    put(b, micros(o.dedup_window));
    put(b, u64::from(o.dedup_max));
    let interval = u8::from(o.durability == Durability::Interval);
    let buffered = u8::from(o.durability == Durability::Buffered);
    b.push(interval | u8::from(o.hold) << 1 | u8::from(o.compact) << 2 | buffered << 3);
    put(b, micros(o.age_max));
    put(b, micros(o.keep_for));
    put(b, o.keep_bytes);
}

pub(crate) fn topic_options(r: &mut Reader<'_>) -> Option<TopicOptions> {
    let mut options = TopicOptions {
        messages_max: r.u64()?,
        bytes_max: r.u64()?,
        when_full: match r.byte()? {
            1 => WhenFull::Refuse,
            2 => WhenFull::DropOldest,
            _ => WhenFull::Wait,
        },
        dedup_window: Duration::from_micros(r.u64()?),
        dedup_max: r.u32()?,
        ..TopicOptions::default()
    };
    let flags = r.byte()?;
    options.durability = match flags & 9 {
        0 => Durability::Synced,
        1 => Durability::Interval,
        _ => Durability::Buffered,
    };
    options.hold = flags & 2 == 2;
    options.compact = flags & 4 == 4;
    options.age_max = Duration::from_micros(r.u64()?);
    options.keep_for = Duration::from_micros(r.u64()?);
    options.keep_bytes = r.u64()?;
    Some(options)
}

pub(crate) fn put_group_options(b: &mut Vec<u8>, o: &GroupOptions) {
    b.push(u8::from(o.start == Start::End));
    put(b, micros(o.lease));
    put(b, u64::from(o.deliveries_max));
    put_bytes(b, o.dead_letter.as_deref().unwrap_or("").as_bytes());
    b.push(u8::from(o.ordered_keys));
    put(b, u64::from(o.in_flight_max));
    put(b, micros(o.idle_max));
    b.push(match o.durability {
        Durability::Synced => 0,
        Durability::Interval => 1,
        Durability::Buffered => 2,
    });
}

pub(crate) fn group_options(r: &mut Reader<'_>) -> Option<GroupOptions> {
    Some(GroupOptions {
        start: if r.byte()? == 1 {
            Start::End
        } else {
            Start::Beginning
        },
        lease: Duration::from_micros(r.u64()?),
        deliveries_max: r.u32()?,
        dead_letter: Some(r.string()?).filter(|s| !s.is_empty()),
        ordered_keys: r.byte()? == 1,
        in_flight_max: r.u32()?,
        idle_max: Duration::from_micros(r.u64()?),
        durability: match r.byte()? {
            1 => Durability::Interval,
            2 => Durability::Buffered,
            _ => Durability::Synced,
        },
    })
}
