//! Two levels: memory and cache servers.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod bad_servers;
mod interleaved;
mod pool;
mod processes;
mod suite;
