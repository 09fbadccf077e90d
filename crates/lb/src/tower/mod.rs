//! A tower layer and service over a [`Balancer`]: each request is sent to an endpoint, and how it went
//! is reported.
//!
//! Two shapes. An inner service that is told the endpoint, such as an HTTP client that needs an address,
//! goes under a [`BalanceLayer`]; it takes [`Directed`] requests. Endpoints that are services
//! themselves, such as one connection each, are listed as the targets, and [`Balance::of_services`] asks
//! them:
//!
//! ```
//! use std::time::Instant;
//! use stackbeam_lb::tower::Balance;
//! use stackbeam_lb::{Balancer, Config, Endpoint, InFlight, LeastLoad};
//! use tower::{ServiceExt, service_fn};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example is a shell")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = service_fn(|n: u32| async move { Ok::<u32, std::io::Error>(n * 2) });
//! let balancer = Balancer::new(LeastLoad::new(InFlight), Config::default());
//! balancer.set_endpoints(["a", "b"].map(|id| Endpoint::new(id, server)), Instant::now());
//!
//! let service = Balance::of_services(balancer.clone());
//! assert_eq!(service.oneshot(21).await?, 42);
//! assert_eq!(balancer.stats(Instant::now()).succeeded, 1);
//! # Ok(())
//! # }
//! ```
//!
//! A `tower` retry layer above picks anew for each attempt, but cannot say what was tried; a caller that
//! wants to retry elsewhere uses [`Balancer::pick_except`] itself.

mod each;
mod judge;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Ask, Balancer, Lease, NoneReady, Strategy};

pub use each::{Each, EachFuture};
pub use judge::{ErrorsFail, Judge, KeyOf, NoKey};

/// A request and the endpoint that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an inner service takes it apart")]
pub struct Directed<T, R> {
    /// What was listed as the endpoint's target.
    pub target: T,
    /// The request.
    pub request: R,
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError<E> {
    /// No endpoint could be picked; nothing was sent.
    #[error(transparent)]
    NoneReady(#[from] NoneReady),
    /// The inner service failed.
    #[error("the endpoint's service failed: {0}")]
    Service(E),
}

/// Puts a [`Balance`] over a service that takes [`Directed`] requests.
///
/// It counts errors as failures and gives no key, unless it is told otherwise.
pub struct BalanceLayer<T, S, J = ErrorsFail, K = NoKey> {
    balancer: Balancer<T, S>,
    judge: J,
    key: K,
    clock: fn() -> Instant,
}

impl<T, S> BalanceLayer<T, S> {
    /// Over the endpoints of `balancer`, which stays the caller's to change.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell around the balancer reads the clock"
    )]
    pub fn new(balancer: Balancer<T, S>) -> Self {
        Self {
            balancer,
            judge: ErrorsFail,
            key: NoKey,
            clock: Instant::now,
        }
    }
}

impl<T, S, J, K> BalanceLayer<T, S, J, K> {
    /// Sets what a result says of the endpoint, such as that status 503 means busy; a closure
    /// `Fn(&Result<Response, Error>) -> Outcome` will do. Defaults to [`ErrorsFail`].
    #[must_use]
    pub fn with_judge<J2>(self, judge: J2) -> BalanceLayer<T, S, J2, K> {
        BalanceLayer {
            balancer: self.balancer,
            judge,
            key: self.key,
            clock: self.clock,
        }
    }

    /// Sets what a request's key is, for a strategy that goes by it; a closure
    /// `Fn(&Request) -> Option<Vec<u8>>` will do. Defaults to [`NoKey`].
    #[must_use]
    pub fn with_key<K2>(self, key: K2) -> BalanceLayer<T, S, J, K2> {
        BalanceLayer {
            balancer: self.balancer,
            judge: self.judge,
            key,
            clock: self.clock,
        }
    }

    /// Sets the clock, which is read when a request begins and ends. Defaults to [`Instant::now`];
    /// under tokio's paused time give it `|| tokio::time::Instant::now().into_std()`.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> Instant) -> Self {
        self.clock = clock;
        self
    }
}

impl<T, S, J: Clone, K: Clone> Clone for BalanceLayer<T, S, J, K> {
    fn clone(&self) -> Self {
        Self {
            balancer: self.balancer.clone(),
            judge: self.judge.clone(),
            key: self.key.clone(),
            clock: self.clock,
        }
    }
}

impl<T, S: fmt::Debug, J, K> fmt::Debug for BalanceLayer<T, S, J, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer")
            .field("balancer", &self.balancer)
            .finish_non_exhaustive()
    }
}

impl<T, S, J: Clone, K: Clone, I> Layer<I> for BalanceLayer<T, S, J, K> {
    type Service = Balance<I, T, S, J, K>;

    fn layer(&self, inner: I) -> Self::Service {
        Balance {
            inner,
            layer: self.clone(),
        }
    }
}

/// Sends each request to an endpoint that the balancer picks, and reports how it went.
///
/// Clones share the balancer. Always ready when the inner service is: whether an endpoint is, is known
/// when a request is there.
pub struct Balance<I, T, S, J = ErrorsFail, K = NoKey> {
    inner: I,
    layer: BalanceLayer<T, S, J, K>,
}

impl<T, S> Balance<Each, T, S> {
    /// Over endpoints that are services themselves.
    #[must_use]
    pub fn of_services(balancer: Balancer<T, S>) -> Self {
        BalanceLayer::new(balancer).layer(Each)
    }
}

impl<I: Clone, T, S, J: Clone, K: Clone> Clone for Balance<I, T, S, J, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<I, T, S: fmt::Debug, J, K> fmt::Debug for Balance<I, T, S, J, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<I, T, S, J, K, R> Service<R> for Balance<I, T, S, J, K>
where
    I: Service<Directed<T, R>>,
    T: Clone,
    S: Strategy,
    J: Judge<I::Response, I::Error> + Clone,
    K: KeyOf<R>,
{
    type Response = I::Response;
    type Error = BalanceError<I::Error>;
    type Future = BalanceFuture<I::Future, T, S, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(BalanceError::Service)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let key = self.layer.key.key(&request);
        let ask = key
            .as_deref()
            .map_or(Ask::new(), |key| Ask::new().with_key(key));
        let clock = self.layer.clock;
        let state = match self.layer.balancer.pick_for(&ask, clock()) {
            Err(refusal) => State::Refused { refusal },
            Ok(lease) => State::Waiting {
                answer: self.inner.call(Directed {
                    target: lease.target().clone(),
                    request,
                }),
                lease: Some(lease),
            },
        };
        BalanceFuture {
            state,
            judge: self.layer.judge.clone(),
            clock,
        }
    }
}

pin_project! {
    /// A request under way.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the response, the inner future is dropped too and the request counts as
    /// cancelled.
    pub struct BalanceFuture<F, T, S, J> {
        #[pin]
        state: State<F, T, S>,
        judge: J,
        clock: fn() -> Instant,
    }
}

pin_project! {
    #[project = StateNow]
    enum State<F, T, S> {
        Refused { refusal: NoneReady },
        Waiting { #[pin] answer: F, lease: Option<Lease<T, S>> },
    }
}

impl<F, T, S, J> fmt::Debug for BalanceFuture<F, T, S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceFuture").finish_non_exhaustive()
    }
}

impl<F, T, S, J, Res, E> Future for BalanceFuture<F, T, S, J>
where
    F: Future<Output = Result<Res, E>>,
    J: Judge<Res, E>,
{
    type Output = Result<Res, BalanceError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let now = self.project();
        match now.state.project() {
            StateNow::Refused { refusal } => Poll::Ready(Err((*refusal).into())),
            StateNow::Waiting { answer, lease } => {
                let result = ready!(answer.poll(cx));
                if let Some(lease) = lease.take() {
                    lease.report(now.judge.outcome(&result), (now.clock)());
                }
                Poll::Ready(result.map_err(BalanceError::Service))
            }
        }
    }
}
