//! Smooth weighted round robin.

use super::Strategy;
use crate::ready::Ready;
use crate::sync::Mutex;

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
        if state.generation != Some(ready.generation()) || state.current.len() != ready.len() {
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
