//! The measuring kit: what a figure is, how two contestants are timed, where the rows go.

mod duel;
mod inputs;
mod machine;
mod report;

pub use duel::{Clock, Duel};
pub use inputs::{Zipf, keys};
pub use machine::{allocations, heap_bytes, machine};
pub use report::{Figure, Goal, Report, Row};
