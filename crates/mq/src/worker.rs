//! A pool of handlers on tokio: takes, runs, settles; retries with backoff; drains on demand.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::error::TakeError;
use crate::lease::Settle;
use crate::message::Message;
use crate::traits::{Consumer, Delivery};

/// What a handler sees of a delivery.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Job {
    /// The message.
    pub message: Message,
    /// Its id.
    pub id: crate::MessageId,
    /// Which delivery this is, from 1.
    pub attempt: u32,
}

/// What a handler says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Handled.
    Done,
    /// Failed; try again after the pool's backoff.
    Retry,
    /// Hopeless; to the dead letters with this reason.
    Dead(String),
}

/// Settings of a pool.
#[derive(Debug, Clone)]
pub struct Workers {
    concurrency: usize,
    backoff: Duration,
    backoff_max: Duration,
    drain: Duration,
    heartbeat: Duration,
    lease: Duration,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            concurrency: 4,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_mins(1),
            drain: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            lease: Duration::from_secs(30),
        }
    }
}

/// Counters of a pool. `taken = done + retried + dead + panicked + released + lost + running`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Deliveries taken.
    pub taken: u64,
    /// Handled and acknowledged.
    pub done: u64,
    /// Given back to be tried again.
    pub retried: u64,
    /// Sent to the dead letters by the handler.
    pub dead: u64,
    /// Handlers that panicked; their messages are tried again.
    pub panicked: u64,
    /// Given back untouched because the drain deadline came.
    pub released: u64,
    /// Outcomes that could not be recorded (the lease had ended, or the queue was out of reach).
    pub lost: u64,
    /// In a handler now.
    pub running: u64,
}

#[derive(Debug, Default)]
struct Counters {
    taken: AtomicU64,
    done: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    panicked: AtomicU64,
    released: AtomicU64,
    lost: AtomicU64,
}

impl Workers {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Handlers that run at once. Messages are taken only when one is free. Defaults to 4.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.max(1);
        self
    }

    /// Delay after the first failure; doubles with each attempt up to `max`, and is spread by a quarter to
    /// either side. Defaults to 500 ms and 1 minute.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = first;
        self.backoff_max = max.max(first);
        self
    }

    /// How long [`Pool::drain`] waits for busy handlers. Defaults to 30 s.
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// While a handler runs, its lease is set to `lease` every `every`, also during a drain.
    /// Defaults to 30 s every 10 s.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration, lease: Duration) -> Self {
        self.heartbeat = every.max(Duration::from_millis(1));
        self.lease = lease.max(self.heartbeat);
        self
    }

    /// Starts the pool. `handler` is called once for each delivery; a panic in it is a failure of that
    /// message alone.
    pub fn start<C, H, F>(self, consumer: C, handler: H) -> Pool
    where
        C: Consumer + 'static,
        H: Fn(Job) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(Stop::Run);
        let counters = Arc::new(Counters::default());
        let slots = Arc::new(Slots {
            free: Arc::new(Semaphore::new(self.concurrency)),
            size: AtomicUsize::new(self.concurrency),
        });
        let task = tokio::spawn(run(
            self,
            consumer,
            Arc::new(handler),
            stopped,
            Arc::clone(&counters),
            Arc::clone(&slots),
        ));
        Pool {
            stop,
            slots,
            counters,
            task: Some(task),
        }
    }
}

/// Room for handlers.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    size: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Run,
    Drain,
}

/// A running pool. Dropping it drains in the background.
#[derive(Debug)]
pub struct Pool {
    stop: watch::Sender<Stop>,
    slots: Arc<Slots>,
    counters: Arc<Counters>,
    task: Option<JoinHandle<Option<TakeError>>>,
}

impl Pool {
    /// Takes no more, and waits for the handlers that run, up to the drain deadline; those that are busy
    /// then are stopped and their messages released. Returns the error that ended the pool, if one did.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the drain going in the background.
    pub async fn drain(mut self) -> (WorkerStats, Option<TakeError>) {
        self.stop.send_replace(Stop::Drain);
        let ended = match self.task.take() {
            Some(task) => task.await.ok().flatten(),
            None => None,
        };
        (self.stats(), ended)
    }

    /// Handlers that may run at once from now on, at least 1. Busy ones are not stopped: with fewer, as many go as
    /// become free. Must be called on a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime, when there are to be fewer.
    pub fn resize(&self, handlers: usize) {
        let handlers = handlers.max(1);
        let before = self.slots.size.swap(handlers, Ordering::AcqRel);
        if handlers > before {
            self.slots.free.add_permits(handlers - before);
        } else if handlers < before {
            let fewer = u32::try_from(before - handlers).unwrap_or(u32::MAX);
            let free = Arc::clone(&self.slots.free);
            tokio::spawn(async move {
                if let Ok(gone) = free.acquire_many_owned(fewer).await {
                    gone.forget();
                }
            });
        }
    }

    /// Whether the pool still takes messages. It ends by itself only when its group or queue is gone.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.task.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Counters, taken at about one moment.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let c = &self.counters;
        let load = |n: &AtomicU64| n.load(Ordering::Acquire);
        let (done, retried, dead) = (load(&c.done), load(&c.retried), load(&c.dead));
        let (panicked, released, lost) = (load(&c.panicked), load(&c.released), load(&c.lost));
        let taken = load(&c.taken);
        let running = taken - done - retried - dead - panicked - released - lost;
        WorkerStats {
            taken,
            done,
            retried,
            dead,
            panicked,
            released,
            lost,
            running,
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Drain);
    }
}

async fn run<C, H, F>(
    settings: Workers,
    consumer: C,
    handler: Arc<H>,
    mut stopped: watch::Receiver<Stop>,
    counters: Arc<Counters>,
    slots: Arc<Slots>,
) -> Option<TakeError>
where
    C: Consumer + 'static,
    H: Fn(Job) -> F + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let free = Arc::clone(&slots.free);
    // Told when the drain deadline has come.
    let (give_up, given_up) = watch::channel(false);
    let mut failure = None;
    let mut pause = Duration::from_millis(50);
    while *stopped.borrow_and_update() == Stop::Run {
        let permit = tokio::select! {
            permit = Arc::clone(&free).acquire_owned() => permit,
            _ = stopped.changed() => break,
        };
        let Ok(permit) = permit else { break };
        // One handler is free; take as many as are, so that one logged attempt covers them all.
        let max = NonZeroUsize::new(free.available_permits() + 1).unwrap_or(NonZeroUsize::MIN);
        let taken = tokio::select! {
            taken = consumer.receive(max) => taken,
            _ = stopped.changed() => break,
        };
        match taken {
            Ok(deliveries) => {
                pause = Duration::from_millis(50);
                let mut permit = Some(permit);
                for delivery in deliveries {
                    let permit = match permit.take() {
                        Some(p) => p,
                        None => match Arc::clone(&free).acquire_owned().await {
                            Ok(p) => p,
                            Err(_) => break,
                        },
                    };
                    counters.taken.fetch_add(1, Ordering::AcqRel);
                    let (handler, counters, given_up) = (
                        Arc::clone(&handler),
                        Arc::clone(&counters),
                        given_up.clone(),
                    );
                    let settings = settings.clone();
                    tokio::spawn(async move {
                        handle(&settings, delivery, &*handler, given_up, &counters).await;
                        drop(permit);
                    });
                }
            }
            Err(e @ (TakeError::NoGroup | TakeError::Closed)) => {
                failure = Some(e);
                break;
            }
            Err(_) => {
                // The disk refuses or one message is damaged: go on, but not in a hot loop.
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
    let all = u32::try_from(slots.size.load(Ordering::Acquire)).unwrap_or(u32::MAX);
    let idle = free.acquire_many(all);
    if tokio::time::timeout(settings.drain, idle).await.is_err() {
        give_up.send_replace(true);
        drop(tokio::time::timeout(Duration::from_secs(5), free.acquire_many(all)).await);
    }
    failure
}

async fn handle<D, H, F>(
    settings: &Workers,
    mut delivery: D,
    handler: &H,
    mut given_up: watch::Receiver<bool>,
    c: &Counters,
) where
    D: Delivery,
    H: Fn(Job) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let attempt = delivery.attempt();
    let job = Job {
        message: delivery.message().clone(),
        id: delivery.id(),
        attempt,
    };
    let mut task = pin!(tokio::spawn(handler(job)));
    let mut beat = tokio::time::interval(settings.heartbeat);
    beat.tick().await;
    let ended = loop {
        tokio::select! {
            done = &mut task => break Some(done),
            _ = beat.tick() => {
                // A lost lease is found out at the settlement.
                drop(delivery.extend(settings.lease).await);
            }
            () = async { drop(given_up.wait_for(|g| *g).await) } => {
                task.abort();
                break None;
            }
        }
    };
    let retry = || Settle::Retry {
        after: delay(settings, attempt, delivery.id().as_u64()),
    };
    let (how, counter) = match ended {
        None => (Settle::Release, &c.released),
        Some(Ok(Outcome::Done)) => (Settle::Done, &c.done),
        Some(Ok(Outcome::Retry)) => (retry(), &c.retried),
        Some(Ok(Outcome::Dead(reason))) => (Settle::Dead { reason }, &c.dead),
        Some(Err(_)) => (retry(), &c.panicked),
    };
    let counter = if delivery.settle(how).await.is_ok() {
        counter
    } else {
        &c.lost
    };
    counter.fetch_add(1, Ordering::AcqRel);
}

/// Doubles with each attempt; the message's id spreads it, so that a burst does not come back as one.
fn delay(settings: &Workers, attempt: u32, id: u64) -> Duration {
    let doubled = settings
        .backoff
        .saturating_mul(1 << (attempt.saturating_sub(1)).min(20));
    let base = doubled.min(settings.backoff_max);
    let mut seed = id ^ (u64::from(attempt) << 48);
    let spread = u32::try_from(crate::sim::splitmix(&mut seed) % 512).unwrap_or(256);
    base.saturating_mul(768 + spread) / 1024
}
