//! A tower layer that reads the token of a request, and axum extractors of what it found.

mod adopt;
#[cfg(feature = "feed")]
mod ask;
mod cookie;
mod csrf;
#[cfg(feature = "axum")]
mod extract;
mod layer;
mod seen;
mod service;

pub use adopt::Adopted;
#[cfg(feature = "feed")]
pub use ask::{AskFuture, AskLayer, AskService};
pub use cookie::SameSite;
#[cfg(feature = "axum")]
pub use extract::{Aal2, Aal3, AtLeast, AtLeastLevel, Authenticated, Fresh, Rejected, Session};
pub use layer::SessionLayer;
pub use seen::{Refusal, claims_of};
pub use service::{SessionFuture, SessionService};
