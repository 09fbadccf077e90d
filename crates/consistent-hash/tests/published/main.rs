//! What other people's software computed, and this crate must.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod compat;
mod functions;
mod interop;
mod support;
