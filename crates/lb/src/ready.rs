//! The ready endpoints as a strategy sees them.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::ask::Ask;
use crate::endpoint::Shared;
use crate::ewma::Fade;
use crate::health::SlowStart;
use crate::load::{Load, Seen};

/// One ready endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Arc<str>,
    pub(crate) weight: u32,
    /// The weights of this one and all before it.
    pub(crate) cumulative: u64,
    pub(crate) shared: Arc<Shared>,
}

/// The endpoints that a strategy may choose from, by index.
///
/// Those that the caller excluded (because they were tried already) are still listed, so that an
/// index means the same for every pick until the set changes; [`Ready::is_open`] says which they are.
pub struct Ready<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) generation: u64,
    pub(crate) equal: bool,
    pub(crate) slow_start: &'a SlowStart,
    pub(crate) fade: Fade,
    pub(crate) now_ms: u64,
    pub(crate) ask: Ask<'a>,
    pub(crate) now: Instant,
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("len", &self.rows.len())
            .field("generation", &self.generation)
            .field("ask", &self.ask)
            .finish_non_exhaustive()
    }
}

impl<'a> Ready<'a> {
    /// How many there are; indexes are below this.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Changes whenever an index may mean another endpoint or another weight.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether all listed weights are equal and there is no slow start.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.equal
    }

    /// What the caller said of the request.
    #[must_use]
    pub const fn ask(&self) -> Ask<'a> {
        self.ask
    }

    /// The id of an endpoint; empty for an index out of range.
    #[must_use]
    pub fn id(&self, index: usize) -> &'a str {
        self.rows.get(index).map_or("", |row| &row.id)
    }

    /// The weight that it is listed with; 0 for an index out of range.
    #[must_use]
    pub fn listed_weight(&self, index: usize) -> u32 {
        self.rows.get(index).map_or(0, |row| row.weight)
    }

    /// The weight that counts now, above 0: the listed one, or less while it warms up. 0 for an index
    /// out of range.
    #[must_use]
    pub fn weight(&self, index: usize) -> f64 {
        f64::from(self.listed_weight(index)) * self.warmth(index)
    }

    /// What there is to know about its load.
    #[must_use]
    pub fn seen(&self, index: usize) -> Seen {
        self.rows.get(index).map_or(
            Seen {
                in_flight: 0,
                latency: 0.0,
            },
            |row| Seen::of(&row.shared, self.fade, self.now_ms),
        )
    }

    /// Whether it may be picked: it exists, and the caller did not exclude it.
    #[must_use]
    pub fn is_open(&self, index: usize) -> bool {
        self.rows
            .get(index)
            .is_some_and(|row| self.is_row_open(row))
    }

    #[inline]
    fn is_row_open(&self, row: &Row) -> bool {
        let tried = self.ask.tried();
        tried.is_empty() || !tried.contains(&&*row.id)
    }

    /// The share of its listed weight that counts now.
    pub(crate) fn warmth(&self, index: usize) -> f64 {
        self.rows.get(index).map_or(0.0, |row| self.row_warmth(row))
    }

    #[inline]
    fn row_warmth(&self, row: &Row) -> f64 {
        if self.slow_start.is_off() {
            return 1.0;
        }
        let age = self.now.saturating_duration_since(row.shared.joined);
        self.slow_start.factor(age)
    }

    /// Load over weight; one more request is counted so that weights tell between idle endpoints too.
    /// `None` if it is not open.
    #[inline]
    pub(crate) fn cost<L: Load>(&self, load: &L, row: &Row) -> Option<f64> {
        if !self.is_row_open(row) {
            return None;
        }
        let mut seen = Seen::of(&row.shared, self.fade, self.now_ms);
        seen.in_flight = seen.in_flight.saturating_add(1);
        let cost = load.load(&seen);
        // The common case spares a division.
        Some(if self.equal {
            cost
        } else {
            cost / (f64::from(row.weight) * self.row_warmth(row))
        })
    }

    /// The first open index at or after `start`, going round.
    pub(crate) fn open_from(&self, start: usize) -> Option<usize> {
        let count = self.len();
        (0..count)
            .map(|step| (start + step) % count)
            .find(|index| self.is_open(*index))
    }

    /// The index that a number from 0 to 2^64 falls on, when each has a share by its listed weight.
    pub(crate) fn at(&self, number: u64) -> usize {
        let total = self.rows.last().map_or(0, |row| row.cumulative);
        let point = ((u128::from(number) * u128::from(total)) >> 64) as u64;
        self.rows.partition_point(|row| row.cumulative <= point)
    }
}
