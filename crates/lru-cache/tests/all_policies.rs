//! What holds with every policy, under random operations and under bad input.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use stackbeam_lru_cache::{
    Adaptive, Arc, Builder, Cache, Clock, Fifo, Gdsf, Lfu, Life, Lru, Policy, S3Fifo, Sieve, TwoQ,
    WTinyLfu, sync,
};

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// What every cache keeps to: it never has what was not put in last, what has left, or too much.
fn keeps_to_the_rules<P: Policy>(seed: u64) {
    let mut state = seed;
    let mut cache: Cache<u64, u64, P> = Builder::new(60).with_weigher(|_, value| value % 7).build();
    // Value and end of what may be there.
    let mut twin: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let (mut now, mut hits) = (0, 0);
    for step in 0..6_000_u64 {
        let draw = next(&mut state);
        let key = (draw >> 8) % 50;
        match draw % 16 {
            0..=6 => {
                let got = cache.get(&key).copied();
                let known = twin.get(&key).filter(|(_, end)| *end > now);
                assert!(
                    got.is_none() || got == known.map(|(value, _)| *value),
                    "seed {seed}, step {step}"
                );
                hits += u64::from(got.is_some());
            }
            7..=11 => {
                cache.insert(key, step);
                twin.insert(key, (step, u64::MAX));
            }
            12 => {
                let ttl = draw >> 32 & 3;
                cache.insert_with(key, step, Life::new().ttl(Duration::from_secs(ttl)));
                twin.insert(key, (step, now + ttl));
            }
            13 => {
                let gone = cache.remove(&key);
                let known = twin.remove(&key).filter(|(_, end)| *end > now);
                assert!(gone.is_none() || gone == known.map(|(value, _)| value));
            }
            14 => {
                now += 1;
                cache.advance(Duration::from_secs(now));
            }
            _ if step % 32 == 0 => {
                cache.retain(|key, _| key % 3 != 0);
                twin.retain(|key, _| key % 3 != 0);
            }
            _ => drop(cache.resize(40 + (draw >> 32) % 40)),
        }
        let weights: u64 = cache.iter().map(|(_, value)| (value % 7).max(1)).sum();
        assert!(
            weights <= cache.weight() && cache.weight() <= cache.capacity(),
            "seed {seed}, step {step}"
        );
        let stats = cache.stats();
        let left = stats.evicted + stats.expired + stats.replaced + stats.removed;
        assert_eq!(
            stats.inserted,
            stats.entries + left,
            "seed {seed}, step {step}"
        );
        assert_eq!(stats.entries, cache.len() as u64);
    }
    assert!(hits > 500, "{hits} hits");
    assert_eq!(cache.snapshot().len(), cache.iter().count());
    cache.clear();
    assert_eq!((cache.len(), cache.weight()), (0, 0));
}

macro_rules! each_policy {
    ($($name:ident: $policy:ty,)*) => {
        mod rules {
            use super::*;
            $(
                #[test]
                fn $name() {
                    (0..4).for_each(keeps_to_the_rules::<$policy>);
                }
            )*
        }
    };
}

each_policy! {
    adaptive: Adaptive,
    arc: Arc,
    clock: Clock,
    fifo: Fifo,
    gdsf: Gdsf,
    lfu: Lfu,
    lru: Lru,
    s3_fifo: S3Fifo,
    sieve: Sieve,
    two_q: TwoQ,
    w_tiny_lfu: WTinyLfu,
}

/// A key whose hash changes behind the cache's back.
#[derive(PartialEq, Eq, Clone)]
struct Liar(u32, std::rc::Rc<std::cell::Cell<u32>>);

impl Hash for Liar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.set(self.1.get() + 1);
        (self.0 ^ (self.1.get() % 3)).hash(state);
    }
}

#[test]
fn keys_whose_hash_and_equality_disagree_neither_leak_nor_panic() {
    let lies = std::rc::Rc::new(std::cell::Cell::new(0));
    let value = std::rc::Rc::new(());
    let mut cache: Cache<Liar, std::rc::Rc<()>> = Cache::new(50);
    for round in 0..5_000 {
        let key = Liar(round * 7 % 120, lies.clone());
        match round % 5 {
            0 => drop(cache.remove(&key)),
            1 => drop(cache.get(&key).cloned()),
            _ => drop(cache.insert(key, value.clone())),
        }
        assert!(cache.weight() <= 50);
        assert_eq!(std::rc::Rc::strong_count(&value) - 1, cache.len());
    }
    cache.clear();
    assert_eq!((cache.len(), std::rc::Rc::strong_count(&value)), (0, 1));
}

#[test]
fn weights_of_nothing_and_of_everything_are_defined() {
    let cache: sync::Cache<u32, u64> = sync::Builder::new(u64::MAX)
        .with_weigher(|_, weight| *weight)
        .build();
    cache.insert(1, 0);
    assert_eq!(cache.weight(), 1, "nothing counts as one");
    cache.insert(2, u64::MAX);
    assert_eq!((cache.len(), cache.weight()), (1, u64::MAX));
    cache.insert(3, 7);
    assert_eq!((cache.len(), cache.weight()), (1, 7));
    let none: sync::Cache<u32, u64> = sync::Cache::new(0);
    assert!(none.try_insert(1, 1).is_err());
    assert_eq!((none.len(), none.get(&1)), (0, None));
    none.resize(2);
    none.insert(1, 1);
    assert_eq!(none.get(&1), Some(1));
}

#[test]
fn a_weigher_or_listener_that_panics_harms_nobody_else() {
    let cache: sync::Cache<u32, u32> = sync::Builder::new(10)
        .with_weigher(|_, value| {
            assert_ne!(*value, 666, "a bug in the weigher");
            1
        })
        .with_listener(|_, value, _| assert_ne!(value, 13, "a bug in the listener"))
        .build();
    (0..10).for_each(|key| cache.insert(key, key));
    assert!(catch_unwind(AssertUnwindSafe(|| cache.insert(1, 666))).is_err());
    assert_eq!(cache.get(&1), Some(1));
    cache.insert(5, 13);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.remove(&5))).is_err());
    assert_eq!((cache.get(&5), cache.len(), cache.weight()), (None, 9, 9));
    cache.insert(5, 5);
    assert_eq!((cache.get(&5), cache.weight()), (Some(5), 10));
}

#[test]
fn threads_that_do_everything_at_once_lose_no_weight_and_no_entry() {
    let cache: sync::Cache<u64, u64> = sync::Builder::new(300)
        .with_shards(4)
        .with_weigher(|_, value| value % 40)
        .build();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let cache = &cache;
            scope.spawn(move || {
                let mut state = thread;
                for _ in 0..4_000 {
                    let draw = next(&mut state);
                    let key = (draw >> 8) % 100;
                    match draw % 16 {
                        0..=6 => assert!(cache.get(&key).is_none_or(|value| value >> 20 == key)),
                        7..=11 => cache.insert(key, key << 20 | draw >> 50),
                        12 => drop(cache.remove(&key)),
                        13 => cache.insert_with_ttl(key, key << 20, Duration::ZERO),
                        14 => drop(cache.insert_if(key, key << 20 | 1, |_| draw >> 63 == 0)),
                        _ if draw >> 40 & 15 == 0 => cache.resize(200 + (draw >> 32) % 200),
                        _ => {
                            cache.sweep().next(8, |key, _| key % 9 == 0);
                        }
                    }
                    assert!(cache.weight() <= 400);
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(stats.weight, cache.weight());
    assert!(cache.weight() <= cache.capacity());
    let left = stats.evicted + stats.expired + stats.replaced + stats.removed;
    assert_eq!(stats.inserted, stats.entries + left);
}
