//! What an application calls: a connection to a copy that may serve this read, or this write.

mod endpoint;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod probe;
mod stats;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::engine::Engine;
use crate::evidence::{Lsn, MemberId};
use crate::view::{Need, Route, View};
use endpoint::{Endpoint, Held, NoConnection};

pub use lease::{Lease, Outcome};
pub use options::{Freshness, PoolError, PoolOptions};
pub use stats::{Busy, CopyStats, PoolStats};

/// Connections to all copies of one database. Clones share them; the tasks that probe the copies end
/// with the last clone.
pub struct Pool<E: Engine> {
    inner: Arc<Inner<E>>,
    _tasks: Arc<Tasks>,
}

struct Inner<E: Engine> {
    engine: Arc<E>,
    options: PoolOptions,
    endpoints: Vec<Arc<Endpoint<E>>>,
    view: Mutex<View>,
    turn: AtomicUsize,
    /// Readers who wait until a replica has a position: replicas are probed faster meanwhile.
    positions_wanted: AtomicUsize,
    /// Somebody found out that what is believed of the copy at this place is wrong.
    doubts: Vec<Notify>,
    /// Changes with each answer of a copy.
    news: watch::Sender<()>,
    totals: Mutex<PoolStats>,
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// One call of `read` or `write`, until it ends or is dropped.
struct Asking<'a>(&'a Mutex<PoolStats>);

impl<'a> Asking<'a> {
    fn new(totals: &'a Mutex<PoolStats>) -> Self {
        let mut now = totals.lock();
        now.asked += 1;
        now.asking += 1;
        drop(now);
        Self(totals)
    }

    fn ended(self, refused: bool) {
        let mut now = self.0.lock();
        now.asking -= 1;
        now.refused += u64::from(refused);
        drop(now);
        std::mem::forget(self);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut now = self.0.lock();
        now.asking -= 1;
        now.abandoned += 1;
    }
}

impl<E: Engine> Clone for Pool<E> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            _tasks: Arc::clone(&self._tasks),
        }
    }
}

impl<E: Engine> std::fmt::Debug for Pool<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<E: Engine> Pool<E> {
    /// A pool over `members`, whose tasks ask each of them how it is. No connection is opened yet.
    ///
    /// It needs no [`Coordinator`](crate::Coordinator) beside it: it only asks, and believes whoever
    /// claims the highest epoch.
    ///
    /// # Panics
    /// Outside a tokio runtime, or on one without time.
    pub fn new(
        engine: Arc<E>,
        members: impl IntoIterator<Item = MemberId>,
        options: PoolOptions,
    ) -> Self {
        let members: Vec<_> = members.into_iter().collect();
        let inner = Arc::new(Inner {
            engine,
            endpoints: members
                .iter()
                .map(|member| Endpoint::new(*member, &options))
                .collect(),
            view: Mutex::new(View::new(options.view, members.iter().copied())),
            turn: AtomicUsize::new(0),
            positions_wanted: AtomicUsize::new(0),
            doubts: members.iter().map(|_| Notify::new()).collect(),
            news: watch::channel(()).0,
            totals: Mutex::default(),
            options,
        });
        let tasks = (0..members.len())
            .map(|place| tokio::spawn(probe::for_ever(Arc::clone(&inner), place)).abort_handle())
            .collect();
        Self {
            inner,
            _tasks: Arc::new(Tasks(tasks)),
        }
    }

    /// A connection to a copy that may serve this read: the least busy of the healthy replicas that
    /// are fresh enough; else the primary; without one, a replica that gets there in time.
    ///
    /// # Errors
    /// [`PoolError`], after [`wait_max`](PoolOptions::wait_max) at the latest.
    ///
    /// # Cancel safety
    /// A dropped future gives its place in the queue up and leaves no connection behind.
    pub async fn read(&self, freshness: Freshness) -> Result<Lease<E>, PoolError<E::Error>> {
        let asking = Asking::new(&self.inner.totals);
        let deadline = Instant::now() + self.inner.options.wait_max;
        let result = match freshness {
            Freshness::Latest => self.primary(false, deadline).await,
            Freshness::Any => self.replica(0, deadline).await,
            Freshness::AtLeast(lsn) => self.replica(lsn, deadline).await,
        };
        asking.ended(result.is_err());
        result
    }

    /// A connection to the primary, whoever that becomes meanwhile. The engine has asked it, over this
    /// connection, whether it still reigns.
    ///
    /// # Errors
    /// [`PoolError`], after [`wait_max`](PoolOptions::wait_max) at the latest.
    ///
    /// # Cancel safety
    /// A dropped future gives its place in the queue up and leaves no connection behind.
    pub async fn write(&self) -> Result<Lease<E>, PoolError<E::Error>> {
        let asking = Asking::new(&self.inner.totals);
        let deadline = Instant::now() + self.inner.options.wait_max;
        let result = self.primary(true, deadline).await;
        asking.ended(result.is_err());
        result
    }

    /// Where writes go now, as far as this pool knows.
    #[must_use]
    pub fn primary_now(&self) -> Option<MemberId> {
        self.inner.view.lock().primary()
    }

    /// What this pool believes about the copies.
    #[must_use]
    pub fn view(&self) -> View {
        self.inner.view.lock().clone()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let copies = self.inner.endpoints.iter().map(|one| one.stats()).collect();
        let totals = self.inner.totals.lock().clone();
        PoolStats { copies, ..totals }
    }

    async fn primary(
        &self,
        writes: bool,
        deadline: Instant,
    ) -> Result<Lease<E>, PoolError<E::Error>> {
        let inner = &*self.inner;
        let mut last = None;
        loop {
            let (primary, epoch) = {
                let view = inner.view.lock();
                (view.primary(), view.epoch())
            };
            let Some((member, endpoint)) = primary.and_then(|id| Some((id, inner.endpoint(id)?)))
            else {
                if !inner.wait_for(View::primary, deadline).await {
                    return Err(last.unwrap_or_else(|| inner.no_primary()));
                }
                continue;
            };
            // Whoever waits for a place at a primary that is given up looks for the next one.
            let moved = inner.until(|view| view.primary() != Some(member) || view.epoch() != epoch);
            let (engine, options) = (&*inner.engine, &inner.options);
            let checkout = async {
                let mut held = endpoint.checkout(engine, options, false, deadline).await?;
                if writes {
                    inner.admit(&mut held, epoch, deadline).await?;
                }
                Ok(held)
            };
            match before(checkout, moved).await {
                Some(Ok(held)) => return Ok(Lease::new(self, held, epoch, writes)),
                Some(Err(NoConnection::Full(busy))) => return Err(PoolError::Full(busy)),
                Some(Err(NoConnection::TimedOut(busy))) => return Err(PoolError::TimedOut(busy)),
                Some(Err(failed)) => {
                    last = inner.failed(member, failed, deadline).await.or(last);
                    if Instant::now() >= deadline {
                        return Err(last.unwrap_or_else(|| inner.no_primary()));
                    }
                }
                None => {}
            }
        }
    }

    async fn replica(
        &self,
        at_least: Lsn,
        deadline: Instant,
    ) -> Result<Lease<E>, PoolError<E::Error>> {
        let inner = &*self.inner;
        let mut need = Need {
            at_least,
            exclude: Vec::new(),
        };
        let mut last = None;
        // The primary has every position; a replica may need a moment.
        let mut patient = at_least > 0 && !inner.options.catch_up_max.is_zero();
        loop {
            let (route, primary, epoch) = inner.route(&need);
            let by_primary = matches!(route, Route::Serve(member) if Some(member) == primary);
            // Nobody waits for replicas that do not answer.
            if by_primary && patient && inner.known().1 > 1 {
                patient = false;
                let until = deadline.min(Instant::now() + inner.options.catch_up_max);
                inner.replica_ready(&need, until).await;
                continue;
            }
            let member = match route {
                Route::Serve(member) => member,
                Route::Wait(nearest) => {
                    if inner.replica_ready(&need, deadline).await {
                        continue;
                    }
                    let reached = inner.view.lock().applied(nearest);
                    return Err(PoolError::Behind {
                        asked: at_least,
                        reached,
                    });
                }
                Route::Nobody { known, ready } => {
                    need.exclude.clear();
                    inner.doubt();
                    if !inner.news_before(deadline).await {
                        return Err(last.unwrap_or(PoolError::Nobody { known, ready }));
                    }
                    continue;
                }
            };
            let Some(endpoint) = inner.endpoint(member) else {
                need.exclude.push(member);
                continue;
            };
            let (engine, options) = (&*inner.engine, &inner.options);
            let gone = inner.until(|view| !view.answers(member));
            let checkout = endpoint.checkout(engine, options, by_primary, deadline);
            match before(checkout, gone).await {
                Some(Ok(held)) => {
                    inner.totals.lock().reads_by_primary += u64::from(by_primary);
                    return Ok(Lease::new(self, held, epoch, false));
                }
                Some(Err(NoConnection::Full(busy))) => return Err(PoolError::Full(busy)),
                Some(Err(NoConnection::TimedOut(busy))) => return Err(PoolError::TimedOut(busy)),
                Some(Err(failed)) => {
                    need.exclude.push(member);
                    last = inner.failed(member, failed, deadline).await.or(last);
                    if Instant::now() >= deadline {
                        let (known, ready) = inner.known();
                        return Err(last.unwrap_or(PoolError::Nobody { known, ready }));
                    }
                }
                None => need.exclude.push(member),
            }
        }
    }
}

impl<E: Engine> Inner<E> {
    fn endpoint(&self, member: MemberId) -> Option<&Arc<Endpoint<E>>> {
        self.endpoints.iter().find(|one| one.member == member)
    }

    fn known(&self) -> (usize, usize) {
        (self.endpoints.len(), self.view.lock().ready())
    }

    fn no_primary(&self) -> PoolError<E::Error> {
        let (known, ready) = self.known();
        PoolError::NoPrimary { known, ready }
    }

    /// The least busy of the copies that will do; among equals they take turns.
    fn route(&self, need: &Need) -> (Route, Option<MemberId>, u64) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut least = |ids: &[MemberId]| {
            (0..ids.len())
                .map(|step| (turn + step) % ids.len())
                .min_by_key(|place| {
                    ids.get(*place)
                        .and_then(|id| self.endpoint(*id))
                        .map_or(usize::MAX, |endpoint| endpoint.load())
                })
                .unwrap_or(0)
        };
        let view = self.view.lock();
        let route = view.read(need, &mut least, Instant::now().into_std());
        (route, view.primary(), view.epoch())
    }

    /// Has every copy probed at once.
    fn doubt(&self) {
        for doubt in &self.doubts {
            doubt.notify_one();
        }
    }

    /// A copy could not be connected to: it gets nothing until it answers a probe. Waits for a little
    /// while, since the next copy may be as dead.
    async fn failed(
        &self,
        member: MemberId,
        failed: NoConnection<E::Error>,
        deadline: Instant,
    ) -> Option<PoolError<E::Error>> {
        let error = match failed {
            NoConnection::Failed(source) => Some(PoolError::Connect { member, source }),
            _ => Some(PoolError::Silent { member }),
        };
        self.view.lock().fail(member, Instant::now().into_std());
        self.doubt();
        self.news_before(deadline.min(Instant::now() + probe::PAUSE_MIN))
            .await;
        error
    }

    /// Asks a connection whether its copy reigns in `epoch`.
    async fn admit(
        &self,
        held: &mut Held<E>,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), NoConnection<E::Error>> {
        let member = held.member();
        let until = deadline.min(Instant::now() + self.options.connect_max);
        let Some(connection) = held.connection_mut() else {
            return Err(NoConnection::Silent);
        };
        match timeout_at(until, self.engine.may_write(connection, epoch)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                self.view.lock().deposed(member);
                self.doubt();
                Err(NoConnection::Silent)
            }
            Ok(Err(error)) => Err(NoConnection::Failed(error)),
            Err(_) => Err(NoConnection::Silent),
        }
    }

    /// Waits until something is true of the view, however long that takes.
    async fn until(&self, seen: impl Fn(&View) -> bool) {
        let mut news = self.news.subscribe();
        while !seen(&self.view.lock()) {
            // The sender lives as long as `self`.
            let _changed = news.changed().await;
        }
    }

    async fn news_before(&self, deadline: Instant) -> bool {
        let mut news = self.news.subscribe();
        timeout_at(deadline, news.changed()).await.is_ok()
    }

    /// Waits until the view has an answer to `ask`; the copies are asked at once.
    async fn wait_for<T>(&self, ask: impl Fn(&View) -> Option<T>, deadline: Instant) -> bool {
        self.doubt();
        timeout_at(deadline, self.until(|view| ask(view).is_some()))
            .await
            .is_ok()
    }

    /// Waits until a copy that is not the primary can serve `need`.
    async fn replica_ready(&self, need: &Need, deadline: Instant) -> bool {
        struct Wanted<'a>(&'a AtomicUsize);
        impl Drop for Wanted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.positions_wanted.fetch_add(1, Ordering::Relaxed);
        let _wanted = Wanted(&self.positions_wanted);
        let ready = |view: &View| {
            let mut need = need.clone();
            let primary = view.primary();
            need.exclude.extend(primary);
            let first = &mut |_: &[MemberId]| 0;
            matches!(
                view.read(&need, first, Instant::now().into_std()),
                Route::Serve(_)
            )
            .then_some(())
        };
        self.wait_for(ready, deadline).await
    }

    /// How long until the copy at `place` is probed again.
    fn pause(&self, member: MemberId) -> Duration {
        let options = &self.options;
        let primary = self.view.lock().primary();
        if primary.is_none() {
            options.probe_every_headless
        } else if primary != Some(member) && self.positions_wanted.load(Ordering::Relaxed) > 0 {
            probe::PAUSE_MIN
        } else {
            options.probe_every
        }
    }
}

/// What `work` comes to, unless `end` ends first.
async fn before<T>(work: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut work, mut end) = (pin!(work), pin!(end));
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        end.as_mut().poll(context).map(|()| None)
    })
    .await
}
