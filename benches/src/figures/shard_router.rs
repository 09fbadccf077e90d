//! shard-router beside what one would write by hand: no published crate routes to shards in a program.

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;

use stackbeam_consistent_hash::{Members, Placement, Rendezvous};
use stackbeam_shard_router::{
    Directory, Key, Modulo, Placed, Ranges, Router, ShardId, ShardMap, Slots, group, merge_page,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::kit::{Duel, Figure, Goal, Report, allocations, keys};

/// A look-up must not show beside a question to the shard: a thousandth of the quickest round trip there
/// is, some 50 us over the loopback.
const NOTHING: Goal = Goal::AtMost(50.0);

/// Keys in one batch.
const KEYS: usize = 1 << 14;

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let ids: Vec<u64> = keys(3).take(KEYS).collect();
    route(report, &ids)?;
    ranges(report, &ids)?;
    directory(report, &ids)?;
    placed(report, &ids)?;
    batch(report, &ids)?;
    page(report)?;
    if !report.only_duels() {
        allocated(report, &ids)?;
    }
    Ok(())
}

/// Does a route allocate, also one by a key of bytes?
fn allocated(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    let slots = Slots::even(16_384, 16)?;
    let listed = Directory::new(slots).with_entry(Key::Bytes(b"user:7"), shard(16))?;
    let router = Router::new(ShardMap::new(1, listed));
    let names: Vec<String> = ids.iter().map(|id| format!("user:{id}")).collect();
    let count = allocations(|| {
        for name in &names {
            black_box(router.route(name.as_str()));
        }
    });
    report.figure(
        Figure::new(
            "heap use of a route",
            count as f64 / names.len() as f64,
            "allocations",
        )
        .goal(Goal::AtMost(0.0))
        .how("keys of bytes past a directory to 16384 slots"),
    );
    Ok(())
}

fn shard(number: u32) -> ShardId {
    ShardId::new(number)
}

/// What does a route through the router cost, beside a hash and a table of slots that never changes?
fn route(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    const SLOTS: u32 = 16_384;
    let router = Router::new(ShardMap::new(1, Slots::even(SLOTS, 16)?));
    let table: Vec<u32> = (0..SLOTS).map(|slot| slot * 16 / SLOTS).collect();
    Duel::new("route by slot, 16384 slots", ids.len() as u64, || {
        for id in ids {
            black_box(router.route(id));
        }
    })
    .against("xxh3 and a Vec of slots", || {
        for id in ids {
            let slot = xxh3_64(&id.to_le_bytes()) % u64::from(SLOTS);
            black_box(table.get(slot as usize));
        }
    })
    .goal(NOTHING)
    .how("ours takes the map in force for each key and gives its version along")
    .run(report);

    let map = router.map();
    Duel::new("look-up in one map, 16384 slots", ids.len() as u64, || {
        for id in ids {
            black_box(map.shard(id));
        }
    })
    .against("xxh3 and a Vec of slots", || {
        for id in ids {
            let slot = xxh3_64(&id.to_le_bytes()) % u64::from(SLOTS);
            black_box(table.get(slot as usize));
        }
    })
    .goal(NOTHING)
    .how("the map is taken once for all keys")
    .run(report);
    Ok(())
}

/// What does a range look-up cost, beside a binary search of bare numbers?
fn ranges(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    let bounds: Vec<u64> = (1..1_000).map(|n| n * (u64::MAX / 1_000)).collect();
    let owned = bounds
        .iter()
        .map(|bound| (Key::Number(*bound), shard((*bound % 16) as u32)));
    let map = ShardMap::new(1, Ranges::new(shard(0), owned)?);
    let owners: Vec<u32> = std::iter::once(0)
        .chain(bounds.iter().map(|bound| (*bound % 16) as u32))
        .collect();
    Duel::new("look-up in 1000 ranges", ids.len() as u64, || {
        for id in ids {
            black_box(map.shard(id));
        }
    })
    .against("binary search of numbers", || {
        for id in ids {
            let range = bounds.partition_point(|bound| *bound <= *id);
            black_box(owners.get(range));
        }
    })
    .goal(NOTHING)
    .how("ours may also hold keys of bytes")
    .run(report);
    Ok(())
}

/// What do a thousand keys with a shard of their own cost those that have none?
fn directory(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    let mut partition = Directory::new(Modulo::new(16)?);
    for celebrity in keys(9).take(1_000) {
        partition = partition.with_entry(Key::Number(celebrity), shard(16))?;
    }
    let map = ShardMap::new(1, partition);
    let listed: HashMap<u64, u32> = keys(9).take(1_000).map(|key| (key, 16)).collect();
    Duel::new("look-up past a directory of 1000", ids.len() as u64, || {
        for id in ids {
            black_box(map.shard(id));
        }
    })
    .against("std HashMap, then modulo", || {
        for id in ids {
            let found = listed.get(id).copied();
            black_box(found.unwrap_or((*id % 16) as u32));
        }
    })
    .goal(NOTHING)
    .how("none of the keys asked for is listed")
    .run(report);
    Ok(())
}

/// What does the router add to consistent hashing?
fn placed(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    let map = ShardMap::new(1, Placed::rendezvous((0..16).map(|n| (shard(n), 1.0)))?);
    let members = Members::from_names((0..16).map(|n| format!("shard {n}")))?;
    let bare = Rendezvous::new(&members)?;
    Duel::new("look-up by rendezvous, 16 shards", ids.len() as u64, || {
        for id in ids {
            black_box(map.shard(id));
        }
    })
    .against("the placement alone", || {
        for id in ids {
            black_box(bare.owner(xxh3_64(&id.to_le_bytes())));
        }
    })
    .goal(NOTHING)
    .how("the rival is stackbeam-consistent-hash itself")
    .run(report);
    Ok(())
}

/// What does it cost to split a batch by shard and to put the answers back?
fn batch(report: &mut Report<'_>, ids: &[u64]) -> Result<(), Box<dyn Error>> {
    let map = ShardMap::new(1, Modulo::new(16)?);
    let mut failed = false;
    let ids = &ids[..1_000];
    Duel::new(
        "group 1000 keys and restore the order",
        ids.len() as u64,
        || {
            let batch = group(&map, ids.iter().copied());
            let answers = batch
                .groups()
                .iter()
                .map(|part| (part.shard, part.items.clone()));
            failed |= black_box(batch.restore(answers)).is_err();
        },
    )
    .against("a HashMap of Vecs", || {
        let mut groups: HashMap<u32, Vec<(usize, u64)>> = HashMap::new();
        for (position, id) in ids.iter().enumerate() {
            groups
                .entry((*id % 16) as u32)
                .or_default()
                .push((position, *id));
        }
        let mut out = vec![None; ids.len()];
        for (position, id) in groups.into_values().flatten() {
            out[position] = Some(id);
        }
        black_box(out);
    })
    .goal(Goal::AtMostTimes(1.5))
    .how("16 shards by modulo; ours checks how many answers came")
    .run(report);
    if failed {
        return Err("a batch was not restored".into());
    }
    Ok(())
}

/// What does a page of many sorted lists cost, beside sorting them all?
fn page(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let lists: Vec<Vec<u64>> = (0..16)
        .map(|seed| {
            let mut list: Vec<u64> = keys(seed).take(100).collect();
            list.sort_unstable();
            list
        })
        .collect();
    let mut failed = false;
    Duel::new("a page of 20 from 16 lists of 100", 1, || {
        failed |= black_box(merge_page(lists.clone(), 80, 20, 1_000, Ord::cmp)).is_err();
    })
    .against("concatenate and sort", || {
        let mut all = lists.clone().concat();
        all.sort_unstable();
        black_box(&all[80..100]);
    })
    .goal(Goal::Times(1.5))
    .how("at offset 80; both copy the lists first")
    .run(report);
    if failed {
        return Err("a page was not made".into());
    }
    Ok(())
}
