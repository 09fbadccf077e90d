//! lru-cache beside other caches.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{error::Error, hint::black_box, io::Read, path::Path, thread};

use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::{Adaptive, Builder, Cache, Fifo, Gdsf, Life, Lru, Policy, sync};

use crate::kit::{Duel, Figure, Goal, Report, Zipf, heap_bytes};

/// Entries of the caches whose speed is measured, and keys that are asked for.
const CAPACITY: usize = 100_000;
const KEYS: u32 = 1_000_000;
/// Operations in one batch, and draws from which batches take theirs in turn.
const BATCH: usize = 1 << 16;
const DRAWS: usize = 1 << 21;

const TRACES: [&str; 6] = ["oltp", "p3", "p12x", "orm-busy", "mooncake-conv", "web12"];

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    throughput(report);
    plain_lru(report);
    one_load(report)?;
    tag(report);
    if !report.only_duels() {
        memory(report);
        misses(report)?;
        sized_misses(report)?;
        let mut traces = Vec::new();
        for name in TRACES {
            traces.push(keys(name)?);
        }
        super::lru_servers::figures(report, &traces)?;
    }
    Ok(())
}

/// What draws come next, in a batch after a batch.
struct Draws {
    draws: Vec<u64>,
    at: Cell<usize>,
}

impl Draws {
    fn zipf(seed: u64) -> Self {
        Self {
            draws: Zipf::new(KEYS, 0.99).draw(seed, DRAWS),
            at: Cell::new(0),
        }
    }

    fn next(&self) -> &[u64] {
        let from = self.at.get();
        self.at.set((from + BATCH) % DRAWS);
        &self.draws[from..from + BATCH]
    }
}

/// A cache as the throughput figures use it.
trait Shared: Sync {
    fn get(&self, key: u64) -> Option<u64>;
    fn put(&self, key: u64, value: u64);
}

impl<P: Policy + Send + Sync> Shared for sync::Cache<u64, u64, P> {
    fn get(&self, key: u64) -> Option<u64> {
        sync::Cache::get(self, &key)
    }
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }
}

impl Shared for quick_cache::sync::Cache<u64, u64> {
    fn get(&self, key: u64) -> Option<u64> {
        Self::get(self, &key)
    }
    fn put(&self, key: u64, value: u64) {
        self.insert(key, value);
    }
}

/// Gets, and inserts what was missing.
fn get_or_insert(cache: &impl Shared, keys: &[u64]) {
    for key in keys {
        if black_box(cache.get(*key)).is_none() {
            cache.put(*key, *key);
        }
    }
}

/// Gets, but every twentieth is an insertion.
fn mostly_read(cache: &impl Shared, keys: &[u64]) {
    for (at, key) in keys.iter().enumerate() {
        if at % 20 == 0 {
            cache.put(*key, *key);
        } else {
            black_box(cache.get(*key));
        }
    }
}

/// How many operations a second does a shared cache do, with the default policy adapting as it goes?
fn throughput(report: &mut Report<'_>) {
    let ours: sync::Cache<u64, u64> = sync::Cache::new(CAPACITY as u64);
    let quick: quick_cache::sync::Cache<u64, u64> = quick_cache::sync::Cache::new(CAPACITY);
    let draws = Draws::zipf(1);
    for _ in 0..DRAWS / BATCH {
        let keys = draws.next();
        get_or_insert(&ours, keys);
        get_or_insert(&quick, keys);
    }
    let how = "Zipf 0.99 over 1 M keys, 100 000 entries, u64 to u64, default hashers and policies";
    duel(
        report,
        "get or insert",
        &draws,
        &ours,
        &quick,
        how,
        |cache, keys| match cache {
            Either::Ours(cache) => get_or_insert(*cache, keys),
            Either::Rival(cache) => get_or_insert(*cache, keys),
        },
    );
    duel(
        report,
        "95% read",
        &draws,
        &ours,
        &quick,
        how,
        |cache, keys| match cache {
            Either::Ours(cache) => mostly_read(*cache, keys),
            Either::Rival(cache) => mostly_read(*cache, keys),
        },
    );
}

enum Either<'a> {
    Ours(&'a sync::Cache<u64, u64>),
    Rival(&'a quick_cache::sync::Cache<u64, u64>),
}

fn duel(
    report: &mut Report<'_>,
    name: &str,
    draws: &Draws,
    ours: &sync::Cache<u64, u64>,
    quick: &quick_cache::sync::Cache<u64, u64>,
    how: &str,
    work: impl Fn(&Either<'_>, &[u64]) + Sync,
) {
    Duel::new(format!("{name}, 1 thread"), BATCH as u64, || {
        work(&Either::Ours(ours), draws.next());
    })
    .against("quick_cache", || work(&Either::Rival(quick), draws.next()))
    .goal(Goal::Times(1.2))
    .per_second()
    .how(how)
    .run(report);
    let two = |cache: Either<'_>, keys: &[u64]| {
        let (one, other) = keys.split_at(BATCH / 2);
        thread::scope(|scope| {
            scope.spawn(|| work(&cache, one));
            work(&cache, other);
        });
    };
    Duel::new(format!("{name}, 2 threads"), BATCH as u64, || {
        two(Either::Ours(ours), draws.next());
    })
    .against("quick_cache", || two(Either::Rival(quick), draws.next()))
    .goal(Goal::Times(1.2))
    .by_wall_clock()
    .per_second()
    .how(how)
    .run(report);
}

/// How long does one operation of a plain LRU take, get and insert what was missing?
fn plain_lru(report: &mut Report<'_>) {
    let mut ours: Cache<u64, u64, Lru> = Cache::new(CAPACITY as u64);
    let mut schnell = schnellru::LruMap::new(schnellru::ByLength::new(CAPACITY as u32));
    let mut hashlink = hashlink::LruCache::new(CAPACITY);
    let mut lru = lru::LruCache::new(std::num::NonZero::new(CAPACITY).expect("not zero"));
    let draws = Draws::zipf(2);
    Duel::new("plain LRU, get or insert", BATCH as u64, || {
        for key in draws.next() {
            if black_box(ours.get(key)).is_none() {
                ours.insert(*key, *key);
            }
        }
    })
    .against("schnellru", || {
        for key in draws.next() {
            if black_box(schnell.get(key)).is_none() {
                schnell.insert(*key, *key);
            }
        }
    })
    .against("hashlink", || {
        for key in draws.next() {
            if black_box(hashlink.get(key)).is_none() {
                hashlink.insert(*key, *key);
            }
        }
    })
    .against("lru", || {
        for key in draws.next() {
            if black_box(lru.get(key)).is_none() {
                lru.put(*key, *key);
            }
        }
    })
    .goal(Goal::Times(1.0))
    .how("Zipf 0.99 over 1 M keys, 100 000 entries, u64 to u64, default hashers")
    .run(report);
}

/// How long does it take until a thousand tasks that ask for one missing key all have it?
fn one_load(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    const TASKS: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let next = Cell::new(0_u64);
    let key = || {
        next.set(next.get() + 1);
        next.get()
    };
    let loads = Arc::new(AtomicU64::new(0));
    let load = |loads: Arc<AtomicU64>| async move {
        loads.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok::<u64, ()>(7)
    };
    let ours: ReadThrough<u64, u64, ()> = ReadThrough::new(sync::Cache::new(1_000));
    let quick = Arc::new(quick_cache::sync::Cache::<u64, u64>::new(1_000));
    let moka: moka::future::Cache<u64, u64> = moka::future::Cache::new(1_000);
    let all = |ask: &dyn Fn() -> tokio::task::JoinHandle<u64>| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..TASKS).map(|_| ask()).collect();
            for task in tasks {
                assert_eq!(task.await.expect("no task panics"), 7);
            }
        });
    };
    let (mut asked, our_loads) = (0, Arc::new(AtomicU64::new(0)));
    Duel::new("1000 tasks ask for one missing key", 1, || {
        let key = key();
        asked += 1;
        all(&|| {
            let (ours, loads) = (ours.clone(), Arc::clone(&our_loads));
            tokio::spawn(async move { ours.get_or_load(&key, || load(loads)).await.expect("7") })
        });
    })
    .against("quick_cache", || {
        let key = key();
        all(&|| {
            let (quick, loads) = (Arc::clone(&quick), Arc::clone(&loads));
            tokio::spawn(async move {
                quick
                    .get_or_insert_async(&key, load(loads))
                    .await
                    .expect("7")
            })
        });
    })
    .against("moka", || {
        let key = key();
        all(&|| {
            let (moka, loads) = (moka.clone(), Arc::clone(&loads));
            tokio::spawn(async move { moka.try_get_with(key, load(loads)).await.expect("7") })
        });
    })
    .goal(Goal::Times(1.0))
    .how("on a runtime of one thread; the loader yields once")
    .run(report);
    assert_eq!(our_loads.load(Ordering::Relaxed), asked, "one load a key");
    Ok(())
}

/// How long does the caller wait for 100 000 of a million entries to be invalidated by their tag?
fn tag(report: &mut Report<'_>) {
    let cache: sync::Cache<u64, u64> = sync::Cache::new(1_000_000);
    let tag = cache.tag("tenth");
    for key in 0..1_000_000 {
        if key % 10 == 0 {
            cache.insert_with(key, key, Life::new().tag(&tag));
        } else {
            cache.insert(key, key);
        }
    }
    Duel::new("tag invalidation, 100 000 of 1 000 000 entries", 1, || {
        cache.invalidate_tag("tenth");
    })
    .goal(Goal::AtMost(1000.0))
    .how("caller's time; the first time invalidates the entries, the next ones do the same work")
    .run(report);
    assert!(cache.get(&0).is_none() && cache.get(&1).is_some());
}

/// How many bytes of heap does an entry take, when the cache is full and three times as many keys came?
fn memory(report: &mut Report<'_>) {
    const ENTRIES: u64 = 1_000_000;
    let each = |bytes: usize| bytes as f64 / ENTRIES as f64;
    let how = "capacity 1 M, 3 M distinct keys inserted, u64 to u64; heap kept, ghosts included";
    let (ours, cache) = heap_bytes(|| {
        let mut cache: Cache<u64, u64> = Cache::new(ENTRIES);
        for key in 0..3 * ENTRIES {
            cache.insert(key, key);
        }
        cache
    });
    assert_eq!(cache.len() as u64, ENTRIES);
    drop(cache);
    let (shared, cache) = heap_bytes(|| {
        let cache: sync::Cache<u64, u64> = sync::Cache::new(ENTRIES);
        (0..3 * ENTRIES).for_each(|key| cache.insert(key, key));
        cache
    });
    drop(cache);
    let (expiring, cache) = heap_bytes(|| {
        let mut cache: Cache<u64, u64> = Builder::new(ENTRIES)
            .with_ttl(std::time::Duration::from_secs(60))
            .build();
        for key in 0..3 * ENTRIES {
            cache.insert(key, key);
        }
        cache
    });
    drop(cache);
    let (hashlink, cache) = heap_bytes(|| {
        let mut cache = hashlink::LruCache::new(ENTRIES as usize);
        for key in 0..3 * ENTRIES {
            cache.insert(key, key);
        }
        cache
    });
    drop(cache);
    let (quick, cache) = heap_bytes(|| {
        let cache = quick_cache::sync::Cache::new(ENTRIES as usize);
        (0..3 * ENTRIES).for_each(|key: u64| cache.insert(key, key));
        cache
    });
    drop(cache);
    for (name, bytes, rival, rival_bytes, most) in [
        (
            "memory of an entry, one owner",
            ours,
            "hashlink",
            hashlink,
            40.0,
        ),
        (
            "memory of an entry, shared",
            shared,
            "quick_cache",
            quick,
            40.0,
        ),
        (
            "memory of an entry with expiry",
            expiring,
            "hashlink without",
            hashlink,
            52.0,
        ),
    ] {
        let figure = Figure::new(name, each(bytes), "B")
            .against(rival, each(rival_bytes))
            .goal(Goal::AtMost(most))
            .how(how);
        report.figure(figure);
    }
}

fn unpacked(file: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("traces")
        .join(file);
    let mut bytes = Vec::new();
    zstd::Decoder::new(std::fs::File::open(path)?)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn keys(trace: &str) -> Result<Vec<u64>, Box<dyn Error>> {
    let bytes = unpacked(&format!("{trace}.keys.zst"))?;
    let (numbers, _) = bytes.as_chunks::<8>();
    Ok(numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect())
}

fn misses_of<P: Policy>(trace: &[u64], capacity: usize) -> u64 {
    let mut cache: Cache<u64, (), P> = Cache::new(capacity as u64);
    for key in trace {
        if cache.get(key).is_none() {
            cache.insert(*key, ());
        }
    }
    cache.stats().misses
}

fn foyer_misses(trace: &[u64], capacity: usize) -> u64 {
    let cache: foyer_memory::Cache<u64, ()> = foyer_memory::CacheBuilder::new(capacity)
        .with_shards(1)
        .with_eviction_config(foyer_memory::S3FifoConfig::default())
        .build();
    let mut misses = 0;
    for key in trace {
        if cache.get(key).is_none() {
            misses += 1;
            cache.insert(*key, ());
        }
    }
    misses
}

fn quick_misses(trace: &[u64], capacity: usize) -> u64 {
    let mut cache = quick_cache::unsync::Cache::new(capacity);
    let mut misses = 0;
    for key in trace {
        if cache.get(key).is_none() {
            misses += 1;
            cache.insert(*key, ());
        }
    }
    misses
}

/// How many misses does the default policy have, for each miss that FIFO has?
fn misses(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut sums = [0.0; 3];
    let mut worst: f64 = 0.0;
    let mut points = 0.0;
    for trace in TRACES {
        let requests = keys(trace)?;
        let distinct = requests.iter().max().map_or(0, |most| most + 1) as usize;
        for share in [1000, 100, 10] {
            let capacity = ((distinct + share / 2) / share).max(1);
            let fifo = misses_of::<Fifo>(&requests, capacity) as f64;
            let counts = [
                misses_of::<Adaptive>(&requests, capacity),
                foyer_misses(&requests, capacity),
                quick_misses(&requests, capacity),
            ];
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count as f64 / fifo;
            }
            points += 1.0;
            worst = worst.max(counts[0] as f64 / counts[1].min(counts[2]) as f64);
        }
    }
    let [ours, foyer, quick] = sums.map(|sum| sum / points);
    let (rival, best) = if foyer < quick {
        ("foyer S3-FIFO", foyer)
    } else {
        ("quick_cache", quick)
    };
    let how =
        "mean of misses over FIFO's, six traces of benches/traces at 0.1, 1 and 10% of their keys";
    let figure = Figure::new("misses for each of FIFO's", ours, "")
        .against(rival, best)
        .goal(Goal::AtMost(0.905))
        .how(how);
    report.figure(figure);
    let figure = Figure::new(
        "misses for each of the better rival's, worst point",
        worst,
        "",
    )
    .goal(Goal::AtMost(1.03))
    .how("the same points, against foyer S3-FIFO and quick_cache");
    report.figure(figure);
    Ok(())
}

/// How many objects are missed if they have sizes?
fn sized_misses(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let bytes = unpacked("p12x.sizes.zst")?;
    let (sizes, _) = bytes.as_chunks::<4>();
    let sizes = sizes.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let requests: Vec<(u64, u32)> = keys("p12x")?.into_iter().zip(sizes).collect();
    let mut footprint = std::collections::HashMap::new();
    for (key, size) in &requests {
        footprint.entry(*key).or_insert(*size);
    }
    let footprint: u64 = footprint.values().map(|size| u64::from(*size)).sum();
    for share in [1000, 100, 10] {
        let capacity = footprint / share;
        let mut ours: Cache<u64, u32, Gdsf> = Builder::new(capacity)
            .with_weigher(|_, size: &u32| u64::from(*size))
            .build();
        let moka: moka::sync::Cache<u64, u32> = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, size| *size)
            .build();
        let mut moka_misses = 0;
        for (key, size) in &requests {
            if ours.get(key).is_none() {
                ours.insert(*key, *size);
            }
            if moka.get(key).is_none() {
                moka_misses += 1;
                moka.insert(*key, *size);
                moka.run_pending_tasks();
            }
        }
        let ratio = |misses: u64| misses as f64 / requests.len() as f64;
        let figure = Figure::new(
            format!("object misses with sizes, p12x at {}%", 100.0 / share as f64),
            ratio(ours.stats().misses),
            "of requests",
        )
        .against("moka", ratio(moka_misses))
        .goal(Goal::AtMostTimes(1.03))
        .how("Gdsf, which misses as often as a reference GDSF does (the crate's tests); moka's maintenance run after each insertion");
        report.figure(figure);
    }
    Ok(())
}
