//! The layer and its settings.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use serde::Serialize;
use tower_layer::Layer;

use super::adopt::{Adopted, Old};
use super::cookie::{Cookie, Place, SameSite};
use super::csrf::Guard;
use super::seen::{Refusal, Reject, Shared};
use super::service::SessionService;
use crate::format::{IssuingKey, TokenKey};
use crate::key::{Key, KeyError};
use crate::revocation::Revocations;
use crate::sessions::Sessions;
use crate::time::Timestamp;

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Puts the session of each request where the extractors find it, renews cookies, and sets the headers that
/// caches and browsers need.
///
/// The layer itself refuses nothing: a route that needs a session asks for it. An anonymous visitor gets no
/// cookie, and nothing is written for one. Cookies are set whatever the status of the answer is.
pub struct SessionLayer<T, R, K: TokenKey = Key> {
    pub(super) sessions: Sessions<T, R, K>,
    pub(super) place: Arc<Place>,
    pub(super) clock: Clock,
    pub(super) old: Option<Old<T>>,
    reject: Arc<Reject>,
    guard: Guard,
}

impl<T, R: Revocations, K: TokenKey> SessionLayer<T, R, K> {
    /// Tokens in `Authorization: <scheme> <token>`; the scheme is compared without case.
    #[must_use]
    pub fn authorization(sessions: Sessions<T, R, K>, scheme: &str) -> Self {
        Self::at(sessions, Place::Header(scheme.to_owned()))
    }

    /// Tokens in the cookie `__Host-<name>`: `Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/`, no
    /// `Domain`. It is set anew when half of the idle time has gone or its key has retired. The tokens are good
    /// in no other cookie: issue them with [`sessions`](Self::sessions) of this layer, or `Session::login`.
    ///
    /// `name` is letters, digits, `-` and `_`; others are left out.
    #[must_use]
    pub fn cookie(sessions: Sessions<T, R, K>, name: &str) -> Self {
        let name: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            .collect();
        Self::in_cookie(sessions, format!("__Host-{name}"), true)
    }

    fn in_cookie(sessions: Sessions<T, R, K>, name: String, secure: bool) -> Self {
        let sessions = sessions.for_cookie(&name);
        let same_site = SameSite::default();
        let cookie = Cookie {
            name,
            same_site,
            secure,
        };
        Self::at(sessions, Place::Cookie(cookie))
    }

    fn at(sessions: Sessions<T, R, K>, place: Place) -> Self {
        Self {
            sessions,
            place: Arc::new(place),
            old: None,
            reject: Arc::new(|refusal| {
                let (status, body) = match refusal {
                    Refusal::CrossSite => (403, r#"{"error":"cross-site request"}"#),
                    Refusal::NotFresh { .. } => (401, r#"{"error":"authenticate again"}"#),
                    Refusal::TooLow { .. } => (401, r#"{"error":"another factor is needed"}"#),
                    _ => (401, r#"{"error":"not logged in"}"#),
                };
                let status = http::StatusCode::from_u16(status).unwrap_or_default();
                (status, body.to_owned())
            }),
            clock: Arc::new(Timestamp::now),
            guard: Guard::default(),
        }
    }

    /// When browsers send the cookie. Defaults to [`SameSite::Lax`].
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        if let Place::Cookie(cookie) = Arc::make_mut(&mut self.place) {
            cookie.same_site = same_site;
        }
        self
    }

    /// Origins, such as `https://app.example.org`, whose pages may send requests that change something.
    /// Defaults to the request's own host alone.
    #[must_use]
    pub fn trust_origins(mut self, origins: &[&str]) -> Self {
        self.guard
            .trusted
            .extend(origins.iter().map(|&origin| origin.to_owned()));
        self
    }

    /// The secret of all servers for signed tokens against forged requests: see `Session::csrf_token`. Defaults
    /// to none: what says neither `Sec-Fetch-Site` nor `Origin` is then refused.
    ///
    /// # Errors
    /// [`KeyError::Placeholder`].
    pub fn csrf_key(mut self, key: Key) -> Result<Self, KeyError> {
        key.not_a_placeholder()?;
        self.guard.key = Some(key);
        Ok(self)
    }

    /// Takes over the sessions of the cookie that the site had before, so that nobody has to log in again: a request that
    /// has no cookie of ours and one of this full `name` that `open` reads gets a session and our cookie, and
    /// the old one is taken back with the same answer. `legacy` has readers. A cookie of ours that does not hold is
    /// refused all the same, and so is an old one whose subject has been ended, or that says it is older than the absolute
    /// lifetime. For layers of a cookie alone.
    ///
    /// Put the layer on all servers before: one without it does not know who was taken over.
    #[must_use]
    pub fn adopt(
        mut self,
        name: &str,
        open: impl Fn(&str, Timestamp) -> Option<Adopted<T>> + Send + Sync + 'static,
    ) -> Self {
        self.old = Some(Old::new(name, open));
        self
    }

    /// Does not look where requests come from. For a service whose cookies no browser holds.
    #[must_use]
    pub fn without_csrf_guard(mut self) -> Self {
        self.guard.off = true;
        self
    }

    /// The status and JSON body for a request that is refused. Defaults to
    /// `401 {"error":"not logged in"}`, 403 for one that another site sent.
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
        let age = self.sessions.policy().idle().as_secs();
        self.own_cookie().and_then(|cookie| cookie.set(token, age))
    }

    /// The `Set-Cookie` value that ends the cookie. Revoke the session as well: a copy of the token
    /// is as good as the cookie. `None` when tokens travel in a header.
    #[must_use]
    pub fn logout_cookie(&self) -> Option<HeaderValue> {
        self.own_cookie().and_then(Cookie::end)
    }

    fn own_cookie(&self) -> Option<&Cookie> {
        match &*self.place {
            Place::Cookie(cookie) => Some(cookie),
            Place::Header(_) => None,
        }
    }
}

impl<T, R, K: TokenKey> Clone for SessionLayer<T, R, K> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            place: Arc::clone(&self.place),
            old: self.old.clone(),
            reject: Arc::clone(&self.reject),
            clock: Arc::clone(&self.clock),
            guard: self.guard.clone(),
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

impl<S, T, R, K> Layer<S> for SessionLayer<T, R, K>
where
    T: Serialize + Send + Sync + 'static,
    R: Revocations,
    K: IssuingKey,
{
    type Service = SessionService<S, T, R, K>;
    fn layer(&self, inner: S) -> Self::Service {
        let (sessions, reject) = (self.sessions.clone(), Arc::clone(&self.reject));
        let mut guard = self.guard.clone();
        // A header is not sent by a browser on its own.
        guard.off |= self.own_cookie().is_none();
        let shared = Shared {
            cookie: self.own_cookie().cloned(),
            reject: Box::new(move |refusal| reject(refusal)),
            issue: Box::new(move |level, subject, data, now| {
                sessions.issue_at(level, subject, data, now)
            }),
            guard,
            idle: self.sessions.policy().idle(),
        };
        SessionService::new(inner, self.clone(), Arc::new(shared))
    }
}
