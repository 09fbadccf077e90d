//! Queries. They never change anything, so any copy of the shard can answer them.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};

use super::{
    ArticleRow, Author, COMMENTS_MAX, CommentRow, FOLLOWEES_MAX, Filter, Outcome, Read, ReadReply,
    Refusal, TAGS_LISTED_MAX, Thing, photos, users,
};
use crate::app::id::Id;

/// Answers a query.
pub(crate) fn read(db: &Connection, query: &Read) -> Outcome<ReadReply> {
    Ok(Ok(match query {
        Read::Name { kind, name } => ReadReply::Name(
            db.prepare_cached("SELECT user FROM names WHERE kind = ? AND name = ?")?
                .query_row(params![kind.as_str(), name], |row| row.get(0))
                .optional()?,
        ),
        Read::Users(ids) => ReadReply::Users(
            ids.iter()
                .filter_map(|id| users::find(db, *id).transpose())
                .collect::<rusqlite::Result<_>>()?,
        ),
        Read::Follows { follower, of } => {
            let mut query =
                db.prepare_cached("SELECT 1 FROM follows WHERE follower = ? AND followee = ?")?;
            let mut found = Vec::new();
            for id in of {
                if query.exists(params![follower, id])? {
                    found.push(*id);
                }
            }
            ReadReply::Ids(found)
        }
        Read::Followees(follower) => ReadReply::Ids(
            db.prepare_cached(
                "SELECT followee FROM follows WHERE follower = ? ORDER BY followee LIMIT ?",
            )?
            .query_map(params![follower, FOLLOWEES_MAX], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?,
        ),
        Read::Article { id, viewer } => match article(db, *id, *viewer)? {
            Some(found) => ReadReply::Article(found),
            None => return Ok(Err(Refusal::NotFound(Thing::Article))),
        },
        Read::Articles {
            filter,
            viewer,
            first,
        } => articles(db, filter, *viewer, *first)?,
        Read::Comments(id) => {
            if article(db, *id, None)?.is_none() {
                return Ok(Err(Refusal::NotFound(Thing::Article)));
            }
            ReadReply::Comments(
                db.prepare_cached(
                    "SELECT id, author, body, created_ms FROM comments
                     WHERE article = ? ORDER BY id DESC LIMIT ?",
                )?
                .query_map(params![id, COMMENTS_MAX], |row| {
                    Ok(CommentRow {
                        id: row.get(0)?,
                        author: row.get(1)?,
                        body: row.get(2)?,
                        created_ms: row.get(3)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?,
            )
        }
        Read::Tags => ReadReply::Tags(
            db.prepare_cached(
                "SELECT tag, articles, used_ms FROM tags ORDER BY used_ms DESC, tag LIMIT ?",
            )?
            .query_map(params![TAGS_LISTED_MAX], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<rusqlite::Result<_>>()?,
        ),
        Read::Photo(id) => match photos::find(db, *id)? {
            Some(photo) => ReadReply::Photo(photo),
            None => return Ok(Err(Refusal::NotFound(Thing::Photo))),
        },
        Read::Unfinished { before_ms } => ReadReply::Photos(
            db.prepare_cached(&format!(
                "SELECT {} FROM photos WHERE result IS NULL AND touched_ms < ?
                 ORDER BY touched_ms LIMIT ?",
                photos::COLUMNS
            ))?
            .query_map(params![before_ms, UNFINISHED_LISTED_MAX], photos::from_row)?
            .collect::<rusqlite::Result<_>>()?,
        ),
    }))
}

/// Photos that one look for unfinished ones returns.
const UNFINISHED_LISTED_MAX: u32 = 100;

const COLUMNS: &str = "a.id, a.author, u.username, u.bio, u.image, a.title, a.description, a.body,
    (SELECT json_group_array(tag) FROM
      (SELECT tag FROM article_tags WHERE article = a.id ORDER BY place)),
    EXISTS (SELECT 1 FROM favorites f WHERE f.article = a.id AND f.user = ?1),
    a.favorites, a.created_ms, a.updated_ms";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ArticleRow> {
    let tags: String = row.get(8)?;
    Ok(ArticleRow {
        id: row.get(0)?,
        author: Author {
            id: row.get(1)?,
            username: row.get(2)?,
            bio: row.get(3)?,
            image: row.get(4)?,
        },
        title: row.get(5)?,
        description: row.get(6)?,
        body: row.get(7)?,
        tags: serde_json::from_str(&tags).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                8,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })?,
        favorited: row.get(9)?,
        favorites: row.get(10)?,
        created_ms: row.get(11)?,
        updated_ms: row.get(12)?,
    })
}

pub(super) fn article(
    db: &Connection,
    id: Id,
    viewer: Option<Id>,
) -> rusqlite::Result<Option<ArticleRow>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM articles a JOIN users u ON u.id = a.author WHERE a.id = ?2"
    ))?
    .query_row(params![viewer, id], from_row)
    .optional()
}

fn articles(
    db: &Connection,
    filter: &Filter,
    viewer: Option<Id>,
    first: u32,
) -> rusqlite::Result<ReadReply> {
    let mut conditions = Vec::new();
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(viewer)];
    match filter {
        Filter::Global {
            tag,
            author,
            favorited,
        } => {
            if let Some(tag) = tag {
                values.push(Box::new(tag.clone()));
                conditions.push(format!(
                    "a.id IN (SELECT article FROM article_tags WHERE tag = ?{})",
                    values.len()
                ));
            }
            if let Some(author) = author {
                values.push(Box::new(*author));
                conditions.push(format!("a.author = ?{}", values.len()));
            }
            if let Some(user) = favorited {
                values.push(Box::new(*user));
                conditions.push(format!(
                    "a.id IN (SELECT article FROM favorites WHERE user = ?{})",
                    values.len()
                ));
            }
        }
        Filter::By(authors) => {
            values.push(Box::new(serde_json::to_string(authors).map_err(
                |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)),
            )?));
            conditions.push("a.author IN (SELECT value FROM json_each(?2))".to_owned());
        }
    }
    let count: u64 = if conditions.is_empty() {
        db.prepare_cached("SELECT value FROM counters WHERE name = 'articles'")?
            .query_row([], |row| row.get(0))
            .optional()?
            .unwrap_or(0)
    } else {
        // The viewer's parameter has to appear for the numbers to fit.
        let all = conditions.join(" AND ");
        db.prepare_cached(&format!(
            "SELECT count(*) FROM articles a WHERE ?1 IS ?1 AND {all}"
        ))?
        .query_row(params_from_iter(values.iter()), |row| row.get(0))?
    };
    let all = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    values.push(Box::new(first));
    let articles = db
        .prepare_cached(&format!(
            "SELECT {} FROM articles a JOIN users u ON u.id = a.author {all}
             ORDER BY a.id DESC LIMIT ?{}",
            COLUMNS.replace("a.body", "''"),
            values.len()
        ))?
        .query_map(params_from_iter(values.iter()), from_row)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(ReadReply::Articles { articles, count })
}
