//! consistent-hash beside other placement crates.

use std::{error::Error, hint::black_box, net::SocketAddr};

use hashring::HashRing;
use hrw::Rendezvous as Hrw;
use pingora_ketama::{Bucket, Continuum, Version};
use stackbeam_consistent_hash::{Members, Placement, Rendezvous, Ring};

use crate::kit::{Duel, Figure, Goal, Report, heap_bytes, keys};

/// Keys in one batch: too many for a branch predictor to learn.
const KEYS: usize = 1 << 17;

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    ring(report)?;
    rendezvous(report)?;
    Ok(())
}

fn members(nodes: usize) -> Result<Members, Box<dyn Error>> {
    Ok(Members::from_names(
        (0..nodes).map(|node| format!("node-{node}")),
    )?)
}

/// How long does it take to find a key's node on a ring of 100 points a node, and what does the ring
/// weigh? hashring has as many points under ahash; ketama has 160 a node.
fn ring(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let keys: Vec<u64> = keys(1).take(KEYS).collect();
    for (nodes, times) in [(100, 3.0), (1000, 5.0), (10_000, 8.0)] {
        let members = members(nodes)?;
        let (ours_bytes, ring) = heap_bytes(|| Ring::new(&members));
        let ring = ring?;
        let (hashring_bytes, hashring) = heap_bytes(|| {
            let mut ring = HashRing::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
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
        let ketama = Continuum::new_with_version(&buckets, Version::V1);
        Duel::new(format!("ring look-up, {nodes} nodes"), KEYS as u64, || {
            for key in &keys {
                black_box(ring.owner(*key));
            }
        })
        .against("hashring+ahash", || {
            for key in &keys {
                black_box(hashring.get(key));
            }
        })
        .against("pingora-ketama", || {
            for key in &keys {
                black_box(ketama.node_idx(&key.to_le_bytes()));
            }
        })
        .goal(Goal::Times(times))
        .how("keys already hashed for ours, each rival hashes the key itself")
        .run(report);
        if nodes == 1000 && !report.only_duels() {
            let points = ring.point_count() as f64;
            report.figure(
                Figure::new(
                    "ring memory, 1000 nodes",
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
        let hrw =
            Hrw::from_nodes_and_hasher(0..nodes as u32, ahash::RandomState::with_seeds(1, 2, 3, 4));
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
