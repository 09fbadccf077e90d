//! The crash torture: every call to a simulated disk is a crash point, and nothing acknowledged may be lost.
//!
//! [`run`] drives a seeded workload (publishes, takes, acks, nacks, dead letters, snapshots, recycling) on a
//! [`SimDisk`], stops the disk after one call, makes the disk as a power cut could leave it, recovers, and
//! compares with a ledger of what was acknowledged. Recovery itself is cut off and repeated too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::log::format::Record;
use crate::message::Message;
use crate::options::Durability;
use crate::options::{GroupOptions, TopicOptions};
use crate::queue::Options;
use crate::shell::{Committer, Core};
use crate::sim::{Crash, Directory, SimDisk, splitmix};
use crate::state::State;

/// What the disk under test does wrong on purpose. Each but `None` must turn the torture red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// Nothing.
    None,
    /// File syncs do nothing.
    SkipSync,
    /// Directory syncs do nothing.
    SkipDirectorySync,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Crash states that were recovered and checked.
    pub states: u64,
    /// What was wrong, each with the seed and crash point that shows it again. At most 20 are kept.
    pub failures: Vec<String>,
}

/// What was promised, and what was merely tried.
#[derive(Debug, Clone, Default)]
struct Ledger {
    /// Message by sequence: body.
    staged: BTreeMap<u64, Bytes>,
    published: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Acknowledged or not, somebody asked for these to go.
    leaving: BTreeSet<u64>,
}

struct World {
    core: Core,
    committer: Committer,
    _lock: Box<dyn Send + Sync>,
}

fn open(disk: &SimDisk) -> Result<World, crate::OpenError> {
    let options = Options::default().segment_bytes(64 << 10);
    let (core, committer, lock, _) = options.assemble(Arc::new(disk.clone()))?;
    Ok(World {
        core,
        committer,
        _lock: lock,
    })
}

/// Runs the workload until it ends or the disk stops. The ledger holds what had been promised by then.
fn workload(disk: &SimDisk, seed: u64, steps: usize, ledger: &mut Ledger) {
    let mut rng = seed;
    let Ok(mut w) = open(disk) else { return };
    let now = w.core.clock.now();
    let (topic, group) = {
        let mut s = w.core.state.lock();
        let Some((topic, _)) = s.topic("t", &TopicOptions::new(), now) else {
            return;
        };
        let Some((group, _)) = s.group(topic, "g", &GroupOptions::new().deliveries_max(0), now)
        else {
            return;
        };
        (topic, group)
    };
    let mut waiting: Vec<(u64, Vec<u64>, Vec<u64>)> = Vec::new();
    let mut leased: Vec<(u64, u64)> = Vec::new();
    for n in 0..steps {
        let mut r = || splitmix(&mut rng);
        match r() % 10 {
            0..=4 => {
                let count = if r() % 4 == 0 { 3 } else { 1 };
                let messages: Vec<Message> = (0..count)
                    .map(|i| {
                        let len = usize::try_from(r() % 3000).unwrap_or(0);
                        Message::new(format!("{n}/{i}/{}", "m".repeat(len)))
                    })
                    .collect();
                let bodies: Vec<Bytes> = messages.iter().map(|m| m.body().clone()).collect();
                let staged = w.core.state.lock().publish(topic, messages, now);
                if let Ok((ticket, receipts)) = staged {
                    let seqs: Vec<u64> = receipts.iter().map(|r| r.id.0).collect();
                    ledger.staged.extend(seqs.iter().copied().zip(bodies));
                    waiting.push((ticket, seqs, Vec::new()));
                }
            }
            5 | 6 => {
                let mut s = w.core.state.lock();
                let mut token = s.next_token;
                let picked = s
                    .groups
                    .get_mut(&group)
                    .map(|g| g.take(4, now, &mut token))
                    .unwrap_or_default();
                s.next_token = token;
                if !picked.is_empty() {
                    let seqs = picked.iter().map(|p| (p.seq, p.attempt)).collect();
                    s.stage_one(Record::Attempt { group, seqs }, Durability::Buffered, now);
                    leased.extend(picked.iter().map(|p| (p.seq, p.token)));
                }
            }
            7 | 8 => {
                if !leased.is_empty() {
                    let i = usize::try_from(r()).unwrap_or(0) % leased.len();
                    let (seq, token) = leased.swap_remove(i);
                    if r() % 4 == 0 {
                        let mut s = w.core.state.lock();
                        if s.groups
                            .get_mut(&group)
                            .and_then(|g| g.begin_settle(seq, token))
                            .is_some()
                        {
                            s.stage_one(
                                Record::Nack {
                                    group,
                                    seq,
                                    until: 0,
                                    attempts: 1,
                                },
                                Durability::Buffered,
                                now,
                            );
                        }
                    } else {
                        ledger.leaving.insert(seq);
                        let done =
                            crate::group::settle(&w.core, group, seq, token, crate::Settle::Done);
                        if let Ok((ticket, _)) = done {
                            waiting.push((ticket, Vec::new(), vec![seq]));
                        }
                    }
                }
            }
            _ => while w.committer.step(&w.core, now) {},
        }
        if r() % 3 == 0 {
            w.committer.step(&w.core, now);
        }
        let synced = w.core.state.lock().synced;
        waiting.retain(|(ticket, published, acked)| {
            if *ticket > synced {
                return true;
            }
            ledger.published.extend(published);
            ledger.acked.extend(acked);
            false
        });
        if w.core.state.lock().fault.is_some() {
            return;
        }
        check_indexes(&w.core.state.lock());
    }
}

fn check_indexes(state: &State) {
    for g in state.groups.values() {
        g.validate();
    }
}

/// Recovers and compares with the ledger.
fn verify(disk: &SimDisk, ledger: &Ledger) -> Result<(), String> {
    let w = open(disk).map_err(|e| format!("open failed: {e}"))?;
    let state = w.core.state.lock();
    check_indexes(&state);
    let topic = state
        .topic_names
        .get("t")
        .and_then(|id| state.topics.get(id));
    let Some(topic) = topic else {
        return if ledger.published.is_empty() {
            Ok(())
        } else {
            Err("the topic is gone".into())
        };
    };
    for seq in &ledger.published {
        if !ledger.leaving.contains(seq) && !topic.items.contains_key(seq) {
            return Err(format!("acknowledged message {seq} is gone"));
        }
    }
    for (seq, item) in &topic.items {
        if ledger.acked.contains(seq) {
            return Err(format!("acked message {seq} came back"));
        }
        let Some(body) = ledger.staged.get(seq) else {
            return Err(format!("message {seq} was never published"));
        };
        let stored = w
            .core
            .reader
            .message(item.pos, *seq)
            .map_err(|e| format!("message {seq}: {}", e.what))?;
        if stored.body != *body {
            return Err(format!("message {seq} has other bytes"));
        }
    }
    Ok(())
}

/// Recovers at least `states` crash states, from workloads that follow from `seed`.
#[must_use]
pub fn run(states: u64, seed: u64, sabotage: Sabotage) -> Report {
    let mut report = Report::default();
    let mut round = 0;
    while report.states < states && report.failures.len() < 20 {
        let seed = seed.wrapping_add(round);
        round += 1;
        let directory = if round % 2 == 0 {
            Directory::Strict
        } else {
            Directory::Ordered
        };
        let fresh = || {
            let disk = SimDisk::new(directory);
            disk.lie(
                sabotage == Sabotage::SkipSync,
                sabotage == Sabotage::SkipDirectorySync,
            );
            disk
        };
        let whole = fresh();
        workload(&whole, seed, 120, &mut Ledger::default());
        let calls = whole.calls();
        for point in 1..=calls {
            if report.states >= states || report.failures.len() >= 20 {
                break;
            }
            let disk = fresh();
            disk.stop_after(point);
            let mut ledger = Ledger::default();
            workload(&disk, seed, 120, &mut ledger);
            for (i, how) in [
                Crash::LoseAll,
                Crash::KeepAll,
                Crash::Random,
                Crash::Random,
                Crash::Zeroed,
            ]
            .into_iter()
            .enumerate()
            {
                let salt = seed ^ (point << 20) ^ ((i as u64) << 50);
                let found = disk.crash(how, salt);
                // Cut recovery itself off, on every fourth state, at a point of its own.
                let found = if (point + i as u64).is_multiple_of(4) {
                    found.stop_after(1 + salt % 40);
                    drop(open(&found));
                    found.crash(how, salt.rotate_left(13))
                } else {
                    found
                };
                report.states += 1;
                if let Err(what) = verify(&found, &ledger) {
                    report.failures.push(format!(
                        "seed {seed}, call {point}, {how:?}, {directory:?}: {what}"
                    ));
                }
            }
        }
    }
    report
}

/// Lets every call of a workload fail once, and then for ever; returns what went wrong.
#[must_use]
pub fn faults(seed: u64, steps: usize, every: u64) -> Report {
    use crate::sim::Fault;
    let mut report = Report::default();
    let whole = SimDisk::new(Directory::Ordered);
    workload(&whole, seed, steps, &mut Ledger::default());
    let calls = whole.calls();
    for fault in [Fault::Eio, Fault::Enospc, Fault::Eintr, Fault::Short] {
        for sticky in [false, true] {
            if fault == Fault::Eintr && sticky {
                // A call that is interrupted for ever never ends, by contract.
                continue;
            }
            let mut call = 1 + seed % every.max(1);
            while call <= calls {
                let disk = SimDisk::new(Directory::Ordered);
                disk.fail(call, fault, sticky);
                let mut ledger = Ledger::default();
                workload(&disk, seed, steps, &mut ledger);
                disk.heal();
                for (how, salt) in [
                    (Crash::KeepAll, 0),
                    (Crash::LoseAll, 0),
                    (Crash::Random, call),
                ] {
                    report.states += 1;
                    if let Err(what) = verify(&disk.crash(how, salt), &ledger) {
                        report.failures.push(format!("seed {seed}, {fault:?} at call {call}, sticky {sticky}, {how:?}: {what}"));
                        if report.failures.len() >= 20 {
                            return report;
                        }
                    }
                }
                call += every.max(1);
            }
        }
    }
    report
}
