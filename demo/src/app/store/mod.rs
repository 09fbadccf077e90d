//! One shard's state machine: typed commands and queries over SQLite.
//!
//! [`write()`] and [`read()`] return two layers: the outer error is the database's (disk full, corrupt; the
//! outcome is not an answer), the inner one is a [`Refusal`], which is an answer and changes nothing.
//! Every table has a declared primary key without NULL, as changesets need it; nothing depends on
//! rowids, clocks or chance, so the same command on the same state has the same effect everywhere.

mod articles;
mod names;
mod photos;
mod read;
mod schema;
mod types;
mod users;

#[cfg(test)]
mod tests;

use rusqlite::{Connection, Transaction};

pub(crate) use read::read;
pub(crate) use schema::migrate;
pub(crate) use types::*;

/// What a command or query came to.
pub(crate) type Outcome<T> = rusqlite::Result<Result<T, Refusal>>;

/// Applies a command. A refusal changes nothing. The caller commits.
pub(crate) fn write(tx: &Transaction<'_>, command: &Write) -> Outcome<WriteReply> {
    // A command may find out late that it must refuse; what it did by then is taken back.
    tx.execute_batch("SAVEPOINT command")?;
    let outcome = apply(tx, command);
    if !matches!(outcome, Ok(Ok(_))) {
        tx.execute_batch("ROLLBACK TO command")?;
    }
    tx.execute_batch("RELEASE command")?;
    outcome
}

fn apply(db: &Connection, command: &Write) -> Outcome<WriteReply> {
    match command {
        Write::ReserveName(claim) => names::reserve(db, claim),
        Write::TakeOverName { from, claim } => names::take_over(db, *from, claim),
        Write::ConfirmName { kind, name, claim } => names::confirm(db, *kind, name, *claim),
        Write::ReleaseName { kind, name, claim } => names::release(db, *kind, name, *claim),
        Write::AbandonClaim {
            user,
            kind,
            name,
            claim,
            now_ms,
        } => names::abandon(db, *user, *kind, name, *claim, *now_ms),
        Write::CreateUser(user) => users::create(db, user),
        Write::UpdateUser {
            id,
            changes,
            now_ms,
        } => users::update(db, *id, changes, *now_ms),
        Write::Follow {
            follower,
            followee,
            now_ms,
        } => users::follow(db, *follower, *followee, *now_ms),
        Write::Unfollow { follower, followee } => users::unfollow(db, *follower, *followee),
        Write::CreateArticle(article) => articles::create(db, article),
        Write::UpdateArticle {
            id,
            actor,
            changes,
            now_ms,
        } => articles::update(db, *id, *actor, changes, *now_ms),
        Write::DeleteArticle { id, actor } => articles::delete(db, *id, *actor),
        Write::Favorite {
            article,
            user,
            on,
            now_ms,
        } => articles::favorite(db, *article, *user, *on, *now_ms),
        Write::CreateComment {
            article,
            author,
            body,
            now_ms,
        } => articles::comment(db, *article, *author, body, *now_ms),
        Write::DeleteComment {
            article,
            comment,
            actor,
        } => articles::delete_comment(db, *article, *comment, *actor),
        Write::CreatePhoto(photo) => photos::create(db, photo),
        Write::StartPhoto { id, now_ms } => photos::start(db, *id, *now_ms),
        Write::FinishPhoto { id, result, now_ms } => photos::finish(db, *id, result, *now_ms),
    }
}
