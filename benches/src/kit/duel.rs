//! Two or more contestants, timed in turn.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::report::{Figure, Goal, Report};

/// Rounds in which each contestant is timed once.
const ROUNDS: usize = 15;
/// A contestant's turn lasts about so long, so that the clock's own cost is lost in it.
const TURN: Duration = Duration::from_millis(6);

/// What a turn is timed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// CPU time of the calling thread: what others do on the machine hardly shows.
    ThreadCpu,
    /// The wall: for what waits (disks, other threads).
    Wall,
}

impl Clock {
    /// A point in time on this clock.
    fn now(self) -> Duration {
        let id = match self {
            Self::ThreadCpu => ClockId::ThreadCPUTime,
            Self::Wall => ClockId::Monotonic,
        };
        let time = clock_gettime(id);
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::ThreadCpu => "thread CPU time",
            Self::Wall => "wall clock",
        }
    }
}

struct Contestant<'a> {
    name: String,
    batch: Box<dyn FnMut() + 'a>,
    calls_per_turn: u32,
    turns: Vec<f64>,
}

/// Ours against rivals: each does the same batch of operations, in turn, round after round; the
/// figure is the median over the rounds, and the rival that is printed is the best of them.
pub struct Duel<'a> {
    figure: String,
    /// Operations in one call of a contestant's batch.
    operations: u64,
    clock: Clock,
    per_second: bool,
    how: String,
    goal: Option<Goal>,
    rounds: usize,
    contestants: Vec<Contestant<'a>>,
}

impl<'a> Duel<'a> {
    /// A duel over `batch`, which does `operations` operations on each call. The results that it
    /// computes must go through [`std::hint::black_box`].
    pub fn new(figure: impl Into<String>, operations: u64, batch: impl FnMut() + 'a) -> Self {
        let duel = Self {
            figure: figure.into(),
            operations,
            clock: Clock::ThreadCpu,
            per_second: false,
            how: String::new(),
            goal: None,
            rounds: ROUNDS,
            contestants: Vec::new(),
        };
        duel.against("stackbeam", batch)
    }

    /// Adds a rival, whose batch does as many operations as ours.
    #[must_use]
    pub fn against(mut self, name: impl Into<String>, batch: impl FnMut() + 'a) -> Self {
        self.contestants.push(Contestant {
            name: name.into(),
            batch: Box::new(batch),
            calls_per_turn: 1,
            turns: Vec::new(),
        });
        self
    }

    /// What must come out for the figure to hold.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// What a reader must know besides the clock and the rounds, which are said anyway.
    #[must_use]
    pub fn how(mut self, how: impl Into<String>) -> Self {
        self.how = how.into();
        self
    }

    /// Times by the wall clock. Defaults to the calling thread's CPU time.
    #[must_use]
    pub fn by_wall_clock(mut self) -> Self {
        self.clock = Clock::Wall;
        self
    }

    /// Shows operations a second. Defaults to nanoseconds an operation.
    #[must_use]
    pub fn per_second(mut self) -> Self {
        self.per_second = true;
        self
    }

    /// How often each contestant is timed. Defaults to 15.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// Measures and reports.
    ///
    /// # Panics
    ///
    /// If no operation was said to be in a batch.
    pub fn run(mut self, report: &mut Report<'_>) {
        assert!(self.operations > 0, "{}: a batch of nothing", self.figure);
        if let Some(criterion) = report.criterion(&self.figure, self.operations) {
            let mut group = criterion;
            for contestant in &mut self.contestants {
                group.bench_function(&contestant.name, |bencher| {
                    bencher.iter(&mut contestant.batch)
                });
            }
            group.finish();
            return;
        }
        for contestant in &mut self.contestants {
            calibrate(contestant, self.clock);
        }
        for round in 0..self.rounds {
            let count = self.contestants.len();
            for turn in 0..count {
                // Nobody always follows the same other, whose leavings fill the caches.
                let contestant = &mut self.contestants[(turn + round) % count];
                let spent = turn_of(contestant, self.clock);
                let calls = f64::from(contestant.calls_per_turn);
                let each = spent.as_secs_f64() / calls / self.operations as f64;
                contestant.turns.push(if self.per_second {
                    1.0 / each
                } else {
                    each * 1e9
                });
            }
        }
        let mut medians: Vec<(String, f64)> = self
            .contestants
            .into_iter()
            .map(|mut contestant| (contestant.name, median(&mut contestant.turns)))
            .collect();
        let (_, ours) = medians.remove(0);
        let better = |a: &f64, b: &f64| {
            if self.per_second {
                b.total_cmp(a)
            } else {
                a.total_cmp(b)
            }
        };
        let rival = medians.into_iter().min_by(|a, b| better(&a.1, &b.1));
        let method = format!(
            "{}, median of {} rounds in turn",
            self.clock.name(),
            self.rounds
        );
        let how = if self.how.is_empty() {
            method
        } else {
            format!("{}; {method}", self.how)
        };
        let unit = if self.per_second { "1/s" } else { "ns" };
        let mut figure = Figure::new(self.figure, ours, unit).how(how);
        if self.per_second {
            figure = figure.more_is_better();
        }
        if let Some((name, value)) = rival {
            figure = figure.against(name, value);
        }
        if let Some(goal) = self.goal {
            figure = figure.goal(goal);
        }
        report.figure(figure);
    }
}

/// Warms the contestant up and finds how many calls fill a turn.
fn calibrate(contestant: &mut Contestant<'_>, clock: Clock) {
    loop {
        let started = Clock::Wall.now();
        let spent = turn_of(contestant, clock);
        // What waits has little CPU time, and its turn must not grow for that.
        let waited = Clock::Wall.now().saturating_sub(started);
        if spent >= TURN || waited >= TURN * 20 || contestant.calls_per_turn >= 1 << 20 {
            break;
        }
        let missing = TURN.as_secs_f64() / spent.as_secs_f64().max(1e-6);
        // A first call is cold, so the way up is at most tenfold at a time.
        let calls = f64::from(contestant.calls_per_turn) * missing.clamp(1.1, 10.0);
        contestant.calls_per_turn = calls.ceil() as u32;
    }
}

fn turn_of(contestant: &mut Contestant<'_>, clock: Clock) -> Duration {
    let start = clock.now();
    for _ in 0..contestant.calls_per_turn {
        (contestant.batch)();
    }
    clock.now().saturating_sub(start)
}

/// The median; of an even number, the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_contestant_that_does_twice_the_work_takes_about_twice_the_time() {
        let work = |rounds: u64| {
            move || {
                let mut sum = 0_u64;
                for i in 0..rounds {
                    sum = std::hint::black_box(sum.wrapping_mul(31) ^ i);
                }
            }
        };
        let mut report = Report::collecting("test");
        Duel::new("work", 10_000, work(10_000))
            .against("twice", work(20_000))
            .run(&mut report);
        let row = &report.rows()[0];
        let ratio = row.ratio.unwrap_or_default();
        assert!((1.6..2.4).contains(&ratio), "{row:?}");
    }
}
