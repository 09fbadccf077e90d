//! The tables of one shard.

use rusqlite::Connection;

/// Creates what is missing. Safe to run at every start.
pub(crate) fn migrate(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS names (
           kind TEXT NOT NULL, name TEXT NOT NULL, user INTEGER NOT NULL, claim INTEGER NOT NULL,
           settled INTEGER NOT NULL, reserved_ms INTEGER NOT NULL, PRIMARY KEY (kind, name));
         CREATE TABLE IF NOT EXISTS abandoned (
           claim INTEGER NOT NULL PRIMARY KEY, at_ms INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS users (
           id INTEGER NOT NULL PRIMARY KEY,
           username TEXT NOT NULL, username_claim INTEGER NOT NULL,
           email TEXT NOT NULL, email_claim INTEGER NOT NULL,
           password_hash TEXT NOT NULL, bio TEXT, image TEXT,
           followees INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS follows (
           follower INTEGER NOT NULL, followee INTEGER NOT NULL, at_ms INTEGER NOT NULL,
           PRIMARY KEY (follower, followee));
         CREATE TABLE IF NOT EXISTS articles (
           id INTEGER NOT NULL PRIMARY KEY, author INTEGER NOT NULL,
           title TEXT NOT NULL, description TEXT NOT NULL, body TEXT NOT NULL,
           favorites INTEGER NOT NULL DEFAULT 0,
           comments INTEGER NOT NULL DEFAULT 0, comments_made INTEGER NOT NULL DEFAULT 0,
           created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL);
         CREATE INDEX IF NOT EXISTS articles_by_author ON articles (author, id);
         CREATE TABLE IF NOT EXISTS article_tags (
           article INTEGER NOT NULL, tag TEXT NOT NULL, place INTEGER NOT NULL,
           PRIMARY KEY (article, tag));
         CREATE INDEX IF NOT EXISTS article_tags_by_tag ON article_tags (tag, article);
         CREATE TABLE IF NOT EXISTS tags (
           tag TEXT NOT NULL PRIMARY KEY, articles INTEGER NOT NULL, used_ms INTEGER NOT NULL);
         CREATE INDEX IF NOT EXISTS tags_by_use ON tags (used_ms);
         CREATE TABLE IF NOT EXISTS counters (
           name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS favorites (
           article INTEGER NOT NULL, user INTEGER NOT NULL, at_ms INTEGER NOT NULL,
           PRIMARY KEY (article, user));
         CREATE INDEX IF NOT EXISTS favorites_by_user ON favorites (user, article);
         CREATE TABLE IF NOT EXISTS comments (
           article INTEGER NOT NULL, id INTEGER NOT NULL, author INTEGER NOT NULL,
           body TEXT NOT NULL, created_ms INTEGER NOT NULL, PRIMARY KEY (article, id));
         CREATE TABLE IF NOT EXISTS photos (
           id INTEGER NOT NULL PRIMARY KEY, owner INTEGER NOT NULL, original TEXT NOT NULL,
           for_profile INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, result TEXT,
           created_ms INTEGER NOT NULL, touched_ms INTEGER NOT NULL);
         CREATE INDEX IF NOT EXISTS photos_unfinished ON photos (touched_ms) WHERE result IS NULL;",
    )
}
