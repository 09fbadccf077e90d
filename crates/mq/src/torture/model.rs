//! A naive twin of a topic with two groups, in virtual time: random operations, compared after each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, open};
use crate::lease::{Settle, extend, settle};
use crate::log::codec::micros;
use crate::log::record::Record;
use crate::message::Message;
use crate::options::{Durability, GroupOptions, TopicOptions};
use crate::sim::{Directory, SimDisk, splitmix};
use crate::state::Batch;
use crate::stats::Stats;

const LEASE: u64 = 50_000;
const MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Where {
    Ready,
    Delayed(u64),
    Leased(u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    attempts: u32,
    at: Where,
}

#[derive(Debug, Clone, Copy)]
struct Fact {
    priority: u8,
    key: u8,
    not_before: u64,
}

#[derive(Debug, Default)]
struct TwinGroup {
    id: u32,
    ordered: bool,
    waiting: BTreeMap<u64, Waiting>,
    published: u64,
    acked: u64,
    dead: u64,
    discarded: u64,
}

#[derive(Debug, Default)]
struct Twin {
    facts: BTreeMap<u64, Fact>,
    groups: Vec<TwinGroup>,
}

impl TwinGroup {
    fn admit(&mut self, seq: u64, fact: Fact, now: u64) {
        let at = if fact.not_before > now {
            Where::Delayed(fact.not_before)
        } else {
            Where::Ready
        };
        self.published += 1;
        self.waiting.insert(seq, Waiting { attempts: 0, at });
    }

    fn returned(&mut self, seq: u64, attempts: u32, at: Where) {
        if attempts >= MAX {
            self.waiting.remove(&seq);
            self.dead += 1;
        } else {
            self.waiting.insert(seq, Waiting { attempts, at });
        }
    }

    fn tick(&mut self, now: u64) {
        for (seq, w) in self.waiting.clone() {
            match w.at {
                Where::Delayed(until) if until <= now => {
                    let at = Where::Ready;
                    self.waiting.insert(seq, Waiting { at, ..w });
                }
                Where::Leased(end, _) if end <= now => self.returned(seq, w.attempts, Where::Ready),
                _ => {}
            }
        }
    }

    fn take(&mut self, facts: &BTreeMap<u64, Fact>, max: usize, now: u64) -> Vec<(u64, u32)> {
        let mut ready: Vec<u64> = (self.waiting.iter())
            .filter(|(_, w)| w.at == Where::Ready)
            .map(|(seq, _)| *seq)
            .collect();
        ready.sort_by_key(|seq| (7 - facts[seq].priority, *seq));
        let mut out = Vec::new();
        for seq in ready {
            if out.len() == max {
                break;
            }
            let key = facts[&seq].key;
            let begun = |(other, w): (&u64, &Waiting)| {
                *other != seq && w.attempts > 0 && facts[other].key == key
            };
            if self.ordered && key > 0 && self.waiting.iter().any(begun) {
                continue;
            }
            let attempts = self.waiting[&seq].attempts + 1;
            if attempts == MAX && !out.is_empty() {
                break;
            }
            let at = Where::Leased(now + LEASE, 0);
            self.waiting.insert(seq, Waiting { attempts, at });
            out.push((seq, attempts));
            if attempts == MAX {
                break;
            }
        }
        out
    }
}

fn start(disk: &SimDisk) -> (World, u32, Twin) {
    let mut world = open(disk, false).expect("open");
    let now = world.now();
    let mut twin = Twin::default();
    let topic = {
        let mut s = world.core.state.lock();
        // Everything is kept, so that a seek can replay it.
        let options = TopicOptions::new().keep(Duration::ZERO, u64::MAX);
        let (topic, _) = s.topic("t", &options, now).expect("a topic");
        for ordered in [false, true] {
            let options = GroupOptions::new()
                .lease(Duration::from_micros(LEASE))
                .deliveries_max(MAX)
                .ordered_keys(ordered);
            let name = format!("ordered {ordered}");
            let (id, _) = s.group(topic, &name, &options, now).expect("a group");
            twin.groups.push(TwinGroup {
                id,
                ordered,
                ..TwinGroup::default()
            });
        }
        topic
    };
    world.settle_down();
    (world, topic, twin)
}

fn compare(world: &World, twin: &Twin) {
    let state = world.core.state.lock();
    let stats = Stats::of(&state, world.now());
    for (g, name) in twin.groups.iter().zip(["ordered false", "ordered true"]) {
        state.groups[&g.id].validate().expect("indexes agree");
        let s = stats.group("t", name).expect("the group");
        let leased = (g.waiting.values()).filter(|w| matches!(w.at, Where::Leased(..)));
        let delayed = (g.waiting.values()).filter(|w| matches!(w.at, Where::Delayed(_)));
        let (leased, delayed) = (leased.count() as u64, delayed.count() as u64);
        let ready = g.waiting.len() as u64 - leased - delayed;
        assert_eq!(
            (s.published, s.acked, s.dead, s.discarded),
            (g.published, g.acked, g.dead, g.discarded)
        );
        assert_eq!((s.ready, s.leased, s.delayed), (ready, leased, delayed));
        let sum = s.acked + s.ready + s.leased + s.delayed + s.dead + s.discarded;
        assert_eq!(s.published, sum);
    }
}

fn publish(world: &mut World, topic: u32, twin: &mut Twin, r: &mut impl FnMut() -> u64) {
    let now = world.now();
    let mut facts = Vec::new();
    let messages = (0..1 + r() % 4)
        .map(|_| {
            let fact = Fact {
                priority: if r().is_multiple_of(3) {
                    (r() % 3) as u8
                } else {
                    0
                },
                key: (r() % 4) as u8,
                not_before: if r().is_multiple_of(5) {
                    now + r() % 80_000
                } else {
                    0
                },
            };
            facts.push(fact);
            let mut m = Message::new("m").priority(fact.priority);
            if fact.key > 0 {
                m = m.key(vec![fact.key]);
            }
            if fact.not_before > 0 {
                m = m.at(std::time::UNIX_EPOCH + Duration::from_micros(fact.not_before));
            }
            m
        })
        .collect();
    let batch = Batch::new(topic, messages, now);
    let staged = world.core.state.lock().publish(topic, batch, now);
    world.settle_down();
    for (seq, fact) in (staged.expect("room").first..).zip(facts) {
        twin.facts.insert(seq, fact);
        for g in &mut twin.groups {
            g.admit(seq, fact, now);
        }
    }
}

fn take(world: &mut World, twin: &mut Twin, i: usize, max: usize) {
    let now = world.now();
    let Twin { facts, groups } = twin;
    let g = &mut groups[i];
    let expected = g.take(facts, max, now);
    let (_, picked) = world.core.state.lock().take(g.id, max, now);
    world.settle_down();
    let got: Vec<_> = picked.iter().map(|p| (p.seq, p.attempt)).collect();
    assert_eq!(got, expected);
    for p in picked {
        if let Some(w) = g.waiting.get_mut(&p.seq) {
            w.at = Where::Leased(p.deadline, p.token);
        }
    }
}

/// Settles or extends a lease, sometimes one that has ended.
fn outcome(world: &mut World, twin: &mut Twin, i: usize, r: &mut impl FnMut() -> u64) {
    let now = world.now();
    let g = &mut twin.groups[i];
    let leased: Vec<_> = (g.waiting.iter())
        .filter_map(|(seq, w)| match w.at {
            Where::Leased(_, token) => Some((*seq, w.attempts, token)),
            _ => None,
        })
        .collect();
    if leased.is_empty() {
        return;
    }
    let (seq, attempts, token) = leased[(r() >> 20) as usize % leased.len()];
    if r().is_multiple_of(8) {
        let lost = settle(&world.core, g.id, seq, token + 1_000_000, Settle::Done);
        assert!(lost.is_err(), "a foreign token settles nothing");
        return;
    }
    // The core's own clock stands still here: delays are measured from it.
    let after = Duration::from_micros(r() % 3 * 30_000);
    match r() % 6 {
        0 => {
            let until = extend(&world.core, g.id, seq, token, Duration::from_millis(70));
            let at = Where::Leased(until.expect("the lease holds"), token);
            g.waiting.insert(seq, Waiting { attempts, at });
            return;
        }
        1 => {
            let mut s = world.core.state.lock();
            let begun = s
                .groups
                .get_mut(&g.id)
                .and_then(|g| g.begin_settle(seq, token));
            assert_eq!(begun, Some(attempts));
            let until = if after.is_zero() {
                0
            } else {
                now + micros(after)
            };
            let record = Record::Nack {
                group: g.id,
                seq,
                until,
                attempts,
            };
            s.stage_one(record, Durability::Interval, now);
            drop(s);
            let at = if until > now {
                Where::Delayed(until)
            } else {
                Where::Ready
            };
            g.returned(seq, attempts, at);
        }
        2 => {
            settle(&world.core, g.id, seq, token, Settle::Release).expect("the lease holds");
            g.returned(seq, attempts - 1, Where::Ready);
        }
        3 => {
            let reason = "hopeless".into();
            let dead = Settle::Dead { reason };
            settle(&world.core, g.id, seq, token, dead).expect("the lease holds");
            g.waiting.remove(&seq);
            g.dead += 1;
        }
        _ => {
            settle(&world.core, g.id, seq, token, Settle::Done).expect("the lease holds");
            g.waiting.remove(&seq);
            g.acked += 1;
        }
    }
    world.settle_down();
}

fn seek(world: &mut World, twin: &mut Twin, i: usize, r: &mut impl FnMut() -> u64) {
    let now = world.now();
    let Twin { facts, groups } = twin;
    let g = &mut groups[i];
    let back = r() % 6;
    let from = facts.keys().rev().nth(back as usize).map_or(0, |seq| *seq);
    let record = Record::Seek { group: g.id, from };
    let mut s = world.core.state.lock();
    s.stage_one(record, Durability::Synced, now);
    drop(s);
    world.settle_down();
    g.discarded += g.waiting.len() as u64;
    g.waiting.clear();
    for (seq, fact) in facts.range(from..) {
        g.admit(*seq, *fact, now);
    }
}

#[test]
fn a_queue_does_what_its_naive_twin_does() {
    for seed in 0..60 {
        // Shown only when the test fails.
        println!("seed {seed}");
        let mut rng = seed;
        let mut r = move || splitmix(&mut rng);
        let mut disk = SimDisk::new(Directory::Ordered);
        let (mut world, topic, mut twin) = start(&disk);
        for _ in 0..300 {
            let i = (r() % 2) as usize;
            match r() % 16 {
                0..=3 => publish(&mut world, topic, &mut twin, &mut r),
                4..=7 => take(&mut world, &mut twin, i, 1 + (r() % 4) as usize),
                8..=11 => outcome(&mut world, &mut twin, i, &mut r),
                12 => world.snapshot(),
                13 if r() % 4 == 0 => seek(&mut world, &mut twin, i, &mut r),
                14 if r() % 4 == 0 => {
                    (world, disk) = world.reopen(&disk);
                    for g in &mut twin.groups {
                        for (seq, w) in g.waiting.clone() {
                            if matches!(w.at, Where::Leased(..)) {
                                g.returned(seq, w.attempts, Where::Ready);
                            }
                        }
                    }
                }
                _ => {
                    world.pass(r() % 40_000);
                    twin.groups.iter_mut().for_each(|g| g.tick(world.now()));
                }
            }
            compare(&world, &twin);
        }
    }
}
