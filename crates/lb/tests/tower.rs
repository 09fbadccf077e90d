//! The tower adapter: what is reported, and when.
#![cfg(feature = "tower")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stackbeam_lb::tower::{Balance, BalanceError, BalanceLayer, Directed};
use stackbeam_lb::{Ask, Balancer, Config, Endpoint, InFlight, LeastLoad, Outcome, RoundRobin};
use tower::{Layer, Service, ServiceExt, service_fn};

type Clock = fn() -> Instant;
const TOKIO: Clock = || tokio::time::Instant::now().into_std();

fn balancer(targets: &[&'static str]) -> Balancer<&'static str, RoundRobin> {
    let balancer = Balancer::new(RoundRobin::new(), Config::default());
    balancer.set_endpoints(targets.iter().map(|id| Endpoint::new(*id, *id)), TOKIO());
    balancer
}

/// Answers with the endpoint's name after 20 ms, or not at all.
async fn server(directed: Directed<&'static str, u32>) -> Result<String, String> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    match directed.target {
        "broken" => Err("broken".to_owned()),
        name => Ok(format!("{name} {}", directed.request)),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_and_its_latency_are_reported() {
    let balancer = balancer(&["a", "b"]);
    let layer = BalanceLayer::new(balancer.clone()).with_clock(TOKIO);
    let service = layer.layer(service_fn(server));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), "a 1");
    assert_eq!(service.oneshot(2).await.unwrap(), "b 2");
    let stats = balancer.stats(TOKIO());
    assert_eq!((stats.picked, stats.succeeded, stats.in_flight), (2, 2, 0));
    // Both began at 30 ms, and fell a little towards the 20 ms that were seen.
    let latency = stats.endpoints[0].latency;
    assert!(latency < Duration::from_millis(30), "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_a_failure_unless_the_judge_says_otherwise() {
    let balancer = balancer(&["broken"]);
    let layer = BalanceLayer::new(balancer.clone()).with_clock(TOKIO);
    let error = layer
        .layer(service_fn(server))
        .oneshot(1)
        .await
        .unwrap_err();
    assert_eq!(error, BalanceError::Service("broken".to_owned()));
    let busy = |_: &Result<String, String>| Outcome::Busy;
    let judged = layer.with_judge(busy).layer(service_fn(server));
    assert!(judged.oneshot(1).await.is_err());
    let stats = balancer.stats(TOKIO());
    assert_eq!((stats.failed, stats.busy), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn with_nobody_ready_nothing_is_sent() {
    let balancer = balancer(&[]);
    let inner = service_fn(|_: Directed<&'static str, u32>| async {
        panic!("nothing must be sent");
        #[expect(unreachable_code, reason = "gives the closure its type")]
        Ok::<(), String>(())
    });
    let error = BalanceLayer::new(balancer)
        .layer(inner)
        .oneshot(1)
        .await
        .unwrap_err();
    assert!(matches!(error, BalanceError::NoneReady(none) if none.known == 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_counts_as_cancelled_at_every_point_where_it_waits() {
    for patience in [0, 5, 19] {
        let balancer = balancer(&["a"]);
        let layer = BalanceLayer::new(balancer.clone()).with_clock(TOKIO);
        let request = layer.layer(service_fn(server)).oneshot(1);
        let patience = Duration::from_millis(patience);
        assert!(tokio::time::timeout(patience, request).await.is_err());
        let stats = balancer.stats(TOKIO());
        assert_eq!((stats.picked, stats.cancelled, stats.in_flight), (1, 1, 0));
    }
}

/// A service that is ready once `gate` has a permit, and keeps it.
#[derive(Clone)]
struct Gated {
    gate: Arc<tokio::sync::Semaphore>,
    open: bool,
}

impl Service<u32> for Gated {
    type Response = u32;
    type Error = String;
    type Future = std::future::Ready<Result<u32, String>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), String>> {
        if self.gate.is_closed() {
            return std::task::Poll::Ready(Err("closed".to_owned()));
        }
        if let Ok(permit) = self.gate.try_acquire() {
            permit.forget();
            self.open = true;
            return std::task::Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    }

    fn call(&mut self, n: u32) -> Self::Future {
        assert!(self.open, "called before it was ready");
        std::future::ready(Ok(n + 1))
    }
}

#[tokio::test]
async fn an_endpoint_that_is_a_service_is_called_when_it_is_ready() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let balancer = Balancer::new(LeastLoad::new(InFlight), Config::default());
    let gated = Gated {
        gate: Arc::clone(&gate),
        open: false,
    };
    balancer.set_endpoints([Endpoint::new("a", gated)], TOKIO());
    let service = Balance::of_services(balancer.clone());
    let answer = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    assert_eq!(balancer.stats(TOKIO()).in_flight, 1);
    gate.add_permits(1);
    assert_eq!(answer.await.unwrap().unwrap(), 2);
    gate.close();
    let error = service.oneshot(1).await.unwrap_err();
    assert_eq!(error, BalanceError::Service("closed".to_owned()));
    let stats = balancer.stats(TOKIO());
    assert_eq!((stats.succeeded, stats.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_key_reaches_the_strategy() {
    let by_key = |ready: &stackbeam_lb::Ready<'_>| {
        let ask: Ask<'_> = ready.ask();
        ask.key()
            .and_then(|key| key.first())
            .map(|first| usize::from(*first))
    };
    let balancer = Balancer::new(by_key, Config::default());
    balancer.set_endpoints(["a", "b"].map(|id| Endpoint::new(id, id)), TOKIO());
    let layer = BalanceLayer::new(balancer)
        .with_key(|request: &u32| (*request < 2).then(|| vec![u8::from(*request == 1)]));
    let service = layer.layer(service_fn(server));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), "b 1");
    assert_eq!(service.clone().oneshot(0).await.unwrap(), "a 0");
    assert!(service.oneshot(2).await.is_err(), "no key, no endpoint");
}
