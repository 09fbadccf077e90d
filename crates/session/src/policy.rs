//! How long sessions live, and whether a token's times hold.

use core::time::Duration;

use crate::claims::Claims;
use crate::time::Timestamp;
use crate::verify::VerifyError;

/// Largest leeway between clocks.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// How long sessions live. There is no unlimited value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    idle: Duration,
    absolute: Duration,
    renew_after: Duration,
    leeway: Duration,
}

impl Policy {
    /// Ends after `idle` without a request, and in any case `absolute` after the login.
    ///
    /// Both are held to between one minute and 400 days, and `idle` to at most `absolute`.
    #[must_use]
    pub fn new(idle: Duration, absolute: Duration) -> Self {
        let absolute = absolute.clamp(MINUTE, DAY * 400);
        let idle = idle.clamp(MINUTE, absolute);
        Self {
            idle,
            absolute,
            renew_after: idle / 2,
            leeway: Duration::from_secs(30),
        }
    }

    /// 30 days, 30 days idle: NIST SP 800-63B-4 AAL1.
    #[must_use]
    pub fn aal1() -> Self {
        Self::new(DAY * 30, DAY * 30)
    }

    /// 24 hours, one hour idle: NIST SP 800-63B-4 AAL2.
    #[must_use]
    pub fn aal2() -> Self {
        Self::new(MINUTE * 60, DAY)
    }

    /// 12 hours, 15 minutes idle: NIST SP 800-63B-4 AAL3.
    #[must_use]
    pub fn aal3() -> Self {
        Self::new(MINUTE * 15, DAY / 2)
    }

    /// How far apart the clocks of two servers may be. Defaults to 30 s; at most [`LEEWAY_MAX`].
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(LEEWAY_MAX);
        self
    }

    /// How old a token gets before it is made anew. Defaults to half of the idle time, and is at most
    /// that, or a user who is active would be logged out. Shorter bounds how long a copied token is of use.
    #[must_use]
    pub fn renew_after(mut self, age: Duration) -> Self {
        self.renew_after = age.min(self.idle / 2);
        self
    }

    /// The longest a session lives.
    #[must_use]
    pub fn absolute(&self) -> Duration {
        self.absolute
    }

    /// The longest a session lives without a request.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.idle
    }

    #[cfg(feature = "std")]
    pub(crate) fn wants_renewal<T>(&self, claims: &Claims<T>, now: Timestamp) -> bool {
        now.since(claims.issued_at) >= self.renew_after
    }

    /// When the claims end by themselves. A policy that was made stricter holds for the tokens of
    /// before, too.
    pub(crate) fn end_of<T>(&self, claims: &Claims<T>) -> Timestamp {
        let absolute = claims.authenticated_at.after(self.absolute);
        (claims.expires_at.min(claims.ends_at))
            .min(absolute)
            .min(claims.issued_at.after(self.idle))
    }

    /// Whether the times of a token hold at `now`.
    pub(crate) fn check<T>(&self, claims: &Claims<T>, now: Timestamp) -> Result<(), VerifyError> {
        let late = now.after(self.leeway);
        let starts = claims.issued_at.max(claims.authenticated_at);
        if starts > late || claims.not_before.is_some_and(|time| time > late) {
            return Err(VerifyError::FromTheFuture);
        }
        let over = now.before(self.leeway) >= self.end_of(claims);
        if over || claims.expires_at < claims.issued_at {
            return Err(VerifyError::Expired);
        }
        Ok(())
    }
}
