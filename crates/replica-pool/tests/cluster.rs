//! A simulated cluster under random crashes, partitions, lost and late answers, driven by `Failover`.
#![expect(
    clippy::panic_in_result_fn,
    reason = "a broken law ends the test wherever it shows"
)]
#![expect(
    clippy::collapsible_match,
    reason = "what to do and whether are two thoughts"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a simulation needs one instant to start from"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stackbeam_replica_pool::{Action, Evidence, Failover, FailoverConfig, Failure, MemberId, Role};

const SEEDS: u64 = 300;
const STEPS: u64 = 800;

/// One copy: what is durable survives a crash, the rest does not.
#[derive(Clone, Debug, Default)]
struct Copy {
    // Durable.
    promised: u64,
    claimant: u64,
    log: Vec<(u64, u64)>,
    voter: bool,
    // Lost in a crash.
    up: bool,
    reign: Option<(u64, usize)>,
    following: Option<MemberId>,
    receipts: BTreeMap<MemberId, usize>,
}

struct World {
    copies: Vec<Copy>,
    fencing: bool,
    /// The coordinator cannot reach these, the other copies can.
    cut: [bool; 3],
    acknowledged: Vec<(u64, u64)>,
    reigned: BTreeMap<u64, MemberId>,
    next_value: u64,
}

impl World {
    fn evidence(&self, id: MemberId) -> Evidence {
        let copy = &self.copies[usize::from(id)];
        let role = if copy.reign.is_some() {
            Role::Primary
        } else {
            Role::Replica
        };
        let mut evidence = Evidence::new(role, copy.promised);
        evidence.claimant = copy.claimant;
        evidence.last_epoch = copy.log.last().map_or(0, |record| record.0);
        evidence.received = copy.log.len() as u64;
        evidence.following = copy.following;
        evidence.voter = copy.voter;
        evidence
    }

    fn perform(&mut self, action: &Action) -> Result<Evidence, Failure> {
        let id = action.member();
        let fencing = self.fencing;
        let copy = &mut self.copies[usize::from(id)];
        if !copy.up {
            return Err(Failure::Refused);
        }
        match *action {
            Action::Fence {
                epoch, claimant, ..
            } => {
                if fencing && epoch > copy.promised {
                    (copy.promised, copy.claimant) = (epoch, claimant);
                    (copy.reign, copy.following) = (None, None);
                }
            }
            Action::Promote {
                epoch, claimant, ..
            } => {
                let mine = (copy.promised, copy.claimant) == (epoch, claimant);
                if (mine && copy.reign.is_none()) || (!fencing && copy.reign.is_none()) {
                    copy.promised = epoch;
                    copy.log.push((epoch, 0));
                    copy.reign = Some((epoch, copy.log.len()));
                    copy.receipts.clear();
                    copy.voter = true;
                    if fencing {
                        let before = self.reigned.insert(epoch, id);
                        assert!(
                            before.is_none_or(|before| before == id),
                            "two primaries in epoch {epoch}"
                        );
                        self.has_everything(id);
                    }
                }
            }
            Action::Follow { epoch, primary, .. } => {
                if epoch >= copy.promised || !fencing {
                    if epoch > copy.promised {
                        (copy.promised, copy.claimant) = (epoch, 0);
                    }
                    // A reigning primary is never turned round within its own epoch.
                    if copy.reign.is_none_or(|(reign, _)| reign < epoch) {
                        (copy.reign, copy.following) = (None, Some(primary));
                    }
                }
            }
            _ => {}
        }
        Ok(self.evidence(id))
    }

    /// The law: whoever is promoted has every acknowledged record. Acknowledged records are a prefix.
    fn has_everything(&self, id: MemberId) {
        let log = &self.copies[usize::from(id)].log;
        assert!(
            log.starts_with(&self.acknowledged),
            "{id} lacks an acknowledged record"
        );
    }

    fn write(&mut self, id: usize) {
        if let Some((epoch, _)) = self.copies[id].reign.filter(|_| self.copies[id].up) {
            self.next_value += 1;
            let value = self.next_value;
            self.copies[id].log.push((epoch, value));
        }
    }

    /// One pull by a replica. `keep` is false when the answer is lost on the way.
    fn pull(&mut self, id: usize, keep: bool) {
        let Some(primary) = self.copies[id].following.map(usize::from) else {
            return;
        };
        if !self.copies[id].up || !self.copies[primary].up || id == primary {
            return;
        }
        let me = MemberId::try_from(id).expect("three copies");
        let mine = self.copies[id].log.clone();
        let promised = self.copies[id].promised;
        let chief = &mut self.copies[primary];
        let Some((epoch, begin)) = chief.reign else {
            return;
        };
        if self.fencing && promised > epoch {
            // It meets a higher epoch and steps down.
            chief.reign = None;
            return;
        }
        let common = mine
            .iter()
            .zip(&chief.log)
            .take_while(|(mine, theirs)| mine == theirs)
            .count();
        if common == mine.len() {
            chief.receipts.insert(me, common);
            let committed = chief.receipts.values().copied().max().unwrap_or(0);
            if committed >= begin || !self.fencing {
                let known = self.acknowledged.len().min(committed);
                assert_eq!(
                    self.acknowledged[..known],
                    chief.log[..known],
                    "history was rewritten"
                );
                self.acknowledged
                    .extend_from_slice(&chief.log[known..committed]);
            }
        }
        if keep && (!self.fencing || promised <= epoch) {
            let log = chief.log.clone();
            let copy = &mut self.copies[id];
            copy.promised = copy.promised.max(epoch);
            copy.log.truncate(common);
            // A few records at a time, so that replicas differ.
            copy.log.extend(log.iter().skip(common).take(3));
            copy.voter |= copy.log.len() >= begin;
        }
    }
}

/// Runs one seed; panics when a law is broken. Returns how many writes and reigns there were.
fn run(seed: u64, fencing: bool) -> (usize, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut now = Instant::now();
    let config = FailoverConfig {
        fencing,
        ..FailoverConfig::default()
    };
    let mut world = World {
        copies: vec![
            Copy {
                up: true,
                ..Copy::default()
            };
            3
        ],
        fencing,
        cut: [false; 3],
        acknowledged: Vec::new(),
        reigned: BTreeMap::new(),
        next_value: 0,
    };
    let mut coordinator = Failover::new(config, [0, 1, 2], seed, now);
    let mut late: Vec<(Action, Result<Evidence, Failure>)> = Vec::new();
    for step in 0..STEPS {
        now += Duration::from_millis(rng.u64(1..30));
        while let Some(action) = coordinator.poll(now) {
            let cut = world.cut[usize::from(action.member())];
            let outcome = if cut || rng.u8(..) < 8 {
                Err(Failure::Lost)
            } else {
                world.perform(&action)
            };
            // Carried out, but the answer is lost, or comes late.
            let outcome = if rng.u8(..) < 8 {
                Err(Failure::Lost)
            } else {
                outcome
            };
            if rng.u8(..) < 64 {
                late.push((action, outcome));
            } else {
                coordinator.answered(&action, outcome, now);
            }
        }
        while !late.is_empty() && rng.bool() {
            let (action, outcome) = late.swap_remove(rng.usize(..late.len()));
            coordinator.answered(&action, outcome, now);
        }
        for _ in 0..3 {
            match rng.u8(..6) {
                0 | 1 => world.write(rng.usize(..3)),
                _ => world.pull(rng.usize(..3), rng.u8(..) > 16),
            }
        }
        if rng.u8(..) < 6 {
            // A crash: only what is durable is left.
            let copy = &mut world.copies[rng.usize(..3)];
            copy.up = false;
            (copy.reign, copy.following) = (None, None);
            copy.receipts.clear();
        }
        if rng.u8(..) < 20 {
            world.copies[rng.usize(..3)].up = true;
        }
        if rng.u8(..) < 6 {
            world.cut[rng.usize(..3)] = true;
        }
        if rng.u8(..) < 20 {
            world.cut[rng.usize(..3)] = false;
        }
        if step % 400 == 399 {
            // The coordinator is killed and starts again, knowing nothing.
            coordinator = Failover::new(config, [0, 1, 2], seed ^ step, now);
            late.clear();
        }
        let holders = world
            .copies
            .iter()
            .filter(|copy| copy.log.starts_with(&world.acknowledged))
            .count();
        assert!(
            holders >= 2,
            "an acknowledged record is on {holders} copies"
        );
    }
    let stats = coordinator.stats();
    assert!(stats.fencings >= stats.promotions);
    (world.acknowledged.len(), world.reigned.len())
}

#[test]
fn no_acknowledged_write_is_lost_and_no_epoch_has_two_primaries() {
    let (mut writes, mut reigns) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed, true));
        let Ok((acknowledged, reigned)) = outcome else {
            panic!("seed {seed} breaks a law");
        };
        writes += acknowledged;
        reigns += reigned;
    }
    // Safety by doing nothing would be no merit.
    assert!(
        writes > 300 * 50 && reigns > 300 * 3,
        "{writes} writes in {reigns} reigns"
    );
}

#[test]
fn without_epochs_the_same_schedules_lose_acknowledged_writes() {
    let broken = (0..SEEDS)
        .filter(|seed| std::panic::catch_unwind(|| run(*seed, false)).is_err())
        .count();
    assert!(broken > 0, "the test cannot fail, so it proves nothing");
}

#[test]
fn a_dead_primary_is_replaced_within_half_a_second_of_probes() {
    let start = Instant::now();
    let mut world = World {
        copies: vec![
            Copy {
                up: true,
                ..Copy::default()
            };
            3
        ],
        fencing: true,
        cut: [false; 3],
        acknowledged: Vec::new(),
        reigned: BTreeMap::new(),
        next_value: 0,
    };
    let mut coordinator = Failover::new(FailoverConfig::default(), [0, 1, 2], 1, start);
    let drive = |world: &mut World, coordinator: &mut Failover, now: Instant| {
        while let Some(action) = coordinator.poll(now) {
            let outcome = world.perform(&action);
            coordinator.answered(&action, outcome, now);
        }
        for id in 0..3 {
            world.pull(id, true);
        }
    };
    let mut now = start;
    for _ in 0..50 {
        now += Duration::from_millis(10);
        drive(&mut world, &mut coordinator, now);
    }
    let first = coordinator.primary().expect("a primary reigns");
    world.copies[usize::from(first)].up = false;
    world.copies[usize::from(first)].reign = None;
    let dead = now;
    while coordinator.primary().is_none_or(|primary| primary == first) {
        now += Duration::from_millis(10);
        drive(&mut world, &mut coordinator, now);
        assert!(now - dead < Duration::from_millis(500), "no new primary");
    }
}

#[test]
fn a_copy_that_cannot_be_repointed_is_told_again_with_the_next_probe_only() {
    let mut now = Instant::now();
    let mut coordinator = Failover::new(FailoverConfig::default(), [0, 1], 1, now);
    let mut told = 0;
    for _ in 0..10 {
        for _ in 0..100 {
            let Some(action) = coordinator.poll(now) else {
                break;
            };
            let role = match action.member() {
                0 => Role::Primary,
                _ => Role::Replica,
            };
            let outcome = match action {
                Action::Follow { .. } => {
                    told += 1;
                    Err(Failure::Lost)
                }
                _ => Ok(Evidence::new(role, 1)),
            };
            coordinator.answered(&action, outcome, now);
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(coordinator.primary(), Some(0));
    assert!(
        (5..=10).contains(&told),
        "told {told} times in ten intervals"
    );
}

#[test]
fn answers_from_before_a_promotion_do_not_undo_it() {
    let mut now = Instant::now();
    let mut coordinator = Failover::new(FailoverConfig::default(), [0], 1, now);
    let mut before = Evidence::new(Role::Replica, 0);
    before.voter = false;
    let mut late = Vec::new();
    for _ in 0..20 {
        while let Some(action) = coordinator.poll(now) {
            match action {
                Action::Fence {
                    epoch, claimant, ..
                } => {
                    (before.epoch, before.claimant) = (epoch, claimant);
                    coordinator.answered(&action, Ok(before.clone()), now);
                    late.push((action, before.clone()));
                }
                Action::Promote { epoch, .. } => {
                    // A probe that goes out now is answered with the state before the promotion.
                    now += Duration::from_millis(200);
                    while let Some(probe) = coordinator.poll(now) {
                        late.push((probe, before.clone()));
                    }
                    let reigning = Evidence::new(Role::Primary, epoch);
                    coordinator.answered(&action, Ok(reigning.clone()), now);
                    for (action, evidence) in late.drain(..) {
                        coordinator.answered(&action, Ok(evidence), now);
                    }
                    before = reigning;
                }
                _ => coordinator.answered(&action, Ok(before.clone()), now),
            }
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(coordinator.primary(), Some(0));
    assert_eq!(
        (coordinator.stats().fencings, coordinator.stats().promotions),
        (1, 1)
    );
}
