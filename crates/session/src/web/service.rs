//! The service: looks at the request, then at the answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

use super::cookie::find;
use super::csrf::From;
use super::layer::SessionLayer;
use super::seen::{Answer, Refusal, Seen, Shared};
use crate::claims::Claims;
use crate::format::{IssuingKey, TokenKey};
use crate::key::Key;
use crate::revocation::Revocations;
use crate::sessions::VerifiedShared;
use crate::time::Timestamp;

/// The service of [`SessionLayer`].
pub struct SessionService<S, T, R, K: TokenKey = Key> {
    inner: S,
    /// Behind a pointer, because a router clones its services for each request.
    layer: Arc<SessionLayer<T, R, K>>,
    shared: Arc<Shared<T>>,
}

impl<S, T, R, K: TokenKey> SessionService<S, T, R, K> {
    pub(super) fn new(inner: S, layer: SessionLayer<T, R, K>, shared: Arc<Shared<T>>) -> Self {
        Self {
            inner,
            layer: Arc::new(layer),
            shared,
        }
    }
}

impl<S: Clone, T, R, K: TokenKey> Clone for SessionService<S, T, R, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: Arc::clone(&self.layer),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, T, R, K: TokenKey> fmt::Debug for SessionService<S, T, R, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<S, T, R, K, B, C> Service<Request<B>> for SessionService<S, T, R, K>
where
    K: IssuingKey,
    S: Service<Request<B>, Response = Response<C>>,
    T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
    R: Revocations,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SessionFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let now = (self.layer.clock)();
        let sessions = &self.layer.sessions;
        let headers = request.headers();
        let from = self
            .shared
            .guard
            .from(request.method(), request.uri(), headers);
        let mut answer = Answer::Nothing;
        let mut outcome = find(headers, &self.layer.place).and_then(|token| {
            let VerifiedShared { claims, renew, .. } = sessions.verify_shared(token, now)?;
            let signed = || self.shared.guard.is_signed(headers, claims.session);
            if from == From::Elsewhere || (from == From::Unknown && !signed()) {
                return Err(Refusal::CrossSite);
            }
            if let Some(cookie) = self.shared.cookie.as_ref().filter(|_| renew)
                && let Ok(token) = sessions.renew(Clone::clone(&*claims), now)
            {
                let left = claims.ends_at.since(now).min(self.shared.idle);
                if let Some(set) = cookie.set(&token, left.as_secs()) {
                    answer = Answer::Renew(set);
                }
            }
            Ok(claims)
        });
        if matches!(outcome, Err(Refusal::Missing))
            && from == From::Here
            && let Some((claims, adopt)) = self.adopt(headers, now)
        {
            (outcome, answer) = (Ok(claims), adopt);
        }
        if from == From::Elsewhere {
            outcome = Err(Refusal::CrossSite);
        }
        let seen = Arc::new(Seen {
            shared: Arc::clone(&self.shared),
            now,
            outcome,
            cross_site: from == From::Elsewhere,
            answer: parking_lot::Mutex::new(answer),
        });
        request.extensions_mut().insert(Arc::clone(&seen));
        SessionFuture {
            inner: self.inner.call(request),
            seen,
        }
    }
}

impl<S, T, R, K> SessionService<S, T, R, K>
where
    K: IssuingKey,
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    R: Revocations,
{
    /// A session for who brings the cookie of before.
    fn adopt(&self, headers: &HeaderMap, now: Timestamp) -> Option<(Arc<Claims<T>>, Answer)> {
        let (old, cookie) = (self.layer.old.as_ref()?, self.shared.cookie.as_ref()?);
        let adopted = (old.open)(find(headers, &old.place).ok()?, now)?;
        let sessions = &self.layer.sessions;
        let token = sessions.issue_since(adopted, now).ok()?;
        let claims = sessions.verify_shared(&token, now).ok()?.claims;
        let set = cookie.set(&token, self.shared.idle.as_secs())?;
        Some((claims, Answer::Adopt(set, old.end())))
    }
}

pin_project! {
    /// The answer of [`SessionService`], with the headers that caches and browsers need.
    pub struct SessionFuture<F, T> {
        #[pin]
        inner: F,
        seen: Arc<Seen<T>>,
    }
}

impl<F, T> fmt::Debug for SessionFuture<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

impl<F, T, C, E> Future for SessionFuture<F, T>
where
    F: Future<Output = Result<Response<C>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        finish(response.headers_mut(), this.seen);
        Poll::Ready(Ok(response))
    }
}

fn finish<T>(headers: &mut HeaderMap, seen: &Seen<T>) {
    let cookie = seen.shared.cookie.as_ref();
    let vary = if cookie.is_some() {
        "cookie"
    } else {
        "authorization"
    };
    headers.append(header::VARY, HeaderValue::from_static(vary));
    let of_ours = |value: &HeaderValue| cookie.is_some_and(|cookie| cookie.is(value));
    // A handler that set the cookie itself has the last word.
    let mut set = headers.get_all(header::SET_COOKIE).iter().any(of_ours);
    let mut old = None;
    let (value, logout) = match std::mem::take(&mut *seen.answer.lock()) {
        Answer::Nothing => (None, false),
        Answer::Renew(value) => (Some(value), false),
        Answer::Adopt(value, end) => {
            old = end;
            (Some(value), false)
        }
        Answer::Login(value) => {
            set |= value.is_none();
            (value, false)
        }
        Answer::Logout(value) => (value, true),
    };
    let is_set = set || value.is_some();
    if let Some(value) = value.filter(|_| !set) {
        headers.append(header::SET_COOKIE, value);
    }
    if let Some(old) = old {
        headers.append(header::SET_COOKIE, old);
    }
    if logout {
        let cookies = HeaderValue::from_static("\"cookies\"");
        headers.insert("clear-site-data", cookies);
    }
    if is_set || logout {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if seen.outcome.is_ok() && !headers.contains_key(header::CACHE_CONTROL) {
        let private = HeaderValue::from_static("private, no-cache");
        headers.insert(header::CACHE_CONTROL, private);
    }
}
