//! What a record of the log does to a shard's state: the application's commands, each once.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use stackbeam_replica_pool::Lsn;
use stackbeam_replica_pool::sqlite::Apply;

use crate::app::store::{self, Refusal, Write, WriteReply};

/// A command as the log keeps it: JSON, with the version of its form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    v: u8,
    /// In hex. A command that is sent again has the id that it had.
    id: String,
    write: Write,
}

const VERSION: u8 = 1;

/// So many commands later, an answer is forgotten: nobody sends a command again after that.
const ANSWERS_KEPT: u64 = 50_000;

impl Command {
    pub(crate) fn new(id: u128, write: Write) -> Self {
        Self {
            v: VERSION,
            id: format!("{id:032x}"),
            write,
        }
    }
}

pub(crate) type Reply = Result<WriteReply, Refusal>;

/// One shard's state machine.
#[derive(Debug)]
pub(crate) struct State;

impl Apply for State {
    type Answer = Reply;

    fn migrate(&mut self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS answers (
               id TEXT NOT NULL PRIMARY KEY, lsn INTEGER NOT NULL, answer TEXT NOT NULL);
             CREATE INDEX IF NOT EXISTS answers_by_lsn ON answers (lsn);",
        )?;
        store::migrate(db)
    }

    fn apply(&mut self, tx: &Transaction<'_>, lsn: Lsn, command: &[u8]) -> rusqlite::Result<Reply> {
        let command: Command = serde_json::from_slice(command).map_err(to_sql_error)?;
        if command.v != VERSION {
            let what = format!(
                "a command of version {} is newer than this program",
                command.v
            );
            return Err(to_sql_error(std::io::Error::other(what)));
        }
        let known: Option<String> = tx
            .prepare_cached("SELECT answer FROM answers WHERE id = ?")?
            .query_row([&command.id], |row| row.get(0))
            .optional()?;
        if let Some(known) = known {
            return serde_json::from_str(&known).map_err(to_sql_error);
        }
        let answer = store::write(tx, &command.write)?;
        let text = serde_json::to_string(&answer).map_err(to_sql_error)?;
        tx.prepare_cached("INSERT INTO answers VALUES (?, ?, ?)")?
            .execute(params![command.id, lsn, text])?;
        tx.prepare_cached("DELETE FROM answers WHERE lsn < ?")?
            .execute([lsn.saturating_sub(ANSWERS_KEPT)])?;
        Ok(answer)
    }
}

fn to_sql_error(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::id::Id;
    use crate::app::store::{Claim, NameKind};

    #[test]
    fn a_command_that_comes_twice_is_carried_out_once_and_answered_alike() {
        let mut db = Connection::open_in_memory().unwrap();
        State.migrate(&db).unwrap();
        let reserve = |id, user| {
            let write = Write::ReserveName(Claim {
                kind: NameKind::Username,
                name: "ada".to_owned(),
                user: Id(user),
                claim: Id(user),
                now_ms: 1,
            });
            serde_json::to_vec(&Command::new(id, write)).unwrap()
        };
        let mut apply = |lsn, command: &[u8]| {
            let tx = db.transaction().unwrap();
            let answer = State.apply(&tx, lsn, command).unwrap();
            tx.commit().unwrap();
            answer
        };
        let first = apply(1, &reserve(7, 100));
        assert_eq!(first, Ok(WriteReply::Reserved(Id(100))));
        assert!(apply(2, &reserve(8, 200)).is_err());
        assert_eq!(apply(3, &reserve(7, 100)), first);
        // The same id wins over another content: the answer of the first is the answer.
        assert_eq!(apply(4, &reserve(7, 300)), first);
    }

    #[test]
    fn a_record_of_a_later_version_is_an_error_and_not_a_guess() {
        let mut db = Connection::open_in_memory().unwrap();
        State.migrate(&db).unwrap();
        let tx = db.transaction().unwrap();
        let newer = br#"{"v":2,"id":"00","write":"Nothing"}"#;
        assert!(State.apply(&tx, 1, newer).is_err());
    }
}
