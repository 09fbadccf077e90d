//! The power is cut at every call that changes the disk.

use super::book::{Event, Page};
use super::world::{World, open};
use super::{Report, Sabotage};
use crate::sim::{Crash, CrashPoint, Directory, SimDisk};

/// Steps of a workload, and of a second life.
const STEPS: usize = 120;
const SECOND_LIFE: usize = 16;

/// Recovers and compares with what had been promised.
pub(super) fn verify(disk: &SimDisk, page: &Page, how: Crash) -> Result<World, String> {
    let world = open(disk, false).map_err(|e| format!("open failed: {e}"))?;
    page.compare(&world.found()?, how == Crash::KeepAll)?;
    Ok(world)
}

/// Recovers and checks at least `states` crash states, of workloads that follow from `seed`.
#[must_use]
pub fn crashes(states: u64, seed: u64, sabotage: Sabotage) -> Report {
    let _weak = sabotage.weaken();
    let mut report = Report::default();
    let mut round = 0;
    while !report.is_over(states) {
        let seed = seed.wrapping_add(round);
        round += 1;
        let directory = if round % 2 == 0 {
            Directory::Strict
        } else {
            Directory::Ordered
        };
        let disk = SimDisk::new(directory);
        disk.lie(sabotage.lie());
        disk.record();
        let mut events = Vec::new();
        if let Ok(mut world) = open(&disk, false) {
            world.work(&disk, seed, STEPS, 1, &mut events);
        }
        let place = format!("seed {seed}, {directory:?}");
        let points = disk.take_points();
        each_point(&points, &Page::default(), &events, |point, page, n| {
            crash_point(&mut report, point, page, seed, n, sabotage, &place);
            !report.is_over(states)
        });
    }
    report
}

/// Calls `f` for each crash point with the page that the book showed there, until it says stop.
fn each_point(
    points: &[CrashPoint],
    start: &Page,
    events: &[Event],
    mut f: impl FnMut(&CrashPoint, &Page, u64) -> bool,
) {
    let mut page = start.clone();
    let mut read = 0;
    for (n, point) in (0..).zip(points) {
        while read < point.mark {
            page.apply(&events[read]);
            read += 1;
        }
        if !f(point, &page, n) {
            return;
        }
    }
}

fn crash_point(
    report: &mut Report,
    point: &CrashPoint,
    page: &Page,
    seed: u64,
    n: u64,
    sabotage: Sabotage,
    place: &str,
) {
    use Crash::{KeepAll, LoseAll, Random, Zeroed};
    let kinds: &[Crash] = if point.is_open() {
        &[LoseAll, KeepAll, Random, Random, Random, Zeroed]
    } else {
        &[LoseAll]
    };
    for (i, how) in (0_u64..).zip(kinds) {
        let salt = seed ^ (n << 20) ^ (i << 50);
        let at = || format!("{place}, call {}, {how:?}", point.call);
        let found = point.crash(*how, salt);
        found.lie(sabotage.lie());
        found.record();
        let world = match verify(&found, page, *how) {
            Ok(world) => world,
            Err(what) => {
                report.check(Err(what), at);
                continue;
            }
        };
        report.check(Ok(()), at);
        let recovery = found.take_points();
        if (n + i).is_multiple_of(4) {
            // Recovery is cut off at each of its own calls, and must then come to no other end.
            for again in &recovery {
                let twice = again.crash(Random, salt.rotate_left(13));
                let killed = if *how == KeepAll { LoseAll } else { Random };
                report.check(verify(&twice, page, killed).map(drop), || {
                    format!("{}, then recovery at call {}", at(), again.call)
                });
            }
        }
        if (n + i).is_multiple_of(16) {
            second_life(report, world, &found, page, salt, &at());
        }
    }
}

/// Goes on with a recovered queue: what recovery had cut off stays away for ever.
fn second_life(
    report: &mut Report,
    mut world: World,
    disk: &SimDisk,
    page: &Page,
    salt: u64,
    place: &str,
) {
    let Ok(found) = world.found() else { return };
    let mut start = page.clone();
    start.apply(&Event::Reborn(
        found.messages.into_keys().collect(),
        found.dead.into_iter().collect(),
    ));
    disk.record();
    disk.mark(0);
    let mut events = Vec::new();
    world.work(disk, salt | 1, SECOND_LIFE, 1, &mut events);
    let points = disk.take_points();
    each_point(&points, &start, &events, |point, page, n| {
        let how = if n % 2 == 0 {
            Crash::Random
        } else {
            Crash::KeepAll
        };
        let again = point.crash(how, salt ^ (n << 33));
        report.check(verify(&again, page, how).map(drop), || {
            format!("{place}, second life at call {}, {how:?}", point.call)
        });
        report.failures.len() < 20
    });
}
