//! Real SQLite copies, their files reopened after each crash, under a real coordinator.
#![cfg(feature = "sqlite")]
#![expect(
    clippy::disallowed_methods,
    reason = "a simulation needs one instant to start from"
)]
#![expect(
    clippy::unwrap_in_result,
    reason = "a disk that fails ends the test wherever it fails"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use stackbeam_replica_pool::sqlite::{Apply, Copy, CopyError, CopyOptions, Next, Shipment};
use stackbeam_replica_pool::{Action, Evidence, Failover, FailoverConfig, Failure, MemberId, Role};

/// The state is the list of all commands, so that any difference shows.
struct Journal;

impl Apply for Journal {
    type Answer = i64;

    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS journal (lsn INTEGER PRIMARY KEY, value INTEGER NOT NULL)",
        )
    }

    fn apply(&mut self, tx: &Transaction<'_>, lsn: u64, command: &[u8]) -> rusqlite::Result<i64> {
        let value = i64::from_le_bytes(command.try_into().expect("eight bytes"));
        tx.execute("INSERT INTO journal VALUES (?, ?)", (lsn, value))?;
        Ok(value)
    }
}

fn journal(dir: &Path) -> Vec<(u64, i64)> {
    let db = Connection::open(dir.join("state.db")).expect("the state");
    let mut query = db
        .prepare("SELECT lsn, value FROM journal ORDER BY lsn")
        .expect("a query");
    query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows")
        .collect::<Result<_, _>>()
        .expect("rows")
}

fn command(value: i64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn fence(member: MemberId, epoch: u64) -> Action {
    Action::Fence {
        member,
        epoch,
        claimant: 9,
    }
}

fn promote(member: MemberId, epoch: u64) -> Action {
    Action::Promote {
        member,
        epoch,
        claimant: 9,
    }
}

fn follow(member: MemberId, epoch: u64, primary: MemberId) -> Action {
    Action::Follow {
        member,
        epoch,
        primary,
    }
}

struct World {
    dir: tempfile::TempDir,
    options: CopyOptions,
    copies: Vec<Option<Copy<Journal>>>,
}

impl World {
    fn new(copies: MemberId, change: impl FnOnce(&mut CopyOptions)) -> Self {
        let mut options = CopyOptions::new(0, usize::from(copies));
        change(&mut options);
        // Crashes here are of processes, so a disk in memory, where there is one, saves the syncs.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let dir = dir.expect("a folder");
        let mut world = Self {
            dir,
            options,
            copies: (0..copies).map(|_| None).collect(),
        };
        for id in 0..copies {
            world.open(id);
        }
        world
    }

    fn path(&self, id: MemberId) -> std::path::PathBuf {
        self.dir.path().join(id.to_string())
    }

    fn open(&mut self, id: MemberId) {
        let options = CopyOptions {
            me: id,
            ..self.options
        };
        let copy = Copy::open(&self.path(id), options, Journal).expect("a copy");
        self.copies[usize::from(id)] = Some(copy);
    }

    fn crash(&mut self, id: MemberId) {
        self.copies[usize::from(id)] = None;
    }

    fn copy(&mut self, id: MemberId) -> &mut Copy<Journal> {
        self.copies[usize::from(id)].as_mut().expect("it is up")
    }

    fn perform(&mut self, action: &Action) -> Evidence {
        self.copy(action.member()).perform(action).expect("a disk")
    }

    /// One question and answer; `keep` is false when the answer is lost on the way.
    fn pull(&mut self, id: MemberId, keep: bool) -> Option<Next> {
        let (primary, pull) = self.copies[usize::from(id)].as_ref()?.pull()?;
        let chief = self.copies[usize::from(primary)].as_mut()?;
        let shipment = chief.ship(&pull).expect("a disk");
        while !chief.apply(u64::MAX).expect("a disk").is_empty() {}
        if !keep {
            return None;
        }
        let mut epoch = 0;
        if let Shipment::TooOld { epoch: theirs, .. } | Shipment::Diverged { epoch: theirs, .. } =
            &shipment
        {
            epoch = *theirs;
        }
        let next = self.copy(id).receive(&pull, shipment).expect("a disk");
        if next == Next::Snapshot {
            let (snapshot, file) = self.copy(primary).snapshot().expect("a snapshot");
            self.copy(id)
                .install(snapshot, &file, epoch)
                .expect("a disk");
        }
        self.copy(id).apply(u64::MAX).expect("a disk");
        Some(next)
    }

    /// Lets `primary` reign in `epoch` with the promises of all who are up.
    fn reign(&mut self, primary: MemberId, epoch: u64) {
        let up: Vec<MemberId> = (0..)
            .zip(&self.copies)
            .filter(|(_, copy)| copy.is_some())
            .map(|(id, _)| id)
            .collect();
        for id in &up {
            self.perform(&fence(*id, epoch));
        }
        assert_eq!(self.perform(&promote(primary, epoch)).role, Role::Primary);
        for id in up.into_iter().filter(|id| *id != primary) {
            assert_eq!(
                self.perform(&follow(id, epoch, primary)).following,
                Some(primary)
            );
        }
        self.settle();
    }

    /// Everybody who follows somebody catches up.
    fn settle(&mut self) {
        let ids: Vec<MemberId> = (0..).zip(&self.copies).map(|(id, _)| id).collect();
        for _ in 0..40 {
            for id in &ids {
                self.pull(*id, true);
            }
        }
    }
}

#[test]
fn a_command_is_committed_when_a_second_copy_has_it_and_not_before() {
    let mut world = World::new(3, |_| {});
    world.reign(0, 1);
    let lsn = world.copy(0).append(vec![command(5)]).expect("a disk");
    assert!(world.copy(0).apply(u64::MAX).expect("a disk").is_empty());
    world.pull(1, true); // It has it now; the next question says so.
    let (_, pull) = world.copy(1).pull().expect("it follows");
    world.copy(0).ship(&pull).expect("a disk");
    assert_eq!(world.copy(0).apply(u64::MAX).expect("a disk"), [(lsn, 5)]);
}

#[test]
fn a_deposed_primary_commits_nothing_and_cuts_off_what_nobody_has() {
    let mut world = World::new(3, |_| {});
    world.reign(0, 1);
    world.copy(0).append(vec![command(1)]).expect("a disk");
    world.settle();
    // Written by the old primary alone, while the others promise a new epoch.
    world.copy(0).append(vec![command(666)]).expect("a disk");
    for id in [1, 2] {
        world.perform(&fence(id, 2));
    }
    world.perform(&promote(2, 2));
    world.perform(&follow(1, 2, 2));
    let before = world.copy(0).committed();
    world.pull(1, true);
    world.pull(1, true);
    world.copy(2).append(vec![command(2)]).expect("a disk");
    assert_eq!(world.copy(0).committed(), before);
    // It comes back.
    world.perform(&follow(0, 2, 2));
    world.settle();
    for id in 0..3 {
        let values: Vec<i64> = journal(&world.path(id)).iter().map(|row| row.1).collect();
        assert_eq!(values, [1, 2], "copy {id}");
    }
}

#[test]
fn a_receipt_from_a_copy_that_promised_a_later_epoch_deposes_and_commits_nothing() {
    let mut world = World::new(3, |_| {});
    world.reign(0, 1);
    world.copy(0).append(vec![command(1)]).expect("a disk");
    world.pull(1, true);
    let (_, mut pull) = world.copy(1).pull().expect("it follows");
    pull.promised = 2;
    assert_eq!(
        world.copy(0).ship(&pull).expect("a disk"),
        Shipment::NotPrimary
    );
    assert!(!world.copy(0).is_primary());
    assert!(world.copy(0).apply(u64::MAX).expect("a disk").is_empty());
}

#[test]
fn a_copy_that_lost_its_disk_votes_only_when_it_has_caught_up() {
    let mut world = World::new(3, |_| {});
    world.reign(0, 1);
    let all = (0..50).map(command).collect();
    world.copy(0).append(all).expect("a disk");
    world.settle();
    world.crash(1);
    std::fs::remove_dir_all(world.path(1)).expect("its disk");
    world.open(1);
    assert!(!world.copy(1).evidence().voter);
    world.perform(&follow(1, 1, 0));
    world.settle();
    assert!(world.copy(1).evidence().voter);
    assert_eq!(journal(&world.path(1)), journal(&world.path(0)));
}

#[test]
fn a_replica_that_is_too_far_behind_gets_a_snapshot_and_then_the_rest() {
    let mut world = World::new(3, |options| options.kept = 10);
    world.reign(0, 1);
    world.crash(2);
    for value in 0..60 {
        world.copy(0).append(vec![command(value)]).expect("a disk");
        world.settle();
    }
    world.open(2);
    world.perform(&follow(2, 1, 0));
    assert_eq!(world.pull(2, true), Some(Next::Snapshot));
    world.copy(0).append(vec![command(99)]).expect("a disk");
    world.settle();
    assert!(world.copy(2).evidence().voter);
    assert_eq!(journal(&world.path(2)), journal(&world.path(0)));
    // And all of it survives a restart.
    world.crash(2);
    world.open(2);
    assert_eq!(world.copy(2).applied(), world.copy(0).applied());
}

#[test]
fn a_log_without_its_state_starts_blank_and_without_a_vote() {
    let mut world = World::new(3, |options| options.kept = 5);
    world.reign(0, 1);
    for value in 0..40 {
        world.copy(0).append(vec![command(value)]).expect("a disk");
        world.settle();
    }
    world.crash(1);
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        let _not_there = std::fs::remove_file(world.path(1).join(file));
    }
    world.open(1);
    let evidence = world.copy(1).evidence();
    assert!(evidence.blank(), "{evidence:?}");
    world.perform(&follow(1, 1, 0));
    world.settle();
    assert_eq!(journal(&world.path(1)), journal(&world.path(0)));
}

#[test]
fn a_replica_takes_no_writes_and_says_whom_to_ask() {
    let mut world = World::new(3, |_| {});
    world.reign(1, 1);
    match world.copy(0).append(vec![command(1)]) {
        Err(CopyError::NotPrimary { primary }) => assert_eq!(primary, Some(1)),
        other => panic!("{other:?}"),
    }
}

/// What a primary applies, it answers: that is the acknowledgement.
fn answered(
    primary: &mut Copy<Journal>,
    acknowledged: &mut BTreeMap<u64, i64>,
) -> Result<(), String> {
    loop {
        let answers = primary.apply(u64::MAX).expect("a disk");
        if answers.is_empty() {
            return Ok(());
        }
        for (lsn, answer) in answers {
            let before = acknowledged.insert(lsn, answer);
            if before.is_some_and(|before| before != answer) {
                return Err(format!("the answer at {lsn} was rewritten"));
            }
        }
    }
}

/// Runs one seed: writes, pulls, crashes, lost disks and cuts, with a coordinator that is restarted too.
/// Returns how many commands were acknowledged.
fn run(seed: u64, steps: u64, fencing: bool, majority: bool) -> Result<usize, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(3, |options| {
        options.kept = 20;
        options.fencing = fencing;
        options.majority = majority;
    });
    let mut now = Instant::now();
    let config = FailoverConfig {
        fencing,
        ..FailoverConfig::default()
    };
    let mut coordinator = Failover::new(config, [0, 1, 2], seed, now);
    let mut acknowledged: BTreeMap<u64, i64> = BTreeMap::new();
    let mut cut = [false; 3];
    let mut value = 0;
    let mut lost_disk = false;
    for step in 0..steps {
        now += Duration::from_millis(rng.u64(1..40));
        while let Some(action) = coordinator.poll(now) {
            let member = action.member();
            let there = world.copies[usize::from(member)].is_some();
            let outcome = if cut[usize::from(member)] || rng.u8(..) < 6 {
                Err(Failure::Lost)
            } else if there {
                Ok(world.perform(&action))
            } else {
                Err(Failure::Refused)
            };
            let outcome = if rng.u8(..) < 6 {
                Err(Failure::Lost)
            } else {
                outcome
            };
            coordinator.answered(&action, outcome, now);
        }
        for _ in 0..2 {
            let id = rng.u16(..3);
            match rng.u8(..5) {
                0 | 1 => {
                    if let Some(copy) = &mut world.copies[usize::from(id)]
                        && copy.is_primary()
                    {
                        let many: Vec<_> = (0..rng.i64(1..4))
                            .map(|_| {
                                value += 1;
                                command(value)
                            })
                            .collect();
                        copy.append(many).expect("a disk");
                        answered(copy, &mut acknowledged)?;
                    }
                }
                _ => {
                    if let Some((primary, pull)) =
                        world.copies[usize::from(id)].as_ref().and_then(Copy::pull)
                        && let Some(chief) = &mut world.copies[usize::from(primary)]
                    {
                        chief.ship(&pull).expect("a disk");
                        answered(chief, &mut acknowledged)?;
                    }
                    let keep = rng.u8(..) > 12;
                    world.pull(id, keep);
                }
            }
        }
        if rng.u8(..) < 5 {
            world.crash(rng.u16(..3));
        }
        if rng.u8(..) < 24 {
            let id = rng.u16(..3);
            if world.copies[usize::from(id)].is_none() {
                // At most one disk a run, and none before there are votes enough without it: a majority
                // of the votes has to survive.
                let votes = world
                    .copies
                    .iter()
                    .flatten()
                    .filter(|copy| copy.evidence().voter)
                    .count();
                if !lost_disk && votes == 2 && rng.u8(..) < 40 {
                    lost_disk = true;
                    std::fs::remove_dir_all(world.path(id)).expect("its disk");
                }
                world.open(id);
            }
        }
        if rng.u8(..) < 6 {
            cut[usize::from(rng.u16(..3))] = true;
        }
        if rng.u8(..) < 20 {
            cut[usize::from(rng.u16(..3))] = false;
        }
        if step % 150 == 149 {
            coordinator = Failover::new(config, [0, 1, 2], seed ^ step, now);
        }
    }
    // All is well again: everybody comes back and agrees.
    for id in 0..3 {
        if world.copies[usize::from(id)].is_none() {
            world.open(id);
        }
    }
    for _ in 0..400 {
        now += Duration::from_millis(20);
        while let Some(action) = coordinator.poll(now) {
            let evidence = world.perform(&action);
            coordinator.answered(&action, Ok(evidence), now);
        }
        for id in 0..3 {
            world.pull(id, true);
        }
    }
    let journals: Vec<_> = (0..3).map(|id| journal(&world.path(id))).collect();
    if journals[0] != journals[1] || journals[1] != journals[2] {
        return Err("the copies differ".to_owned());
    }
    let have: BTreeMap<u64, i64> = journals[0].iter().copied().collect();
    for (lsn, value) in &acknowledged {
        if have.get(lsn) != Some(value) {
            return Err(format!("{value} at {lsn} was acknowledged and is lost"));
        }
    }
    Ok(acknowledged.len())
}

#[test]
fn nothing_acknowledged_is_lost_by_crashes_cuts_and_a_lost_disk() {
    let mut acknowledged = 0;
    for seed in 0..12 {
        acknowledged +=
            run(seed, 250, true, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(acknowledged > 300, "only {acknowledged} were acknowledged");
}

#[test]
fn without_a_majority_something_acknowledged_is_lost() {
    assert!((0..40).any(|seed| run(seed, 250, true, false).is_err()));
}

#[test]
fn without_fencing_something_acknowledged_is_lost() {
    assert!((0..40).any(|seed| run(seed, 250, false, true).is_err()));
}
