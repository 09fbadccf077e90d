//! What every store must do, as a suite that a stranger's store can run.
//!
//! ```
//! # async fn doc() -> Result<(), stackbeam_session::conformance::Broken> {
//! use std::sync::Arc;
//! use stackbeam_session::{MemoryStore, conformance};
//!
//! let store = Arc::new(MemoryStore::default());
//! conformance::all(&store, conformance::Scale::short()).await
//! # }
//! ```
//!
//! Needs a tokio runtime with more than one thread, or the races are none. Each law uses names of its own, so a
//! store that is in use is not disturbed.

mod contract;
mod model;
mod races;

use std::fmt;
use std::sync::Arc;

use super::{NewRecord, StoreError, StoreKey, SubjectIndex, SubjectKey};
use crate::claims::SessionId;
use crate::key::Key;
use crate::time::Timestamp;

/// A law that a store broke.
#[derive(Debug)]
pub struct Broken {
    law: &'static str,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.what)
    }
}

impl std::error::Error for Broken {}

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    updates: usize,
    renewals: usize,
    races: usize,
    steps: usize,
}

impl Scale {
    /// Seconds on any store.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            updates: 500,
            renewals: 100,
            races: 30,
            steps: 300,
        }
    }

    /// 10 000 updates of one record, 1 000 renewals of one session, 300 races.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            updates: 10_000,
            renewals: 1000,
            races: 300,
            steps: 3000,
        }
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const END: Timestamp = Timestamp::from_secs(1_800_003_600);

/// Runs all laws.
///
/// # Errors
/// The first law that does not hold, and what was seen.
pub async fn all<S: SubjectIndex>(store: &Arc<S>, scale: Scale) -> Result<(), Broken> {
    contract::only_create_makes_a_record(store).await?;
    contract::what_was_stored_comes_back(store).await?;
    contract::an_update_happens_on_the_version_it_names(store).await?;
    contract::what_has_expired_is_gone(store).await?;
    contract::a_record_made_anew_is_another(store).await?;
    contract::a_subject_has_its_own_sessions(store).await?;
    races::one_of_many_creators_wins(store).await?;
    races::a_deleted_record_never_comes_back(store, scale.races).await?;
    races::no_update_is_lost(store, scale.updates).await?;
    races::one_renewal_has_one_successor(store, scale.renewals).await?;
    model::the_store_is_as_the_model(store, scale.steps).await
}

macro_rules! law {
    ($law:expr, $holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(Broken { law: $law, what: format!($($what)*) });
        }
    };
}

use law;

struct Names {
    key: Key,
}

impl Names {
    fn new(law: &'static str) -> Result<Self, Broken> {
        let key = Key::generate().map_err(|error| failed(law)(&error))?;
        Ok(Self { key })
    }

    fn record(&self, number: u8) -> StoreKey {
        StoreKey::new(&self.key, SessionId::from_bytes([number; 16]))
    }

    fn subject(&self, name: &str) -> SubjectKey {
        SubjectKey::new(&self.key, name)
    }

    fn new_record(&self, data: &[u8]) -> NewRecord {
        NewRecord {
            subject: self.subject("7"),
            data: data.to_vec(),
            expires_at: END,
        }
    }
}

fn failed(law: &'static str) -> impl Fn(&dyn fmt::Display) -> Broken {
    move |error| Broken {
        law,
        what: format!("unexpected: {error}"),
    }
}

fn is_gone<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Gone))
}
