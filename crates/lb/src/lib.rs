//! Which endpoint serves this request: load balancing strategies, health and outcome feedback.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use stackbeam_lb::{Balancer, Config, Endpoint, Outcome, PeakEwma, TwoChoices};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example is a shell")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::now();
//! let balancer = Balancer::new(TwoChoices::new(PeakEwma, 7), Config::default());
//! balancer.set_endpoints(
//!     [
//!         Endpoint::new("web-1", "10.0.0.1:80"),
//!         Endpoint::new("web-2", "10.0.0.2:80").with_weight(2),
//!     ],
//!     now,
//! );
//!
//! let lease = balancer.pick(now)?;
//! println!("ask {}", lease.target());
//! // … the answer arrives after 3 ms:
//! lease.report(Outcome::Success, now + Duration::from_millis(3));
//! # Ok(())
//! # }
//! ```
//!
//! # When to use something else
//!
//! A whole proxy with TLS and configuration files: nginx, HAProxy or Envoy. A reverse proxy framework in
//! Rust: [pingora], whose `pingora-load-balancing` also discovers and checks endpoints, and knows
//! nothing of load. A client that is a [tower] stack from end to end and has no weights or ejection:
//! `tower::balance`. This crate is for a service or a proxy that embeds the decision itself.
//!
//! [tower]: https://docs.rs/tower
//! [pingora]: https://docs.rs/pingora-load-balancing
//!
//! # Concepts
//!
//! * An [`Endpoint`] is one of several equals, with an id that stays when the list is given anew.
//! * A [`Strategy`] takes the ready endpoints and gives an index. [`RoundRobin`], [`SmoothWeighted`],
//!   [`Random`], [`LeastLoad`], [`TwoChoices`] and [`SomeChoices`] are here, and with the feature
//!   `consistent-hash` `Sticky`; a strategy of your own is one method.
//! * A [`Load`] says how loaded an endpoint is: [`InFlight`] (least request) or [`PeakEwma`].
//! * An [`Ask`] says what is known of a request: its key, and where it failed already.
//! * A [`Lease`] is a request under way. It reports the [`Outcome`] and so feeds loads and health.
//!   Dropped without a report it counts as cancelled: no latency sample, no failure.
//! * *Ejection* is passive: after some failures in a row an endpoint rests, each time longer, and is
//!   then let in again. [`SuccessRate`] and [`FailurePercentage`] also judge whole intervals.
//! * *Probes* are active: the caller asks [`Balancer::probes_due`], checks, and tells
//!   [`Balancer::probe_result`]; or lets `probing` do it on tokio.
//! * A [`RetryBudget`] keeps retries from melting the survivors.
//!
//! Time is an argument everywhere (`now: Instant`), chance is a seed: an hour of ejections is a test
//! that takes a millisecond. A rest that is over ends with the next pick; nothing must run in the
//! background unless there are active checks.
//!
//! # Limits
//!
//! [`ENDPOINTS_MAX`] endpoints; more are left out and counted. Leases are as many as the caller takes.
//!
//! # Costs
//!
//! A pick loads a snapshot without a lock, and allocates nothing. [`RoundRobin`] is O(1), and so is
//! [`TwoChoices`] when weights are equal; by weight, [`Random`] and [`TwoChoices`] are O(log n).
//! [`LeastLoad`] and [`SmoothWeighted`] look at each ready endpoint. [`SmoothWeighted`] takes a lock for
//! each pick, because each pick depends on the one before. A report takes one uncontended lock of its
//! own endpoint, for the latency estimate. A change of membership or health rebuilds the snapshot, O(n),
//! under a lock that a pick takes only when a rest has just ended, and waits for only when nobody else is
//! ready. (`Sticky` allocates when it must look past the eighth choice of a key.)
//!
//! # Features
//!
//! * `consistent-hash`: `Sticky`, which sends a key where it was sent before.
//! * `metrics`: `Stats::report`, for the `metrics` facade.
//! * `tokio`: `probing`, which runs active checks on a tokio runtime.
//! * `tower`: `tower`, a layer and a service over a balancer.
//! * `tracing`: events when an endpoint is ejected, taken out or let in again.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ask;
mod balancer;
mod budget;
mod config;
mod endpoint;
mod ewma;
mod health;
mod lease;
mod load;
#[cfg(feature = "metrics")]
mod metrics;
mod outlier;
#[cfg(feature = "tokio")]
pub mod probing;
mod ready;
mod rng;
mod snapshot;
mod stats;
mod strategy;
mod sync;
#[cfg(feature = "tower")]
pub mod tower;
mod watch;

pub use ask::Ask;
pub use balancer::{Balancer, ENDPOINTS_MAX, Listing, NoneReady};
pub use budget::{BudgetStats, RetryBudget};
pub use config::Config;
pub use endpoint::Endpoint;
pub use ewma::Estimate;
pub use health::{EjectionConfig, ProbeConfig, SlowStart};
pub use lease::{Lease, Outcome};
pub use load::{InFlight, Load, PeakEwma, Seen};
pub use outlier::{FailurePercentage, SuccessRate, Tally, outliers, success_rate_threshold};
pub use ready::Ready;
pub use stats::{EndpointStats, Stats};
#[cfg(feature = "consistent-hash")]
pub use strategy::Sticky;
pub use strategy::{
    LeastLoad, Random, RoundRobin, SmoothWeighted, SomeChoices, Strategy, TwoChoices,
};
pub use watch::ProbeDue;

// The README reads the clock, as its readers' programs do.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
