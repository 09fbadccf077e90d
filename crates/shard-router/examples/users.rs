//! Four shards in memory, a celebrity, a batch and a page: `cargo run --example users`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::num::NonZeroUsize;

use stackbeam_shard_router::{
    Directory, Key, Modulo, Router, ShardId, ShardMap, Skew, group, merge_page, scatter,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::new(ShardMap::new(1, Modulo::new(4)?));
    // Half of all accesses are to one user; the others are spread evenly.
    let accesses = || (0..10_000_u64).map(|n| if n % 2 == 0 { 8 } else { n / 2 });
    let busiest = |router: &Router| {
        let skew = Skew::of(&router.map(), accesses());
        let peak = skew.shards.iter().map(|load| load.accesses).max();
        (peak.unwrap_or(0) / 100, skew.busiest_key_share)
    };
    let (before, one_key) = busiest(&router);
    router.update(ShardMap::new(
        2,
        Directory::new(Modulo::new(4)?).with_entry(Key::Number(8), ShardId::new(4))?,
    ))?;
    let (after, _) = busiest(&router);
    println!("one user takes {:.0} % of all accesses", one_key * 100.0);
    println!("the busiest shard has {before} %; with a shard for the celebrity, {after} %");

    let map = router.map();
    let batch = group(&map, [8_u64, 9, 10, 12]);
    for group in batch.groups() {
        println!("{} is asked for {:?}", group.shard, group.items);
    }

    // The newest ten posts of everybody: each shard sends its newest ten.
    let at_once = NonZeroUsize::new(8).ok_or("eight is not zero")?;
    let gathered = scatter(map.shards().iter().copied(), at_once, |shard| async move {
        let newest: Vec<u32> = (0..10).map(|n| 1_000 - n * 5 - shard.get()).collect();
        Ok::<_, std::io::Error>(newest)
    })
    .await;
    println!("coverage: {:.0} %", gathered.coverage().ratio() * 100.0);
    let lists = gathered.complete()?.into_iter().map(|(_, list)| list);
    let page = merge_page(lists, 0, 10, 1_000, |a, b| b.cmp(a))?;
    println!("newest: {page:?}");
    Ok(())
}
