//! A tower layer that reads the token of a request, and axum extractors of what it found.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;

use crate::format::{IssuingKey, TokenKey};
use crate::key::Key;
use crate::revocation::Revocations;
use crate::sessions::{Sessions, Verified};
use crate::time::Timestamp;
use crate::verify::VerifyError;

/// Why a request that needs a session was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The request carries no token.
    #[error("the request carries no token")]
    Missing,
    /// More than one token: two headers, two cookies, or a header and a cookie.
    #[error("the request carries more than one token")]
    Ambiguous,
    /// The token does not hold.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
}

/// Where tokens are looked for.
#[derive(Clone, Debug)]
enum Place {
    Header(String),
    Cookie(String),
}

type Reject = Arc<dyn Fn(Refusal) -> (http::StatusCode, String) + Send + Sync>;
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Puts the session of each request where [`Authenticated`] finds it, and renews cookies.
///
/// The layer itself refuses nothing: a route that needs a session asks for it.
pub struct SessionLayer<T, R, K: TokenKey = Key> {
    sessions: Sessions<T, R, K>,
    place: Arc<Place>,
    reject: Reject,
    clock: Clock,
}

impl<T, R: Revocations, K: TokenKey> SessionLayer<T, R, K> {
    /// Tokens in `Authorization: <scheme> <token>`; the scheme is compared without case.
    #[must_use]
    pub fn authorization(sessions: Sessions<T, R, K>, scheme: &str) -> Self {
        Self::at(sessions, Place::Header(scheme.to_owned()))
    }

    /// Tokens in the cookie `__Host-<name>`: `Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/`, no
    /// `Domain`. It is set anew when half of the idle time has gone or its key has retired.
    ///
    /// `name` is letters, digits, `-` and `_`; others are left out.
    #[must_use]
    pub fn cookie(sessions: Sessions<T, R, K>, name: &str) -> Self {
        let name: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            .collect();
        let name = format!("__Host-{name}");
        Self::at(sessions.for_cookie(&name), Place::Cookie(name))
    }

    fn at(sessions: Sessions<T, R, K>, place: Place) -> Self {
        let reject: Reject = Arc::new(|_| {
            (
                http::StatusCode::UNAUTHORIZED,
                r#"{"error":"not logged in"}"#.to_owned(),
            )
        });
        Self {
            sessions,
            place: Arc::new(place),
            reject,
            clock: Arc::new(Timestamp::now),
        }
    }

    /// The status and JSON body for a request without a session. Defaults to
    /// `401 {"error":"not logged in"}`.
    #[must_use]
    pub fn reject(
        mut self,
        with: impl Fn(Refusal) -> (http::StatusCode, String) + Send + Sync + 'static,
    ) -> Self {
        self.reject = Arc::new(with);
        self
    }

    /// Where the time comes from. Defaults to the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What issues and verifies the tokens of this layer: bound to the name of its cookie.
    #[must_use]
    pub fn sessions(&self) -> &Sessions<T, R, K> {
        &self.sessions
    }

    /// The `Set-Cookie` value that logs in with `token`, issued by [`sessions`](Self::sessions); `None`
    /// when tokens travel in a header.
    #[must_use]
    pub fn login_cookie(&self, token: &str) -> Option<HeaderValue> {
        let Place::Cookie(name) = &*self.place else {
            return None;
        };
        set_cookie(name, token, self.sessions.policy().idle().as_secs())
    }

    /// The `Set-Cookie` value that ends the cookie. Revoke the session as well: a copy of the token
    /// is as good as the cookie. `None` when tokens travel in a header.
    #[must_use]
    pub fn logout_cookie(&self) -> Option<HeaderValue> {
        let Place::Cookie(name) = &*self.place else {
            return None;
        };
        set_cookie(name, "", 0)
    }
}

impl<T, R, K: TokenKey> Clone for SessionLayer<T, R, K> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            place: Arc::clone(&self.place),
            reject: Arc::clone(&self.reject),
            clock: Arc::clone(&self.clock),
        }
    }
}

impl<T, R, K: TokenKey> fmt::Debug for SessionLayer<T, R, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl<S, T, R, K: TokenKey> Layer<S> for SessionLayer<T, R, K> {
    type Service = SessionService<S, T, R, K>;
    fn layer(&self, inner: S) -> Self::Service {
        SessionService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`SessionLayer`].
pub struct SessionService<S, T, R, K: TokenKey = Key> {
    inner: S,
    layer: SessionLayer<T, R, K>,
}

impl<S: Clone, T, R, K: TokenKey> Clone for SessionService<S, T, R, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
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

struct Found<T> {
    outcome: Result<Arc<Verified<T>>, Refusal>,
    reject: Reject,
    cookie: bool,
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        Self {
            outcome: self.outcome.clone(),
            reject: Arc::clone(&self.reject),
            cookie: self.cookie,
        }
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
    type Future = SessionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let layer = &self.layer;
        let now = (layer.clock)();
        let outcome = find(request.headers(), &layer.place)
            .and_then(|token| Ok(Arc::new(layer.sessions.verify(token, now)?)));
        let mut set = None;
        if let (Place::Cookie(name), Ok(verified)) = (&*layer.place, &outcome)
            && verified.renew
        {
            let token = layer.sessions.renew(verified.claims.clone(), now).ok();
            set = token.and_then(|token| {
                let left = verified
                    .claims
                    .ends_at
                    .since(now)
                    .min(layer.sessions.policy().idle());
                set_cookie(name, &token, left.as_secs())
            });
        }
        let cookie = matches!(&*layer.place, Place::Cookie(_));
        let vary = HeaderValue::from_static(if cookie { "cookie" } else { "authorization" });
        let private = outcome.is_ok();
        request.extensions_mut().insert(Found {
            outcome,
            reject: Arc::clone(&layer.reject),
            cookie,
        });
        let name = match &*layer.place {
            Place::Cookie(name) => Some(name.clone()),
            Place::Header(_) => None,
        };
        SessionFuture {
            inner: self.inner.call(request),
            set,
            name,
            vary,
            private,
        }
    }
}

pin_project! {
    /// The answer of [`SessionService`], with the headers that caches and browsers need.
    pub struct SessionFuture<F> {
        #[pin]
        inner: F,
        set: Option<HeaderValue>,
        name: Option<String>,
        vary: HeaderValue,
        private: bool,
    }
}

impl<F> fmt::Debug for SessionFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

impl<F, C, E> Future for SessionFuture<F>
where
    F: Future<Output = Result<Response<C>, E>>,
{
    type Output = F::Output;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = std::task::ready!(this.inner.poll(cx))?;
        let headers = response.headers_mut();
        headers.append(header::VARY, this.vary.clone());
        // A handler that logged in or out has the last word on the cookie.
        let ours = |value: &HeaderValue| {
            this.name.as_ref().is_some_and(|name| {
                value
                    .as_bytes()
                    .strip_prefix(name.as_bytes())
                    .is_some_and(|rest| rest.starts_with(b"="))
            })
        };
        let set_by_handler = headers.get_all(header::SET_COOKIE).iter().any(ours);
        let renewed = this.set.take().filter(|_| !set_by_handler);
        if renewed.is_some() || set_by_handler {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        } else if *this.private && !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(
                header::CACHE_CONTROL,
                HeaderValue::from_static("private, no-cache"),
            );
        }
        if let Some(cookie) = renewed {
            headers.append(header::SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}

fn find<'a>(headers: &'a HeaderMap, place: &Place) -> Result<&'a str, Refusal> {
    let mut found = None;
    let mut take = |token: &'a [u8]| {
        let token = std::str::from_utf8(token).map_err(|_| VerifyError::Malformed)?;
        if found.replace(token).is_some() {
            Err(Refusal::Ambiguous)
        } else {
            Ok(())
        }
    };
    match place {
        Place::Header(scheme) => {
            for value in headers.get_all(header::AUTHORIZATION) {
                let value = value.as_bytes();
                if let Some((word, rest)) = value.split_at_checked(scheme.len())
                    && word.eq_ignore_ascii_case(scheme.as_bytes())
                    && let Some(token) = rest.strip_prefix(b" ")
                {
                    take(token.trim_ascii())?;
                }
            }
        }
        Place::Cookie(name) => {
            // Bytes of names are compared as they are: nothing decoded, nothing but the separator's
            // blank taken off, so no other name can pass for ours.
            for value in headers.get_all(header::COOKIE) {
                for pair in value.as_bytes().split(|byte| *byte == b';') {
                    let pair = pair.strip_prefix(b" ").unwrap_or(pair);
                    if let Some(rest) = pair.strip_prefix(name.as_bytes())
                        && let Some(token) = rest.strip_prefix(b"=")
                    {
                        take(token)?;
                    }
                }
            }
        }
    }
    found.ok_or(Refusal::Missing)
}

fn set_cookie(name: &str, token: &str, max_age: u64) -> Option<HeaderValue> {
    let text = format!("{name}={token}; Path=/; Max-Age={max_age}; Secure; HttpOnly; SameSite=Lax");
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(feature = "axum")]
mod extract {
    use std::ops::Deref;

    use axum_core::body::Body;
    use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
    use axum_core::response::{IntoResponse, Response};
    use http::request::Parts;
    use http::{HeaderValue, StatusCode, header};

    use super::{Arc, Found, Refusal, Reject, Verified, fmt};
    use crate::claims::Claims;

    /// The verified claims of a request; refused when there are none.
    ///
    /// `Option<Authenticated<T>>` is `None` for a request without a token, and for a cookie that no
    /// longer holds; a header that does not hold is refused even there, for its sender meant it.
    pub struct Authenticated<T>(Arc<Verified<T>>);

    impl<T> Deref for Authenticated<T> {
        type Target = Claims<T>;
        fn deref(&self) -> &Claims<T> {
            &self.0.claims
        }
    }

    impl<T> Clone for Authenticated<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> fmt::Debug for Authenticated<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("Authenticated").field(&self.0).finish()
        }
    }

    /// The answer to a request that needs a session and has none.
    pub struct Rejected {
        refusal: Option<Refusal>,
        reject: Option<Reject>,
    }

    impl Rejected {
        /// Why; `None` when no [`SessionLayer`](super::SessionLayer) of this type is around the route.
        #[must_use]
        pub fn refusal(&self) -> Option<Refusal> {
            self.refusal
        }
    }

    impl fmt::Debug for Rejected {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Rejected")
                .field("refusal", &self.refusal)
                .finish_non_exhaustive()
        }
    }

    impl IntoResponse for Rejected {
        fn into_response(self) -> Response {
            let (status, body) = match (self.refusal, self.reject) {
                (Some(refusal), Some(reject)) => reject(refusal),
                _ => (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    r#"{"error":"no session layer"}"#.to_owned(),
                ),
            };
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
    }

    impl<S: Sync, T: Send + Sync + 'static> FromRequestParts<S> for Authenticated<T> {
        type Rejection = Rejected;
        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
            let Some(found) = parts.extensions.get::<Found<T>>() else {
                return Err(Rejected {
                    refusal: None,
                    reject: None,
                });
            };
            match &found.outcome {
                Ok(verified) => Ok(Self(Arc::clone(verified))),
                Err(refusal) => Err(Rejected {
                    refusal: Some(*refusal),
                    reject: Some(Arc::clone(&found.reject)),
                }),
            }
        }
    }

    impl<S: Sync, T: Send + Sync + 'static> OptionalFromRequestParts<S> for Authenticated<T> {
        type Rejection = Rejected;
        async fn from_request_parts(
            parts: &mut Parts,
            state: &S,
        ) -> Result<Option<Self>, Rejected> {
            let cookie = parts
                .extensions
                .get::<Found<T>>()
                .is_some_and(|found| found.cookie);
            match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
                Ok(found) => Ok(Some(found)),
                Err(Rejected {
                    refusal: Some(Refusal::Missing),
                    ..
                }) => Ok(None),
                Err(Rejected {
                    refusal: Some(Refusal::Invalid(_)),
                    ..
                }) if cookie => Ok(None),
                Err(rejected) => Err(rejected),
            }
        }
    }
}

#[cfg(feature = "axum")]
pub use extract::{Authenticated, Rejected};
