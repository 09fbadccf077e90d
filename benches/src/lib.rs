//! Measures the stackbeam crates beside their rivals.
//!
//! [`figures`] has one module for each crate. A module says what it measures in [`kit::Duel`]s and
//! [`kit::Figure`]s; where that goes is the [`kit::Report`]'s affair: a line for a person, an object for
//! a program (`cargo xtask figures`), or criterion (`cargo bench --manifest-path benches/Cargo.toml`).

pub mod figures;
pub mod kit;
