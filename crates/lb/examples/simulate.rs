//! Five strategies before the same twenty servers of unequal speed, in simulated time:
//! `cargo run --release --example simulate`.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example prints, and its time begins at the clock's present"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use stackbeam_lb::{
    Balancer, Config, Endpoint, InFlight, LeastLoad, Outcome, PeakEwma, Random, RoundRobin,
    Strategy, TwoChoices,
};

const SERVERS: u32 = 20;
const REQUESTS: usize = 40_000;
/// A request takes 10 ms on average at a server of speed 1.
const SERVICE: f64 = 0.010;
/// Share of what all servers together can do.
const LOAD: f64 = 0.7;

fn speed(server: u32) -> f64 {
    match server % 10 {
        0..5 => 1.0,
        5..8 => 0.7,
        _ => 0.5,
    }
}

/// Numbers from 0 to below 1 (SplitMix64).
fn unit(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)) / 4_294_967_296.0
}

/// Each server works off its requests one after the other. The latencies of all, sorted.
fn run<S: Strategy>(strategy: S) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let balancer = Balancer::new(strategy, Config::default());
    balancer.set_endpoints((0..SERVERS).map(|n| Endpoint::new(n.to_string(), n)), start);
    let capacity: f64 = (0..SERVERS).map(speed).sum::<f64>() / SERVICE;
    let mut seed = 1;
    let mut exponential = |mean: f64| Duration::from_secs_f64(-mean * (1.0 - unit(&mut seed)).ln());

    let mut free_at = vec![start; SERVERS as usize];
    let mut leases = Vec::new();
    let mut ends = BinaryHeap::new();
    let mut latencies = Vec::new();
    let mut now = start;
    for request in 0..REQUESTS {
        now += exponential(1.0 / (LOAD * capacity));
        while let Some(Reverse((at, done))) =
            ends.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            ends.pop();
            let done: &mut Option<_> = &mut leases[done];
            if let Some(lease) = done.take() {
                stackbeam_lb::Lease::report(lease, Outcome::Success, at);
            }
        }
        let lease = balancer.pick(now)?;
        let server = *lease.target();
        let begins = free_at[server as usize].max(now);
        let end = begins + exponential(SERVICE / speed(server));
        free_at[server as usize] = end;
        leases.push(Some(lease));
        ends.push(Reverse((end, request)));
        latencies.push(end - now);
    }
    latencies.sort();
    Ok(latencies)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>28} {:>9} {:>9} {:>9}", "", "p50", "p99", "p99.9");
    let rows = [
        ("round robin", run(RoundRobin::new())?),
        ("random", run(Random::new(1))?),
        ("two choices, in flight", run(TwoChoices::new(InFlight, 1))?),
        ("two choices, peak EWMA", run(TwoChoices::new(PeakEwma, 1))?),
        ("least request of all", run(LeastLoad::new(InFlight))?),
        ("peak EWMA of all", run(LeastLoad::new(PeakEwma))?),
    ];
    for (name, latencies) in rows {
        let at = |thousandths: usize| latencies[latencies.len() * thousandths / 1_000].as_millis();
        println!(
            "{name:>28} {:>6} ms {:>6} ms {:>6} ms",
            at(500),
            at(990),
            at(999)
        );
    }
    Ok(())
}
