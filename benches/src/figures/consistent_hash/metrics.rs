//! The seven metrics of the academic suites (java-consistent-hashing-algorithms and its C++ sibling):
//! memory, init, resize, look-up, balance, resize balance, monotonicity.

use std::{error::Error, hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use stackbeam_consistent_hash::{
    Anchor, Flip, Jump, JumpBack, JumpBackAnchor, Maglev, MaglevProfile, Member, Members, Modulo,
    MultiProbe, Placement, Rendezvous, Ring, SlotTable,
};

use crate::kit::{Figure, Report, heap_bytes, keys};

/// Just above a power of two is where some algorithms are slowest.
const SIZES: [usize; 7] = [10, 100, 1000, 1025, 10_000, 65_537, 100_000];

type Build = fn(&Members) -> Result<Box<dyn Placement>, Box<dyn Error>>;

fn count(members: &Members) -> u32 {
    members.len() as u32
}

/// Each with the largest size that is measured: what takes O(n) for a key or n times the slots is not run
/// where it says nothing new.
const ALGORITHMS: [(&str, usize, Build); 11] = [
    ("SlotTable", 10_000, |members| {
        Ok(Box::new(SlotTable::new(members)?))
    }),
    ("Maglev", 10_000, |members| {
        Ok(Box::new(Maglev::new(
            MaglevProfile::Envoy,
            members,
            Maglev::SLOTS,
        )?))
    }),
    ("Ring", 100_000, |members| Ok(Box::new(Ring::new(members)?))),
    ("Rendezvous", 10_000, |members| {
        Ok(Box::new(Rendezvous::new(members)?))
    }),
    ("MultiProbe", 100_000, |members| {
        Ok(Box::new(MultiProbe::new(members)?))
    }),
    ("Anchor", 100_000, |members| {
        // A capacity that does not change with the one member more, for which there is room.
        let nodes = count(members);
        Ok(Box::new(Anchor::with_capacity(
            nodes,
            nodes / 10 * 11 + 10,
        )?))
    }),
    ("JumpBackAnchor", 100_000, |members| {
        Ok(Box::new(JumpBackAnchor::new(count(members))?))
    }),
    ("JumpBack", 100_000, |members| {
        Ok(Box::new(JumpBack::new(count(members))?))
    }),
    ("Flip", 100_000, |members| {
        Ok(Box::new(Flip::new(count(members))?))
    }),
    ("Jump", 100_000, |members| {
        Ok(Box::new(Jump::new(count(members))?))
    }),
    ("Modulo", 100_000, |members| {
        Ok(Box::new(Modulo::new(count(members))?))
    }),
];

/// What of an algorithm is measured at one size.
struct Row {
    memory: f64,
    init: f64,
    resize: f64,
    look_up: f64,
    balance: f64,
    resize_balance: f64,
    moved: f64,
}

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    for (name, largest, build) in ALGORITHMS {
        for nodes in SIZES.into_iter().filter(|nodes| *nodes <= largest) {
            let row = measure(nodes, build)?;
            for (metric, value, unit, how) in [
                (
                    "memory",
                    row.memory,
                    "B/node",
                    "bytes kept on the heap, without the members, over the nodes",
                ),
                (
                    "init",
                    row.init,
                    "us",
                    "CPU time to build it from its members",
                ),
                (
                    "resize",
                    row.resize,
                    "us",
                    "CPU time to build it with one member more",
                ),
                (
                    "look-up",
                    row.look_up,
                    "ns",
                    "CPU time of an owner, keys already hashed, through a trait object",
                ),
                (
                    "balance",
                    row.balance,
                    "peak/mean",
                    "keys of the busiest node over the mean, 100 keys a node and at least 100 000; chance \
                     alone gives some 1.4 from 1 000 nodes on",
                ),
                (
                    "resize balance",
                    row.resize_balance,
                    "peak/mean",
                    "the same after one member more",
                ),
                (
                    "monotonicity",
                    row.moved,
                    "times the least",
                    "keys that moved over keys that went to the new node",
                ),
            ] {
                report.figure(
                    Figure::new(format!("{metric}: {name}, {nodes} nodes"), value, unit).how(how),
                );
            }
        }
    }
    Ok(())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = cpu();
    let result = work();
    ((cpu() - start).as_secs_f64(), result)
}

fn measure(nodes: usize, build: Build) -> Result<Row, Box<dyn Error>> {
    // In the order of the list, so that the new one is the last of the numbered too.
    let all = |nodes| Members::in_order((0..nodes).map(|n| Member::new(format!("node-{n}"))));
    let (before, after) = (all(nodes)?, all(nodes + 1)?);
    let (init, (memory, old)) = timed(|| heap_bytes(|| build(&before)));
    let (resize, new) = timed(|| build(&after));
    let (old, new) = (old?, new?);
    // With fewer keys a node it is chance that makes the peak.
    let sample: Vec<u64> = keys(11).take((100 * nodes).max(100_000)).collect();
    let (spent, owners) = timed(|| {
        sample
            .iter()
            .map(|key| black_box(old.owner(*key)))
            .collect::<Vec<_>>()
    });
    let (mut counts, mut counts_after) = (vec![0_u32; nodes + 1], vec![0_u32; nodes + 1]);
    let (mut moved, mut gained) = (0_u32, 0_u32);
    for (key, owner) in sample.iter().zip(owners) {
        let now = new.owner(*key);
        counts[owner.index()] += 1;
        counts_after[now.index()] += 1;
        moved += u32::from(now != owner);
        gained += u32::from(now.index() == nodes);
    }
    let keys = sample.len() as f64;
    let peak = |counts: Vec<u32>, nodes: usize| {
        f64::from(counts.into_iter().max().unwrap_or(0)) * nodes as f64 / keys
    };
    Ok(Row {
        memory: memory as f64 / nodes as f64,
        init: init * 1e6,
        resize: resize * 1e6,
        look_up: spent * 1e9 / keys,
        balance: peak(counts, nodes),
        resize_balance: peak(counts_after, nodes + 1),
        moved: f64::from(moved) / f64::from(gained.max(1)),
    })
}
