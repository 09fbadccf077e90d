//! The book: what was asked of the queue and what it promised, in the order in which it happened.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// How a message may leave its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Somebody asked for it, and may not have been told yet.
    AckAsked,
    Acked,
    BuryAsked,
    Buried,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Staged {
        seq: u64,
        batch: u64,
        topic: &'static str,
        body: Bytes,
    },
    /// The publish is as good as its topic's level for a killed process.
    Written(u64),
    /// The publish is on the disk.
    Synced(u64),
    Leaving(u64, Leaving),
    /// The process was started again and found these messages, and these dead letters.
    Reborn(BTreeSet<u64>, BTreeSet<Bytes>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) batch: u64,
    pub(super) topic: &'static str,
    pub(super) body: Bytes,
    pub(super) written: bool,
    pub(super) synced: bool,
    pub(super) leaving: Leaving,
}

/// What holds after the first events.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub(super) entries: BTreeMap<u64, Entry>,
}

impl Page {
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Staged {
                seq,
                batch,
                topic,
                body,
            } => {
                let entry = Entry {
                    batch: *batch,
                    topic,
                    body: body.clone(),
                    written: false,
                    synced: false,
                    leaving: Leaving::No,
                };
                self.entries.insert(*seq, entry);
            }
            Event::Written(seq) => self.with(*seq, |e| e.written = true),
            Event::Synced(seq) => self.with(*seq, |e| e.synced = true),
            Event::Leaving(seq, how) => self.with(*seq, |e| e.leaving = *how),
            Event::Reborn(present, dead) => {
                // Recovery made what it found durable. What it did not find never was, or has left.
                self.entries.retain(|seq, e| {
                    if present.contains(seq) {
                        (e.written, e.synced, e.leaving) = (true, true, Leaving::No);
                    } else if dead.contains(&e.body) {
                        e.leaving = Leaving::Buried;
                    } else if e.leaving != Leaving::No {
                        e.leaving = Leaving::Acked;
                    }
                    e.leaving != Leaving::No || e.synced
                });
            }
        }
    }

    fn with(&mut self, seq: u64, f: impl FnOnce(&mut Entry)) {
        if let Some(e) = self.entries.get_mut(&seq) {
            f(e);
        }
    }

    /// Compares with what a recovered queue holds: messages by topic, and bodies of dead letters.
    pub(super) fn compare(&self, found: &Found, killed_only: bool) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for body in found.messages.values().map(|(_, b)| b).chain(&found.dead) {
            if !seen.insert(body) {
                return Err(format!("{:?} is there twice", short(body)));
            }
        }
        for (seq, (topic, body)) in &found.messages {
            let Some(e) = self.entries.get(seq) else {
                return Err(format!("message {seq} was never published"));
            };
            if (e.topic, &e.body) != (topic.as_str(), body) {
                return Err(format!("message {seq} has other bytes or another topic"));
            }
            if matches!(e.leaving, Leaving::Acked | Leaving::Buried) {
                return Err(format!("message {seq} came back after its {:?}", e.leaving));
            }
        }
        // How many of each batch could be there and how many are; one that somebody left does not count.
        let mut batches: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        let left: BTreeSet<u64> = self
            .entries
            .values()
            .filter(|e| e.leaving != Leaving::No)
            .map(|e| e.batch)
            .collect();
        for (seq, e) in &self.entries {
            let here = found.messages.contains_key(seq);
            let promised = e.synced || (e.written && killed_only);
            let dead = found.dead.contains(&e.body);
            let fine = match e.leaving {
                Leaving::No => here || !promised,
                Leaving::AckAsked | Leaving::Acked => true,
                Leaving::BuryAsked => here || dead || !promised,
                Leaving::Buried => dead,
            };
            if !fine {
                return Err(format!("message {seq} ({:?}) is gone", e.leaving));
            }
            if !left.contains(&e.batch) {
                let (of, there) = batches.entry(e.batch).or_default();
                *of += 1;
                *there += usize::from(here);
            }
        }
        match batches
            .iter()
            .find(|(_, (of, there))| *there > 0 && there < of)
        {
            Some((batch, _)) => Err(format!("only a part of batch {batch} is there")),
            None => Ok(()),
        }
    }
}

fn short(body: &Bytes) -> Bytes {
    body.slice(..body.len().min(16))
}

/// What a recovered queue holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) messages: BTreeMap<u64, (String, Bytes)>,
    pub(super) dead: Vec<Bytes>,
}
