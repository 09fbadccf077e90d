//! Sessions of the cookie that a site had before: taken over when a request brings one.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use super::cookie::{Cookie, Place, SameSite};
use crate::claims::Level;
use crate::time::Timestamp;

/// What an old cookie says, for [`SessionLayer::adopt`](super::SessionLayer::adopt).
#[non_exhaustive]
pub struct Adopted<T> {
    /// Who logged in.
    pub subject: String,
    /// How surely the subject proved who it is.
    pub level: Level,
    /// When it did. The absolute lifetime counts from here, and so does what asks for a fresh login.
    pub authenticated_at: Timestamp,
    /// What the application puts in.
    pub data: T,
}

impl<T> Adopted<T> {
    /// A session at [`Level::Aal1`] of a subject that logged in at this time; if the old cookie does not say when, a time
    /// for which the session may still live, and no recent one.
    #[must_use]
    pub fn new(subject: &str, authenticated_at: Timestamp, data: T) -> Self {
        Self {
            subject: subject.to_owned(),
            level: Level::Aal1,
            authenticated_at,
            data,
        }
    }
}

impl<T> fmt::Debug for Adopted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted")
            .field("level", &self.level)
            .field("authenticated_at", &self.authenticated_at)
            .finish_non_exhaustive()
    }
}

type Open<T> = dyn Fn(&str, Timestamp) -> Option<Adopted<T>> + Send + Sync;

/// The old cookie and who reads it.
pub(super) struct Old<T> {
    pub(super) place: Place,
    pub(super) open: Arc<Open<T>>,
}

impl<T> Old<T> {
    pub(super) fn new(
        name: &str,
        open: impl Fn(&str, Timestamp) -> Option<Adopted<T>> + Send + Sync + 'static,
    ) -> Self {
        let cookie = Cookie {
            name: name.to_owned(),
            same_site: SameSite::default(),
            secure: true,
        };
        Self {
            place: Place::Cookie(cookie),
            open: Arc::new(open),
        }
    }

    /// The header that takes the old cookie back.
    pub(super) fn end(&self) -> Option<HeaderValue> {
        match &self.place {
            Place::Cookie(cookie) => cookie.end(),
            Place::Header(_) => None,
        }
    }
}

impl<T> Clone for Old<T> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            open: Arc::clone(&self.open),
        }
    }
}
