//! What a server says about itself, and what that means.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::PostgresError;
use crate::evidence::{Epoch, Evidence, Lsn, MemberId, Role};

/// One round trip, for any user. What replay and receive functions say outlives a promotion, and the
/// current position is an error in recovery, hence the `CASE`s. A replica that was restarted without its
/// primary names the start of a segment as received, below what it has replayed, hence `greatest`.
const ABOUT: &str = "SELECT pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() \
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
        ELSE pg_current_wal_flush_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
        ELSE pg_current_wal_insert_lsn() END, \
    current_setting('stackbeam.promised', true), \
    (SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'), \
    (SELECT system_identifier FROM pg_control_system()), \
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), \
    to_regclass('stackbeam.reign') IS NOT NULL";

const REIGN: &str = "SELECT epoch, claimant FROM stackbeam.reign ORDER BY epoch DESC LIMIT 1";

/// An epoch and who holds it. Kept as `epoch:claimant` in the setting `stackbeam.promised`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) epoch: Epoch,
    pub(super) claimant: u64,
}

impl Promise {
    /// Nothing, an empty text and rubbish promise nothing.
    pub(super) fn parse(text: Option<&str>) -> Self {
        text.and_then(|text| text.split_once(':'))
            .and_then(|(epoch, claimant)| {
                Some(Self {
                    epoch: epoch.parse().ok()?,
                    claimant: claimant.parse().ok()?,
                })
            })
            .unwrap_or_default()
    }
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.claimant)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) in_recovery: bool,
    pub(super) received: Lsn,
    pub(super) applied: Lsn,
    /// As of the configuration that this session has read.
    pub(super) promised: Promise,
    /// The newest row of `stackbeam.reign`, which travels with the log.
    pub(super) reign: Promise,
    pub(super) conninfo: Option<String>,
    pub(super) system: u64,
    /// How long ago the last replayed transaction was committed: more than the lag, when nothing is
    /// written.
    pub(super) replayed_ago: Option<Duration>,
    pub(super) has_reign: bool,
}

impl Answer {
    pub(super) async fn of(client: &Client) -> Result<Self, PostgresError> {
        let row = row(client, ABOUT).await?.ok_or(PostgresError::Mute)?;
        let mut answer = Self::parse(&row).ok_or(PostgresError::Mute)?;
        if answer.has_reign {
            answer.reign = reign(client).await?;
        }
        Ok(answer)
    }

    fn parse(row: &SimpleQueryRow) -> Option<Self> {
        Some(Self {
            in_recovery: row.try_get(0).ok()?? == "t",
            received: row.try_get(1).ok()?.map_or(Some(0), parse_position)?,
            applied: row.try_get(2).ok()?.map_or(Some(0), parse_position)?,
            promised: Promise::parse(row.try_get(3).ok()?),
            reign: Promise::default(),
            conninfo: row.try_get(4).ok()?.map(str::to_owned),
            system: row.try_get(5).ok()??.parse().ok()?,
            replayed_ago: row
                .try_get(6)
                .ok()?
                .and_then(|text| Duration::try_from_secs_f64(text.parse().ok()?).ok()),
            has_reign: row.try_get(7).ok()?? == "t",
        })
    }

    /// What the server has promised: by its configuration, or by the log that it has taken over.
    pub(super) const fn promise(&self) -> Promise {
        if self.reign.epoch > self.promised.epoch {
            self.reign
        } else {
            self.promised
        }
    }

    /// Whether it takes writes: nobody is promised a reign after its own.
    pub(super) fn reigns(&self) -> bool {
        !self.in_recovery && self.promise() == self.reign
    }

    pub(super) fn evidence(&self, following: Option<MemberId>, age: Duration) -> Evidence {
        let promise = self.promise();
        let role = if self.reigns() {
            Role::Primary
        } else {
            Role::Replica
        };
        let mut evidence =
            Evidence::new(role, promise.epoch).with_positions(self.received, self.applied);
        evidence.claimant = promise.claimant;
        evidence.last_epoch = self.reign.epoch;
        evidence.following = following.filter(|_| self.in_recovery);
        if role == Role::Replica {
            evidence.age = age;
        }
        evidence
    }
}

pub(super) async fn reign(client: &Client) -> Result<Promise, PostgresError> {
    let row = row(client, REIGN).await?;
    let parse = |row: SimpleQueryRow| {
        Some(Promise {
            epoch: row.try_get(0).ok()??.parse().ok()?,
            claimant: row.try_get(1).ok()??.parse().ok()?,
        })
    };
    Ok(row.and_then(parse).unwrap_or_default())
}

/// The first row of one statement.
pub(super) async fn row(
    client: &Client,
    sql: &str,
) -> Result<Option<SimpleQueryRow>, PostgresError> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }))
}

/// The first column of the first row of one statement.
pub(super) async fn value(client: &Client, sql: &str) -> Result<Option<String>, PostgresError> {
    let row = row(client, sql).await?;
    Ok(row.and_then(|row| row.try_get(0).ok().flatten().map(str::to_owned)))
}

/// The end of the last record. Where one ends with a page, the place for the next comes after the new
/// page's header, of 24 bytes, or 40 at the start of a segment; replicas never name that place, and so
/// would seem to be behind for as long as nothing is written. No commit record fits between the two.
pub(super) fn parse_position(text: &str) -> Option<Lsn> {
    const PAGE: u64 = 8 << 10;
    const SEGMENT_MIN: u64 = 1 << 20;
    let lsn = parse_lsn(text)?;
    Some(if lsn % PAGE == 24 {
        lsn - 24
    } else if lsn % SEGMENT_MIN == 40 {
        lsn - 40
    } else {
        lsn
    })
}

/// `pg_lsn` as text: two hexadecimal numbers of up to 32 bits.
fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let part = |text: &str| {
        // `from_str_radix` would take a sign.
        let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    Some(u64::from(part(high)?) << 32 | u64::from(part(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(in_recovery: bool, promised: (u64, u64), reign: (u64, u64)) -> Answer {
        let promise = |(epoch, claimant)| Promise { epoch, claimant };
        Answer {
            in_recovery,
            received: 9,
            applied: 7,
            promised: promise(promised),
            reign: promise(reign),
            conninfo: None,
            system: 1,
            replayed_ago: None,
            has_reign: true,
        }
    }

    #[test]
    fn positions_are_read_as_the_server_writes_them() {
        assert_eq!(parse_lsn("0/0"), Some(0));
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse_lsn("FFFFFFFF/FFFFFFFF"), Some(u64::MAX));
        for bad in [
            "",
            "/",
            "1/",
            "/1",
            "+1/0",
            "1/100000000",
            "0/-1",
            "1/2/3",
            "x/1",
        ] {
            assert_eq!(parse_lsn(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_header_of_a_page_that_nothing_is_on_is_no_progress() {
        assert_eq!(parse_position("0/3000000"), Some(0x300_0000));
        assert_eq!(parse_position("0/3000028"), Some(0x300_0000));
        assert_eq!(parse_position("0/3002018"), Some(0x300_2000));
        for other in ["0/3002028", "0/3002020", "0/3000030", "0/3001FF8"] {
            assert_eq!(parse_position(other), parse_lsn(other), "{other}");
        }
    }

    #[test]
    fn promises_survive_their_text_and_rubbish_promises_nothing() {
        let promise = Promise {
            epoch: 7,
            claimant: u64::MAX,
        };
        assert_eq!(Promise::parse(Some(&promise.to_string())), promise);
        for bad in [None, Some(""), Some("7"), Some("a:b"), Some("7:-1")] {
            assert_eq!(Promise::parse(bad), Promise::default());
        }
    }

    #[test]
    fn only_a_server_whose_reign_nobody_was_promised_to_end_is_a_primary() {
        let role = |answer: Answer| answer.evidence(None, Duration::ZERO).role;
        // As Postgres comes: no promise and no reign.
        assert_eq!(role(answer(false, (0, 0), (0, 0))), Role::Primary);
        assert_eq!(role(answer(false, (2, 5), (2, 5))), Role::Primary);
        // Its own promise came with the log of another server.
        assert_eq!(role(answer(false, (1, 5), (2, 5))), Role::Primary);
        assert_eq!(role(answer(true, (2, 5), (2, 5))), Role::Replica);
        // Fenced, or promoted by an order of which the end never came.
        assert_eq!(role(answer(false, (3, 5), (2, 5))), Role::Replica);
        assert_eq!(role(answer(false, (2, 6), (2, 5))), Role::Replica);
    }

    #[test]
    fn what_came_with_the_log_is_promised_too() {
        let evidence = answer(true, (1, 5), (2, 6)).evidence(Some(0), Duration::MAX);
        assert_eq!((evidence.epoch, evidence.claimant), (2, 6));
        assert_eq!((evidence.last_epoch, evidence.following), (2, Some(0)));
    }
}
