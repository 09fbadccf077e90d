//! What a coordinator has the servers do. On each server one order at a time, from whichever process.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use super::answer::{Answer, Promise, row, value};
use super::connection::PgConnection;
use super::error::PostgresError;
use super::options::{CONTROL, standby_name};
use super::{Postgres, Server};
use crate::evidence::{Evidence, MemberId};
use crate::failover::Action;

/// The advisory lock that an order holds: "stackbea" in ASCII.
const LOCK: i64 = 0x7374_6163_6b62_6561;
/// How long a step of an order may take before it is given up. A promotion takes 0.1 to 0.3 s.
const STEP_MAX: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// So that nothing of an order waits for a replica, a lock for long, or a server that was set to
/// read-only.
const SESSION: [&str; 3] = [
    "SET synchronous_commit = local",
    "SET default_transaction_read_only = off",
    "SET lock_timeout = '1s'",
];

/// No server has this name, so no commit that waits for it is acknowledged.
const NOBODY: &str = "stackbeam_fenced";

impl Postgres {
    /// Prepares servers that replicate already: one primary, and replicas that stream from it. The
    /// primary begins epoch 1; with [`majority`](super::PostgresOptions::majority) commits wait for
    /// replicas from then on, once a coordinator has told them their names. Again, it does nothing.
    ///
    /// # Errors
    /// When a server does not answer, and [`PostgresError::NotOnePrimary`].
    ///
    /// # Cancel safety
    /// A dropped future leaves it open how far this came. Do it again.
    pub async fn bootstrap(&self) -> Result<(), PostgresError> {
        let mut writable = Vec::new();
        for (member, server) in (0..).zip(&self.servers) {
            let connection = self.open(member, &server.control).await?;
            let answer = Answer::of(&connection).await?;
            self.same_system(member, &answer)?;
            if answer.promise() != Promise::default() {
                return Ok(());
            }
            if !answer.in_recovery {
                writable.push(member);
            }
        }
        let [member] = *writable else {
            return Err(PostgresError::NotOnePrimary {
                writable: writable.len(),
            });
        };
        let first = Promise {
            epoch: 1,
            claimant: 1,
        };
        let connection = self.begin(member).await?;
        if stored_promise(&connection).await? == Promise::default() {
            self.promise(&connection, member, first).await?;
            self.reign(&connection, member, first).await?;
        }
        Ok(())
    }

    pub(super) async fn order(&self, action: &Action) -> Result<Evidence, PostgresError> {
        let member = action.member();
        let connection = self.begin(member).await?;
        let mut answer = Answer::of(&connection).await?;
        self.same_system(member, &answer)?;
        answer.promised = stored_promise(&connection).await?;
        match *action {
            Action::Fence {
                epoch, claimant, ..
            } => {
                if epoch > answer.promise().epoch {
                    let promise = Promise { epoch, claimant };
                    self.promise(&connection, member, promise).await?;
                    if answer.in_recovery {
                        self.unfollow(&connection, member).await?;
                    } else {
                        self.silence(&connection, member).await?;
                    }
                }
            }
            Action::Promote {
                epoch, claimant, ..
            } => {
                let promise = Promise { epoch, claimant };
                if answer.promise() == promise && !answer.reigns() {
                    self.promote(&connection, member, promise, answer.in_recovery)
                        .await?;
                }
            }
            Action::Follow { epoch, primary, .. } => {
                let promised = answer.promise();
                if epoch >= promised.epoch && primary != member {
                    if epoch > promised.epoch {
                        let promise = Promise { epoch, claimant: 0 };
                        self.promise(&connection, member, promise).await?;
                    }
                    if answer.in_recovery {
                        self.follow(&connection, member, primary).await?;
                    } else if epoch > promised.epoch || !answer.reigns() {
                        if !is_silent(&connection).await? {
                            self.silence(&connection, member).await?;
                        }
                        *self.server(member)?.silenced.lock() = Some(epoch);
                    }
                }
            }
            Action::Probe { .. } => {}
        }
        let asked = Instant::now();
        let mut after = Answer::of(&connection).await?;
        // This session set the promise by itself once; only the file says what holds.
        after.promised = stored_promise(&connection).await?;
        Ok(self.evidence(member, &after, asked))
    }

    /// A session that holds the lock until it ends.
    async fn begin(&self, member: MemberId) -> Result<PgConnection, PostgresError> {
        let connection = self.open(member, &self.server(member)?.control).await?;
        for statement in SESSION {
            connection.batch_execute(statement).await?;
        }
        let lock = format!("SELECT pg_advisory_lock({LOCK})");
        row(&connection, &lock).await?;
        Ok(connection)
    }

    /// Makes the promise durable: `ALTER SYSTEM` syncs the file before it returns.
    async fn promise(
        &self,
        client: &Client,
        member: MemberId,
        promise: Promise,
    ) -> Result<(), PostgresError> {
        // Before PostgreSQL 17, only a setting that the session knows can be written to the file.
        let text = promise.to_string();
        client
            .batch_execute(&format!("SET stackbeam.promised = {}", quote(&text)))
            .await?;
        set(client, "stackbeam.promised", &text).await?;
        if self.options.majority {
            set(client, "synchronous_standby_names", &self.names(member)).await?;
        }
        reload(client).await
    }

    /// Stops receiving, durably, and waits until all that was received is applied, as far as it is
    /// complete: then the position and the newest row belong together.
    async fn unfollow(&self, client: &Client, member: MemberId) -> Result<(), PostgresError> {
        set(client, "primary_conninfo", "").await?;
        reload(client).await?;
        let done = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) \
            AND (pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() \
                OR EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' \
                    AND lower(wait_event) IN ('recoverywalstream', 'recoveryretrieveretryinterval')))";
        wait_for(client, member, done, "stop receiving").await
    }

    /// Has a primary, or what is left of one, take no more writes, as far as a server can be told.
    async fn silence(&self, client: &Client, member: MemberId) -> Result<(), PostgresError> {
        set(client, "default_transaction_read_only", "on").await?;
        if self.options.majority {
            set(client, "synchronous_standby_names", NOBODY).await?;
        }
        reload(client).await?;
        let others = format!(
            "FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() AND application_name <> {}",
            quote(CONTROL)
        );
        let end = format!("SELECT pg_terminate_backend(pid) {others}");
        row(client, &end).await?;
        // Those that came since are read-only; whoever was there before must be gone.
        let gone = format!(
            "SELECT NOT EXISTS (SELECT {others} AND backend_start < {})",
            quote(&value(client, "SELECT now()").await?.unwrap_or_default())
        );
        wait_for(client, member, &gone, "end its sessions").await
    }

    async fn promote(
        &self,
        client: &Client,
        member: MemberId,
        promise: Promise,
        in_recovery: bool,
    ) -> Result<(), PostgresError> {
        if in_recovery {
            let promote = format!("SELECT pg_promote(true, {})", STEP_MAX.as_secs());
            if value(client, &promote).await?.as_deref() != Some("t") {
                return Err(PostgresError::Late {
                    member,
                    what: "leave recovery",
                });
            }
        } else {
            client
                .batch_execute("ALTER SYSTEM RESET default_transaction_read_only")
                .await?;
            if self.options.majority {
                set(client, "synchronous_standby_names", &self.names(member)).await?;
            }
            reload(client).await?;
        }
        self.reign(client, member, promise).await
    }

    /// Begins a reign: with this row the server counts as the primary.
    async fn reign(
        &self,
        client: &Client,
        member: MemberId,
        promise: Promise,
    ) -> Result<(), PostgresError> {
        let Promise { epoch, claimant } = promise;
        // One statement list is one transaction.
        client
            .batch_execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS stackbeam; \
                 CREATE TABLE IF NOT EXISTS stackbeam.reign ( \
                    epoch bigint PRIMARY KEY, \
                    claimant text NOT NULL, \
                    member integer NOT NULL, \
                    begun timestamptz NOT NULL DEFAULT now()); \
                 GRANT USAGE ON SCHEMA stackbeam TO PUBLIC; \
                 GRANT SELECT ON stackbeam.reign TO PUBLIC; \
                 INSERT INTO stackbeam.reign VALUES ({epoch}, '{claimant}', {member})"
            ))
            .await?;
        Ok(())
    }

    async fn follow(
        &self,
        client: &Client,
        member: MemberId,
        primary: MemberId,
    ) -> Result<(), PostgresError> {
        let conninfo = self.server(primary)?.conninfo_for(member);
        set(client, "primary_conninfo", &conninfo).await?;
        reload(client).await?;
        let shown = format!(
            "SELECT setting = {} FROM pg_settings WHERE name = 'primary_conninfo'",
            quote(&conninfo)
        );
        wait_for(client, member, &shown, "take the new primary over").await
    }

    /// What `member` waits for as the primary: as many others as make a majority with it.
    fn names(&self, member: MemberId) -> String {
        let others: Vec<_> = (0..)
            .zip(&self.servers)
            .map(|(id, _): (MemberId, &Server)| id)
            .filter(|id| *id != member)
            .map(standby_name)
            .collect();
        if others.is_empty() {
            return String::new();
        }
        let needed = self.servers.len() / 2;
        format!("ANY {needed} ({})", others.join(", "))
    }
}

/// What the server has promised, as it is on its disk.
async fn stored_promise(client: &Client) -> Result<Promise, PostgresError> {
    let stored = value(
        client,
        "SELECT setting FROM pg_file_settings WHERE name = 'stackbeam.promised' \
         ORDER BY seqno DESC LIMIT 1",
    )
    .await?;
    Ok(Promise::parse(stored.as_deref()))
}

/// Whether a server was set to take no more writes.
async fn is_silent(client: &Client) -> Result<bool, PostgresError> {
    let stored = value(
        client,
        "SELECT setting FROM pg_file_settings WHERE name = 'default_transaction_read_only' \
         ORDER BY seqno DESC LIMIT 1",
    )
    .await?;
    Ok(stored.as_deref() == Some("on"))
}

async fn set(client: &Client, name: &str, setting: &str) -> Result<(), PostgresError> {
    client
        .batch_execute(&format!("ALTER SYSTEM SET {name} = {}", quote(setting)))
        .await?;
    Ok(())
}

async fn reload(client: &Client) -> Result<(), PostgresError> {
    row(client, "SELECT pg_reload_conf()").await?;
    Ok(())
}

async fn wait_for(
    client: &Client,
    member: MemberId,
    question: &str,
    what: &'static str,
) -> Result<(), PostgresError> {
    let give_up = Instant::now() + STEP_MAX;
    while value(client, question).await?.as_deref() != Some("t") {
        if Instant::now() >= give_up {
            return Err(PostgresError::Late { member, what });
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// A literal, whatever `standard_conforming_strings` says.
fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    if escaped.contains('\\') {
        format!(" E'{escaped}'")
    } else {
        format!("'{escaped}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{PostgresOptions, ServerAddress};

    #[test]
    fn a_majority_counts_the_primary_in() {
        let names = |servers: usize| {
            let servers = (0..servers).map(|_| ServerAddress::new("postgres://db"));
            Postgres::new(servers, PostgresOptions::default())
                .expect("addresses")
                .names(0)
        };
        assert_eq!(names(1), "");
        assert_eq!(names(2), "ANY 1 (stackbeam_1)");
        assert_eq!(names(3), "ANY 1 (stackbeam_1, stackbeam_2)");
        assert_eq!(
            names(5),
            "ANY 2 (stackbeam_1, stackbeam_2, stackbeam_3, stackbeam_4)"
        );
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote("plain"), "'plain'");
        assert_eq!(quote("it's"), "'it''s'");
        assert_eq!(quote(r"a\b'c"), r" E'a\\b''c'");
    }
}
