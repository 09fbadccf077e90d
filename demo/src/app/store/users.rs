//! Users and whom they follow, on the user's shard.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::names::{give_up, usable};
use super::{
    FOLLOWEES_MAX, Held, NameKind, NewUser, Outcome, Refusal, Thing, UserChanges, UserRow,
    WriteReply,
};
use crate::app::id::Id;

pub(super) const COLUMNS: &str = "id, username, email, password_hash, bio, image";

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<UserRow> {
    Ok(UserRow {
        id: row.get(0)?,
        username: row.get(1)?,
        email: row.get(2)?,
        password_hash: row.get(3)?,
        bio: row.get(4)?,
        image: row.get(5)?,
    })
}

pub(super) fn find(db: &Connection, id: Id) -> rusqlite::Result<Option<UserRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE id = ?"))?
        .query_row(params![id], from_row)
        .optional()
}

pub(super) fn create(db: &Connection, user: &NewUser) -> Outcome<WriteReply> {
    for (kind, held) in [
        (NameKind::Username, &user.username),
        (NameKind::Email, &user.email),
    ] {
        if !usable(db, held.claim)? {
            return Ok(Err(Refusal::Abandoned {
                kind,
                claim: held.claim,
            }));
        }
    }
    db.prepare_cached(
        "INSERT INTO users (id, username, username_claim, email, email_claim, password_hash, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        user.id,
        user.username.name,
        user.username.claim,
        user.email.name,
        user.email.claim,
        user.password_hash,
        user.now_ms
    ])?;
    Ok(find(db, user.id)?
        .map(WriteReply::User)
        .ok_or(Refusal::NotFound(Thing::User)))
}

pub(super) fn update(
    db: &Connection,
    id: Id,
    changes: &UserChanges,
    now_ms: u64,
) -> Outcome<WriteReply> {
    let before = db
        .prepare_cached(
            "SELECT username, username_claim, email, email_claim FROM users WHERE id = ?",
        )?
        .query_row(params![id], |row| {
            Ok([
                (
                    NameKind::Username,
                    Held {
                        name: row.get(0)?,
                        claim: row.get(1)?,
                    },
                ),
                (
                    NameKind::Email,
                    Held {
                        name: row.get(2)?,
                        claim: row.get(3)?,
                    },
                ),
            ])
        })
        .optional()?;
    let Some(before) = before else {
        return Ok(Err(Refusal::NotFound(Thing::User)));
    };
    let mut freed = Vec::new();
    for ((kind, old), change) in before.into_iter().zip([&changes.username, &changes.email]) {
        let Some(new) = change.set() else { continue };
        if *new == old {
            continue;
        }
        if !usable(db, new.claim)? {
            return Ok(Err(Refusal::Abandoned {
                kind,
                claim: new.claim,
            }));
        }
        let set = match kind {
            NameKind::Username => "UPDATE users SET username = ?, username_claim = ? WHERE id = ?",
            NameKind::Email => "UPDATE users SET email = ?, email_claim = ? WHERE id = ?",
        };
        db.prepare_cached(set)?
            .execute(params![new.name, new.claim, id])?;
        // From here on the old claim is dead, so the directory may forget it at any later time.
        if old.claim != new.claim {
            give_up(db, old.claim, now_ms)?;
        }
        freed.push((kind, old));
    }
    if let Some(hash) = changes.password_hash.set() {
        db.prepare_cached("UPDATE users SET password_hash = ? WHERE id = ?")?
            .execute(params![hash, id])?;
    }
    if let Some(bio) = changes.bio.set() {
        db.prepare_cached("UPDATE users SET bio = ? WHERE id = ?")?
            .execute(params![bio, id])?;
    }
    if let Some(image) = changes.image.set() {
        db.prepare_cached("UPDATE users SET image = ? WHERE id = ?")?
            .execute(params![image, id])?;
    }
    Ok(find(db, id)?
        .map(|user| WriteReply::Updated { user, freed })
        .ok_or(Refusal::NotFound(Thing::User)))
}

pub(super) fn follow(
    db: &Connection,
    follower: Id,
    followee: Id,
    now_ms: u64,
) -> Outcome<WriteReply> {
    let added = db
        .prepare_cached("INSERT INTO follows VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![follower, followee, now_ms])?;
    if added > 0 {
        let within = db
            .prepare_cached(
                "UPDATE users SET followees = followees + 1 WHERE id = ? AND followees < ?",
            )?
            .execute(params![follower, FOLLOWEES_MAX])?;
        if within == 0 {
            return Ok(Err(Refusal::TooMany {
                what: "profiles followed".to_owned(),
                max: FOLLOWEES_MAX,
            }));
        }
    }
    Ok(Ok(WriteReply::Done))
}

pub(super) fn unfollow(db: &Connection, follower: Id, followee: Id) -> Outcome<WriteReply> {
    let removed = db
        .prepare_cached("DELETE FROM follows WHERE follower = ? AND followee = ?")?
        .execute(params![follower, followee])?;
    if removed > 0 {
        db.prepare_cached("UPDATE users SET followees = followees - 1 WHERE id = ?")?
            .execute(params![follower])?;
    }
    Ok(Ok(WriteReply::Done))
}
