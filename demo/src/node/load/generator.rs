//! The open loop: arrivals by the schedule, whatever becomes of those before them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::ledger::LedgerError;
use super::mix::Journey;
use super::record::Arrival;
use super::schedule::Schedule;
use super::world::World;

/// Journeys under way at once. An arrival beyond it is not sent, is counted as unsent, and makes the
/// generator saturated.
const IN_FLIGHT_MAX: usize = 2_048;

/// An arrival that is sent later than this after its moment is counted as late: the scheduler of a
/// busy machine lets a task wait for tens of milliseconds.
const LATE_AFTER: Duration = Duration::from_millis(100);

/// How long journeys under way may take to finish at the end.
const FINISH_MAX: Duration = Duration::from_secs(12);

/// How much load, and of which kind.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Journeys a second, on average.
    pub(crate) per_second: u32,
    /// A small write on each of so many shards, at this interval; it shows for how long a shard takes
    /// no writes.
    pub(crate) pulse: Option<(u16, Duration)>,
    pub(crate) seed: u64,
}

/// What is to be done at one moment.
#[derive(Clone, Copy, Debug)]
enum Due {
    Journey(Journey),
    Pulse(u16),
}

/// Lets users arrive until `stop` resolves, then waits for those under way.
///
/// A number that arrives on `crowds` makes so many readers arrive at once.
///
/// # Errors
///
/// When the ledger cannot be written: load that cannot be checked is worth nothing.
///
/// # Cancel safety
///
/// Dropping the future gives up what is under way; the ledger shows it as without an answer.
pub(crate) async fn drive(
    world: &Arc<World>,
    pace: &Pace,
    mut crowds: mpsc::UnboundedReceiver<u32>,
    stop: impl Future<Output = ()>,
) -> Result<(), LedgerError> {
    let start = Instant::now();
    let mut chance = Rng::with_seed(pace.seed);
    let mut schedule = Schedule::new(pace.per_second, chance.u64(..));
    let mut next = schedule.next().map(|at| start + at);
    let mut pulse = pace.pulse.map(|_| start);
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut under_way: JoinSet<Result<(), LedgerError>> = JoinSet::new();
    let mut stop = pin!(stop);
    let arrive = |due: Due, at: Instant, chance: &mut Rng, under_way: &mut JoinSet<_>| {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            world.recorder.arrival(Arrival::Unsent);
            return;
        };
        world.recorder.arrival(if at.elapsed() > LATE_AFTER {
            Arrival::Late
        } else {
            Arrival::OnTime
        });
        let (world, chance) = (Arc::clone(world), chance.fork());
        under_way.spawn(async move {
            let done = match due {
                Due::Journey(journey) => world.carry_out(journey, at, chance).await,
                Due::Pulse(shard) => world.pulse(shard, at, chance).await,
            };
            drop(place);
            done
        });
    };
    let far = start + Duration::from_secs(365 * 86_400);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(next.unwrap_or(far)) => {
                let at = next.unwrap_or(far);
                next = schedule.next().map(|at| start + at);
                arrive(Due::Journey(Journey::draw(&mut chance)), at, &mut chance, &mut under_way);
            }
            () = sleep_until(pulse.unwrap_or(far)) => {
                let at = pulse.unwrap_or(far);
                if let Some((shards, every)) = pace.pulse {
                    pulse = Some(at + every);
                    for shard in 0..shards {
                        arrive(Due::Pulse(shard), at, &mut chance, &mut under_way);
                    }
                }
            }
            Some(count) = crowds.recv() => {
                let at = Instant::now();
                for _ in 0..count {
                    let due = Due::Journey(Journey::ReadArticle);
                    arrive(due, at, &mut chance, &mut under_way);
                }
            }
            Some(done) = under_way.join_next() => ended(done)?,
        }
    }
    let finish = async {
        while let Some(done) = under_way.join_next().await {
            ended(done)?;
        }
        Ok(())
    };
    tokio::time::timeout(FINISH_MAX, finish)
        .await
        .unwrap_or(Ok(()))
}

/// A journey that panicked is a bug that has to show.
fn ended(done: Result<Result<(), LedgerError>, tokio::task::JoinError>) -> Result<(), LedgerError> {
    match done {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Ok(()),
        },
    }
}
