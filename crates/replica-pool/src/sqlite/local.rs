//! All copies in one process: the whole engine with no network, for a first step, for tests, and for
//! one program that keeps its database on several disks.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::copy::{Apply, Copy, CopyError, CopyOptions};
use super::message::{Piece, Pull, Shipment, SnapshotId};
use super::server::{Peers, ReadError, Server, ServerOptions, WriteError};
use crate::engine::Engine;
use crate::evidence::{Epoch, Evidence, Lsn, MemberId};
use crate::failover::{Action, Failure};

/// Copies of one database in the folders `0`, `1`, … of a directory, as an [`Engine`].
pub struct Local<A: Apply> {
    me: Weak<Self>,
    dir: PathBuf,
    options: ServerOptions,
    servers: Vec<Mutex<Option<Server<A>>>>,
}

impl<A: Apply> std::fmt::Debug for Local<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("dir", &self.dir)
            .field("copies", &self.servers.len())
            .finish_non_exhaustive()
    }
}

/// The way from one copy to the others.
struct Here<A: Apply>(Weak<Local<A>>);

impl<A: Apply> Here<A> {
    fn server(&self, member: MemberId) -> Option<Server<A>> {
        self.0.upgrade()?.server(member)
    }
}

impl<A: Apply> Peers for Here<A> {
    async fn pull(&self, member: MemberId, pull: Pull) -> Option<Shipment> {
        Some(self.server(member)?.pull(pull).await)
    }

    async fn piece(&self, member: MemberId, id: Option<SnapshotId>, offset: u64) -> Option<Piece> {
        self.server(member)?.piece(id, offset).await
    }
}

impl<A: Apply> Local<A> {
    /// Opens `copies` copies below `dir`, which is created if need be. `apply` makes the application's
    /// part of each.
    ///
    /// # Errors
    /// When a copy cannot be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        dir: impl AsRef<Path>,
        copies: MemberId,
        options: ServerOptions,
        mut apply: impl FnMut() -> A,
    ) -> Result<Arc<Self>, CopyError> {
        let local = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            dir: dir.as_ref().to_owned(),
            options,
            servers: (0..copies).map(|_| Mutex::default()).collect(),
        });
        for member in 0..copies {
            local.open(member, apply())?;
        }
        Ok(local)
    }

    /// Opens a copy again that was [killed](Self::kill). It finds what it had on disk, and whom to
    /// follow it hears from the coordinator. Does nothing if it runs, or if there is no such copy.
    ///
    /// # Errors
    /// When it cannot be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(&self, member: MemberId, apply: A) -> Result<(), CopyError> {
        let Some(place) = self.servers.get(usize::from(member)) else {
            return Ok(());
        };
        let mut place = place.lock();
        if place.is_none() {
            let path = self.dir.join(member.to_string());
            let copy = Copy::open(&path, CopyOptions::new(member, self.servers.len()), apply)?;
            let server = Server::start(copy, Here(Weak::clone(&self.me)), self.options)
                .map_err(|source| CopyError::File { path, source })?;
            *place = Some(server);
        }
        Ok(())
    }

    /// Ends a copy as if its process had been killed, and waits until nothing of it runs. What is not
    /// on its disk is lost to it.
    ///
    /// # Cancel safety
    /// It is ended all the same.
    pub async fn kill(&self, member: MemberId) {
        let server = self
            .servers
            .get(usize::from(member))
            .and_then(|place| place.lock().take());
        if let Some(server) = server {
            let remains = server.remains();
            drop(server);
            while remains() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// The copy, while it runs.
    #[must_use]
    pub fn server(&self, member: MemberId) -> Option<Server<A>> {
        self.servers.get(usize::from(member))?.lock().clone()
    }
}

/// The copy does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("copy {member} does not run")]
#[non_exhaustive]
pub struct NotRunning {
    /// The copy.
    pub member: MemberId,
}

/// A way to one copy of a [`Local`], which may end meanwhile.
pub struct LocalConnection<A: Apply> {
    local: Weak<Local<A>>,
    member: MemberId,
}

impl<A: Apply> std::fmt::Debug for LocalConnection<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalConnection")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

impl<A: Apply> LocalConnection<A> {
    fn server(&self) -> Option<Server<A>> {
        self.local.upgrade()?.server(self.member)
    }

    /// As [`Server::write`].
    ///
    /// # Errors
    /// As [`Server::write`]; [`WriteError::Unusable`] when the copy does not run.
    ///
    /// # Cancel safety
    /// As [`Server::write`].
    pub async fn write(&self, command: Vec<u8>) -> Result<(Lsn, A::Answer), WriteError> {
        match self.server() {
            Some(server) => server.write(command).await,
            None => Err(WriteError::Unusable),
        }
    }

    /// As [`Server::read`].
    ///
    /// # Errors
    /// As [`Server::read`]; [`ReadError::Gone`] when the copy does not run.
    ///
    /// # Cancel safety
    /// As [`Server::read`].
    pub async fn read<T: Send + 'static>(
        &self,
        at_least: Lsn,
        wait: Duration,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(Lsn, T), ReadError> {
        match self.server() {
            Some(server) => server.read(at_least, wait, query).await,
            None => Err(ReadError::Gone),
        }
    }
}

impl<A: Apply> Engine for Local<A> {
    type Connection = LocalConnection<A>;
    type Error = NotRunning;

    async fn connect(&self, member: MemberId) -> Result<LocalConnection<A>, NotRunning> {
        match self.server(member) {
            Some(_) => Ok(LocalConnection {
                local: Weak::clone(&self.me),
                member,
            }),
            None => Err(NotRunning { member }),
        }
    }

    fn perform(&self, action: &Action) -> impl Future<Output = Result<Evidence, Failure>> + Send {
        let (server, action) = (self.server(action.member()), action.clone());
        async move {
            let server = server.ok_or(Failure::Refused)?;
            server.perform(action).await.ok_or(Failure::Lost)
        }
    }

    fn usable(&self, connection: &LocalConnection<A>) -> bool {
        connection.server().is_some()
    }

    /// The copies check the epoch of every write by themselves; this saves a vain attempt.
    async fn may_write(
        &self,
        connection: &mut LocalConnection<A>,
        epoch: Epoch,
    ) -> Result<bool, NotRunning> {
        Ok(connection
            .server()
            .is_some_and(|server| server.reigns(epoch)))
    }
}
