//! Writing what is behind, until told to stop, and then the rest.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::task::Poll;

use super::WriteBehind;

/// Tries to write the rest after the stop.
const TRIES: u32 = 10;

/// What could not be written before the end; it is still in the [`WriteBehind`].
#[derive(Debug, thiserror::Error)]
#[error("{pending} keys could not be written before the end: {error}")]
#[non_exhaustive]
pub struct Unwritten<E: fmt::Display> {
    /// Keys that are not written.
    pub pending: usize,
    /// What the last try said.
    pub error: E,
}

impl<K: Hash + Eq + Clone, V: Clone> WriteBehind<K, V> {
    /// Writes what waits, `writes_max` (at least 1) at a time, pauses, and so on, until `stop` is ready; then
    /// writes the rest and returns. Spawn it, and await it at shutdown after the last
    /// [`put`](WriteBehind::put).
    ///
    /// `pause` is given how many writes in a row have failed, so that it can wait longer; a sleep of
    /// the runtime's is what it should return. After the stop, ten failures in a row are the end.
    ///
    /// **Loss window**: if the process is killed, what was put within the last pause and the time of the
    /// writes since is lost, and of no more keys than the `WriteBehind` takes.
    ///
    /// # Errors
    ///
    /// [`Unwritten`] if the rest could not be written: it is still there, and may be written by another
    /// call, or put on record.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the write under way, whose keys wait again.
    pub async fn flush_until<E, P, W>(
        &self,
        stop: impl Future<Output = ()>,
        writes_max: usize,
        mut pause: impl FnMut(u32) -> P,
        mut write: impl FnMut(Vec<(K, V)>) -> W,
    ) -> Result<(), Unwritten<E>>
    where
        E: fmt::Display,
        P: Future<Output = ()>,
        W: Future<Output = Result<(), E>>,
    {
        let mut stop = pin!(stop);
        let mut has_stopped = false;
        let mut failures = 0;
        loop {
            let batch = self.batch(writes_max.max(1));
            let is_idle = batch.writes().len() == 0;
            if !is_idle {
                let writes = batch.writes();
                let writes = writes.map(|(key, value)| (key.clone(), value.clone()));
                match write(writes.collect()).await {
                    Ok(()) => {
                        batch.done();
                        failures = 0;
                        continue;
                    }
                    Err(error) => {
                        drop(batch);
                        failures += 1;
                        if has_stopped && failures >= TRIES {
                            let pending = self.pending();
                            return Err(Unwritten { pending, error });
                        }
                    }
                }
            } else if has_stopped && self.pending() == 0 {
                return Ok(());
            }
            // Nothing waits, or the last write has failed, or another batch has the rest.
            let mut pause = pin!(pause(failures));
            has_stopped |= std::future::poll_fn(|context| {
                if !has_stopped && stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                pause.as_mut().poll(context).map(|()| false)
            })
            .await;
        }
    }
}
