//! Readers of what a site issued before it came here, so that nobody is logged out by the move.
//!
//! They only open. Ask them by the form of what arrived, never because something else failed to open: a
//! failed check must stay a refusal (CVE-2026-39324). Then issue a token of your own and forget them after
//! one absolute lifetime. JSON web tokens are read by `jwt` (feature `jwt`).

mod fernet;
mod private_cookie;

pub use fernet::Fernet;
pub use private_cookie::PrivateCookie;

/// Why nothing was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// The secret is not of this form.
    #[error("the secret is not of this form")]
    Secret,
    /// Longer than [`BYTES_MAX`].
    #[error("longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Not of this form.
    #[error("not of this form")]
    Malformed,
    /// Forged, damaged, or under another key.
    #[error("not authentic")]
    NotAuthentic,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Made in the future, beyond a minute.
    #[error("from the future")]
    FromTheFuture,
}

/// Longest text in bytes that is looked at.
pub const BYTES_MAX: usize = 8192;
