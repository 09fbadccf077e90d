//! Photos and what became of them, on the owner's shard.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{NewPhoto, Outcome, PhotoResult, PhotoRow, Refusal, Thing, WriteReply};
use crate::app::id::Id;

pub(super) const COLUMNS: &str = "id, owner, original, attempts, result, created_ms";

/// The variant that becomes a profile image, by its place in the list.
const PROFILE_VARIANT: usize = 1;

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<PhotoRow> {
    let result: Option<String> = row.get(4)?;
    let result = result
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error))
        })?;
    Ok(PhotoRow {
        id: row.get(0)?,
        owner: row.get(1)?,
        original: row.get(2)?,
        attempts: row.get(3)?,
        result,
        created_ms: row.get(5)?,
    })
}

pub(super) fn find(db: &Connection, id: Id) -> rusqlite::Result<Option<PhotoRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM photos WHERE id = ?"))?
        .query_row(params![id], from_row)
        .optional()
}

fn reply(db: &Connection, id: Id) -> Outcome<WriteReply> {
    Ok(find(db, id)?
        .map(WriteReply::Photo)
        .ok_or(Refusal::NotFound(Thing::Photo)))
}

pub(super) fn create(db: &Connection, photo: &NewPhoto) -> Outcome<WriteReply> {
    db.prepare_cached(
        "INSERT INTO photos (id, owner, original, for_profile, created_ms, touched_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        photo.id,
        photo.owner,
        photo.original,
        photo.for_profile,
        photo.now_ms
    ])?;
    reply(db, photo.id)
}

pub(super) fn start(db: &Connection, id: Id, now_ms: u64) -> Outcome<WriteReply> {
    db.prepare_cached(
        "UPDATE photos SET attempts = attempts + 1, touched_ms = ? WHERE id = ? AND result IS NULL",
    )?
    .execute(params![now_ms, id])?;
    reply(db, id)
}

/// The first result stays; later ones change nothing and get the first one back.
pub(super) fn finish(
    db: &Connection,
    id: Id,
    result: &PhotoResult,
    now_ms: u64,
) -> Outcome<WriteReply> {
    let text = serde_json::to_string(result)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let first = db
        .prepare_cached(
            "UPDATE photos SET result = ?, touched_ms = ? WHERE id = ? AND result IS NULL",
        )?
        .execute(params![text, now_ms, id])?
        > 0;
    if let (true, PhotoResult::Ready(variants)) = (first, result)
        && let Some(variant) = variants.get(PROFILE_VARIANT).or_else(|| variants.last())
    {
        db.prepare_cached(
            "UPDATE users SET image = ?1 WHERE id = (SELECT owner FROM photos WHERE id = ?2 AND for_profile)",
        )?
        .execute(params![format!("/photos/{}", variant.file), id])?;
    }
    reply(db, id)
}
