//! The right to use one connection until it is given back.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::endpoint::{Held, Verdict};
use super::{Inner, Pool};
use crate::engine::Engine;
use crate::evidence::{Epoch, Lsn, MemberId};

/// How the work on a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Well, or with an error that says nothing about the copy, such as a broken constraint. The
    /// connection is as it was and is kept.
    Good,
    /// Well, and the copy had applied this position. Later readers profit from knowing.
    At(Lsn),
    /// The copy had not applied what the reader needs, only this. The connection is kept.
    Behind(Lsn),
    /// The copy says that it is not the primary (PostgreSQL: SQLSTATE 25006). The connection is closed
    /// and the copy gets no writes until it claims to be the primary again.
    NotPrimary,
    /// The connection failed, or is in the middle of something. It is closed and the copy is asked at
    /// once whether it still lives.
    Broken,
}

/// A connection on loan. It stands for one of the copy's
/// [`connections_max`](super::PoolOptions::connections_max) places.
///
/// # Cancel safety
/// Dropped without [`finish`](Self::finish) it closes the connection, since nobody knows what is under
/// way on it; so it is safe to drop at any time and costs a new connection.
#[must_use = "a lease that is dropped closes its connection"]
pub struct Lease<E: Engine> {
    pool: Arc<Inner<E>>,
    held: Option<Held<E>>,
    epoch: Epoch,
    writes: bool,
}

impl<E: Engine> Lease<E> {
    pub(super) fn new(pool: &Pool<E>, held: Held<E>, epoch: Epoch, writes: bool) -> Self {
        held.lend();
        Self {
            pool: Arc::clone(&pool.inner),
            held: Some(held),
            epoch,
            writes,
        }
    }

    /// Which copy it leads to.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.held.as_ref().map_or(0, Held::member)
    }

    /// The highest epoch that was known when it was given. For a writer: the epoch of the primary.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Says how the work ended and gives the connection back.
    pub fn finish(mut self, outcome: Outcome) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        let member = held.member();
        let (verdict, keep) = match outcome {
            Outcome::Good => (Verdict::Succeeded, true),
            Outcome::At(lsn) => {
                self.pool.view.lock().reached(member, lsn);
                (Verdict::Succeeded, true)
            }
            Outcome::Behind(lsn) => {
                self.pool.view.lock().reached(member, lsn);
                (Verdict::Failed, true)
            }
            Outcome::NotPrimary => {
                self.pool.view.lock().deposed(member);
                (Verdict::Failed, false)
            }
            Outcome::Broken => (Verdict::Failed, false),
        };
        held.give_back(verdict, keep);
        drop(held);
        if matches!(outcome, Outcome::NotPrimary | Outcome::Broken) {
            self.pool.doubt();
        }
    }

    /// [`finish`](Self::finish) with [`Outcome::Good`].
    pub fn good(self) {
        self.finish(Outcome::Good);
    }

    /// Ends when the copy no longer answers or, for a writer, is no longer the primary that it was.
    /// Race it against long work: a server that hangs never closes its connections. It takes a clone
    /// of the pool to be alive, since only then are the copies probed.
    ///
    /// # Cancel safety
    /// Nothing happens.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + 'static + use<E> {
        let pool = Arc::clone(&self.pool);
        let (member, epoch, writes) = (self.member(), self.epoch, self.writes);
        async move {
            pool.until(|view| {
                !view.answers(member)
                    || (writes && (view.primary() != Some(member) || view.epoch() != epoch))
            })
            .await;
        }
    }
}

impl<E: Engine> Deref for Lease<E> {
    type Target = E::Connection;

    fn deref(&self) -> &E::Connection {
        self.held
            .as_ref()
            .and_then(Held::connection)
            .unwrap_or_else(|| unreachable!("a lease has a connection until it ends"))
    }
}

impl<E: Engine> DerefMut for Lease<E> {
    fn deref_mut(&mut self) -> &mut E::Connection {
        self.held
            .as_mut()
            .and_then(Held::connection_mut)
            .unwrap_or_else(|| unreachable!("a lease has a connection until it ends"))
    }
}

impl<E: Engine> Drop for Lease<E> {
    fn drop(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.give_back(Verdict::Cancelled, false);
        }
    }
}

impl<E: Engine> std::fmt::Debug for Lease<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("member", &self.member())
            .field("epoch", &self.epoch)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}
