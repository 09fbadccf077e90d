//! Strategies that go by a measure of load: all, two or some endpoints are looked at.

use super::{Strategy, draw};
use crate::load::Load;
use crate::ready::{Ready, Row};
use crate::rng::Rng;
use crate::sync::{AtomicUsize, Ordering};

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
    pub fn new(load: L) -> Self {
        Self {
            load,
            start: AtomicUsize::new(0),
        }
    }
}

/// The cheapest open one of these, the first of equals.
fn cheapest<'a, L: Load>(
    load: &L,
    ready: &Ready<'a>,
    rows: impl Iterator<Item = (usize, &'a Row)>,
) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    rows.for_each(|(index, row)| {
        if let Some(cost) = ready.cost(load, row)
            && best.is_none_or(|(_, lowest)| cost < lowest)
        {
            best = Some((index, cost));
        }
    });
    best.map(|(index, _)| index)
}

impl<L: Load> Strategy for LeastLoad<L> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        let count = ready.len();
        if count == 0 {
            return None;
        }
        let start = self.start.fetch_add(1, Ordering::Relaxed) % count;
        let (before, after) = ready.rows.split_at(start);
        let rows = (start..).zip(after).chain(before.iter().enumerate());
        cheapest(&self.load, ready, rows)
    }
}

/// The less loaded of two drawn by chance (Mitzenmacher 2001): far better than one, and O(1) when
/// weights are equal.
///
/// Endpoints are drawn by their weights, and compared by load over weight. With few endpoints a full
/// scan by [`LeastLoad`] costs about the same and decides better.
#[derive(Debug)]
pub struct TwoChoices<L>(SomeChoices<L>);

impl<L: Load> TwoChoices<L> {
    /// By this measure, with the draws of `seed`.
    #[must_use]
    pub fn new(load: L, seed: u64) -> Self {
        Self(SomeChoices::new(load, 2, seed))
    }
}

impl<L: Load> Strategy for TwoChoices<L> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        self.0.pick(ready)
    }
}

/// The least loaded of some drawn by chance: between [`TwoChoices`] and [`LeastLoad`], for many
/// endpoints of unequal speed.
#[derive(Debug)]
pub struct SomeChoices<L> {
    load: L,
    choices: usize,
    rng: Rng,
}

/// The most endpoints that one pick draws.
const CHOICES_MAX: usize = 64;

/// Draws of endpoints that were drawn already, for each choice, before fewer choices are accepted:
/// where one has nearly all the weight there may be no other to find.
const REDRAWS_MAX: usize = 4;

impl<L: Load> SomeChoices<L> {
    /// By this measure, `choices` different ones a pick (2 to 64; what is outside counts as the
    /// nearer bound), with the draws of `seed`.
    #[must_use]
    pub fn new(load: L, choices: usize, seed: u64) -> Self {
        Self {
            load,
            choices: choices.clamp(2, CHOICES_MAX),
            rng: Rng::new(seed),
        }
    }

    /// Two different ones, each pair equally likely. There must be two.
    fn two_of_equals(&self, ready: &Ready<'_>) -> [usize; 2] {
        let count = ready.len();
        let first = self.rng.below(count);
        let second = (first + 1 + self.rng.below(count - 1)) % count;
        [first, second]
    }

    /// The least loaded open one of these; if none is open, the next open one.
    fn best(&self, ready: &Ready<'_>, drawn: &[usize]) -> Option<usize> {
        let rows = drawn
            .iter()
            .filter_map(|index| ready.rows.get(*index).map(|row| (*index, row)));
        let start = drawn.first().copied().unwrap_or(0);
        cheapest(&self.load, ready, rows).or_else(|| ready.open_from(start))
    }
}

impl<L: Load> Strategy for SomeChoices<L> {
    fn pick(&self, ready: &Ready<'_>) -> Option<usize> {
        if ready.len() < 2 {
            return ready.open_from(0);
        }
        if self.choices == 2 && ready.is_equal() {
            return self.best(ready, &self.two_of_equals(ready));
        }
        let wanted = self.choices.min(ready.len());
        let mut drawn = [0_usize; CHOICES_MAX];
        let mut count = 0;
        for _ in 0..wanted * REDRAWS_MAX {
            let index = draw(&self.rng, ready);
            if !drawn[..count].contains(&index) {
                drawn[count] = index;
                count += 1;
                if count == wanted {
                    break;
                }
            }
        }
        self.best(ready, &drawn[..count])
    }
}
