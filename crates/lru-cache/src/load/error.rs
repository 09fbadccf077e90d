//! Why no value came.

use std::sync::Arc;

/// Why no value came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed; all who waited for it get the same error.
    #[error("loading failed: {0}")]
    Failed(Arc<E>),
    /// The loader of another caller panicked. Ask again to try with your own.
    #[error("the loader panicked")]
    Panicked,
    /// The key was asked for together with others, and the answer had no value for it.
    #[error("the store has no value for the key")]
    NotFound,
    /// As many loads as allowed are under way. Ask again when some have ended, or do without.
    #[error("{flights} loads are under way, as many as allowed")]
    Busy {
        /// Loads under way.
        flights: usize,
    },
    /// A caller that blocks its thread has waited as long as it was willing to.
    #[error("no value within the time allowed")]
    TimedOut,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked => Self::Panicked,
            Self::NotFound => Self::NotFound,
            Self::Busy { flights } => Self::Busy { flights: *flights },
            Self::TimedOut => Self::TimedOut,
        }
    }
}
