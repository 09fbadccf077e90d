//! The endpoints as of one moment: what a pick reads without a lock.

use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Slot;
use crate::ready::Row;

/// Never changed; a change is a new one.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    /// Everything listed, in the order of the list.
    pub(crate) all: Vec<Arc<Slot<T>>>,
    /// Those that may be picked, and beside each what a strategy sees of it.
    pub(crate) ready: Vec<Arc<Slot<T>>>,
    pub(crate) rows: Vec<Row>,
    /// Whether all that are ready have the same weight.
    pub(crate) equal: bool,
    /// Another number whenever `rows` lists others, or in another order, or with other weights.
    pub(crate) generation: u64,
    /// When somebody's rest is over, or an interval is.
    pub(crate) wake_at: Option<Instant>,
}

impl<T> Snapshot<T> {
    pub(crate) const fn empty() -> Self {
        Self {
            all: Vec::new(),
            ready: Vec::new(),
            rows: Vec::new(),
            equal: true,
            generation: 0,
            wake_at: None,
        }
    }

    /// The next snapshot: `all` are listed. With `panic`, all are ready when none is well.
    pub(crate) fn next(
        &self,
        all: Vec<Arc<Slot<T>>>,
        panic: bool,
        judge_at: Option<Instant>,
    ) -> Self {
        let mut wake_at = judge_at;
        let listed = || all.iter().filter(|slot| slot.endpoint.is_listed_ready());
        let mut ready: Vec<_> = listed()
            .filter(|slot| slot.shared.health.lock().is_ready())
            .cloned()
            .collect();
        if ready.is_empty() && panic {
            ready = listed().cloned().collect();
        }
        for slot in &all {
            let until = slot.shared.health.lock().ejected_until();
            wake_at = [wake_at, until].into_iter().flatten().min();
        }
        let mut cumulative = 0_u64;
        let rows: Vec<Row> = ready
            .iter()
            .map(|slot| {
                cumulative += u64::from(slot.endpoint.weight);
                Row {
                    id: Arc::clone(&slot.endpoint.id),
                    weight: slot.endpoint.weight,
                    cumulative,
                    shared: Arc::clone(&slot.shared),
                }
            })
            .collect();
        let equal = rows.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        let same = rows.len() == self.rows.len()
            && rows.iter().zip(&self.rows).all(|(new, old)| {
                Arc::ptr_eq(&new.shared, &old.shared) && new.weight == old.weight
            });
        Self {
            all,
            ready,
            rows,
            equal,
            generation: self.generation + u64::from(!same),
            wake_at,
        }
    }
}
