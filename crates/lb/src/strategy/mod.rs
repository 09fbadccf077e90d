//! Which of the ready endpoints is next: endpoints in, index out.

mod load;
mod smooth;
#[cfg(feature = "consistent-hash")]
mod sticky;

use crate::ready::Ready;
use crate::rng::Rng;
use crate::sync::{AtomicUsize, Ordering};

pub use load::{LeastLoad, SomeChoices, TwoChoices};
pub use smooth::SmoothWeighted;
#[cfg(feature = "consistent-hash")]
pub use sticky::Sticky;

/// A way to choose.
///
/// # What an implementor must keep true
///
/// The index returned is below [`Ready::len`] and open; `None` only if none is open. Many threads ask
/// at once. A strategy serves one balancer: what it remembers by index is void when
/// [`Ready::generation`] changes, and a thread that was held up may still ask by an older one.
pub trait Strategy: Send + Sync {
    /// The next one.
    fn pick(&self, ready: &Ready<'_>) -> Option<usize>;
}

impl Strategy for Box<dyn Strategy> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        (**self).pick(ready)
    }
}

impl<F: Fn(&Ready<'_>) -> Option<usize> + Send + Sync> Strategy for F {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        self(ready)
    }
}

/// One after the other, whatever their weights.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl RoundRobin {
    /// Starts with the first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for RoundRobin {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        if ready.is_empty() {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        ready.open_from(turn % ready.len())
    }
}

/// By chance, in proportion to weight.
#[derive(Debug)]
pub struct Random {
    rng: Rng,
}

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
        }
    }
}

impl Strategy for Random {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        if ready.is_empty() {
            return None;
        }
        ready.open_from(draw(&self.rng, ready))
    }
}

/// Draws that are refused for want of warmth before one is taken anyway: an endpoint at the default
/// floor of a tenth then has no more than 1 % too much.
const COLD_DRAWS_MAX: u32 = 64;

/// An index by chance, in proportion to weight, open or not. The endpoints must not be empty.
fn draw(rng: &Rng, ready: &Ready<'_>) -> usize {
    if ready.is_equal() {
        return rng.below(ready.len());
    }
    let mut index = ready.at(rng.next());
    for _ in 0..COLD_DRAWS_MAX {
        let warmth = ready.warmth(index);
        // By its listed weight first, then as often as it is warm.
        if warmth >= 1.0 || rng.unit() < warmth {
            break;
        }
        index = ready.at(rng.next());
    }
    index
}
