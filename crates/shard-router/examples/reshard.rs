//! From two shards to three on tokio, while two tasks write: `cargo run --example reshard`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example is a shell that prints and reads the clock"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stackbeam_shard_router::reshard::{
    Cursor, Memory, MemoryError, Mover, Moving, Progress, Reshard, ReshardConfig, Tailed,
};
use stackbeam_shard_router::{Modulo, Router, ShardId, ShardMap};
use tokio::sync::Mutex;

/// Shards that several tasks use. A real one would send each of these to a database.
#[derive(Clone)]
struct Shards {
    memory: Arc<Mutex<Memory<u64>>>,
    router: Router,
}

impl Mover for Shards {
    type Error = MemoryError;

    async fn purge(&mut self, shard: ShardId, keep: &ShardMap) -> Result<(), MemoryError> {
        self.memory.lock().await.purge(shard, keep).await
    }

    async fn copy(
        &mut self,
        moving: &Moving,
        from: ShardId,
        cursor: Option<Cursor>,
    ) -> Result<Option<Cursor>, MemoryError> {
        self.memory.lock().await.copy(moving, from, cursor).await
    }

    async fn tail(
        &mut self,
        moving: &Moving,
        from: ShardId,
        after: Option<u64>,
    ) -> Result<Tailed, MemoryError> {
        self.memory.lock().await.tail(moving, from, after).await
    }

    async fn fence(
        &mut self,
        moving: &Moving,
        from: ShardId,
        up: bool,
    ) -> Result<u64, MemoryError> {
        self.memory.lock().await.fence(moving, from, up).await
    }

    async fn verify(&mut self, moving: &Moving, from: ShardId) -> Result<bool, MemoryError> {
        self.memory.lock().await.verify(moving, from).await
    }

    async fn switch(&mut self, moving: &Moving) -> Result<(), MemoryError> {
        self.memory.lock().await.switch(moving).await
    }
}

/// Writes its own rows, tries again what is refused, and remembers what was acknowledged.
async fn write(shards: Shards, first: u64) -> BTreeMap<u64, u64> {
    let mut ledger = BTreeMap::new();
    for n in 0..20_000_u64 {
        let (key, value) = (first + 2 * (n % 500), n);
        loop {
            let route = shards.router.route(&key);
            let mut memory = shards.memory.lock().await;
            match memory.write(route.shard, route.version, key, Some(value)) {
                Ok(()) => break,
                // The map is new: the router learns it, as it would from a configuration store.
                Err(MemoryError::Stale(_)) => {
                    let map = memory.map();
                    let _known = shards.router.update(ShardMap::new(map.version(), three()));
                }
                Err(_) => {
                    drop(memory);
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        }
        ledger.insert(key, value);
        tokio::task::yield_now().await;
    }
    ledger
}

fn three() -> Modulo {
    Modulo::new(3).unwrap_or_else(|_| unreachable!("three shards are allowed"))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = Arc::new(ShardMap::new(1, Modulo::new(2)?));
    let after = Arc::new(ShardMap::new(2, three()));
    let shards = Shards {
        memory: Arc::new(Mutex::new(Memory::new(Arc::clone(&before)))),
        router: Router::new(ShardMap::new(1, Modulo::new(2)?)),
    };
    let writers: Vec<_> = (0..2)
        .map(|first| tokio::spawn(write(shards.clone(), first)))
        .collect();

    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut reshard = Reshard::new(before, after, ReshardConfig::default())?;
    let mut mover = shards.clone();
    let ended = loop {
        match reshard.step(&mut mover, Instant::now()).await? {
            Progress::Going => tokio::task::yield_now().await,
            ended => break ended,
        }
    };
    println!("{ended:?}: {:?}", reshard.stats());

    let mut ledger = BTreeMap::new();
    for writer in writers {
        ledger.extend(writer.await?);
    }
    let memory = shards.memory.lock().await;
    let map = memory.map();
    for (key, value) in &ledger {
        let there = memory.read(map.shard(key), map.version(), *key)?;
        if there != Some(*value) {
            return Err(format!("row {key} is lost").into());
        }
    }
    let mut rows: BTreeMap<ShardId, u32> = BTreeMap::new();
    for (shard, _, _) in memory.rows() {
        *rows.entry(shard).or_default() += 1;
    }
    println!("{} acknowledged rows are all there: {rows:?}", ledger.len());
    Ok(())
}
