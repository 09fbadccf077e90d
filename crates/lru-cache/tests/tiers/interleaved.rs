//! Two processes, one tier and one store, their steps interleaved at random: nobody gets what was
//! invalidated before it was asked for.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;
use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::tier::{Looked, Memory, Tier, TierError, TierLease, Tiered};
use stackbeam_lru_cache::{Lru, sync};

use crate::suite::WordsCodec;

/// Gives way once.
async fn step() {
    let first = AtomicBool::new(true);
    std::future::poll_fn(|_| {
        if first.swap(false, Ordering::Relaxed) {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
}

/// A tier at a distance: questions and answers take a step each.
struct Far(Memory);

impl Tier for Far {
    async fn get(&self, key: &[u8]) -> Result<Looked, TierError> {
        step().await;
        let looked = self.0.get(key).await;
        step().await;
        looked
    }

    async fn fill(
        &self,
        key: &[u8],
        lease: TierLease,
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, TierError> {
        step().await;
        let filled = self.0.fill(key, lease, value, ttl).await;
        step().await;
        filled
    }

    async fn remove(&self, key: &[u8]) -> Result<(), TierError> {
        step().await;
        let removed = self.0.remove(key).await;
        step().await;
        removed
    }

    async fn clear(&self) -> Result<(), TierError> {
        self.0.clear().await
    }
}

type Process = Tiered<u32, String, String, Arc<Far>, WordsCodec, Lru>;

fn process(tier: &Arc<Far>) -> Process {
    let memory = ReadThrough::new(sync::Cache::new(10));
    Tiered::new(memory, Arc::clone(tier), WordsCodec)
}

fn run(operations: &[(bool, bool)], schedule: &[u8]) {
    let tier = Arc::new(Far(Memory::new(10)));
    let processes = [process(&tier), process(&tier)];
    let (store, floor) = (AtomicU64::new(0), Rc::new(Cell::new(0)));
    let mut waiting = operations.iter();
    let mut active: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    for turn in 0.. {
        // Now and then all, so that nobody is forgotten.
        if turn % 16 == 15 {
            active.retain_mut(|operation| operation.as_mut().poll(&mut context).is_pending());
        }
        let pick = usize::from(schedule[turn % schedule.len()]) % (active.len() + 1);
        if let Some(operation) = active.get_mut(pick) {
            if operation.as_mut().poll(&mut context).is_ready() {
                drop(active.swap_remove(pick));
            }
            continue;
        }
        let Some((first, writes)) = waiting.next() else {
            if active.is_empty() {
                break;
            }
            continue;
        };
        let (own, others) = if *first { (0, 1) } else { (1, 0) };
        let (process, other) = (&processes[own], &processes[others]);
        let (store, floor) = (&store, Rc::clone(&floor));
        active.push(if *writes {
            Box::pin(async move {
                let version = store.fetch_add(1, Ordering::Relaxed) + 1;
                step().await;
                process
                    .invalidate(&1)
                    .await
                    .expect("this tier does not fail");
                // The message to the other process takes no time.
                other.memory().cache().apply(sync::Invalidation::Key(&1));
                floor.set(floor.get().max(version));
            })
        } else {
            Box::pin(async move {
                let before = floor.get();
                let load = || async {
                    step().await;
                    let read = store.load(Ordering::Relaxed);
                    step().await;
                    Ok(read.to_string())
                };
                let got = process.get_or_load(&1, load).await.expect("loaded");
                let got: u64 = got.parse().expect("a number");
                assert!(got >= before, "{got} was invalidated before {before}");
            })
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nobody_gets_what_was_invalidated_before(
        operations in prop::collection::vec(any::<(bool, bool)>(), 1..16),
        schedule in prop::collection::vec(any::<u8>(), 1..256),
    ) {
        run(&operations, &schedule);
    }
}
