//! A queue on a simulated disk, driven step by step in virtual time, and the workload that it is given.

use std::sync::Arc;

use bytes::Bytes;

use super::book::{Event, Found, Leaving};
use crate::lease::{Settle, settle};
use crate::log::format::Pos;
use crate::message::Message;
use crate::options::{Durability, GroupOptions, TopicOptions};
use crate::queue::Options;
use crate::shell::Core;
use crate::sim::{Crash, SimDisk, splitmix};
use crate::state::Batch;

/// Topics of the workload, and what is promised of them.
const TOPICS: [(&str, Durability); 2] = [("t", Durability::Synced), ("b", Durability::Interval)];

/// Body of a lone message whose frame fills a block.
const WHOLE_BLOCK: usize = 4096 - 64 - 8 - 4;

pub(super) struct World {
    pub(super) core: Core,
    _lock: Box<dyn Send + Sync>,
    now: u64,
    pub(super) torn_tail: bool,
}

pub(super) fn open(disk: &SimDisk, salvage: bool) -> Result<World, crate::OpenError> {
    let options = Options::default().segment_bytes(64 << 10).salvage(salvage);
    let (core, lock, recovery) = options.assemble(Arc::new(disk.clone()), 1_000_000)?;
    let now = core.clock.now();
    Ok(World {
        core,
        _lock: lock,
        now,
        torn_tail: recovery.torn_tail,
    })
}

/// One thing that was asked and not yet promised.
struct Open {
    ticket: u64,
    written: bool,
    events: Vec<Event>,
}

impl World {
    fn step(&mut self) -> bool {
        self.core.committer.lock().step(&self.core, self.now)
    }

    /// Commits all that is staged.
    pub(super) fn settle_down(&mut self) {
        while self.step() {}
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// Lets time pass, and what is due by then happen.
    #[cfg(test)]
    pub(super) fn pass(&mut self, micros: u64) {
        self.now += micros;
        self.core.state.lock().tick(self.now);
        self.settle_down();
    }

    /// Starts the process again, as after a kill; no time passes.
    #[cfg(test)]
    pub(super) fn reopen(self, disk: &SimDisk) -> (Self, SimDisk) {
        let now = self.now;
        let disk = self.killed(disk);
        let mut world = open(&disk, false).expect("open");
        world.now = now;
        world.pass(0);
        (world, disk)
    }

    /// Writes a snapshot, frees and empties segments.
    #[cfg(test)]
    pub(super) fn snapshot(&mut self) {
        let mut committer = self.core.committer.lock();
        drop(committer.snapshot(&self.core));
        committer.relocate(&self.core, self.now);
        drop(committer);
        self.settle_down();
    }

    /// Where the next frame will stand.
    pub(super) fn next_frame(&self) -> Pos {
        self.core.committer.lock().writer.position().0
    }

    /// The disk as a kill leaves it now.
    pub(super) fn killed(self, disk: &SimDisk) -> SimDisk {
        disk.crash(Crash::KeepAll, 0)
    }

    /// Everything that the queue holds, read back from the disk.
    pub(super) fn found(&self) -> Result<Found, String> {
        let mut found = Found::default();
        let state = self.core.state.lock();
        for g in state.groups.values() {
            g.validate()
                .map_err(|what| format!("the group's counters differ: {what}"))?;
        }
        for t in state.topics.values() {
            for seq in state.held(t) {
                let pos = t.extents.locate(seq).ok_or("a message without a place")?;
                let stored = self.core.reader.message(pos, seq);
                let (stored, _) = stored.map_err(|e| format!("message {seq}: {}", e.what))?;
                if t.name.ends_with(".dead") {
                    found.dead.push(stored.body);
                } else {
                    found.messages.insert(seq, (t.name.clone(), stored.body));
                }
            }
        }
        Ok(found)
    }

    /// Runs the workload for some steps. Every promise goes into `events`, and their number to the disk. After a
    /// fault the disk is healed when it was met `heal_after` times. Returns whether a last publish is confirmed.
    pub(super) fn work(
        &mut self,
        disk: &SimDisk,
        seed: u64,
        steps: usize,
        heal_after: u32,
        events: &mut Vec<Event>,
    ) -> bool {
        let mut rng = seed;
        let mut places = Vec::new();
        for (name, durability) in TOPICS {
            let mut s = self.core.state.lock();
            let options = TopicOptions::new().durability(durability);
            let Some((topic, _)) = s.topic(name, &options, self.now) else {
                return false;
            };
            let options = GroupOptions::new().deliveries_max(0);
            let Some((group, _)) = s.group(topic, "g", &options, self.now) else {
                return false;
            };
            places.push((name, topic, group, Vec::<(u64, u64)>::new()));
        }
        while self.step() {}
        let mut open: Vec<Open> = Vec::new();
        let mut met = 0;
        for n in 0..steps {
            let mut r = || splitmix(&mut rng);
            let place = usize::from(r() % 3 == 0);
            let (name, topic, group, leased) = &mut places[place];
            match r() % 11 {
                0..=4 => {
                    let count = if r() % 4 == 0 { 3 } else { 1 };
                    let messages: Vec<Message> = (0..count)
                        .map(|i| {
                            // Frames of exactly a block leave leftovers where the next generation writes.
                            let len = if place == 1 && r() % 2 == 0 {
                                WHOLE_BLOCK
                            } else {
                                usize::try_from(r() % 3000).unwrap_or(0)
                            };
                            Message::new(format!("{:m<len$}", format!("{seed:x}/{n}/{i}/")))
                        })
                        .collect();
                    let bodies: Vec<Bytes> = messages.iter().map(|m| m.body().clone()).collect();
                    let batch = Batch::new(*topic, messages, self.now);
                    let staged = self.core.state.lock().publish(*topic, batch, self.now);
                    if let Ok(staged) = staged {
                        let mut synced = Vec::new();
                        for (seq, body) in (staged.first..).zip(bodies) {
                            events.push(Event::Staged {
                                seq,
                                batch: staged.first,
                                topic: name,
                                body,
                            });
                            synced.push(Event::Synced(seq));
                        }
                        open.push(Open {
                            ticket: staged.ticket,
                            written: false,
                            events: synced,
                        });
                    }
                }
                5 | 6 => leased.extend(self.take(*group)),
                7..=9 if !leased.is_empty() => {
                    let i = usize::try_from(r() >> 32).unwrap_or(0) % leased.len();
                    let (seq, token) = leased.swap_remove(i);
                    let (how, asked, done) = match r() % 6 {
                        0 => (
                            Settle::Retry {
                                after: std::time::Duration::from_millis(r() % 3),
                            },
                            None,
                            None,
                        ),
                        1 => (
                            Settle::Dead {
                                reason: "so be it".into(),
                            },
                            Some(Leaving::BuryAsked),
                            Some(Leaving::Buried),
                        ),
                        _ => (Settle::Done, Some(Leaving::AckAsked), Some(Leaving::Acked)),
                    };
                    events.extend(asked.map(|how| Event::Leaving(seq, how)));
                    disk.mark(events.len());
                    if let Ok((ticket, _)) = settle(&self.core, *group, seq, token, how) {
                        open.push(Open {
                            ticket,
                            written: true,
                            events: done
                                .map(|how| Event::Leaving(seq, how))
                                .into_iter()
                                .collect(),
                        });
                    }
                }
                _ => while self.step() {},
            }
            disk.mark(events.len());
            if r() % 3 == 0 {
                self.step();
            }
            self.now += 500;
            self.core.state.lock().tick(self.now);
            if self.core.state.lock().fault.is_some() {
                met += 1;
                if met >= heal_after {
                    disk.heal();
                }
                self.now += 200_000;
                self.step();
            }
            self.promise(&mut open, events);
            disk.mark(events.len());
        }
        disk.heal();
        self.now += 400_000;
        for _ in 0..50 {
            self.step();
        }
        self.promise(&mut open, events);
        let body = format!("{seed:x}/last");
        let batch = Batch::new(places[0].1, vec![Message::new(body.clone())], self.now);
        let last = self.core.state.lock().publish(places[0].1, batch, self.now);
        let Ok(staged) = last else {
            return false;
        };
        events.push(Event::Staged {
            seq: staged.first,
            batch: staged.first,
            topic: places[0].0,
            body: body.into(),
        });
        disk.mark(events.len());
        self.now += 200_000;
        while self.step() {}
        if self.core.state.lock().synced < staged.ticket {
            return false;
        }
        events.push(Event::Synced(staged.first));
        disk.mark(events.len());
        true
    }

    fn take(&mut self, group: u32) -> Vec<(u64, u64)> {
        let mut s = self.core.state.lock();
        let (_, picked) = s.take(group, 4, self.now);
        picked.iter().map(|p| (p.seq, p.token)).collect()
    }

    /// Writes down what has been confirmed.
    fn promise(&self, open: &mut Vec<Open>, events: &mut Vec<Event>) {
        let (written, synced) = {
            let s = self.core.state.lock();
            (s.written, s.synced)
        };
        open.retain_mut(|o| {
            if !o.written && o.ticket <= written {
                o.written = true;
                let seqs = o.events.iter().filter_map(|e| match e {
                    Event::Synced(seq) => Some(Event::Written(*seq)),
                    _ => None,
                });
                events.extend(seqs);
            }
            if o.ticket > synced {
                return true;
            }
            events.append(&mut o.events);
            false
        });
    }
}
