//! What the layer saw of a request, for extractors and for the answer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;

use super::cookie::Cookie;
use super::csrf::Guard;
use crate::claims::{Claims, Level};
use crate::sessions::IssueError;
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
    /// Another site made the browser send it, or nothing says who did.
    #[error("another site may have made the browser send this request")]
    CrossSite,
    /// The subject proved who it is longer ago than the route allows: ask it again.
    #[error("the last authentication was more than {seconds} s ago")]
    NotFresh {
        /// What the route allows, in seconds.
        seconds: u64,
    },
    /// The subject proved who it is less surely than the route asks: ask for another factor.
    #[error("the route asks for {level:?}")]
    TooLow {
        /// What the route asks for.
        level: Level,
    },
}

pub(super) type Reject = dyn Fn(Refusal) -> (http::StatusCode, String) + Send + Sync;
pub(super) type Issue<T> =
    dyn Fn(Level, &str, T, Timestamp) -> Result<String, IssueError> + Send + Sync;

/// What a layer and all its requests share.
#[cfg_attr(
    not(feature = "axum"),
    expect(dead_code, reason = "what extractors alone use")
)]
pub(super) struct Shared<T> {
    pub(super) cookie: Option<Cookie>,
    pub(super) reject: Box<Reject>,
    pub(super) issue: Box<Issue<T>>,
    pub(super) guard: Guard,
    pub(super) idle: Duration,
}

/// One request: what came in, and what the answer shall say.
#[cfg_attr(
    not(feature = "axum"),
    expect(dead_code, reason = "what extractors alone use")
)]
pub(super) struct Seen<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) now: Timestamp,
    pub(super) outcome: Result<Arc<Claims<T>>, Refusal>,
    /// Even a login must not come from another site.
    pub(super) cross_site: bool,
    pub(super) answer: Mutex<Answer>,
}

/// Who asks, for a service that is no axum handler: from the extensions of a request that came through a
/// `SessionLayer` of the same `T`.
///
/// # Errors
///
/// [`Refusal`]; [`Refusal::Missing`] also where no such layer was passed.
pub fn claims_of<T: Send + Sync + 'static>(
    extensions: &http::Extensions,
) -> Result<Arc<Claims<T>>, Refusal> {
    let seen = extensions.get::<Arc<Seen<T>>>().ok_or(Refusal::Missing)?;
    seen.outcome.clone()
}

#[derive(Default)]
#[cfg_attr(
    not(feature = "axum"),
    expect(dead_code, reason = "what extractors alone use")
)]
pub(super) enum Answer {
    #[default]
    Nothing,
    Renew(HeaderValue),
    /// A new cookie, and the end of the one that the site had before.
    Adopt(HeaderValue, Option<HeaderValue>),
    Login(Option<HeaderValue>),
    Logout(Option<HeaderValue>),
}

#[cfg(feature = "axum")]
impl<T> Seen<T> {
    pub(super) fn login(&self, level: Level, subject: &str, data: T) -> Result<String, IssueError> {
        if self.cross_site {
            return Err(IssueError::CrossSite);
        }
        let token = (self.shared.issue)(level, subject, data, self.now)?;
        let age = self.shared.idle.as_secs();
        let cookie = self.shared.cookie.as_ref();
        *self.answer.lock() = Answer::Login(cookie.and_then(|cookie| cookie.set(&token, age)));
        Ok(token)
    }

    pub(super) fn logout(&self) {
        let cookie = self.shared.cookie.as_ref();
        *self.answer.lock() = Answer::Logout(cookie.and_then(Cookie::end));
    }
}
