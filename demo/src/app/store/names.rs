//! The directory: names that are unique over all shards, without a transaction over two shards.
//!
//! A name's row lives on the shard of its hash, the user on the shard of its id. A claim is used up at
//! the user's shard alone: there, using it (create, rename) and abandoning it exclude each other. So
//! whoever finds a name in the way of a dead registration first abandons that claim at its user's
//! shard, and only then moves the name; a late registration then fails, and no two users ever share one.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Claim, NameKind, Outcome, RESERVATION_MS, Refusal, WriteReply};
use crate::app::id::Id;

/// How long an abandoned claim is remembered: far longer than any request can be under way.
const ABANDONED_KEPT_MS: u64 = 3_600_000;

pub(super) fn reserve(db: &Connection, claim: &Claim) -> Outcome<WriteReply> {
    let found = db
        .prepare_cached(
            "SELECT user, claim, settled, reserved_ms FROM names WHERE kind = ? AND name = ?",
        )?
        .query_row(params![claim.kind.as_str(), claim.name], |row| {
            Ok((
                row.get::<_, Id>(0)?,
                row.get::<_, Id>(1)?,
                row.get::<_, bool>(2)?,
                row.get::<_, u64>(3)?,
            ))
        })
        .optional()?;
    match found {
        Some((user, held, ..)) if user == claim.user => Ok(Ok(WriteReply::Reserved(held))),
        Some((user, held, settled, reserved_ms)) => Ok(Err(Refusal::Taken {
            user,
            claim: held,
            settled: settled || claim.now_ms > reserved_ms.saturating_add(RESERVATION_MS),
        })),
        None => {
            db.prepare_cached("INSERT INTO names VALUES (?, ?, ?, ?, 0, ?)")?
                .execute(params![
                    claim.kind.as_str(),
                    claim.name,
                    claim.user,
                    claim.claim,
                    claim.now_ms
                ])?;
            Ok(Ok(WriteReply::Reserved(claim.claim)))
        }
    }
}

pub(super) fn take_over(db: &Connection, from: Id, claim: &Claim) -> Outcome<WriteReply> {
    db.prepare_cached(
        "UPDATE names SET user = ?1, claim = ?2, settled = 0, reserved_ms = ?3
         WHERE kind = ?4 AND name = ?5 AND claim = ?6",
    )?
    .execute(params![
        claim.user,
        claim.claim,
        claim.now_ms,
        claim.kind.as_str(),
        claim.name,
        from
    ])?;
    // Somebody else may have moved or released it meanwhile; then it is an ordinary reservation.
    reserve(db, claim)
}

pub(super) fn confirm(
    db: &Connection,
    kind: NameKind,
    name: &str,
    claim: Id,
) -> Outcome<WriteReply> {
    db.prepare_cached("UPDATE names SET settled = 1 WHERE kind = ? AND name = ? AND claim = ?")?
        .execute(params![kind.as_str(), name, claim])?;
    Ok(Ok(WriteReply::Done))
}

pub(super) fn release(
    db: &Connection,
    kind: NameKind,
    name: &str,
    claim: Id,
) -> Outcome<WriteReply> {
    db.prepare_cached("DELETE FROM names WHERE kind = ? AND name = ? AND claim = ?")?
        .execute(params![kind.as_str(), name, claim])?;
    Ok(Ok(WriteReply::Done))
}

pub(super) fn abandon(
    db: &Connection,
    user: Id,
    kind: NameKind,
    name: &str,
    claim: Id,
    now_ms: u64,
) -> Outcome<WriteReply> {
    let query = match kind {
        NameKind::Username => {
            "SELECT 1 FROM users WHERE id = ? AND username = ? AND username_claim = ?"
        }
        NameKind::Email => "SELECT 1 FROM users WHERE id = ? AND email = ? AND email_claim = ?",
    };
    if db
        .prepare_cached(query)?
        .exists(params![user, name, claim])?
    {
        return Ok(Ok(WriteReply::StillHeld));
    }
    give_up(db, claim, now_ms)?;
    Ok(Ok(WriteReply::Done))
}

/// Remembers that nothing may be done by this claim any more.
pub(super) fn give_up(db: &Connection, claim: Id, now_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM abandoned WHERE at_ms < ?")?
        .execute(params![now_ms.saturating_sub(ABANDONED_KEPT_MS)])?;
    db.prepare_cached("INSERT INTO abandoned VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![claim, now_ms])?;
    Ok(())
}

/// Whether the claim may still be used.
pub(super) fn usable(db: &Connection, claim: Id) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM abandoned WHERE claim = ?")?
        .exists(params![claim])
        .map(|given_up| !given_up)
}
