//! Ended sessions: told to every web server through the queue, known to each in its own memory.
//!
//! # What holds
//!
//! * A logout that was answered with success is known to every web server that serves then, is on the
//!   queue's disk, and is known to every web server that starts later, before it serves.
//! * Checking a token asks nobody: reads and logins go on without the queue.
//! * Without the queue nobody can log out: the answer is 503, and the session holds everywhere.
//! * A server that was stopped (`SIGSTOP`) for longer than [`SPREAD_MAX`] is not waited for. When it goes
//!   on, it may take a token for good until it has read what was said meanwhile: milliseconds.
//! * A server that starts while the queue is away takes the set from another web server. One that finds
//!   neither waits, and serves nothing.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use stackbeam_mq::Delivery;
use stackbeam_session::{Applied, FeedError, Key, MemoryRevocations, SessionId, Timestamp};
use tokio::sync::{Mutex, watch};

use super::call::Call;
use super::fault::Fault;
use crate::node::NodeError;
use crate::node::config::{Role, Topology};
use crate::node::peer::PeerClient;
use crate::node::queue::link::{QueueError, QueueLink};
use crate::node::queue::revocations;

/// How long a logout may take to be stored.
const STORE_MAX: Duration = Duration::from_secs(2);
/// How long a logout waits for the other web servers to hear of it.
const SPREAD_MAX: Duration = Duration::from_secs(1);
/// Messages that are taken at once.
const AT_ONCE: usize = 256;
/// How long a server that starts waits for the queue before it asks other web servers.
const QUEUE_FIRST: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
const ASK_MAX: Duration = Duration::from_secs(2);

/// Ends sessions. What has been said to the queue and what counts here are two sets, so that a logout
/// that fails has changed nothing.
pub(crate) struct Logouts {
    known: Arc<MemoryRevocations>,
    key: Key,
    feed: Mutex<Feed>,
}

struct Feed {
    set: MemoryRevocations,
    /// A message was numbered, and it is open whether the queue has it.
    in_doubt: bool,
}

impl Logouts {
    pub(crate) fn new(key: Key) -> Result<Self, NodeError> {
        Ok(Self {
            known: Arc::new(revocations(&key)?),
            feed: Mutex::new(Feed {
                set: revocations(&key)?,
                in_doubt: false,
            }),
            key,
        })
    }

    /// The sessions that have ended, as this server knows them.
    pub(crate) fn known(&self) -> &Arc<MemoryRevocations> {
        &self.known
    }

    /// Ends a session on every web server.
    ///
    /// Dropping the future leaves it open whether the session has ended.
    async fn end(&self, session: SessionId, queue: Option<&QueueLink>) -> Result<(), Fault> {
        let unavailable = |error: &dyn std::fmt::Display| Fault::Unavailable(error.to_string());
        let Some(queue) = queue else {
            // One server alone.
            self.known
                .revoke_session(session, Timestamp::now())
                .map_err(|error| unavailable(&error))?;
            return Ok(());
        };
        let message = tokio::time::timeout(STORE_MAX, self.store(session, queue))
            .await
            .map_err(|_| unavailable(&QueueError::Late))??;
        self.known
            .apply(&message, Timestamp::now())
            .map_err(|error| unavailable(&error))?;
        if !queue.revocations_taken(SPREAD_MAX).await {
            tracing::warn!("a web server has not heard of a logout in time; it will");
        }
        Ok(())
    }

    async fn store(&self, session: SessionId, queue: &QueueLink) -> Result<Vec<u8>, Fault> {
        let mut feed = self.feed.lock().await;
        if feed.in_doubt {
            // A number that may be missing: go on as another sender, from one.
            feed.set =
                revocations(&self.key).map_err(|error| Fault::Unavailable(error.to_string()))?;
        }
        let message = feed
            .set
            .revoke_session(session, Timestamp::now())
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        feed.in_doubt = true;
        queue
            .publish_revocation(message.clone())
            .await
            .map_err(|error| Fault::Unavailable(error.to_string()))?;
        feed.in_doubt = false;
        Ok(message)
    }
}

pub(super) async fn logout(call: Call) -> Result<StatusCode, Fault> {
    // A session that has ended already is what was asked for: a request may be sent twice.
    if let Some(session) = call.session()? {
        let queue = call.web.queue.as_ref();
        call.web.auth.logouts().end(session, queue).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Where the set comes from when this server starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Nowhere,
    Queue,
    /// Another web server; the queue was away.
    Server,
}

/// Follows the feed for as long as it is polled. `told` learns when the set is complete.
pub(crate) async fn follow(
    name: String,
    known: Arc<MemoryRevocations>,
    queue: QueueLink,
    told: watch::Sender<Source>,
) {
    loop {
        let (group, mut moved) = queue.revocations(&name).await;
        // The group first: what is said from now on comes through it, all before is in the set.
        match queue.ended_sessions().await {
            Ok(set) if load(&known, &set) => {
                told.send_replace(Source::Queue);
            }
            failed => {
                if let Err(error) = failed {
                    tracing::warn!(%error, "asking the queue for the ended sessions");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        loop {
            let taken = tokio::select! {
                taken = group.take(AT_ONCE) => taken,
                () = moved.wait() => break,
            };
            let Ok(leases) = taken else {
                // The group is gone, because nobody took from it for long, or the queue is.
                tokio::time::sleep(PAUSE).await;
                break;
            };
            let mut gap = false;
            for lease in leases {
                match known.apply(lease.message().body(), Timestamp::now()) {
                    Ok(applied) => gap |= matches!(applied, Applied::Gap { .. }),
                    Err(error @ FeedError::Full(_)) => {
                        tracing::error!(%error, "a session that has ended holds here");
                    }
                    Err(error) => tracing::warn!(%error, "a message that ends no session"),
                }
                // One that is lost comes again and changes nothing.
                let _again = lease.ack().await;
            }
            if gap {
                break;
            }
        }
    }
}

fn load(known: &MemoryRevocations, set: &[u8]) -> bool {
    match known.load(set, Timestamp::now()) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "a set of ended sessions that cannot be taken");
            false
        }
    }
}

/// Waits until the set of ended sessions is complete, and says where it came from.
pub(crate) async fn complete(
    name: &str,
    known: &MemoryRevocations,
    topology: &watch::Receiver<Arc<Topology>>,
    peers: &PeerClient,
    told: &mut watch::Receiver<Source>,
    say: impl Fn(&str),
) -> Source {
    let mut said = false;
    loop {
        let queue = told.wait_for(|source| *source == Source::Queue);
        if let Ok(Ok(_)) = tokio::time::timeout(QUEUE_FIRST, queue).await {
            return Source::Queue;
        }
        let others: Vec<_> = (topology.borrow().of(Role::Web))
            .filter(|node| node.id != name)
            .map(|node| node.addr)
            .collect();
        for addr in others {
            let asked = peers.call(
                Method::GET,
                addr,
                "/revocations",
                bytes::Bytes::new(),
                ASK_MAX,
            );
            if let Ok(set) = asked.await
                && load(known, &set)
            {
                return Source::Server;
            }
        }
        if !said {
            say("serves nothing yet: it waits for the queue, to learn which sessions have ended");
            said = true;
        }
    }
}
