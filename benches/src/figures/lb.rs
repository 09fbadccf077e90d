//! lb beside `tower::balance` and a bare list behind a lock.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, Ready, poll_fn, ready};
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use stackbeam_lb::{
    Balancer, Config, EjectionConfig, Endpoint, InFlight, LeastLoad, Outcome, PeakEwma, RoundRobin,
    Strategy, TwoChoices,
};
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, Load, PeakEwma as TowerEwma, PendingRequests};
use tower::{BoxError, Service};

use crate::kit::{Duel, Figure, Goal, Report, allocations};

/// Requests in one batch.
const REQUESTS: u64 = 1_000;
/// What tower is told of a new endpoint: the defaults of ours.
const RTT: Duration = Duration::from_millis(30);
const DECAY: Duration = Duration::from_secs(10);

pub(super) fn figures(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    round_robin(report);
    by_load(report);
    if !report.only_duels() {
        allocated(report);
        black_hole(report)?;
    }
    Ok(())
}

fn listed<S: Strategy>(strategy: S, endpoints: u32) -> Balancer<u32, S> {
    let balancer = Balancer::new(strategy, Config::default());
    balancer.set_endpoints(
        (0..endpoints).map(|n| Endpoint::new(format!("web-{n}"), n)),
        now(),
    );
    balancer
}

#[expect(clippy::disallowed_methods, reason = "what is measured is a shell")]
fn now() -> Instant {
    Instant::now()
}

/// A batch of requests that are answered at once: pick, read both times, report.
fn requests<S: Strategy>(balancer: &Balancer<u32, S>) -> impl FnMut() + '_ {
    move || {
        for _ in 0..REQUESTS {
            if let Ok(lease) = balancer.pick(now()) {
                black_box(lease.target());
                lease.report(Outcome::Success, now());
            }
        }
    }
}

/// What does a turn of round robin cost? The rival takes a number and reads a list behind a lock: no
/// lease, no counters, no health. The bar is that of the research: 12 ns.
fn round_robin(report: &mut Report<'_>) {
    for endpoints in [10, 1_000] {
        let balancer = listed(RoundRobin::new(), endpoints);
        let at = now();
        let list = RwLock::new((0..endpoints).collect::<Vec<u32>>());
        let next = AtomicUsize::new(0);
        Duel::new(
            format!("round robin pick, {endpoints} endpoints"),
            REQUESTS,
            || {
                for _ in 0..REQUESTS {
                    drop(black_box(balancer.pick(at)));
                }
            },
        )
        .against("RwLock<Vec> and a counter", || {
            for _ in 0..REQUESTS {
                let list = list.read().unwrap_or_else(PoisonError::into_inner);
                let turn = next.fetch_add(1, Ordering::Relaxed);
                black_box(list.get(turn % list.len().max(1)));
            }
        })
        .goal(Goal::AtMost(12.0))
        .how("ours also counts the pick and the request under way, and the lease is dropped; no clock")
        .run(report);
    }
}

/// A service that answers at once.
#[derive(Debug, Clone, Copy)]
struct AtOnce(u32);

impl Service<()> for AtOnce {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

/// A batch of requests through tower's balancer: ready, call, answer.
fn tower_requests<S>(services: Vec<S>) -> impl FnMut()
where
    S: Service<(), Response = u32> + Load,
    S::Error: Into<BoxError>,
    S::Metric: std::fmt::Debug,
{
    let mut balance = Balance::new(ServiceList::new(services));
    move || {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..REQUESTS {
            let ready = balance.poll_ready(&mut cx);
            assert!(matches!(ready, Poll::Ready(Ok(()))), "tower was not ready");
            let answer = pin!(balance.call(())).poll(&mut cx);
            assert!(matches!(answer, Poll::Ready(Ok(_))), "tower did not answer");
            let _ = black_box(answer.is_ready());
        }
    }
}

/// What does a request cost that is picked by load and reported? The bars are those of the research:
/// 60 ns for 10 endpoints and 200 ns for a look at 100, where tower took 523 and 521.
fn by_load(report: &mut Report<'_>) {
    for (endpoints, bar) in [(10, 60.0), (100, 200.0)] {
        let services = || (0..endpoints).map(AtOnce);
        let ewma = |service| {
            TowerEwma::new(
                service,
                RTT,
                DECAY.as_nanos() as f64,
                CompleteOnResponse::default(),
            )
        };
        let all = listed(LeastLoad::new(PeakEwma), endpoints);
        Duel::new(
            format!("peak EWMA over all, pick and report, {endpoints} endpoints"),
            REQUESTS,
            requests(&all),
        )
        .against(
            "tower p2c peak EWMA",
            tower_requests(services().map(ewma).collect()),
        )
        .goal(Goal::AtMost(bar))
        .how("every endpoint is compared, tower compares two; both read the clock twice a request")
        .run(report);

        let two = listed(TwoChoices::new(PeakEwma, 1), endpoints);
        Duel::new(
            format!("two choices by peak EWMA, pick and report, {endpoints} endpoints"),
            REQUESTS,
            requests(&two),
        )
        .against(
            "tower p2c peak EWMA",
            tower_requests(services().map(ewma).collect()),
        )
        .goal(Goal::Times(3.0))
        .how("both compare two and read the clock twice a request")
        .run(report);

        let pending = |service| PendingRequests::new(service, CompleteOnResponse::default());
        let two = listed(TwoChoices::new(InFlight, 1), endpoints);
        Duel::new(
            format!("two choices by requests under way, {endpoints} endpoints"),
            REQUESTS,
            requests(&two),
        )
        .against(
            "tower p2c pending requests",
            tower_requests(services().map(pending).collect()),
        )
        .goal(Goal::Times(1.0))
        .how("both compare two; only ours reads the clock, twice a request, and learns latencies")
        .run(report);
    }
}

/// Does a request allocate?
fn allocated(report: &mut Report<'_>) {
    let balancer = listed(LeastLoad::new(PeakEwma), 100);
    let mut ours = requests(&balancer);
    let ewma = |server| {
        TowerEwma::new(
            AtOnce(server),
            RTT,
            DECAY.as_nanos() as f64,
            CompleteOnResponse::default(),
        )
    };
    let mut theirs = tower_requests((0..100).map(ewma).collect());
    // The first batch may set things up.
    ours();
    theirs();
    let each = |count: usize| count as f64 / REQUESTS as f64;
    report.figure(
        Figure::new(
            "heap use of a request",
            each(allocations(ours)),
            "allocations",
        )
        .against("tower p2c peak EWMA", each(allocations(theirs)))
        .goal(Goal::AtMost(0.0))
        .how("pick and report by peak EWMA over all of 100, over 1000 requests"),
    );
}

const SERVERS: u32 = 20;
const WORKERS: usize = 24;
const RUN: Duration = Duration::from_secs(2);

/// Server 0 fails after a millisecond, the others answer after ten.
async fn serve(server: u32) -> Result<u32, String> {
    let sick = server == 0;
    tokio::time::sleep(Duration::from_millis(if sick { 1 } else { 10 })).await;
    if sick {
        Err("sick".to_owned())
    } else {
        Ok(server)
    }
}

/// A service that is one of the servers, and counts who was asked.
struct Counted {
    server: u32,
    asked: Rc<Cell<(u32, u32)>>,
}

impl Service<()> for Counted {
    type Response = u32;
    type Error = String;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, String>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        count(&self.asked, self.server);
        Box::pin(serve(self.server))
    }
}

/// Adds one to the sick server's requests, if it is that, and to all.
fn count(asked: &Cell<(u32, u32)>, server: u32) {
    let (sick, all) = asked.get();
    asked.set((sick + u32::from(server == 0), all + 1));
}

/// Keeps `WORKERS` requests under way for the length of a run.
fn keep_asking<F: Future<Output = ()>>(ask: impl Fn() -> F) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let end = now() + RUN;
    let ask = &ask;
    runtime.block_on(async {
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                Box::pin(async move {
                    while now() < end {
                        ask().await;
                    }
                })
            })
            .collect();
        poll_fn(|cx| {
            workers.retain_mut(|worker| worker.as_mut().poll(cx).is_pending());
            if workers.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    });
    Ok(())
}

/// How much of the traffic goes to an endpoint that fails fast? A fair share would be 5 %.
fn black_hole(report: &mut Report<'_>) -> Result<(), Box<dyn Error>> {
    let percent = |asked: &Cell<(u32, u32)>| {
        let (sick, all) = asked.get();
        100.0 * f64::from(sick) / f64::from(all.max(1))
    };
    let ours = Cell::new((0, 0));
    let config = Config::default().with_ejection(EjectionConfig::default().with_failures(0));
    let balancer = Balancer::new(TwoChoices::new(PeakEwma, 1), config);
    balancer.set_endpoints((0..SERVERS).map(|n| Endpoint::new(n.to_string(), n)), now());
    keep_asking(|| async {
        if let Ok(lease) = balancer.pick(now()) {
            count(&ours, *lease.target());
            let outcome = match serve(*lease.target()).await {
                Ok(_) => Outcome::Success,
                Err(_) => Outcome::Failure,
            };
            lease.report(outcome, now());
        }
    })?;

    let theirs = Rc::new(Cell::new((0, 0)));
    let services: Vec<_> = (0..SERVERS)
        .map(|server| {
            let asked = Rc::clone(&theirs);
            let counted = Counted { server, asked };
            TowerEwma::new(
                counted,
                RTT,
                DECAY.as_nanos() as f64,
                CompleteOnResponse::default(),
            )
        })
        .collect();
    let balance = RefCell::new(Balance::new(ServiceList::new(services)));
    keep_asking(|| async {
        if poll_fn(|cx| balance.borrow_mut().poll_ready(cx))
            .await
            .is_ok()
        {
            let answer = balance.borrow_mut().call(());
            let _sick = answer.await;
        }
    })?;

    report.figure(
        Figure::new("traffic to the one of 20 that fails fast", percent(&ours), "%")
            .against("tower p2c peak EWMA", percent(&theirs))
            .goal(Goal::AtMost(0.1))
            .how("two choices by peak EWMA, ejection off; 24 requests under way for 2 s each; it fails in 1 ms, the others answer in 10"),
    );
    Ok(())
}
