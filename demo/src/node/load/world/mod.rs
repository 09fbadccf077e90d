//! What the synthetic users of one generator share, and how the first of them come to be.

mod deeds;
mod journeys;
mod request;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stackbeam_shard_router::ShardMap;
use tokio::time::Instant;

use super::audit::{Fact, Facts};
use super::client::Client;
use super::crowd::Crowd;
use super::ledger::{Expected, Known, Ledger, LedgerError, Line};
use super::record::Recorder;
use crate::app::slug;
use crate::node::shards;

/// After this long everybody has to see a write. Above the longest lag that can be injected.
pub(super) const VISIBLE_AFTER: Duration = Duration::from_secs(12);

/// Registrations under way at the start; each costs a password hash.
const REGISTER_AT_ONCE: usize = 4;

/// How long the first users may take to register before the load gives up.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// The wait before a user who could not register tries again under another name.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);

/// The names of what a request was for, as samples and failures show them.
pub(crate) mod what {
    pub(crate) const PULSE: &str = "pulse";
    pub(crate) const UPLOAD: &str = "upload";
}

/// Everything that the users of one generator share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) ledger: Ledger,
    pub(crate) recorder: Recorder,
    pub(crate) crowd: Mutex<Crowd>,
    /// A sample of what was acknowledged.
    pub(crate) facts: Arc<Mutex<Facts>>,
    shards: ShardMap,
}

impl World {
    /// Users of the service behind `client`, which has so many shards.
    pub(crate) fn new(
        client: Client,
        ledger: Ledger,
        recorder: Recorder,
        shards: u16,
        seed: u64,
    ) -> Self {
        Self {
            client,
            ledger,
            recorder,
            crowd: Mutex::default(),
            facts: Arc::new(Mutex::new(Facts::new(seed))),
            shards: shards::placed(shards).expect("so few shards can be placed"),
        }
    }

    /// Brings the number of users to `count`, each with an article, so that there is something to read.
    /// Users that the ledger knows log in again; new ones register.
    ///
    /// # Errors
    ///
    /// When the service does not let that many in, with what it said last, or the ledger fails.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        known: &[Line],
        count: usize,
    ) -> Result<(), SettleError> {
        let before = Expected::of(known);
        self.facts.lock().offer_all(Instant::now(), &before);
        let mut old: Vec<String> = before
            .users
            .into_iter()
            .filter(|(_, known)| *known == Known::Acked)
            .map(|(name, _)| name)
            .take(count)
            .collect();
        let mut users = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (world, old) = (Arc::clone(self), old.pop());
            users.spawn(async move {
                loop {
                    let person = match &old {
                        Some(name) => world.return_of(name).await,
                        None => world.register(Instant::now()).await?,
                    };
                    if let Some(person) = person {
                        while world.post(Instant::now(), &person).await?.is_none() {
                            tokio::time::sleep(REGISTER_AGAIN).await;
                        }
                        return Ok::<_, LedgerError>(());
                    }
                    tokio::time::sleep(REGISTER_AGAIN).await;
                }
            });
            while users.len() >= REGISTER_AT_ONCE {
                self.next_settled(&mut users).await?;
            }
        }
        while !users.is_empty() {
            self.next_settled(&mut users).await?;
        }
        Ok(())
    }

    async fn next_settled(
        &self,
        users: &mut tokio::task::JoinSet<Result<(), LedgerError>>,
    ) -> Result<(), SettleError> {
        match tokio::time::timeout(SETTLE_MAX, users.join_next()).await {
            Ok(Some(Ok(done))) => Ok(done?),
            Ok(None) => Ok(()),
            // A task that panicked, or none that got in.
            Ok(Some(Err(_))) | Err(_) => Err(SettleError::Refused {
                there: self.crowd.lock().len(),
                last: self.recorder.reasons().pop().unwrap_or_default(),
            }),
        }
    }

    fn fact(&self, fact: Fact) {
        self.facts.lock().offer(Instant::now(), fact);
    }

    fn shard_of(&self, address: &str) -> Option<u16> {
        Some(shards::home(&self.shards, slug::parse(address)?.slot()))
    }
}

/// Why the first users could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("only {there} synthetic users could register; the last failure: {last}")]
    Refused { there: usize, last: String },
}
