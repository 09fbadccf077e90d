//! A cache server leaves and only its keys move: `cargo run --example cache_servers`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use stackbeam_consistent_hash::{KeyHash, MemberId, Members, Placement, Ring, Xxh3};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = Members::from_names((0..10).map(|n| format!("cache-{n}")))?;
    let after = before.without(MemberId::of_name("cache-3"))?;
    let (old, new) = (Ring::new(&before)?, Ring::new(&after)?);
    let keys: Vec<u64> = (0..100_000_u64).map(|n| Xxh3::new().hash_u64(n)).collect();
    let mut counts = vec![0_u32; before.len()];
    let (mut moved, mut needlessly) = (0, 0);
    for key in &keys {
        let owner = &before[old.owner(*key)];
        counts[old.owner(*key).index()] += 1;
        if owner.name() != after[new.owner(*key)].name() {
            moved += 1;
            needlessly += u32::from(owner.name() != "cache-3");
        }
    }
    for (member, count) in before.iter().zip(&counts) {
        println!("{:9} {count:6} keys", member.name());
    }
    println!("cache-3 left: {moved} keys moved, {needlessly} of them needlessly");
    Ok(())
}
