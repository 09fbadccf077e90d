//! Windows in turn: what a contestant does in a while, round after round, and the median of its rates.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_millis(200);
const ROUNDS: usize = 9;

/// A directory on the disk that the crate is built on: `/tmp` may be memory.
pub(super) fn dir() -> io::Result<tempfile::TempDir> {
    let base = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    std::fs::create_dir_all(&base)?;
    tempfile::Builder::new()
        .prefix("mq-figures-")
        .tempdir_in(base)
}

/// One window.
pub(super) struct Timed {
    pub(super) window: Duration,
    started: Instant,
    spent: Option<Duration>,
}

impl Timed {
    /// The window begins now; what went before was preparation.
    pub(super) fn restart(&mut self) {
        self.started = Instant::now();
    }

    /// Calls `f` until the window is over; returns how often.
    pub(super) fn run(&mut self, f: impl FnMut()) -> u64 {
        self.until(u64::MAX, f)
    }

    /// As [`run`](Self::run), but at most `max` times.
    pub(super) fn until(&mut self, max: u64, mut f: impl FnMut()) -> u64 {
        let mut calls = 0;
        while calls < max && self.started.elapsed() < self.window {
            f();
            calls += 1;
        }
        self.spent = Some(self.started.elapsed());
        calls
    }

    /// As [`run`](Self::run), and notes how many microseconds each call took.
    pub(super) fn each(&mut self, all: &mut Vec<f64>, mut f: impl FnMut()) -> u64 {
        self.run(|| {
            let start = Instant::now();
            f();
            all.push(start.elapsed().as_secs_f64() * 1e6);
        })
    }
}

/// Calls `f` with its number on each of `count` threads until the window is over.
pub(super) fn many_threads(count: usize, timed: &mut Timed, f: impl Fn(usize) + Sync) -> u64 {
    let done = AtomicU64::new(0);
    let until = Instant::now() + timed.window;
    timed.restart();
    std::thread::scope(|scope| {
        for at in 0..count {
            let (done, f) = (&done, &f);
            scope.spawn(move || {
                while Instant::now() < until {
                    f(at);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    timed.spent = Some(timed.started.elapsed());
    done.into_inner()
}

type Turn<'a> = Box<dyn FnMut(&mut Timed) -> u64 + 'a>;

/// Contestants who take turns.
pub(super) struct Contest<'a> {
    turns: Vec<(usize, Turn<'a>)>,
}

impl<'a> Contest<'a> {
    pub(super) fn new() -> Self {
        Self { turns: Vec::new() }
    }

    /// A contestant that returns how often it did something worth `each` messages.
    pub(super) fn add(&mut self, each: usize, turn: impl FnMut(&mut Timed) -> u64 + 'a) {
        self.turns.push((each, Box::new(turn)));
    }

    /// Messages a second of each contestant.
    pub(super) fn rates(mut self) -> Vec<f64> {
        let mut rates = vec![Vec::new(); self.turns.len()];
        for round in 0..=ROUNDS {
            for ((each, turn), rates) in self.turns.iter_mut().zip(&mut rates) {
                let mut timed = Timed {
                    window: WINDOW,
                    started: Instant::now(),
                    spent: None,
                };
                let calls = turn(&mut timed);
                let spent = timed.spent.unwrap_or_else(|| timed.started.elapsed());
                // The first round warms up.
                if round > 0 {
                    rates.push(calls as f64 * *each as f64 / spent.as_secs_f64());
                }
            }
        }
        rates.iter_mut().map(|r| percentile(r, 0.5)).collect()
    }
}

/// The value below which this share lies.
pub(super) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values
        .get(at.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}
