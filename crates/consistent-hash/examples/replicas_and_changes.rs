//! Replicas in two zones, a member that joins, and what moves: `cargo run --example replicas_and_changes`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use stackbeam_consistent_hash::{
    KeyHash, Member, Members, NodeIx, Ranges, SlotTable, Spread, Xxh3,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Members::new((0..6).map(|n| {
        Member::new(format!("shard-{n}")).with_zone(if n % 2 == 0 { "eu/a" } else { "eu/b" })
    }))?;
    let table = SlotTable::new(&members)?;
    let zones = Spread::new(&members, 2);
    let mut replicas = [NodeIx::default(); 2];
    let count = zones.owners(&table, Xxh3::new().hash(b"user:42"), &mut replicas);
    for node in &replicas[..count] {
        let member = &members[*node];
        println!("user:42 is on {} in {}", member.name(), member.zone());
    }

    let more = members.with(Member::new("shard-6").with_zone("eu/a"))?;
    let next = SlotTable::new(&more)?;
    let diff = table.diff(&next);
    println!(
        "shard-6 joins: {:.1} % of the keys move in {} ranges, {:.2} times the least",
        100.0 * diff.moved(),
        diff.moves().len(),
        diff.churn(),
    );

    // The other process reads the same table, and can prove it.
    let there = SlotTable::from_bytes(&next.to_bytes())?;
    println!(
        "agreed on {:016x}: {}",
        next.fingerprint(),
        there.fingerprint() == next.fingerprint()
    );
    Ok(())
}
