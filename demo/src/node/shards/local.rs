//! Shards in this process, in memory: no copies, no failover, the same state machine.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::{Answered, ShardsError};
use crate::app::store::{self, Read, ReadReply, Refusal, Write, WriteReply};

#[derive(Debug)]
pub(crate) struct Local {
    shards: Vec<Arc<Mutex<Shard>>>,
    /// For tests: no shard answers.
    #[cfg(test)]
    pub(crate) down: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Shard {
    db: Connection,
    lsn: u64,
    /// Answers by command id. A process that lives as long as a test need not forget them.
    answered: HashMap<u128, Result<WriteReply, Refusal>>,
}

impl Local {
    /// So many empty shards.
    pub(crate) fn new(count: u16) -> rusqlite::Result<Self> {
        let shards = (0..count)
            .map(|_| {
                let db = Connection::open_in_memory()?;
                store::migrate(&db)?;
                Ok(Arc::new(Mutex::new(Shard {
                    db,
                    lsn: 0,
                    answered: HashMap::new(),
                })))
            })
            .collect::<rusqlite::Result<_>>()?;
        Ok(Self {
            shards,
            #[cfg(test)]
            down: false.into(),
        })
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    async fn with<T: Send + 'static>(
        &self,
        shard: u16,
        run: impl FnOnce(&mut Shard) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ShardsError> {
        let failed = |reason: String| ShardsError { shard, reason };
        #[cfg(test)]
        if self.down.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(failed("a test has taken it down".to_owned()));
        }
        let there = self
            .shards
            .get(usize::from(shard))
            .map(Arc::clone)
            .ok_or_else(|| failed("there is no such shard".to_owned()))?;
        tokio::task::spawn_blocking(move || run(&mut there.lock()))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }

    pub(crate) async fn write(&self, shard: u16, id: u128, command: Write) -> Answered<WriteReply> {
        self.with(shard, move |shard| {
            if let Some(known) = shard.answered.get(&id) {
                return Ok((shard.lsn, known.clone()));
            }
            let tx = shard.db.transaction()?;
            let answer = store::write(&tx, &command)?;
            tx.commit()?;
            shard.lsn += 1;
            shard.answered.insert(id, answer.clone());
            Ok((shard.lsn, answer))
        })
        .await
    }

    pub(crate) async fn read(&self, shard: u16, query: Read, _min_lsn: u64) -> Answered<ReadReply> {
        self.with(shard, move |shard| {
            Ok((shard.lsn, store::read(&shard.db, &query)?))
        })
        .await
    }
}
