//! Random operations on a read-through cache, with loads that fail, hang and panic: what each value that
//! is handed out must be, and that none is lost or leaves twice.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stackbeam_lru_cache::load::{LoadError, ReadThrough};
use stackbeam_lru_cache::{Life, Policy, sync};

const KEYS: usize = 24;
const CAPACITY: u64 = 40;
/// Loads that are kept hanging at once.
const ASKING_MAX: usize = 12;

/// What is cached: which version of the store it is, how long it may be shown, and until when that is, from
/// when it is stored on.
#[derive(Debug, Clone)]
struct Value {
    id: u64,
    version: u64,
    weight: u64,
    /// 0 is for ever.
    ttl: u64,
    until: Arc<AtomicU64>,
}

/// How a load ends.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Loads,
    Fails,
    Panics,
    Hangs,
}

/// A load that is polled a few times before it ends.
struct Loading<F> {
    polls: u32,
    fate: Fate,
    read: Option<Value>,
    read_store: F,
}

impl<F: Fn() -> Value + Unpin> Future for Loading<F> {
    type Output = Result<Value, ()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // The store is read first; everything may happen until the value is handed over.
        let read = this.read.get_or_insert_with(|| (this.read_store)());
        if this.polls > 0 || matches!(this.fate, Fate::Hangs) {
            this.polls = this.polls.saturating_sub(1);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.fate {
            Fate::Loads => Poll::Ready(Ok(read.clone())),
            Fate::Fails => Poll::Ready(Err(())),
            Fate::Panics => panic!("a loader panics"),
            Fate::Hangs => Poll::Pending,
        }
    }
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Value, LoadError<()>>> + 'a>>;

/// Somebody who has asked, what the store said at that time, and the future.
struct Asking<'a> {
    key: usize,
    version: u64,
    future: Asked<'a>,
}

/// Ids that left, and how often one left twice.
#[derive(Debug, Default)]
struct Departed {
    ids: HashSet<u64>,
    count: u64,
}

/// How often what happened, to see that a run was worth it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) hits: u64,
    pub(crate) loaded: u64,
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    pub(crate) dropped: u64,
    pub(crate) left: u64,
}

/// Does as many operations as `dice` gives numbers below the bound that it is asked for, on a cache of
/// `shards` shards with policy `P`.
///
/// # Panics
///
/// If anything is not as it must be.
pub(crate) fn run<P: Policy + Send + Sync + 'static>(
    shards: usize,
    mut dice: impl FnMut(u64) -> Option<u64>,
) -> Report {
    let mut report = Report::default();
    let clock = Arc::new(AtomicU64::new(0));
    let departed: Arc<Mutex<Departed>> = Arc::default();
    let (now, told, start) = (Arc::clone(&clock), Arc::clone(&departed), t0());
    let stored = Arc::clone(&clock);
    let cache: sync::Cache<usize, Value, P> = sync::Builder::new(CAPACITY)
        .with_weigher(|_, value: &Value| value.weight)
        .with_shards(shards)
        .with_clock(move || start + Duration::from_secs(now.load(Ordering::Relaxed)))
        .with_ttl_by(move |_, value: &Value| {
            let until = stored.load(Ordering::Relaxed) + value.ttl;
            value.until.store(until, Ordering::Relaxed);
            (value.ttl != 0).then(|| Duration::from_secs(value.ttl))
        })
        .with_listener(move |_, value: Value, _| {
            let mut departed = told.lock().expect("no test panics with it");
            departed.count += 1;
            // One id may come in again and again only if a load is stored anew, and each has its own.
            assert!(departed.ids.insert(value.id), "{value:?} left twice");
        })
        .build();
    let through: ReadThrough<usize, Value, (), P> = ReadThrough::new(cache);
    let store: Rc<[Cell<u64>; KEYS]> = Rc::new(std::array::from_fn(|_| Cell::new(0)));
    let ids = Rc::new(Cell::new(0));
    let value = {
        let (store, ids) = (Rc::clone(&store), Rc::clone(&ids));
        move |key: usize, weight: u64, ttl: u64| {
            ids.set(ids.get() + 1);
            Value {
                id: ids.get(),
                version: store[key].get(),
                weight,
                ttl,
                until: Arc::default(),
            }
        }
    };
    let mut asking: Vec<Asking<'_>> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Some(()) = step(
        &through,
        &mut dice,
        &mut asking,
        &mut context,
        &store,
        &clock,
        &value,
        &mut report,
    ) {
        through.cache().validate();
    }
    asking.clear();
    assert_eq!(through.loads_under_way(), 0, "nobody asks any more");
    through.cache().validate();
    let stats = through.cache().stats();
    assert_eq!(stats.weight, through.cache().weight(), "no weight is held");
    report.left = departed.lock().expect("it is whole").count;
    assert_eq!(
        stats.inserted,
        report.left + stats.entries,
        "what came in is there or was told to have left"
    );
    report
}

#[expect(clippy::too_many_arguments, reason = "all of it is the run's state")]
fn step<'a, P: Policy + Send + Sync + 'static>(
    through: &'a ReadThrough<usize, Value, (), P>,
    dice: &mut impl FnMut(u64) -> Option<u64>,
    asking: &mut Vec<Asking<'a>>,
    context: &mut Context<'_>,
    store: &Rc<[Cell<u64>; KEYS]>,
    clock: &AtomicU64,
    value: &(impl Fn(usize, u64, u64) -> Value + Clone + Unpin + 'a),
    report: &mut Report,
) -> Option<()> {
    let cache = through.cache();
    let key = usize::try_from(dice(KEYS as u64)?).expect("small");
    match dice(16)? {
        0..=3 => {
            if let Some(value) = cache.get(&key) {
                report.hits += 1;
                fresh(&value, store[key].get(), clock);
            }
        }
        4 => {
            let (weight, ttl) = (dice(10)?, dice(6)?);
            cache.insert(key, value(key, weight, ttl));
        }
        5 => {
            // Heavier than the whole cache: refused, and the older value is gone.
            let heavy = value(key, CAPACITY + 1, 0);
            assert!(cache.try_insert(key, heavy).is_err());
            assert!(cache.peek(&key).is_none());
        }
        6 | 7 => {
            store[key].set(store[key].get() + 1);
            cache.remove(&key);
        }
        8 => {
            clock.fetch_add(dice(3)?, Ordering::Relaxed);
        }
        9 => match dice(8)? {
            0 => cache.remove_expired(),
            1 => cache.resize(CAPACITY / 2),
            2 => cache.resize(CAPACITY),
            3 => {
                let tag = cache.tag("all");
                cache.insert_with(key, value(key, 1, 0), Life::new().tag(&tag));
                cache.invalidate_tag("all");
                assert!(cache.get(&key).is_none(), "its tag was invalidated");
            }
            _ => {}
        },
        10 | 11 => {
            let (polls, weight, ttl) = (dice(4)?, dice(10)?, dice(6)?);
            let fate = match dice(8)? {
                0 => Fate::Fails,
                1 => Fate::Panics,
                2 => Fate::Hangs,
                _ => Fate::Loads,
            };
            let value = value.clone();
            let load = move || Loading {
                polls: u32::try_from(polls).expect("small"),
                fate,
                read: None,
                read_store: move || value(key, weight, ttl),
            };
            let future: Asked<'a> = Box::pin(async move { through.get_or_load(&key, load).await });
            let version = store[key].get();
            if asking.len() == ASKING_MAX {
                let at = usize::try_from(dice(ASKING_MAX as u64)?).expect("small");
                drop(asking.swap_remove(at));
                report.dropped += 1;
            }
            asking.push(Asking {
                key,
                version,
                future,
            });
            poll(asking, asking.len() - 1, context, report);
        }
        _ => {
            if !asking.is_empty() {
                let at = dice(asking.len() as u64)?;
                poll(asking, usize::try_from(at).expect("small"), context, report);
            }
        }
    }
    Some(())
}

/// Polls one of those who ask, and looks at what it is told.
fn poll(asking: &mut Vec<Asking<'_>>, at: usize, context: &mut Context<'_>, report: &mut Report) {
    let future = asking[at].future.as_mut();
    let outcome = catch_unwind(AssertUnwindSafe(|| future.poll(context)));
    match outcome {
        Ok(Poll::Pending) => return,
        Ok(Poll::Ready(Ok(value))) => {
            report.loaded += 1;
            let Asking { key, version, .. } = &asking[at];
            // What is loaded may be written meanwhile; what was written before one asked must be seen.
            assert!(
                value.version >= *version,
                "key {key}: {value:?} for {version}"
            );
        }
        Ok(Poll::Ready(Err(_))) => report.failed += 1,
        Err(_) => report.panicked += 1,
    }
    drop(asking.swap_remove(at));
}

/// A value out of the cache is what the store has, and its time is not over.
fn fresh(value: &Value, version: u64, clock: &AtomicU64) {
    assert_eq!(value.version, version, "{value:?} was read before a write");
    let until = value.until.load(Ordering::Relaxed);
    let now = clock.load(Ordering::Relaxed);
    assert!(value.ttl == 0 || now < until, "{value:?} at {now}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}
