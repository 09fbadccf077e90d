//! A move under writes, with a failure or a crash at every single step.
//!
//! The twin is a ledger of what was acknowledged. After each step no key may be writable at two shards;
//! in the end every acknowledged write is there, at the shard that the map says, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stackbeam_shard_router::reshard::{
    Cursor, Memory, MemoryError, Mover, Moving, PlanError, Progress, Reshard, ReshardConfig,
    Tailed, Why,
};
use stackbeam_shard_router::{Directory, Key, Modulo, ShardId, ShardMap, Slots};

const KEYS: u64 = 300;

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What goes wrong at one call of the mover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails and nothing happened.
    Before,
    /// It happened, and the answer is an error.
    After,
    /// It happened, and the answer never comes: the caller gives up.
    Silent,
}

#[derive(Debug, PartialEq, Eq)]
enum Broken {
    OnPurpose,
    Memory(MemoryError),
}

/// Shards in memory of which one call goes wrong.
struct Flaky {
    memory: Memory<u64>,
    calls: usize,
    fault: Option<(usize, Fault)>,
    /// Loses one row on its way, once.
    loses_a_row: bool,
}

impl Flaky {
    fn fault(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.fault
            .and_then(|(at, fault)| (at == call).then_some(fault))
    }
}

macro_rules! faulty {
    ($self:ident, $call:expr) => {{
        let fault = $self.fault();
        if fault == Some(Fault::Before) {
            return Err(Broken::OnPurpose);
        }
        let answer = $call.await.map_err(Broken::Memory)?;
        match fault {
            Some(Fault::After) => Err(Broken::OnPurpose),
            Some(Fault::Silent) => pending().await,
            _ => Ok(answer),
        }
    }};
}

impl Mover for Flaky {
    type Error = Broken;

    async fn purge(&mut self, shard: ShardId, keep: &ShardMap) -> Result<(), Broken> {
        faulty!(self, self.memory.purge(shard, keep))
    }

    async fn copy(
        &mut self,
        moving: &Moving,
        from: ShardId,
        cursor: Option<Cursor>,
    ) -> Result<Option<Cursor>, Broken> {
        faulty!(self, self.memory.copy(moving, from, cursor))
    }

    async fn tail(
        &mut self,
        moving: &Moving,
        from: ShardId,
        after: Option<u64>,
    ) -> Result<Tailed, Broken> {
        let tailed = faulty!(self, self.memory.tail(moving, from, after))?;
        if std::mem::take(&mut self.loses_a_row) && after.is_some() {
            // A mistake of a mover: the changes of a whole look are claimed and not applied.
            let end = self
                .memory
                .tail(moving, from, None)
                .await
                .map_err(Broken::Memory)?;
            return Ok(end);
        }
        Ok(tailed)
    }

    async fn fence(&mut self, moving: &Moving, from: ShardId, up: bool) -> Result<u64, Broken> {
        faulty!(self, self.memory.fence(moving, from, up))
    }

    async fn verify(&mut self, moving: &Moving, from: ShardId) -> Result<bool, Broken> {
        faulty!(self, self.memory.verify(moving, from))
    }

    async fn switch(&mut self, moving: &Moving) -> Result<(), Broken> {
        faulty!(self, self.memory.switch(moving))
    }
}

/// Somebody who writes all the while, routes by a map that may be outdated, and keeps a ledger.
struct Writer {
    map: Arc<ShardMap>,
    ledger: BTreeMap<u64, u64>,
    seed: u64,
}

impl Writer {
    fn new(memory: &Memory<u64>, seed: u64) -> Self {
        Self {
            map: memory.map(),
            ledger: BTreeMap::new(),
            seed,
        }
    }

    fn write(&mut self, memory: &mut Memory<u64>) {
        let key = random(&mut self.seed) % KEYS;
        let value = random(&mut self.seed);
        let value = (!value.is_multiple_of(4)).then_some(value);
        let wrote = memory.write(self.map.shard(&key), self.map.version(), key, value);
        match (wrote, value) {
            (Ok(()), Some(value)) => {
                self.ledger.insert(key, value);
            }
            (Ok(()), None) => {
                self.ledger.remove(&key);
            }
            (Err(MemoryError::Stale(_)), _) => self.map = memory.map(),
            // Not acknowledged: the row is as it was.
            (Err(MemoryError::Fenced { .. }), _) => {}
            (Err(other), _) => panic!("{other}"),
        }
    }

    /// At every shard and by every version: who takes this write?
    fn nobody_writes_twice(&mut self, memory: &mut Memory<u64>, maps: &[&Arc<ShardMap>]) {
        let key = random(&mut self.seed) % KEYS;
        let value = random(&mut self.seed);
        let mut took = Vec::new();
        for shard in (0..6).map(ShardId::new) {
            let takes = |map: &&Arc<ShardMap>| {
                let wrote = memory.write(shard, map.version(), key, Some(value));
                wrote.is_ok()
            };
            if maps.iter().any(takes) {
                took.push(shard);
                self.ledger.insert(key, value);
            }
        }
        assert!(took.len() <= 1, "key {key} is writable at {took:?}");
    }

    fn everything_is_there(&self, memory: &mut Memory<u64>) {
        let map = memory.map();
        for key in 0..KEYS {
            let there = memory.read(map.shard(&key), map.version(), key).unwrap();
            assert_eq!(there, self.ledger.get(&key).copied(), "key {key}");
        }
        let rows: Vec<_> = memory.rows().map(|(shard, key, _)| (shard, key)).collect();
        assert_eq!(rows.len(), self.ledger.len(), "a row is there twice");
        assert!(rows.iter().all(|(shard, key)| map.shard(key) == *shard));
        for key in 0..KEYS {
            // No fence was left up.
            let value = self.ledger.get(&key).copied();
            memory
                .write(map.shard(&key), map.version(), key, value)
                .unwrap();
        }
    }
}

type Maps = (Arc<ShardMap>, Arc<ShardMap>);
type Move = (&'static str, fn() -> Maps);

fn modulo(version: u64, shards: u32) -> Arc<ShardMap> {
    Arc::new(ShardMap::new(version, Modulo::new(shards).unwrap()))
}

fn moves() -> [Move; 4] {
    [
        ("one shard more", || (modulo(1, 2), modulo(2, 3))),
        ("one shard less", || (modulo(7, 3), modulo(9, 2))),
        ("two slots", || {
            let slots = Slots::even(16, 2).unwrap();
            let moved = slots.clone().with_slot(3, ShardId::new(5)).unwrap();
            let moved = moved.with_slot(12, ShardId::new(0)).unwrap();
            (
                Arc::new(ShardMap::new(1, slots)),
                Arc::new(ShardMap::new(2, moved)),
            )
        }),
        ("a celebrity", || {
            let all = Directory::new(Modulo::new(2).unwrap());
            let listed = all
                .clone()
                .with_entry(Key::Number(7), ShardId::new(2))
                .unwrap();
            (
                Arc::new(ShardMap::new(1, all)),
                Arc::new(ShardMap::new(2, listed)),
            )
        }),
    ]
}

/// Polls once: a step in memory is ready at once, or its answer will never come.
fn once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn begin(maps: fn() -> Maps, seed: u64) -> (Maps, Flaky, Writer) {
    let maps = maps();
    let memory = Memory::new(Arc::clone(&maps.0));
    let mut writer = Writer::new(&memory, seed);
    let mut flaky = Flaky {
        memory,
        calls: 0,
        fault: None,
        loses_a_row: false,
    };
    for _ in 0..2 * KEYS {
        writer.write(&mut flaky.memory);
    }
    (maps, flaky, writer)
}

/// Steps to the end, with writes between the steps. With `crashes`, a fault ends the process that moves,
/// and another one goes on from what is durable.
fn run(maps: &Maps, flaky: &mut Flaky, writer: &mut Writer, crashes: bool) -> Progress {
    let config = ReshardConfig {
        behind_max: 3,
        ..ReshardConfig::default()
    };
    let (before, after) = (Arc::clone(&maps.0), Arc::clone(&maps.1));
    let mut reshard = Reshard::new(before, after, config).unwrap();
    let now = t0();
    for _ in 0..10_000 {
        let stepped = once(reshard.step(flaky, now));
        let stats = reshard.stats();
        assert!(stats.steps >= stats.copies + stats.tails, "{stats:?}");
        for _ in 0..2 {
            writer.write(&mut flaky.memory);
        }
        writer.nobody_writes_twice(&mut flaky.memory, &[&maps.0, &maps.1]);
        match stepped {
            Some(Ok(Progress::Going)) => {}
            Some(Ok(ended)) => return ended,
            Some(Err(Broken::OnPurpose)) | None if crashes => {
                let switched = flaky.memory.map().version() == maps.1.version();
                let (before, after) = (Arc::clone(&maps.0), Arc::clone(&maps.1));
                reshard = Reshard::recover(before, after, switched, config);
            }
            Some(Err(Broken::OnPurpose)) | None => {}
            Some(Err(Broken::Memory(error))) => panic!("{error}"),
        }
    }
    panic!("it does not end: {reshard:?}");
}

#[test]
fn rows_move_while_they_are_written() {
    for (name, maps) in moves() {
        for seed in 0..20 {
            let (maps, mut flaky, mut writer) = begin(maps, seed);
            let ended = run(&maps, &mut flaky, &mut writer, false);
            assert_eq!(ended, Progress::Done, "{name}, seed {seed}");
            assert_eq!(flaky.memory.map().version(), maps.1.version());
            writer.everything_is_there(&mut flaky.memory);
        }
    }
}

#[test]
fn a_fault_or_a_crash_at_any_step_loses_nothing() {
    let mut runs = 0;
    for (name, maps) in moves() {
        for fault in [Fault::Before, Fault::After, Fault::Silent] {
            for crashes in [false, true] {
                for at in 0.. {
                    let (maps, mut flaky, mut writer) = begin(maps, at as u64);
                    flaky.fault = Some((at, fault));
                    let ended = run(&maps, &mut flaky, &mut writer, crashes);
                    let what = format!("{name}: {fault:?} at call {at}, crashes: {crashes}");
                    let version = flaky.memory.map().version();
                    match ended {
                        Progress::Done => assert_eq!(version, maps.1.version(), "{what}"),
                        Progress::RolledBack(why) => {
                            assert!(
                                matches!(why, Why::Failed | Why::Recovered),
                                "{what}: {why:?}"
                            );
                            assert_eq!(version, maps.0.version(), "{what}");
                        }
                        other => panic!("{what}: {other:?}"),
                    }
                    writer.everything_is_there(&mut flaky.memory);
                    runs += 1;
                    if flaky.calls <= at {
                        // The fault lies behind the end: every call has had its turn.
                        assert_eq!(ended, Progress::Done, "{what}");
                        break;
                    }
                    if matches!(ended, Progress::RolledBack(_)) {
                        // And what went back can be tried again.
                        flaky.fault = None;
                        let again = run(&maps, &mut flaky, &mut writer, crashes);
                        assert_eq!(again, Progress::Done, "{what}, again");
                        writer.everything_is_there(&mut flaky.memory);
                    }
                }
            }
        }
    }
    assert!(runs > 500, "{runs}");
}

#[test]
fn rows_that_differ_are_found_and_all_goes_back() {
    let (_, maps) = moves()[0];
    let (maps, mut flaky, mut writer) = begin(maps, 1);
    let config = ReshardConfig::default();
    let (before, after) = (Arc::clone(&maps.0), Arc::clone(&maps.1));
    let mut reshard = Reshard::new(before, after, config).unwrap();
    let now = t0();
    let ended = loop {
        match once(reshard.step(&mut flaky, now)).unwrap().unwrap() {
            Progress::Going => {
                // Changes that came after the copy wait in the log; the mover skips some of them.
                if reshard.stats().copies > 0 && reshard.stats().tails == 0 {
                    (0..50).for_each(|_| writer.write(&mut flaky.memory));
                    flaky.loses_a_row = true;
                }
            }
            ended => break ended,
        }
    };
    assert_eq!(ended, Progress::RolledBack(Why::Differed));
    writer.everything_is_there(&mut flaky.memory);
}

#[test]
fn writes_that_are_faster_than_the_move_end_it() {
    let (_, maps) = moves()[0];
    let (maps, mut flaky, mut writer) = begin(maps, 2);
    let config = ReshardConfig {
        behind_max: 0,
        rounds_max: 5,
        ..ReshardConfig::default()
    };
    let mut reshard = Reshard::new(maps.0, maps.1, config).unwrap();
    let now = t0();
    let ended = loop {
        match once(reshard.step(&mut flaky, now)).unwrap().unwrap() {
            Progress::Going => (0..600).for_each(|_| writer.write(&mut flaky.memory)),
            ended => break ended,
        }
    };
    assert_eq!(ended, Progress::RolledBack(Why::TooFast));
    writer.everything_is_there(&mut flaky.memory);
}

#[test]
fn rows_do_not_stand_still_for_longer_than_they_may() {
    let (_, maps) = moves()[0];
    let (maps, mut flaky, writer) = begin(maps, 3);
    let config = ReshardConfig {
        freeze_max: Duration::from_secs(1),
        ..ReshardConfig::default()
    };
    let mut reshard = Reshard::new(maps.0, maps.1, config).unwrap();
    let mut now = t0();
    let ended = loop {
        match once(reshard.step(&mut flaky, now)).unwrap().unwrap() {
            Progress::Going => {
                if let Some(deadline) = reshard.next_deadline() {
                    now =
                        now.max(deadline - Duration::from_millis(300)) + Duration::from_millis(200);
                }
            }
            ended => break ended,
        }
    };
    assert_eq!(ended, Progress::RolledBack(Why::FrozenTooLong));
    assert!(reshard.stats().frozen >= Duration::from_secs(1));
    assert_eq!(reshard.next_deadline(), None, "nothing is frozen any more");
    writer.everything_is_there(&mut flaky.memory);
}

#[test]
fn a_move_can_be_called_off_until_the_switch_and_not_after() {
    for at in 0.. {
        let (_, maps) = moves()[2];
        let (maps, mut flaky, writer) = begin(maps, 4);
        let mut reshard =
            Reshard::new(Arc::clone(&maps.0), maps.1, ReshardConfig::default()).unwrap();
        let now = t0();
        let mut called_off = false;
        let mut steps = 0;
        let ended = loop {
            if steps == at {
                called_off = reshard.abort(now);
                let switched = flaky.memory.map().version() != maps.0.version();
                assert_eq!(called_off, !switched, "after {at} steps");
            }
            steps += 1;
            match once(reshard.step(&mut flaky, now)).unwrap().unwrap() {
                Progress::Going => {}
                ended => break ended,
            }
        };
        let wanted = if called_off {
            Progress::RolledBack(Why::Aborted)
        } else {
            Progress::Done
        };
        assert_eq!(ended, wanted);
        writer.everything_is_there(&mut flaky.memory);
        if steps < at {
            break;
        }
    }
}

#[test]
fn a_map_that_is_not_newer_and_a_purge_by_another_map_are_refused() {
    let of = |version| modulo(version, 2);
    for after in [1, 2] {
        let refused = Reshard::new(of(2), of(after), ReshardConfig::default()).unwrap_err();
        assert!(matches!(refused, PlanError::NotNewer { before: 2, .. }));
    }
    let mut memory: Memory<u64> = Memory::new(of(2));
    memory.write(ShardId::new(1), 2, 1, Some(9)).unwrap();
    let other = ShardMap::new(3, Modulo::new(1).unwrap());
    let refused = once(memory.purge(ShardId::new(1), &other))
        .unwrap()
        .unwrap_err();
    assert!(matches!(
        refused,
        MemoryError::NotInForce {
            given: 3,
            current: 2,
            ..
        }
    ));
    assert_eq!(memory.rows().count(), 1);
    assert!(matches!(
        memory.read(ShardId::new(0), 2, 1),
        Err(MemoryError::NotHere { .. })
    ));
}

#[test]
fn a_switch_that_arrives_after_the_way_back_changes_nothing() {
    let (before, after) = moves()[0].1();
    let (_, mut flaky, mut writer) = begin(moves()[0].1, 5);
    // The process dies with the switch on its way.
    let config = ReshardConfig::default();
    let mut dead = Reshard::new(Arc::clone(&before), Arc::clone(&after), config).unwrap();
    let now = t0();
    while dead.next_deadline().is_none() {
        once(dead.step(&mut flaky, now)).unwrap().unwrap();
    }
    let late = dead.moving().clone();
    drop(dead);
    // A version above the one that may still come, with the old partition, is put in force first.
    let above = modulo(3, 2);
    let burning = Reshard::new(before, Arc::clone(&above), config).unwrap();
    once(flaky.switch(burning.moving())).unwrap().unwrap();
    let mut back = Reshard::recover(above, after, false, config);
    while once(back.step(&mut flaky, now)).unwrap().unwrap() == Progress::Going {
        writer.write(&mut flaky.memory);
    }
    once(flaky.switch(&late)).unwrap().unwrap();
    assert_eq!(flaky.memory.map().version(), 3);
    writer.everything_is_there(&mut flaky.memory);
}
