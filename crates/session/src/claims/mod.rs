//! What a token says, and the strict reading of it.

mod read;
mod unique;
#[cfg(feature = "std")]
mod write;

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::time::Timestamp;

#[cfg(feature = "std")]
pub(crate) use write::Unsealed;

#[cfg(feature = "jwt")]
pub(crate) use unique::unique;

/// The id of one session: 128 random bits. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    /// A new random id.
    ///
    /// # Errors
    /// [`KeyError::Random`](crate::KeyError::Random) when the system has no randomness.
    #[cfg(feature = "std")]
    pub fn generate() -> Result<Self, crate::key::KeyError> {
        let mut id = [0; 16];
        crate::random::pooled(&mut id)?;
        Ok(Self(id))
    }

    /// The id of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes. Who holds them cannot forge a token, but may revoke by them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// How surely the subject proved who it is: NIST SP 800-63B-4. A session never rises by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the standard has three levels")]
pub enum Level {
    /// One factor.
    #[default]
    Aal1,
    /// Two factors.
    Aal2,
    /// Two factors, one of them hardware that resists phishing.
    Aal3,
}

impl Level {
    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Aal1),
            2 => Some(Self::Aal2),
            3 => Some(Self::Aal3),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(u8::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("not a level"))
    }
}

/// What a verified token says about who is asking.
#[derive(Clone)]
#[non_exhaustive]
pub struct Claims<T> {
    /// Who logged in.
    pub subject: String,
    /// This session.
    pub session: SessionId,
    /// When this token was made.
    pub issued_at: Timestamp,
    /// From when on it holds, when that is later than `issued_at`.
    pub not_before: Option<Timestamp>,
    /// When this token ends unless it is renewed.
    pub expires_at: Timestamp,
    /// When the subject last proved who it is.
    pub authenticated_at: Timestamp,
    /// When the session ends, renewed or not.
    pub ends_at: Timestamp,
    /// The subject's generation at login; a later generation ends this session.
    pub generation: u64,
    /// How surely the subject proved who it is.
    pub level: Level,
    /// What the application put in.
    pub data: T,
}

impl<T> fmt::Debug for Claims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("ends_at", &self.ends_at)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The claims cannot be written or read; why is nobody's business outside.
#[derive(Debug)]
pub(crate) struct Unreadable(
    #[cfg_attr(
        not(feature = "std"),
        expect(dead_code, reason = "told to issuers alone")
    )]
    pub(crate) String,
);

impl<E: fmt::Display> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(alloc::format!("{error}"))
    }
}

/// A time as JSON has it, in RFC 3339.
struct Iso(Timestamp);

/// A session id as JSON has it, in base64url.
struct Id(SessionId);
