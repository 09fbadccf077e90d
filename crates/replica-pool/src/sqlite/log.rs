//! The durable log of one copy, and its promise: a SQLite file that syncs at every commit.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::message::{Entry, SHIPMENT_BYTES_MAX};
use crate::evidence::{Epoch, Lsn};

/// What a copy must not forget. Kept in memory too, as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The highest epoch promised, and to whom.
    pub(super) promised: Epoch,
    pub(super) claimant: u64,
    /// Whether the copy has all that it may ever have acknowledged.
    pub(super) voter: bool,
    /// The record that the kept log follows; it is in the state already.
    pub(super) base: (Lsn, Epoch),
    /// The last record.
    pub(super) last: (Lsn, Epoch),
}

#[derive(Debug)]
pub(super) struct Log {
    db: Connection,
    head: Head,
}

impl Log {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        // FULL: a commit is on disk before it returns. That is what an acknowledgement rests on.
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
             CREATE TABLE IF NOT EXISTS entries (
               lsn INTEGER NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, body BLOB);
             CREATE TABLE IF NOT EXISTS head (
               only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
               promised INTEGER NOT NULL, claimant INTEGER NOT NULL, voter INTEGER NOT NULL,
               base_lsn INTEGER NOT NULL, base_epoch INTEGER NOT NULL);
             INSERT INTO head VALUES (1, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING;",
        )?;
        let mut head = db.query_row(
            "SELECT promised, claimant, voter, base_lsn, base_epoch FROM head",
            [],
            |row| {
                Ok(Head {
                    promised: row.get(0)?,
                    claimant: row.get::<_, i64>(1)?.cast_unsigned(),
                    voter: row.get(2)?,
                    base: (row.get(3)?, row.get(4)?),
                    last: (0, 0),
                })
            },
        )?;
        head.last = db
            .query_row(
                "SELECT lsn, epoch FROM entries ORDER BY lsn DESC LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?
            .unwrap_or(head.base);
        Ok(Self { db, head })
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// Changes the head alone, durably.
    pub(super) fn set(&mut self, change: impl FnOnce(&mut Head)) -> rusqlite::Result<()> {
        self.commit(&[], None, change)
    }

    /// Appends records, durably, and changes the head with them.
    pub(super) fn append(
        &mut self,
        entries: &[Entry],
        change: impl FnOnce(&mut Head),
    ) -> rusqlite::Result<()> {
        self.commit(entries, None, change)
    }

    /// Cuts off what comes after `keep`, durably.
    pub(super) fn cut(&mut self, keep: Lsn) -> rusqlite::Result<()> {
        let epoch = self.epoch_of(keep)?.unwrap_or(self.head.base.1);
        self.commit(&[], Some(("lsn > ?", keep)), |head| {
            head.last = (keep, epoch);
        })
    }

    /// Forgets all records: the state is at `base` now.
    pub(super) fn restart_at(
        &mut self,
        base: (Lsn, Epoch),
        change: impl FnOnce(&mut Head),
    ) -> rusqlite::Result<()> {
        self.commit(&[], Some(("lsn >= ?", 0)), |head| {
            head.base = base;
            head.last = base;
            change(head);
        })
    }

    /// Forgets records up to `lsn`, which the state has on disk.
    pub(super) fn trim(&mut self, lsn: Lsn) -> rusqlite::Result<()> {
        let Some(epoch) = self.epoch_of(lsn)? else {
            return Ok(());
        };
        self.commit(&[], Some(("lsn <= ?", lsn)), |head| {
            head.base = (lsn, epoch);
        })
    }

    fn commit(
        &mut self,
        entries: &[Entry],
        delete: Option<(&str, Lsn)>,
        change: impl FnOnce(&mut Head),
    ) -> rusqlite::Result<()> {
        let mut head = self.head;
        if let Some(last) = entries.last() {
            head.last = (last.lsn, last.epoch);
        }
        change(&mut head);
        let tx = self.db.transaction()?;
        if let Some((which, lsn)) = delete {
            tx.prepare_cached(&format!("DELETE FROM entries WHERE {which}"))?
                .execute(params![lsn])?;
        }
        if !entries.is_empty() {
            let mut insert = tx.prepare_cached("INSERT INTO entries VALUES (?, ?, ?)")?;
            for entry in entries {
                insert.execute(params![entry.lsn, entry.epoch, entry.body])?;
            }
        }
        tx.prepare_cached(
            "UPDATE head SET promised = ?, claimant = ?, voter = ?, base_lsn = ?, base_epoch = ?",
        )?
        .execute(params![
            head.promised,
            head.claimant.cast_signed(),
            head.voter,
            head.base.0,
            head.base.1
        ])?;
        tx.commit()?;
        self.head = head;
        Ok(())
    }

    /// The epoch of a record, if it is kept or is the base.
    pub(super) fn epoch_of(&self, lsn: Lsn) -> rusqlite::Result<Option<Epoch>> {
        if lsn == self.head.last.0 {
            return Ok(Some(self.head.last.1));
        }
        if lsn == self.head.base.0 {
            return Ok(Some(self.head.base.1));
        }
        self.db
            .prepare_cached("SELECT epoch FROM entries WHERE lsn = ?")?
            .query_row(params![lsn], |row| row.get(0))
            .optional()
    }

    /// The last record up to `lsn` whose epoch is at most `epoch`: the base, if nothing kept is.
    pub(super) fn last_within(&self, lsn: Lsn, epoch: Epoch) -> rusqlite::Result<Lsn> {
        let found: Option<Lsn> = self
            .db
            .prepare_cached("SELECT max(lsn) FROM entries WHERE lsn <= ? AND epoch <= ?")?
            .query_row(params![lsn, epoch], |row| row.get(0))?;
        Ok(found.unwrap_or(self.head.base.0).max(self.head.base.0))
    }

    /// Records after `lsn` and up to `until`, as many as a shipment carries.
    pub(super) fn after(&self, lsn: Lsn, until: Lsn) -> rusqlite::Result<Vec<Entry>> {
        let mut query = self.db.prepare_cached(
            "SELECT lsn, epoch, body FROM entries WHERE lsn > ? AND lsn <= ? ORDER BY lsn",
        )?;
        let mut rows = query.query(params![lsn, until])?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let entry = Entry {
                lsn: row.get(0)?,
                epoch: row.get(1)?,
                body: row.get(2)?,
            };
            bytes += entry.body.as_ref().map_or(0, Vec::len);
            entries.push(entry);
            if bytes >= SHIPMENT_BYTES_MAX {
                break;
            }
        }
        Ok(entries)
    }
}
