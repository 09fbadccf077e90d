//! Why a tier could not do what it was asked for.

/// Why a tier could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// There is no connection to be had, or it broke. The server may have done what it was asked for.
    #[error("the cache server cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time. The server may have done what it was asked for, or do it yet.
    #[error("the cache server did not answer in time")]
    TimedOut,
    /// As many calls as allowed are under way; nothing was sent.
    #[error("{calls} calls to the cache server are under way, as many as allowed")]
    Busy {
        /// Calls under way.
        calls: usize,
    },
    /// The answer is not of the protocol, or of another question, or too long. The connection is closed.
    #[error("the cache server talks nonsense: {0}")]
    Garbage(String),
    /// The server understood and did not do it: it is full, or the value too large for it.
    #[error("the cache server refused: {0}")]
    Refused(String),
    /// The key cannot be one of this tier.
    #[error("a key of {bytes} bytes is too long for the tier, which takes {bytes_max}")]
    KeyTooLong {
        /// Its length as the tier writes it.
        bytes: usize,
        /// The longest that there may be.
        bytes_max: usize,
    },
    /// The value is larger than what the tier was told to take; nothing was sent.
    #[error("a value of {bytes} bytes is larger than {bytes_max}")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that there may be.
        bytes_max: usize,
    },
    /// The servers of the key are out of use after failures; nothing was sent.
    #[error("the cache servers of the key are out of use")]
    Out,
}

impl TierError {
    /// Whether it says something about the server, and not about the key, the value or this process.
    #[cfg(feature = "pool")]
    pub(crate) const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::TimedOut | Self::Garbage(_)
        )
    }
}
