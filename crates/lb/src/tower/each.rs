//! Endpoints that are services themselves.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Directed;

/// Asks the target: waits until it is ready, then calls it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written by its name alone")]
pub struct Each;

impl<T: Service<R>, R> Service<Directed<T, R>> for Each {
    type Response = T::Response;
    type Error = T::Error;
    type Future = EachFuture<T, R>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Which target it will be is not known yet.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, directed: Directed<T, R>) -> Self::Future {
        EachFuture {
            state: State::Wanting {
                target: directed.target,
                request: Some(directed.request),
            },
        }
    }
}

pin_project! {
    /// A target that is waited for, then its answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the target's future; a request that was not called yet is lost with it.
    pub struct EachFuture<T: Service<R>, R> {
        #[pin]
        state: State<T, R, T::Future>,
    }
}

pin_project! {
    #[project = StateNow]
    enum State<T, R, F> {
        Wanting { target: T, request: Option<R> },
        Answering { #[pin] answer: F },
    }
}

impl<T: Service<R>, R> fmt::Debug for EachFuture<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachFuture").finish_non_exhaustive()
    }
}

impl<T: Service<R>, R> Future for EachFuture<T, R> {
    type Output = Result<T::Response, T::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let answer = match state.as_mut().project() {
                StateNow::Answering { answer } => return answer.poll(cx),
                StateNow::Wanting { target, request } => {
                    if let Err(error) = ready!(target.poll_ready(cx)) {
                        return Poll::Ready(Err(error));
                    }
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    target.call(request)
                }
            };
            state.set(State::Answering { answer });
        }
    }
}
