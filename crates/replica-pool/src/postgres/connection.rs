//! A connection to a server, with the task that drives it.

use std::ops::Deref;

use tokio::task::AbortHandle;
use tokio_postgres::Client;

use super::PostgresError;
use super::answer::{Answer, parse_position, value};
use crate::evidence::{Epoch, Lsn, MemberId};

/// Where this server's readers are: on the primary, after everything that is committed.
const POSITION: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_insert_lsn() END";

/// A connection to one server: a [`Client`] by [`Deref`].
///
/// Dropped, it closes its socket at once, whatever is under way; a statement that the server has begun
/// may still be carried out.
pub struct PgConnection {
    client: Client,
    driver: AbortHandle,
    member: MemberId,
}

impl PgConnection {
    pub(super) fn new(client: Client, driver: AbortHandle, member: MemberId) -> Self {
        Self {
            client,
            driver,
            member,
        }
    }

    /// Which server it leads to.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        self.member
    }

    /// The position that readers of this server have reached. Asked on the primary after a commit, it is
    /// what a reader shows to see that commit: [`Freshness::AtLeast`](crate::Freshness::AtLeast).
    ///
    /// # Errors
    /// [`PostgresError`] when the server gives no answer.
    ///
    /// # Cancel safety
    /// Nothing happens.
    pub async fn position(&self) -> Result<Lsn, PostgresError> {
        let text = value(&self.client, POSITION).await?;
        text.as_deref()
            .and_then(parse_position)
            .ok_or(PostgresError::Mute)
    }

    /// Whether the server reigns in `epoch`.
    pub(super) async fn reigns(&self, epoch: Epoch) -> Result<bool, PostgresError> {
        let answer = Answer::of(&self.client).await?;
        Ok(answer.reigns() && answer.reign.epoch == epoch)
    }
}

impl Deref for PgConnection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for PgConnection {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for PgConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgConnection")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
