//! Which of the ready endpoints is next: endpoints in, index out.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::load::{Load, Seen};
use crate::rng::Rng;

/// The endpoints that a strategy may choose from, by index.
///
/// Those that the caller excluded (because they were tried already) are still listed, so that an
/// index means the same for every pick until the set changes; [`Ready::is_open`] says which they are.
pub struct Ready<'a> {
    pub(crate) count: usize,
    pub(crate) generation: u64,
    pub(crate) equal: bool,
    pub(crate) weight: &'a dyn Fn(usize) -> f64,
    pub(crate) seen: &'a dyn Fn(usize) -> Seen,
    pub(crate) open: &'a dyn Fn(usize) -> bool,
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("count", &self.count)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Ready<'_> {
    /// How many there are; indexes are below this.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Changes whenever an index may mean another endpoint.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether all listed weights are equal and nobody warms up.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.equal
    }

    /// The weight that counts now, above 0.
    #[must_use]
    pub fn weight(&self, index: usize) -> f64 {
        (self.weight)(index)
    }

    /// What there is to know about its load.
    #[must_use]
    pub fn seen(&self, index: usize) -> Seen {
        (self.seen)(index)
    }

    /// Whether it may be picked: the caller did not exclude it.
    #[must_use]
    pub fn is_open(&self, index: usize) -> bool {
        (self.open)(index)
    }

    /// The first open index at or after `start`, going round.
    fn open_from(&self, start: usize) -> Option<usize> {
        (0..self.count)
            .map(|step| (start + step) % self.count)
            .find(|index| self.is_open(*index))
    }
}

/// A way to choose.
///
/// # What an implementor must keep true
///
/// The index returned is below [`Ready::len`] and open; `None` only if none is open. Many threads ask
/// at once.
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
    pub const fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
        }
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

/// Smooth weighted round robin: exact shares, and as evenly interleaved as can be.
///
/// Each pick adds every weight to its endpoint's current value, the first highest wins, and the total
/// is subtracted from the winner: nginx's rule, in nginx's order.
#[derive(Debug, Default)]
pub struct SmoothWeighted {
    // A lock, because each pick depends on the one before.
    state: Mutex<Smooth>,
}

#[derive(Debug, Default)]
struct Smooth {
    generation: Option<u64>,
    current: Vec<f64>,
}

impl SmoothWeighted {
    /// Starts a new round, and again whenever the set changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Strategy for SmoothWeighted {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        let mut state = self.state.lock();
        if state.generation != Some(ready.generation()) {
            state.generation = Some(ready.generation());
            state.current.clear();
            state.current.resize(ready.len(), 0.0);
        }
        let mut total = 0.0;
        let mut best: Option<(usize, f64)> = None;
        for (index, current) in state.current.iter_mut().enumerate() {
            if !ready.is_open(index) {
                continue;
            }
            let weight = ready.weight(index);
            total += weight;
            *current += weight;
            if best.is_none_or(|(_, highest)| *current > highest) {
                best = Some((index, *current));
            }
        }
        let (index, _) = best?;
        if let Some(current) = state.current.get_mut(index) {
            *current -= total;
        }
        Some(index)
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
    pub const fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
        }
    }
}

/// An index by chance, in proportion to weight, or any open one after it.
fn draw(rng: &Rng, ready: &Ready<'_>) -> Option<usize> {
    if ready.is_empty() {
        return None;
    }
    if ready.is_equal() {
        return ready.open_from(rng.below(ready.len()));
    }
    let total: f64 = (0..ready.len()).map(|index| ready.weight(index)).sum();
    #[expect(clippy::cast_precision_loss, reason = "53 random bits are enough")]
    let unit = (rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
    let mut rest = unit * total;
    for index in 0..ready.len() {
        rest -= ready.weight(index);
        if rest < 0.0 {
            return ready.open_from(index);
        }
    }
    ready.open_from(ready.len() - 1)
}

impl Strategy for Random {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        draw(&self.rng, ready)
    }
}

/// The least loaded of all, in proportion to weight: `LeastLoad::new(InFlight)` is least request.
///
/// Looks at each; ties go round, so that idle endpoints share the work.
#[derive(Debug)]
pub struct LeastLoad<L> {
    load: L,
    start: AtomicUsize,
}

impl<L: Load> LeastLoad<L> {
    /// By this measure.
    #[must_use]
    pub const fn new(load: L) -> Self {
        Self {
            load,
            start: AtomicUsize::new(0),
        }
    }
}

/// Load over weight; one more request is counted so that weights tell between idle endpoints too.
fn cost<L: Load>(load: &L, ready: &Ready<'_>, index: usize) -> f64 {
    let mut seen = ready.seen(index);
    seen.in_flight = seen.in_flight.saturating_add(1);
    load.load(&seen) / ready.weight(index)
}

impl<L: Load> Strategy for LeastLoad<L> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        if ready.is_empty() {
            return None;
        }
        let start = self.start.fetch_add(1, Ordering::Relaxed) % ready.len();
        let mut best: Option<(usize, f64)> = None;
        for step in 0..ready.len() {
            let index = (start + step) % ready.len();
            if !ready.is_open(index) {
                continue;
            }
            let cost = cost(&self.load, ready, index);
            if best.is_none_or(|(_, lowest)| cost < lowest) {
                best = Some((index, cost));
            }
        }
        best.map(|(index, _)| index)
    }
}

/// The less loaded of two drawn by chance (Mitzenmacher 2001): O(1), and far better than one.
///
/// With few endpoints a full scan by [`LeastLoad`] costs about the same and decides better.
#[derive(Debug)]
pub struct TwoChoices<L> {
    load: L,
    rng: Rng,
}

impl<L: Load> TwoChoices<L> {
    /// By this measure, with the draws of `seed`.
    #[must_use]
    pub const fn new(load: L, seed: u64) -> Self {
        Self {
            load,
            rng: Rng::new(seed),
        }
    }
}

impl<L: Load> Strategy for TwoChoices<L> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        let count = ready.len();
        if count < 2 {
            return ready.open_from(0).filter(|_| count > 0);
        }
        let first = self.rng.below(count);
        // Another one than the first, each of them equally likely.
        let second = (first + 1 + self.rng.below(count - 1)) % count;
        match (ready.is_open(first), ready.is_open(second)) {
            (true, true) => {
                let better = cost(&self.load, ready, second) < cost(&self.load, ready, first);
                Some(if better { second } else { first })
            }
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => ready.open_from(first),
        }
    }
}
