//! What is known of revocations is too old: ask the log before the request is answered, and not refuse it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::event::event;
use crate::revocation::{RevocationFeed, RevocationLog};
use crate::time::Timestamp;

/// Around a [`SessionLayer`](super::SessionLayer) whose revocations follow a feed with
/// [`WhenStale::AskStore`](crate::WhenStale::AskStore): a request that comes when what is known is too old waits until the
/// log has been read. If that fails, the session layer refuses its token. All others pass untouched.
pub struct AskLayer<L: RevocationLog>(Arc<RevocationFeed<L>>);

impl<L: RevocationLog> AskLayer<L> {
    /// Asks the log of this feed.
    #[must_use]
    pub fn new(feed: Arc<RevocationFeed<L>>) -> Self {
        Self(feed)
    }
}

impl<L: RevocationLog> Clone for AskLayer<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: RevocationLog> fmt::Debug for AskLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AskLayer").field(&self.0).finish()
    }
}

impl<S, L: RevocationLog> Layer<S> for AskLayer<L> {
    type Service = AskService<S, L>;
    fn layer(&self, inner: S) -> Self::Service {
        AskService {
            inner,
            feed: Arc::clone(&self.0),
        }
    }
}

/// The service of [`AskLayer`].
pub struct AskService<S, L: RevocationLog> {
    inner: S,
    feed: Arc<RevocationFeed<L>>,
}

impl<S: Clone, L: RevocationLog> Clone for AskService<S, L> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            feed: Arc::clone(&self.feed),
        }
    }
}

impl<S, L: RevocationLog> fmt::Debug for AskService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskService")
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

impl<S, L, B, C> Service<Request<B>> for AskService<S, L>
where
    S: Service<Request<B>, Response = Response<C>> + Clone,
    L: RevocationLog,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AskFuture<S, B, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.feed.revocations().is_too_old(Timestamp::now()) {
            let inner = self.inner.call(request);
            let stage = Stage::Answering { inner };
            return AskFuture { stage };
        }
        // The one that said it is ready goes with the request.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let feed = Arc::clone(&self.feed);
        let asking = Box::pin(async move {
            if let Err(_error) = feed.ask().await {
                event!(warn, error = %_error, "the log of revocations could not be asked");
            }
        });
        let stage = Stage::Asking {
            asking,
            then: Some((inner, request)),
        };
        AskFuture { stage }
    }
}

pin_project! {
    /// The answer of [`AskService`]. Boxes something only for a request that has to wait.
    pub struct AskFuture<S, B, F> {
        #[pin]
        stage: Stage<S, B, F>,
    }
}

pin_project! {
    #[project = StageProjected]
    enum Stage<S, B, F> {
        Asking {
            asking: Pin<Box<dyn Future<Output = ()> + Send>>,
            then: Option<(S, Request<B>)>,
        },
        Answering {
            #[pin]
            inner: F,
        },
    }
}

impl<S, B, F> fmt::Debug for AskFuture<S, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskFuture").finish_non_exhaustive()
    }
}

impl<S, B> Future for AskFuture<S, B, S::Future>
where
    S: Service<Request<B>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let inner = match stage.as_mut().project() {
                StageProjected::Answering { inner } => return inner.poll(cx),
                StageProjected::Asking { asking, then } => {
                    ready!(asking.as_mut().poll(cx));
                    let Some((mut service, request)) = then.take() else {
                        unreachable!("the stage changes with the call")
                    };
                    service.call(request)
                }
            };
            stage.set(Stage::Answering { inner });
        }
    }
}
