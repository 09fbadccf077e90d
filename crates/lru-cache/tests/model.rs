//! Every policy against a naive twin, and both faces against each other, step by step.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stackbeam_lru_cache::{Builder, Cache, Fifo, Lfu, Lru, Policy, Sieve, Stats, sync};

#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Peek(u8),
    Insert(u8, u8),
    InsertTtl(u8, u8, u8),
    Remove(u8),
    Wait(u8),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    let weight = 0..6_u8;
    prop_oneof![
        6 => key.clone().prop_map(Step::Get),
        1 => key.clone().prop_map(Step::Peek),
        6 => (key.clone(), weight.clone()).prop_map(|(k, w)| Step::Insert(k, w)),
        2 => (key.clone(), weight, 0..9_u8).prop_map(|(k, w, t)| Step::InsertTtl(k, w, t)),
        1 => key.prop_map(Step::Remove),
        1 => (0..5_u8).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

/// Which entry a policy lets go, found the slow way.
trait Naive: Policy {
    fn victim(entries: &[Row], hand: &mut Option<u64>) -> usize;
    fn hit(entries: &mut Vec<Row>, at: usize, hits: &mut u64);
}

#[derive(Debug, Clone)]
struct Row {
    key: u8,
    value: u64,
    weight: u64,
    expires: u64,
    /// For LFU; for SIEVE whether it was read.
    count: u8,
    id: u64,
}

/// Order of the vector: oldest first.
impl Naive for Fifo {
    fn victim(_: &[Row], _: &mut Option<u64>) -> usize {
        0
    }
    fn hit(_: &mut Vec<Row>, _: usize, _: &mut u64) {}
}

impl Naive for Lru {
    fn victim(_: &[Row], _: &mut Option<u64>) -> usize {
        0
    }
    fn hit(entries: &mut Vec<Row>, at: usize, _: &mut u64) {
        let row = entries.remove(at);
        entries.push(row);
    }
}

/// Order of the vector: who has had its count longest first.
impl Naive for Lfu {
    fn victim(entries: &[Row], _: &mut Option<u64>) -> usize {
        let least = entries.iter().map(|row| row.count).min().unwrap();
        entries.iter().position(|row| row.count == least).unwrap()
    }
    fn hit(entries: &mut Vec<Row>, at: usize, hits: &mut u64) {
        let mut row = entries.remove(at);
        row.count = (row.count + 1).min(63);
        entries.push(row);
        *hits += 1;
        if *hits >= 10 * entries.len() as u64 {
            *hits = 0;
            // Halved queue by queue, the lowest first: a stable sort by the old count.
            entries.sort_by_key(|row| row.count);
            for row in entries.iter_mut() {
                row.count /= 2;
            }
        }
    }
}

impl Naive for Sieve {
    fn victim(entries: &[Row], hand: &mut Option<u64>) -> usize {
        hand.and_then(|id| entries.iter().position(|row| row.id == id))
            .unwrap_or(0)
    }
    fn hit(entries: &mut Vec<Row>, at: usize, _: &mut u64) {
        entries[at].count = 1;
    }
}

struct Twin<P> {
    rows: Vec<Row>,
    capacity: u64,
    now: u64,
    hits: u64,
    hand: Option<u64>,
    ids: u64,
    policy: std::marker::PhantomData<P>,
}

impl<P: Naive + 'static> Twin<P> {
    fn weight(&self) -> u64 {
        self.rows.iter().map(|row| row.weight).sum()
    }

    fn drop_row(&mut self, at: usize) {
        if self.hand == Some(self.rows[at].id) {
            self.hand = self.rows.get(at + 1).map(|row| row.id);
        }
        self.rows.remove(at);
    }

    fn live(&self, key: u8) -> Option<usize> {
        self.rows
            .iter()
            .position(|row| row.key == key && row.expires > self.now)
    }

    fn get(&mut self, key: u8) -> Option<u64> {
        let Some(at) = self.live(key) else {
            if let Some(at) = self.rows.iter().position(|row| row.key == key) {
                self.drop_row(at);
            }
            return None;
        };
        let value = self.rows[at].value;
        <P as Naive>::hit(&mut self.rows, at, &mut self.hits);
        Some(value)
    }

    fn insert(&mut self, key: u8, value: u64, weight: u64, expires: u64) {
        if let Some(at) = self.rows.iter().position(|row| row.key == key) {
            self.drop_row(at);
        }
        if weight > self.capacity {
            return;
        }
        while self.weight() + weight > self.capacity {
            let mut at = <P as Naive>::victim(&self.rows, &mut self.hand);
            if std::any::type_name::<P>() == std::any::type_name::<Sieve>() {
                while self.rows[at].count == 1 {
                    self.rows[at].count = 0;
                    at = (at + 1) % self.rows.len();
                }
                self.hand = Some(self.rows[at].id);
            }
            self.drop_row(at);
        }
        self.ids += 1;
        self.rows.push(Row {
            key,
            value,
            weight,
            expires,
            count: 0,
            id: self.ids,
        });
    }
}

fn identities(stats: &Stats) {
    assert_eq!(
        stats.inserted,
        stats.entries + stats.evicted + stats.expired + stats.replaced + stats.removed
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests count from the clock's present"
)]
fn t0() -> Instant {
    Instant::now()
}

fn run<P: Naive + Send + 'static>(capacity: u64, steps: &[Step]) {
    let weigher = |_: &u8, value: &u64| *value % 8;
    let mut cache: Cache<u8, u64, P> = Builder::new(capacity).with_weigher(weigher).build();
    let clock = Arc::new(AtomicU64::new(0));
    let (start, reads) = (t0(), Arc::clone(&clock));
    let shared: sync::Cache<u8, u64, P> = sync::Builder::new(capacity)
        .with_weigher(weigher)
        .with_shards(1)
        .with_clock(move || start + Duration::from_secs(reads.load(Ordering::Relaxed)))
        .build();
    let mut twin = Twin::<P> {
        rows: Vec::new(),
        capacity,
        now: 0,
        hits: 0,
        hand: None,
        ids: 0,
        policy: std::marker::PhantomData,
    };
    // Values carry their weight in the low bits, and are unique.
    let mut serial = 0_u64;
    for step in steps {
        serial += 1;
        match *step {
            Step::Get(key) => {
                let wanted = twin.get(key);
                assert_eq!(cache.get(&key).copied(), wanted);
                assert_eq!(shared.get(&key), wanted);
            }
            Step::Peek(key) => {
                let wanted = twin.live(key).map(|at| twin.rows[at].value);
                assert_eq!(cache.peek(&key).copied(), wanted);
            }
            Step::Insert(key, weight) => {
                let value = serial * 8 + u64::from(weight);
                twin.insert(key, value, u64::from(weight).max(1), u64::MAX);
                cache.insert(key, value);
                shared.insert(key, value);
            }
            Step::InsertTtl(key, weight, ttl) => {
                let value = serial * 8 + u64::from(weight);
                let expires = twin.now + u64::from(ttl);
                twin.insert(key, value, u64::from(weight).max(1), expires);
                let ttl = Duration::from_secs(ttl.into());
                cache.insert_with_ttl(key, value, ttl);
                shared.insert_with_ttl(key, value, ttl);
            }
            Step::Remove(key) => {
                let wanted = twin.live(key).map(|at| twin.rows[at].value);
                if let Some(at) = twin.rows.iter().position(|row| row.key == key) {
                    twin.drop_row(at);
                }
                assert_eq!(cache.remove(&key), wanted);
                assert_eq!(shared.remove(&key), wanted);
            }
            Step::Wait(seconds) => {
                twin.now += u64::from(seconds);
                cache.advance(Duration::from_secs(twin.now));
                clock.store(twin.now, Ordering::Relaxed);
            }
            Step::Expire => {
                while let Some(at) = twin.rows.iter().position(|row| row.expires <= twin.now) {
                    twin.drop_row(at);
                }
                cache.remove_expired();
                shared.remove_expired();
            }
        }
        assert_eq!(cache.len(), twin.rows.len());
        assert_eq!(cache.weight(), twin.weight());
        assert_eq!(shared.weight(), twin.weight());
        assert!(cache.weight() <= capacity);
        identities(&cache.stats());
        identities(&shared.stats());
        let mut ours: Vec<u8> = cache.iter().map(|(key, _)| *key).collect();
        let mut theirs: Vec<u8> = twin
            .rows
            .iter()
            .filter(|row| row.expires > twin.now)
            .map(|row| row.key)
            .collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fifo_agrees(capacity in 0..20_u64, steps in prop::collection::vec(step(), 0..200)) {
        run::<Fifo>(capacity, &steps);
    }

    #[test]
    fn lru_agrees(capacity in 0..20_u64, steps in prop::collection::vec(step(), 0..200)) {
        run::<Lru>(capacity, &steps);
    }

    #[test]
    fn lfu_agrees(capacity in 0..20_u64, steps in prop::collection::vec(step(), 0..200)) {
        run::<Lfu>(capacity, &steps);
    }

    #[test]
    fn sieve_agrees(capacity in 0..20_u64, steps in prop::collection::vec(step(), 0..200)) {
        run::<Sieve>(capacity, &steps);
    }
}
