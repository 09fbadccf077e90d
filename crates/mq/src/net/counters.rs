//! Counters on their way between server and client.

use std::time::Duration;

use crate::log::codec::{Reader, micros, put, put_bytes};
use crate::stats::{GroupStats, Stats, TopicStats};

pub(super) fn put_stats(b: &mut Vec<u8>, stats: &Stats) {
    put(b, stats.disk_faults);
    put(b, stats.topics.len() as u64);
    for t in &stats.topics {
        put_bytes(b, t.name.as_bytes());
        for n in [
            t.published,
            t.duplicates,
            t.held,
            t.held_bytes,
            t.groups.len() as u64,
        ] {
            put(b, n);
        }
        for g in &t.groups {
            put_bytes(b, g.name.as_bytes());
            let oldest = micros(g.oldest_ready);
            for n in [
                g.published,
                g.acked,
                g.ready,
                g.leased,
                g.delayed,
                g.dead,
                g.discarded,
                g.delivered,
                g.redelivered,
                g.expired,
                oldest,
            ] {
                put(b, n);
            }
        }
    }
}

pub(super) fn stats(r: &mut Reader<'_>) -> Option<Stats> {
    let mut stats = Stats {
        disk_faults: r.u64()?,
        topics: Vec::new(),
    };
    for _ in 0..r.count(6)? {
        let mut t = TopicStats {
            name: r.string()?,
            published: r.u64()?,
            duplicates: r.u64()?,
            held: r.u64()?,
            held_bytes: r.u64()?,
            groups: Vec::new(),
        };
        for _ in 0..r.count(12)? {
            t.groups.push(GroupStats {
                name: r.string()?,
                published: r.u64()?,
                acked: r.u64()?,
                ready: r.u64()?,
                leased: r.u64()?,
                delayed: r.u64()?,
                dead: r.u64()?,
                discarded: r.u64()?,
                delivered: r.u64()?,
                redelivered: r.u64()?,
                expired: r.u64()?,
                oldest_ready: Duration::from_micros(r.u64()?),
            });
        }
        stats.topics.push(t);
    }
    Some(stats)
}
