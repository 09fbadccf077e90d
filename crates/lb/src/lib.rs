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
//! A whole proxy with TLS and configuration files: nginx, HAProxy or Envoy. A balancer that is a
//! [tower] stack from end to end: `tower::balance`. This crate is for a service or a proxy that
//! embeds the decision itself and wants to see why it was made.
//!
//! [tower]: https://docs.rs/tower
//!
//! # Concepts
//!
//! * An [`Endpoint`] is one of several equals, with an id that stays when the list is given anew.
//! * A [`Strategy`] takes the ready endpoints and gives an index. [`RoundRobin`], [`SmoothWeighted`],
//!   [`Random`], [`LeastLoad`] and [`TwoChoices`] are here; a strategy of your own is one method.
//! * A [`Load`] says how loaded an endpoint is: [`InFlight`] (least request) or [`PeakEwma`].
//! * A [`Lease`] is a request under way. It reports the [`Outcome`] and so feeds loads and health.
//!   Dropped without a report it counts as cancelled: no latency sample, no failure.
//! * *Ejection* is passive: after some failures in a row an endpoint rests, each time longer, and is
//!   then let in again. [`SuccessRate`] and [`FailurePercentage`] also judge whole intervals. *Probes* are active: the caller asks [`Balancer::probes_due`], checks, and
//!   tells [`Balancer::probe_result`]; or lets [`probing`] do it on tokio.
//! * A [`RetryBudget`] keeps retries from melting the survivors.
//!
//! Time is an argument everywhere (`now: Instant`), chance is a seed: an hour of ejections is a test
//! that takes a millisecond.
//!
//! # Costs
//!
//! A pick loads a snapshot without a lock, and allocates nothing. [`RoundRobin`], [`Random`] with
//! equal weights and [`TwoChoices`] are O(1); [`LeastLoad`], [`SmoothWeighted`] and weighted
//! [`Random`] look at each ready endpoint. [`SmoothWeighted`] takes a lock for each pick, because each
//! pick depends on the one before. A report takes one uncontended lock of its own endpoint for the
//! latency estimate. A change of membership or health rebuilds the snapshot, O(n), under a lock that
//! no pick takes.
//!
//! # Features
//!
//! * `tokio`: [`probing`], which runs active checks on a tokio runtime.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod balancer;
mod budget;
mod endpoint;
mod ewma;
mod health;
mod load;
mod outlier;
#[cfg(feature = "tokio")]
pub mod probing;
mod rng;
mod strategy;

pub use balancer::{Balancer, Config, EndpointStats, Lease, NoneReady, Outcome, ProbeDue, Stats};
pub use budget::{BudgetStats, RetryBudget};
pub use endpoint::Endpoint;
pub use ewma::Estimate;
pub use health::{EjectionConfig, ProbeConfig, SlowStart};
pub use load::{InFlight, Load, PeakEwma, Seen};
pub use outlier::{FailurePercentage, SuccessRate, Tally, outliers, success_rate_threshold};
pub use strategy::{LeastLoad, Random, Ready, RoundRobin, SmoothWeighted, Strategy, TwoChoices};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
