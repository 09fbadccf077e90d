//! Waiting for the end of a session.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::RevocationQuery;
use super::known::Shared;
use crate::claims::SessionId;
use crate::time::Timestamp;

pub(super) struct Ended {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) hashes: [u64; 2],
    pub(super) session: SessionId,
    pub(super) subject: String,
    pub(super) generation: u64,
    pub(super) authenticated_at: Timestamp,
    pub(super) now: Timestamp,
}

impl Future for Ended {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // First the waker, then the look: what comes between wakes.
        self.shared.waiters.wait(self.id, cx.waker());
        let token = RevocationQuery {
            session: self.session,
            subject: &self.subject,
            generation: self.generation,
            authenticated_at: self.authenticated_at,
        };
        if self.shared.is_revoked(&token, self.now) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.waiters.leave(self.id, self.hashes);
    }
}
