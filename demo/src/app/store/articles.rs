//! Articles, tags, favourites and comments, on the author's shard.

use rusqlite::{Connection, OptionalExtension, params};

use super::read::article;
use super::{
    ArticleChanges, COMMENTS_MAX, CommentRow, NewArticle, Outcome, Refusal, Thing, WriteReply,
};
use crate::app::id::Id;

fn reply(db: &Connection, id: Id, viewer: Id) -> Outcome<WriteReply> {
    Ok(article(db, id, Some(viewer))?
        .map(WriteReply::Article)
        .ok_or(Refusal::NotFound(Thing::Article)))
}

pub(super) fn create(db: &Connection, new: &NewArticle) -> Outcome<WriteReply> {
    if super::users::find(db, new.author)?.is_none() {
        return Ok(Err(Refusal::NotFound(Thing::User)));
    }
    let added = db
        .prepare_cached(
            "INSERT INTO articles (id, author, title, description, body, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            new.id,
            new.author,
            new.title,
            new.description,
            new.body,
            new.now_ms
        ])?;
    if added > 0 {
        tag(db, new.id, &new.tags, new.now_ms)?;
        count(db, 1)?;
    }
    reply(db, new.id, new.author)
}

/// Adds to the number of articles in this shard.
fn count(db: &Connection, change: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO counters VALUES ('articles', ?1)
         ON CONFLICT (name) DO UPDATE SET value = value + ?1",
    )?
    .execute(params![change])?;
    Ok(())
}

fn tag(db: &Connection, id: Id, tags: &[String], now_ms: u64) -> rusqlite::Result<()> {
    for (place, tag) in tags.iter().enumerate() {
        let added = db
            .prepare_cached("INSERT INTO article_tags VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
            .execute(params![id, tag, i64::try_from(place).unwrap_or(i64::MAX)])?;
        if added > 0 {
            db.prepare_cached(
                "INSERT INTO tags VALUES (?1, 1, ?2) ON CONFLICT (tag)
                 DO UPDATE SET articles = articles + 1, used_ms = max(used_ms, ?2)",
            )?
            .execute(params![tag, now_ms])?;
        }
    }
    Ok(())
}

fn untag(db: &Connection, id: Id) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE tags SET articles = articles - 1
         WHERE tag IN (SELECT tag FROM article_tags WHERE article = ?)",
    )?
    .execute(params![id])?;
    db.prepare_cached(
        "DELETE FROM tags WHERE articles = 0
         AND tag IN (SELECT tag FROM article_tags WHERE article = ?)",
    )?
    .execute(params![id])?;
    db.prepare_cached("DELETE FROM article_tags WHERE article = ?")?
        .execute(params![id])?;
    Ok(())
}

/// Says why `actor` may not change the article, if so.
fn may_change(db: &Connection, id: Id, actor: Id) -> rusqlite::Result<Result<(), Refusal>> {
    let author: Option<Id> = db
        .prepare_cached("SELECT author FROM articles WHERE id = ?")?
        .query_row(params![id], |row| row.get(0))
        .optional()?;
    Ok(match author {
        None => Err(Refusal::NotFound(Thing::Article)),
        Some(author) if author != actor => Err(Refusal::Forbidden(Thing::Article)),
        Some(_) => Ok(()),
    })
}

pub(super) fn update(
    db: &Connection,
    id: Id,
    actor: Id,
    changes: &ArticleChanges,
    now_ms: u64,
) -> Outcome<WriteReply> {
    if let Err(refusal) = may_change(db, id, actor)? {
        return Ok(Err(refusal));
    }
    // Two updates within a millisecond still show two times.
    db.prepare_cached(
        "UPDATE articles SET title = coalesce(?1, title), description = coalesce(?2, description),
         body = coalesce(?3, body), updated_ms = max(?4, updated_ms + 1) WHERE id = ?5",
    )?
    .execute(params![
        changes.title.set(),
        changes.description.set(),
        changes.body.set(),
        now_ms,
        id
    ])?;
    if let Some(tags) = changes.tags.set() {
        untag(db, id)?;
        tag(db, id, tags, now_ms)?;
    }
    reply(db, id, actor)
}

pub(super) fn delete(db: &Connection, id: Id, actor: Id) -> Outcome<WriteReply> {
    if let Err(refusal) = may_change(db, id, actor)? {
        return Ok(Err(refusal));
    }
    untag(db, id)?;
    for query in [
        "DELETE FROM favorites WHERE article = ?",
        "DELETE FROM comments WHERE article = ?",
        "DELETE FROM articles WHERE id = ?",
    ] {
        db.prepare_cached(query)?.execute(params![id])?;
    }
    count(db, -1)?;
    Ok(Ok(WriteReply::Done))
}

pub(super) fn favorite(
    db: &Connection,
    id: Id,
    user: Id,
    on: bool,
    now_ms: u64,
) -> Outcome<WriteReply> {
    if article(db, id, None)?.is_none() {
        return Ok(Err(Refusal::NotFound(Thing::Article)));
    }
    let change = if on {
        db.prepare_cached("INSERT INTO favorites VALUES (?, ?, ?) ON CONFLICT DO NOTHING")?
            .execute(params![id, user, now_ms])?;
        db.changes()
    } else {
        db.prepare_cached("DELETE FROM favorites WHERE article = ? AND user = ?")?
            .execute(params![id, user])?;
        db.changes()
    };
    if change > 0 {
        db.prepare_cached("UPDATE articles SET favorites = favorites + ? WHERE id = ?")?
            .execute(params![if on { 1_i64 } else { -1 }, id])?;
    }
    reply(db, id, user)
}

pub(super) fn comment(
    db: &Connection,
    id: Id,
    author: Id,
    body: &str,
    now_ms: u64,
) -> Outcome<WriteReply> {
    let numbers: Option<(u64, u64)> = db
        .prepare_cached("SELECT comments, comments_made FROM articles WHERE id = ?")?
        .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((there, made)) = numbers else {
        return Ok(Err(Refusal::NotFound(Thing::Article)));
    };
    if there >= COMMENTS_MAX {
        return Ok(Err(Refusal::TooMany {
            what: "comments".to_owned(),
            max: COMMENTS_MAX,
        }));
    }
    let comment = CommentRow {
        id: made + 1,
        author,
        body: body.to_owned(),
        created_ms: now_ms,
    };
    db.prepare_cached("INSERT INTO comments VALUES (?, ?, ?, ?, ?)")?
        .execute(params![id, comment.id, author, body, now_ms])?;
    db.prepare_cached(
        "UPDATE articles SET comments = comments + 1, comments_made = comments_made + 1 WHERE id = ?",
    )?
    .execute(params![id])?;
    Ok(Ok(WriteReply::Comment(comment)))
}

pub(super) fn delete_comment(
    db: &Connection,
    id: Id,
    comment: u64,
    actor: Id,
) -> Outcome<WriteReply> {
    if article(db, id, None)?.is_none() {
        return Ok(Err(Refusal::NotFound(Thing::Article)));
    }
    let author: Option<Id> = db
        .prepare_cached("SELECT author FROM comments WHERE article = ? AND id = ?")?
        .query_row(params![id, comment], |row| row.get(0))
        .optional()?;
    match author {
        None => Ok(Err(Refusal::NotFound(Thing::Comment))),
        Some(author) if author != actor => Ok(Err(Refusal::Forbidden(Thing::Comment))),
        Some(_) => {
            db.prepare_cached("DELETE FROM comments WHERE article = ? AND id = ?")?
                .execute(params![id, comment])?;
            db.prepare_cached("UPDATE articles SET comments = comments - 1 WHERE id = ?")?
                .execute(params![id])?;
            Ok(Ok(WriteReply::Done))
        }
    }
}
