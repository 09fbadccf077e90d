//! consistent-hash beside other placement crates.

mod metrics;

use std::{error::Error, hint::black_box, net::SocketAddr, time::Duration};

use anchorhash::Builder as AnchorBuilder;
use consistent_hash_ring::RingBuilder;
use hashring::HashRing;
use hrw::Rendezvous as Hrw;
use maglev::{ConsistentHasher as _, Maglev as MaglevCrate};
use mpchash::HashRing as MpcHash;
use pingora_ketama::{Bucket, Continuum, Version};
use rustix::time::{ClockId, clock_gettime};
use stackbeam_consistent_hash::{
    Anchor, BoundedLoad, JumpBack, Maglev, MaglevProfile, MemberId, Members, MultiProbe, NodeIx,
    Placement, Ranges as _, Rendezvous, Ring, Shared, SlotTable,
};

use crate::kit::{Duel, Figure, Goal, Report, heap_bytes, keys};

/// Keys in one batch: too many for a branch predictor to learn.
const KEYS: usize = 1 << 17;

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    ring(report)?;
    rendezvous(report)?;
    top_three(report)?;
    anchor(report)?;
    slot_table(report)?;
    jump_back(report)?;
    multi_probe(report)?;
    if !report.only_duels() {
        churn(report)?;
        peak(report)?;
        two_threads(report)?;
        probes(report)?;
        metrics::figures(report)?;
    }
    Ok(())
}

fn members(nodes: usize) -> Result<Members, Box<dyn Error>> {
    Ok(Members::from_names(
        (0..nodes).map(|node| format!("node-{node}")),
    )?)
}

fn rival_hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

/// How long does it take to find a key's node on a ring of 100 points a node, and what does the ring
/// weigh? hashring and consistent_hash_ring have as many points under ahash; ketama has 160 a node.
fn ring(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(1).take(KEYS).collect();
    for (nodes, times) in [(100, 3.0), (1000, 5.0), (10_000, 8.0)] {
        let members = members(nodes)?;
        let (ours_bytes, ring) = heap_bytes(|| Ring::new(&members));
        let ring = ring?;
        let (hashring_bytes, hashring) = heap_bytes(|| {
            let mut ring = HashRing::with_hasher(rival_hasher());
            let point = |node| (0..100_u32).map(move |point| (node, point));
            ring.batch_add((0..nodes as u32).flat_map(point).collect());
            ring
        });
        let buckets: Vec<Bucket> = (0..nodes)
            .map(|node| {
                let address = SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 80));
                Bucket::new(address, 1)
            })
            .collect();
        let version = Version::V2 {
            point_multiple: 160,
        };
        let ketama = Continuum::new_with_version(&buckets, version);
        // It builds in quadratic time: at 10 000 nodes for minutes.
        let chr = (nodes <= 1000).then(|| {
            RingBuilder::new(rival_hasher())
                .vnodes(100)
                .nodes_iter(0..nodes as u32)
                .build()
        });
        let mut duel = Duel::new(format!("ring look-up, {nodes} nodes"), KEYS as u64, || {
            for key in &keys {
                black_box(ring.owner(*key));
            }
        })
        .against("hashring+ahash", || {
            for key in &keys {
                black_box(hashring.get(key));
            }
        })
        .against("pingora-ketama v2", || {
            for key in &keys {
                black_box(ketama.node_idx(&key.to_le_bytes()));
            }
        });
        if let Some(chr) = &chr {
            duel = duel.against("consistent_hash_ring+ahash", || {
                for key in &keys {
                    black_box(chr.get(key));
                }
            });
        }
        duel.goal(Goal::Times(times))
            .how("keys already hashed for ours, each rival hashes the key itself")
            .run(report);
        if !report.only_duels() {
            let points = ring.point_count() as f64;
            report.figure(
                Figure::new(
                    format!("ring memory, {nodes} nodes"),
                    ours_bytes as f64 / points,
                    "B/point",
                )
                .against("hashring+ahash", hashring_bytes as f64 / points)
                .goal(Goal::AtMost(14.0))
                .how("bytes that the ring keeps on the heap, over its points"),
            );
        }
    }
    Ok(())
}

/// How long does it take to find a key's node by rendezvous?
fn rendezvous(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(2).take(KEYS >> 7).collect();
    for (nodes, times) in [(10, 4.0), (100, 10.0), (1000, 12.0)] {
        let ours = Rendezvous::new(&members(nodes)?)?;
        let hrw = Hrw::from_nodes_and_hasher(0..nodes as u32, rival_hasher());
        Duel::new(
            format!("rendezvous look-up, {nodes} nodes"),
            keys.len() as u64,
            || {
                for key in &keys {
                    black_box(ours.owner(*key));
                }
            },
        )
        .against("hrw+ahash", || {
            for key in &keys {
                black_box(hrw.pick_top(key));
            }
        })
        .goal(Goal::Times(times))
        .how("keys already hashed for ours, the rival hashes the key itself")
        .run(report);
    }
    Ok(())
}

/// What do three replicas cost beside one owner?
fn top_three(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(3).take(KEYS >> 7).collect();
    for nodes in [10, 100, 1000] {
        let ours = Rendezvous::new(&members(nodes)?)?;
        let mut three = [NodeIx::default(); 3];
        Duel::new(
            format!("rendezvous top-3, {nodes} nodes"),
            keys.len() as u64,
            || {
                for key in &keys {
                    black_box(ours.owners(*key, &mut three));
                    black_box(&three);
                }
            },
        )
        .against("itself, top-1", || {
            for key in &keys {
                black_box(ours.owner(*key));
            }
        })
        .goal(Goal::AtMostTimes(2.0))
        .run(report);
    }
    Ok(())
}

/// How long does AnchorHash take, with room for a tenth more nodes?
fn anchor(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(4).take(KEYS).collect();
    for (nodes, times) in [(10, 1.7), (100, 2.5), (1000, 2.5), (10_000, 2.0)] {
        let capacity = nodes + nodes / 10;
        let ours = Anchor::with_capacity(nodes, capacity)?;
        let rival = AnchorBuilder::with_hasher(rival_hasher())
            .with_resources(0..nodes)
            .build::<u64>(u16::try_from(capacity)?);
        Duel::new(
            format!("anchor look-up, {nodes} nodes"),
            KEYS as u64,
            || {
                for key in &keys {
                    black_box(ours.owner(*key));
                }
            },
        )
        .against("anchorhash+ahash", || {
            for key in &keys {
                black_box(rival.get_resource(*key));
            }
        })
        .goal(Goal::Times(times))
        .how("capacity 1.1 times the nodes; keys already hashed for ours, the rival hashes them itself")
        .run(report);
    }
    Ok(())
}

/// How far from a plain modulo is a look-up in a slot table, and what does it take to fill one?
fn slot_table(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(5).take(KEYS).collect();
    for nodes in [10, 100, 1000, 10_000] {
        let table = SlotTable::new(&members(nodes)?)?;
        // The number of nodes must not be known when this is compiled.
        let count = black_box(nodes as u64);
        Duel::new(
            format!("slot table look-up, {nodes} nodes"),
            KEYS as u64,
            || {
                for key in &keys {
                    black_box(table.owner(*key));
                }
            },
        )
        .against("hash % nodes", || {
            for key in &keys {
                black_box(*key % count);
            }
        })
        .goal(Goal::AtMostTimes(1.5))
        .how("65 536 slots, keys already hashed for both")
        .run(report);
    }
    let table = SlotTable::new(&members(100)?)?;
    let rival: MaglevCrate<u32, ahash::RandomState> =
        MaglevCrate::with_capacity_and_hasher(0..100_u32, 65_537, rival_hasher());
    Duel::new(
        "slot table look-up beside the maglev crate, 100 nodes",
        KEYS as u64,
        || {
            for key in &keys {
                black_box(table.owner(*key));
            }
        },
    )
    .against("maglev+ahash", || {
        for key in &keys {
            black_box(rival.get(key));
        }
    })
    .how("65 536 and 65 537 slots; keys already hashed for ours, the rival hashes them itself")
    .run(report);

    let thousand = members(1000)?;
    Duel::new("slot table build, 1000 nodes", 1, || {
        black_box(SlotTable::with_slots(&thousand, 65_536, 0.05).is_ok());
    })
    .against("our own Maglev fill", || {
        black_box(Maglev::new(MaglevProfile::Envoy, &thousand, Maglev::SLOTS).is_ok());
    })
    .goal(Goal::AtMostTimes(6.0))
    .rounds(5)
    .how("65 536 slots and slack 0.05; 65 537 slots in the order of Envoy's")
    .run(report);
    Ok(())
}

/// Is JumpBack at least twice as fast as jump at every size, those just above a power of two included?
fn jump_back(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(6).take(KEYS >> 2).collect();
    for nodes in [10, 100, 513, 1000, 1025, 10_000, 65_537, 1_000_000] {
        let ours = JumpBack::new(nodes)?;
        let buckets = black_box(nodes as usize);
        Duel::new(
            format!("JumpBack look-up, {nodes} nodes"),
            keys.len() as u64,
            || {
                for key in &keys {
                    black_box(ours.owner(*key));
                }
            },
        )
        .against("jump-consistent-hash", || {
            for key in &keys {
                black_box(jump_consistent_hash::hash(*key, buckets));
            }
        })
        .goal(Goal::Times(2.0))
        .how("the same hashed keys for both")
        .run(report);
    }
    Ok(())
}

/// How long do 21 probes take?
fn multi_probe(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(7).take(KEYS >> 7).collect();
    for nodes in [10, 100, 1000, 10_000] {
        let ours = MultiProbe::new(&members(nodes)?)?;
        let rival = MpcHash::new();
        for node in 0..nodes as u64 {
            rival.add(node);
        }
        Duel::new(
            format!("multi-probe look-up, {nodes} nodes"),
            keys.len() as u64,
            || {
                for key in &keys {
                    black_box(ours.owner(*key));
                }
            },
        )
        .against("mpchash", || {
            for key in &keys {
                black_box(rival.node(key).map(|token| *token.node()));
            }
        })
        .goal(Goal::Times(8.0))
        .how("21 probes for both; keys already hashed for ours, the rival hashes them itself")
        .run(report);
    }
    Ok(())
}

/// How many slots move when a member goes, as a multiple of those that it had?
fn churn(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    for (nodes, slack, goal) in [(100, 0.05, 1.1), (1000, 0.0, 2.5)] {
        let all = members(nodes)?;
        let (mut ours, mut theirs) = (0.0, 0.0);
        const GONE: usize = 8;
        for gone in (0..GONE).map(|n| MemberId::of_name(&format!("node-{}", n * nodes / GONE))) {
            let fewer = all.without(gone)?;
            let ratio = |before: &SlotTable, after: &SlotTable| {
                let had = before
                    .slots()
                    .filter(|node| all[*node].id() == gone)
                    .count();
                let moved = before.diff_slots(after).map_or(0, |moves| moves.len());
                moved as f64 / had as f64 / GONE as f64
            };
            let before = SlotTable::with_slots(&all, 65_536, slack)?;
            ours += ratio(&before, &SlotTable::with_slots(&fewer, 65_536, slack)?);
            let maglev = |members| Maglev::new(MaglevProfile::Envoy, members, Maglev::SLOTS);
            theirs += ratio(maglev(&all)?.table(), maglev(&fewer)?.table());
        }
        report.figure(
            Figure::new(
                format!("slot table churn on removal, {nodes} nodes, slack {slack}"),
                ours,
                "times the least",
            )
            .against("Maglev, 65537 slots", theirs)
            .goal(Goal::AtMost(goal))
            .how(format!(
                "slots that move over slots that the member had, mean over {GONE} members"
            )),
        );
    }
    let all = members(1000)?;
    let fewer = all.without(MemberId::of_name("node-500"))?;
    let churn = Ring::new(&all)?.diff(&Ring::new(&fewer)?).churn();
    report.figure(
        Figure::new(
            "ring churn on removal, 1000 nodes",
            churn,
            "times the least",
        )
        .goal(Goal::AtMost(1.0))
        .how("hashes that move over those that must, exactly"),
    );
    Ok(())
}

/// How much more than the mean has the busiest node?
fn peak(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    const KEYS: usize = 4_000_000;
    let nodes = 100;
    let ours = MultiProbe::new(&members(nodes)?)?;
    let rival = MpcHash::new();
    for node in 0..nodes as u64 {
        rival.add(node);
    }
    let peak = |counts: Vec<u32>, keys: usize| {
        f64::from(counts.into_iter().max().unwrap_or(0)) * nodes as f64 / keys as f64
    };
    let mut counts = vec![0_u32; nodes];
    for key in keys(8).take(KEYS) {
        counts[ours.owner(key).index()] += 1;
    }
    let value = peak(counts, KEYS);
    let mut counts = vec![0_u32; nodes];
    for key in keys(8).take(KEYS / 10) {
        if let Some(token) = rival.node(&key) {
            counts[*token.node() as usize] += 1;
        }
    }
    report.figure(
        Figure::new("multi-probe peak over mean, 100 nodes", value, "")
            .against("mpchash", peak(counts, KEYS / 10))
            .goal(Goal::AtMost(1.12))
            .how("4 million keys, 400 000 for the rival"),
    );
    Ok(())
}

/// Do two threads that read one snapshot while members change do twice the work of one? By CPU time of each
/// thread: what two threads take from each other (lines of memory that both write) shows there, whatever
/// else the machine does.
fn two_threads(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let (few, more) = (members(100)?, members(101)?);
    let tables = [SlotTable::new(&few)?, SlotTable::new(&more)?];
    let shared = Shared::new(tables[0].clone());
    let keys: Vec<u64> = keys(9).take(1 << 12).collect();
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    };
    let read = || {
        let start = cpu();
        for _ in 0..400 {
            for key in &keys {
                black_box(shared.load().owner(*key));
            }
        }
        (cpu() - start).as_secs_f64()
    };
    let mut ratios = Vec::new();
    for round in 0..15 {
        let changes = |times: usize| {
            for n in 0..times {
                shared.store(tables[(n + round) % 2].clone());
                std::thread::yield_now();
            }
        };
        let one = std::thread::scope(|scope| {
            scope.spawn(|| changes(50));
            scope.spawn(read).join().unwrap_or(f64::NAN)
        });
        let two = std::thread::scope(|scope| {
            scope.spawn(|| changes(50));
            let both = [scope.spawn(read), scope.spawn(read)];
            let both = both.map(|thread| thread.join().unwrap_or(f64::NAN));
            f64::midpoint(both[0], both[1])
        });
        ratios.push(2.0 * one / two);
    }
    ratios.sort_by(f64::total_cmp);
    report.figure(
        Figure::new("two readers of one snapshot while members change", ratios[7], "times one reader")
            .more_is_better()
            .goal(Goal::AtLeast(1.9))
            .how("look-ups a second of CPU time, 1.6 million loads a reader, 50 changes meanwhile, median of 15"),
    );
    Ok(())
}

/// How many nodes does a bounded load look at, when as much is in hand as ten for each node?
fn probes(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    for nodes in [10, 100, 1000, 10_000] {
        let bounded = BoundedLoad::new(SlotTable::new(&members(nodes)?)?, 0.25)?;
        let mut above = 0;
        for (n, key) in keys(10).take(10 * nodes).enumerate() {
            let node = bounded.take(key);
            above += u32::from(bounded.load(node) > bounded.cap_of(node, n + 1));
        }
        let stats = bounded.stats();
        report.figure(
            Figure::new(
                format!("bounded load, nodes looked at, {nodes} nodes, slack 0.25"),
                stats.looked_at as f64 / stats.taken as f64,
                "nodes",
            )
            .goal(Goal::AtMost(5.0))
            .how(format!(
                "ten keys a node in hand; {above} were above the cap"
            )),
        );
    }
    Ok(())
}
