//! How many workers a group needs: by the time that messages wait, not by how many do.
//!
//! A plain value: counters and the time in, a number of workers out. [`worker::Pool::resize`] makes a pool follow it.
//!
//! ```
//! use stackbeam_mq::autoscale::{Autoscaler, Load, Scale};
//! use std::time::{Duration, Instant};
//!
//! let start = Instant::now();
//! let mut scaler = Autoscaler::new(Scale::new(1, 20).pickup(Duration::from_secs(2)));
//! // Ten messages a second come, and each takes a worker half a second.
//! let load = |s: u64| Load {
//!     ready: 0,
//!     oldest_ready: Duration::ZERO,
//!     published: 10 * s,
//!     done: 10 * s,
//!     running: 5,
//! };
//! let workers = (0..20).map(|s| scaler.decide(start + Duration::from_secs(s), load(s)));
//! assert_eq!(workers.last(), Some(6));
//! ```
//!
//! [`worker::Pool::resize`]: crate::worker::Pool::resize

use std::time::{Duration, Instant};

/// Settings of an [`Autoscaler`].
#[derive(Debug, Clone)]
pub struct Scale {
    min: usize,
    max: usize,
    pickup: Duration,
    cooldown: Duration,
    headroom: f64,
}

impl Scale {
    /// Between `min` (at least 1) and `max` workers.
    #[must_use]
    pub fn new(min: usize, max: usize) -> Self {
        Self {
            min: min.max(1),
            max: max.max(min).max(1),
            pickup: Duration::from_secs(5),
            cooldown: Duration::from_secs(10),
            headroom: 1.2,
        }
    }

    /// How long a message may wait until a worker picks it up, at least 10 ms. Defaults to 5 s.
    #[must_use]
    pub fn pickup(mut self, goal: Duration) -> Self {
        self.pickup = goal.max(Duration::from_millis(10));
        self
    }

    /// How long fewer workers must have been enough before a quarter of the surplus goes. Defaults to 10 s.
    #[must_use]
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// How much more than the measured load is planned for, 1 to 10. Defaults to 1.2.
    #[must_use]
    pub fn headroom(mut self, factor: f64) -> Self {
        self.headroom = factor.clamp(1.0, 10.0);
        self
    }
}

/// What is seen of a group and its workers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "filled in by the caller")]
pub struct Load {
    /// Messages that could be delivered now.
    pub ready: u64,
    /// Age of the oldest of them.
    pub oldest_ready: Duration,
    /// Messages ever published to the group.
    pub published: u64,
    /// Deliveries that have ended, whatever their outcome.
    pub done: u64,
    /// Deliveries in a handler now.
    pub running: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    load: Load,
}

/// Decides how many workers there should be. Call [`decide`](Self::decide) about once a second.
///
/// By Little's law the load needs arrival rate times service time, and the backlog must be worked off within what is
/// left of the pickup goal. More workers come at once; a quarter of the surplus goes (at least one) each time that fewer have been enough for the
/// cooldown.
#[derive(Debug, Clone)]
pub struct Autoscaler {
    scale: Scale,
    workers: usize,
    before: Option<Seen>,
    /// Messages a second, smoothed.
    arrivals: f64,
    /// Worker seconds a message, smoothed; 0 while none has ended.
    service: f64,
    /// Since when fewer workers would do.
    idle_since: Option<Instant>,
}

impl Autoscaler {
    /// Starts with the least number of workers.
    #[must_use]
    pub fn new(scale: Scale) -> Self {
        Self {
            workers: scale.min,
            scale,
            before: None,
            arrivals: 0.0,
            service: 0.0,
            idle_since: None,
        }
    }

    /// The number decided last.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Takes a new look; returns how many workers there should be. A look at the same time as the last, or earlier,
    /// changes nothing.
    pub fn decide(&mut self, now: Instant, load: Load) -> usize {
        let Some(before) = self.before.replace(Seen { at: now, load }) else {
            return self.workers;
        };
        let passed = now.saturating_duration_since(before.at).as_secs_f64();
        if passed <= 0.0 {
            self.before = Some(before);
            return self.workers;
        }
        self.measure(before.load, load, passed);
        let wanted = self.wanted(load).clamp(self.scale.min, self.scale.max);
        if wanted > self.workers {
            self.workers = wanted;
            self.idle_since = None;
        } else if wanted == self.workers {
            self.idle_since = None;
        } else {
            let since = *self.idle_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.scale.cooldown {
                self.workers -= (self.workers - wanted).div_ceil(4);
                self.idle_since = Some(now);
            }
        }
        self.workers
    }

    fn measure(&mut self, before: Load, load: Load, passed: f64) {
        // About the last three seconds count; a burst counts at once.
        let weight = 1.0 - (-passed / 3.0).exp();
        let arrivals = count(load.published.saturating_sub(before.published)) / passed;
        self.arrivals = if arrivals > self.arrivals {
            arrivals
        } else {
            self.arrivals + (arrivals - self.arrivals) * weight
        };
        let done = count(load.done.saturating_sub(before.done));
        if done > 0.0 {
            let busy = (count(before.running) + count(load.running)) / 2.0 * passed;
            let service = busy / done;
            self.service = if self.service > 0.0 {
                self.service + (service - self.service) * weight
            } else {
                service
            };
        }
    }

    fn wanted(&self, load: Load) -> usize {
        if self.service <= 0.0 {
            // Nothing is known yet of how long a message takes: one more at a time, while some wait too long.
            let late = load.ready > 0 && load.oldest_ready > self.scale.pickup / 2;
            return self.workers + usize::from(late);
        }
        let goal = self.scale.pickup.as_secs_f64();
        let left = (goal - load.oldest_ready.as_secs_f64()).max(goal / 4.0);
        let steady = self.arrivals * self.service;
        let backlog = count(load.ready) * self.service / left;
        let workers = ((steady * self.scale.headroom) + backlog - 1e-6).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float to an integer saturates"
        )]
        let workers = workers.max(0.0) as usize;
        workers
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and rates are measured, not exact"
)]
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A queue with workers in steps of 10 ms. Returns the pickup times, and how the number of workers went.
    fn simulate(
        scale: Scale,
        service: f64,
        seconds: u64,
        rate: impl Fn(u64) -> f64,
    ) -> (Vec<f64>, Vec<usize>) {
        const STEP: f64 = 0.01;
        let start = crate::shell::instant();
        let mut scaler = Autoscaler::new(scale);
        let (mut waiting, mut busy): (VecDeque<f64>, Vec<f64>) = (VecDeque::new(), Vec::new());
        let (mut due, mut published, mut done) = (0.0, 0, 0);
        let (mut pickups, mut workers) = (Vec::new(), Vec::new());
        for step in 0..seconds * 100 {
            let now = count(step) * STEP;
            due += rate(step / 100) * STEP;
            while due >= 1.0 {
                due -= 1.0;
                published += 1;
                waiting.push_back(now);
            }
            let before = busy.len();
            busy.retain(|end| *end > now);
            done += (before - busy.len()) as u64;
            while busy.len() < scaler.workers()
                && let Some(at) = waiting.pop_front()
            {
                pickups.push(now - at);
                busy.push(now + service);
            }
            if step % 100 == 0 {
                let load = Load {
                    ready: waiting.len() as u64,
                    oldest_ready: Duration::from_secs_f64(
                        waiting.front().map_or(0.0, |at| now - at),
                    ),
                    published,
                    done,
                    running: busy.len() as u64,
                };
                workers.push(scaler.decide(start + Duration::from_secs_f64(now), load));
            }
        }
        pickups.sort_by(f64::total_cmp);
        (pickups, workers)
    }

    #[test]
    fn a_tenfold_burst_is_picked_up_within_the_goal_and_workers_go_home_after_it() {
        let scale = Scale::new(1, 100).pickup(Duration::from_secs(2));
        let burst = |second| {
            if (60..120).contains(&second) {
                100.0
            } else {
                10.0
            }
        };
        let (pickups, workers) = simulate(scale, 0.2, 400, burst);
        let p99 = pickups[pickups.len() * 99 / 100];
        assert!(p99 <= 2.0, "p99 {p99} s, workers {workers:?}");
        let most = workers.iter().max().copied();
        assert!(most.is_some_and(|n| (20..=60).contains(&n)), "{most:?}");
        assert!(workers.last().is_some_and(|n| *n <= 4), "{workers:?}");
    }

    #[test]
    fn a_steady_load_makes_no_flapping() {
        let (_, workers) = simulate(Scale::new(1, 50), 0.5, 300, |_| 13.0);
        let settled = &workers[60..];
        let changes = settled.windows(2).filter(|w| w[0] != w[1]).count();
        assert!(changes <= 4, "{changes} changes: {workers:?}");
    }

    #[test]
    fn it_stays_within_its_bounds_and_time_that_stands_still_changes_nothing() {
        let (_, workers) = simulate(Scale::new(2, 5), 1.0, 60, |_| 100.0);
        assert!(workers.iter().all(|n| (2..=5).contains(n)), "{workers:?}");
        let mut scaler = Autoscaler::new(Scale::new(3, 9));
        let now = crate::shell::instant();
        let load = Load {
            ready: u64::MAX,
            ..Load::default()
        };
        assert_eq!(scaler.decide(now, load), 3);
        assert_eq!(scaler.decide(now, load), 3);
    }
}
