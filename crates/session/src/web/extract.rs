//! Extractors for axum 0.8.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use super::seen::{Refusal, Seen, Shared};
use crate::claims::{Claims, Level, SessionId};
use crate::key::KeyError;
use crate::sessions::IssueError;

/// The session of a request, or the chance of one: to log in, log out, and see who is asking.
///
/// Never refused for want of a session.
pub struct Session<T = ()>(Arc<Seen<T>>);

impl<T> Session<T> {
    /// Who is asking; `None` for a request without a session that holds.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims<T>> {
        self.0.outcome.as_deref().ok()
    }

    /// Begins a new session for a subject that has just proved who it is, and returns its token. A layer of a
    /// cookie sets it with the answer. The session that was there before, if any, is not carried over: end it with
    /// what [`logout`](Self::logout) returns.
    ///
    /// # Errors
    /// [`IssueError::CrossSite`] when another site made the browser send the request, else as
    /// [`Sessions::issue`](crate::Sessions::issue).
    pub fn login(&self, level: Level, subject: &str, data: T) -> Result<String, IssueError> {
        self.0.login(level, subject, data)
    }

    /// Takes the cookie back with the answer, and clears the site's cookies in the browser. Returns the session:
    /// revoke it, for a copy of the token is as good as the cookie.
    #[must_use = "revoke the session, or a copy of the token goes on"]
    pub fn logout(&self) -> Option<SessionId> {
        self.0.logout();
        self.claims().map(|claims| claims.session)
    }

    /// A signed token for a form or a script of this session, to come back in the header `x-csrf-token` or to be
    /// given to [`check_csrf`](Self::check_csrf). `None` without a session or a
    /// [`csrf_key`](super::SessionLayer::csrf_key).
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    pub fn csrf_token(&self) -> Result<Option<String>, KeyError> {
        match self.claims() {
            None => Ok(None),
            Some(claims) => self.0.shared.guard.token(claims.session),
        }
    }

    /// Whether a form brought a token of this session.
    #[must_use]
    pub fn check_csrf(&self, token: &str) -> bool {
        let guard = &self.0.shared.guard;
        self.claims()
            .is_some_and(|claims| guard.verifies(token, claims.session))
    }
}

impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("claims", &self.claims())
            .finish_non_exhaustive()
    }
}

/// The verified claims of a request; refused when there are none.
///
/// `Option<Authenticated<T>>` is `None` for a request without a token, and for a cookie that no
/// longer holds; a header that does not hold is refused even there, for its sender meant it, and so is a request
/// that another site made the browser send.
pub struct Authenticated<T = ()>(Arc<Claims<T>>);

/// [`Authenticated`], by a subject that proved who it is at most `SECONDS` ago; refused with a challenge to
/// authenticate again (RFC 9470).
pub struct Fresh<const SECONDS: u64, T = ()>(Arc<Claims<T>>);

/// [`Authenticated`], by a subject that proved who it is at this level ([`Aal2`], [`Aal3`]); refused with a challenge
/// for another factor (RFC 9470).
pub struct AtLeast<L, T = ()>(Arc<Claims<T>>, PhantomData<L>);

/// A level for [`AtLeast`].
pub trait AtLeastLevel: Send + Sync + 'static {
    /// The level.
    const LEVEL: Level;
}

/// [`Level::Aal2`], for [`AtLeast`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name at the level of types")]
pub struct Aal2;

/// [`Level::Aal3`], for [`AtLeast`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name at the level of types")]
pub struct Aal3;

impl AtLeastLevel for Aal2 {
    const LEVEL: Level = Level::Aal2;
}

impl AtLeastLevel for Aal3 {
    const LEVEL: Level = Level::Aal3;
}

macro_rules! claims {
    ([$($generics:tt)*] $type:ty, $name:literal) => {
        impl<$($generics)*> Deref for $type {
            type Target = Claims<T>;
            fn deref(&self) -> &Claims<T> {
                &self.0
            }
        }

        impl<$($generics)*> fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple($name).field(&self.0).finish()
            }
        }
    };
}

claims!([T] Authenticated<T>, "Authenticated");
claims!([const SECONDS: u64, T] Fresh<SECONDS, T>, "Fresh");
claims!([L, T] AtLeast<L, T>, "AtLeast");

/// The answer to a request that needs a session and has none that will do.
pub struct Rejected {
    refusal: Option<Refusal>,
    answer: Option<(StatusCode, String)>,
}

impl Rejected {
    fn new<T>(refusal: Refusal, shared: &Shared<T>) -> Self {
        Self {
            refusal: Some(refusal),
            answer: Some((shared.reject)(refusal)),
        }
    }

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
        let (status, body) = self.answer.unwrap_or_else(|| {
            let body = r#"{"error":"no session layer"}"#.to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, body)
        });
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        let challenge = match self.refusal {
            Some(Refusal::NotFresh { seconds }) => Some(format!("max_age=\"{seconds}\"")),
            Some(Refusal::TooLow { level }) => {
                Some(format!("acr_values=\"{level:?}\"").to_lowercase())
            }
            _ => None,
        };
        if let Some(asks) = challenge {
            let text = format!("Bearer error=\"insufficient_user_authentication\", {asks}");
            if let Ok(value) = HeaderValue::try_from(text) {
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

fn seen<T: Send + Sync + 'static>(parts: &Parts) -> Result<&Arc<Seen<T>>, Rejected> {
    parts.extensions.get().ok_or(Rejected {
        refusal: None,
        answer: None,
    })
}

/// The claims of a request, if they meet what the route asks.
fn claims<T: Send + Sync + 'static>(
    parts: &Parts,
    meet: impl FnOnce(&Claims<T>, &Seen<T>) -> Result<(), Refusal>,
) -> Result<Arc<Claims<T>>, Rejected> {
    let seen = seen::<T>(parts)?;
    let found = (seen.outcome.as_ref()).map_err(|refusal| *refusal);
    found
        .and_then(|claims| meet(claims, seen).map(|()| Arc::clone(claims)))
        .map_err(|refusal| Rejected::new(refusal, &seen.shared))
}

impl<S: Sync, T: Send + Sync + 'static> FromRequestParts<S> for Session<T> {
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
        seen(parts).map(|seen| Self(Arc::clone(seen)))
    }
}

/// A [`Session`] with a session in it; `None` without.
impl<S: Sync, T: Send + Sync + 'static> OptionalFromRequestParts<S> for Session<T> {
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Rejected> {
        let session = Self(Arc::clone(seen(parts)?));
        Ok(Some(session).filter(|session| session.claims().is_some()))
    }
}

impl<S: Sync, T: Send + Sync + 'static> FromRequestParts<S> for Authenticated<T> {
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
        claims(parts, |_, _| Ok(())).map(Self)
    }
}

impl<S: Sync, T: Send + Sync + 'static> OptionalFromRequestParts<S> for Authenticated<T> {
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Rejected> {
        let in_cookie = seen::<T>(parts)?.shared.cookie.is_some();
        match claims(parts, |_, _| Ok(())) {
            Ok(claims) => Ok(Some(Self(claims))),
            Err(rejected) => match rejected.refusal {
                Some(Refusal::Missing) => Ok(None),
                Some(Refusal::Invalid(_)) if in_cookie => Ok(None),
                _ => Err(rejected),
            },
        }
    }
}

impl<S: Sync, T: Send + Sync + 'static, const SECONDS: u64> FromRequestParts<S>
    for Fresh<SECONDS, T>
{
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
        let meet = |claims: &Claims<T>, seen: &Seen<T>| {
            if seen.now.since(claims.authenticated_at) > Duration::from_secs(SECONDS) {
                Err(Refusal::NotFresh { seconds: SECONDS })
            } else {
                Ok(())
            }
        };
        claims(parts, meet).map(Self)
    }
}

impl<S: Sync, T: Send + Sync + 'static, L: AtLeastLevel> FromRequestParts<S> for AtLeast<L, T> {
    type Rejection = Rejected;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
        let meet = |claims: &Claims<T>, _: &Seen<T>| {
            if claims.level < L::LEVEL {
                Err(Refusal::TooLow { level: L::LEVEL })
            } else {
                Ok(())
            }
        };
        claims(parts, meet).map(|claims| Self(claims, PhantomData))
    }
}
