//! A node's way to the queue, wherever it is at the moment.
//!
//! The topology says where the queue's process listens; that process says on which port the queue's
//! own protocol is spoken. Both may change with a restart, so a link keeps asking.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use stackbeam_mq::net::{Client, RemoteGroup, RemoteLease, RemoteTopic};
use stackbeam_mq::{Consumer, GroupOptions, Message, Receipt, TakeError, TopicError};
use tokio::sync::watch;

use super::{
    PHOTOS, Port, REVOCATIONS, WORKERS, photos_topic, port_secret, revocations_topic, workers_group,
};
use crate::app::id::Id;
use crate::node::config::{Role, Topology};
use crate::node::peer::{PeerClient, PeerError};

/// Time between looks at where the queue is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the queue may take to say so.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How long a topic or group may take to be found.
const OPEN_MAX: Duration = Duration::from_secs(2);
/// How long a message may take to be stored.
const PUBLISH_MAX: Duration = Duration::from_secs(1);
/// The wait before something that failed is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// Why the queue did not take a message, or did not say that it did. Publishing it again is safe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("the queue is out of reach")]
    Away,
    #[error("the queue has not answered within {PUBLISH_MAX:?}")]
    Late,
    #[error("the queue has refused: {0}")]
    Refused(String),
}

/// A queue that was found.
#[derive(Debug)]
pub(crate) struct Found {
    port: Port,
    client: Client,
    photos: RemoteTopic,
    revocations: RemoteTopic,
}

/// The way to the queue. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct QueueLink {
    found: watch::Receiver<Option<Arc<Found>>>,
    topology: watch::Receiver<Arc<Topology>>,
    peers: PeerClient,
}

impl QueueLink {
    /// Starts looking for the queue.
    pub(crate) fn follow(
        topology: watch::Receiver<Arc<Topology>>,
        peers: PeerClient,
        peer_secret: &str,
    ) -> Self {
        let (tell, found) = watch::channel(None);
        let link = Self {
            found,
            topology,
            peers,
        };
        tokio::spawn(look(
            link.topology.clone(),
            link.peers.clone(),
            port_secret(peer_secret),
            tell,
        ));
        link
    }

    /// Whether a queue was found. It may be gone since.
    pub(crate) fn is_found(&self) -> bool {
        self.found.borrow().is_some()
    }

    fn now(&self) -> Result<Arc<Found>, QueueError> {
        self.found.borrow().clone().ok_or(QueueError::Away)
    }

    /// Hands a photo over to the workers. As long as the queue remembers it, handing it over again
    /// changes nothing. Returns whether it was new.
    pub(crate) async fn publish_job(&self, photo: Id) -> Result<bool, QueueError> {
        let message = Message::new(photo.text()).dedup_id(photo.text());
        let receipt = publish(&self.now()?.photos, message).await?;
        Ok(!receipt.duplicate)
    }

    /// Tells all web servers, and those to come, of an ended session.
    pub(crate) async fn publish_revocation(&self, message: Vec<u8>) -> Result<(), QueueError> {
        publish(&self.now()?.revocations, Message::new(message)).await?;
        Ok(())
    }

    /// Waits until every web server of the topology has taken the revocations that were published
    /// before this call; `false` if that takes longer than `within`.
    pub(crate) async fn revocations_taken(&self, within: Duration) -> bool {
        let Ok(found) = self.now() else { return false };
        let servers: Vec<String> = (self.topology.borrow())
            .of(Role::Web)
            .map(|node| node.id.clone())
            .collect();
        let behind = async |published: &mut Vec<(String, u64)>| {
            let stats = found.client.stats().await?;
            if published.is_empty() {
                *published = servers
                    .iter()
                    .filter_map(|server| {
                        let group = stats.group(REVOCATIONS, server)?;
                        Some((server.clone(), group.published))
                    })
                    .collect();
            }
            Some(published.iter().any(|(server, count)| {
                (stats.group(REVOCATIONS, server)).is_some_and(|group| group.acked < *count)
            }))
        };
        let mut published = Vec::new();
        let taken = async {
            while behind(&mut published).await? {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            Some(())
        };
        matches!(tokio::time::timeout(within, taken).await, Ok(Some(())))
    }

    /// All sessions that have been ended, as the queue's process remembers them.
    pub(crate) async fn ended_sessions(&self) -> Result<Bytes, PeerError> {
        let addr = self
            .topology
            .borrow()
            .of(Role::Queue)
            .next()
            .map(|node| node.addr);
        let addr = addr.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
        self.peers
            .call(
                Method::GET,
                addr,
                "/revocations",
                Bytes::new(),
                OPEN_MAX * 2,
            )
            .await
    }

    /// The jobs, to be shared with the other workers.
    pub(crate) fn jobs(&self) -> Jobs {
        Jobs { link: self.clone() }
    }

    /// The revocations from now on (or since this name was last heard of), once for this name.
    /// Also tells when the queue has moved.
    pub(crate) async fn revocations(&self, name: &str) -> (RemoteGroup, Moved) {
        self.group(name, GroupOptions::broadcast(), |found| &found.revocations)
            .await
    }

    /// Waits for the queue and opens a group there.
    async fn group(
        &self,
        name: &str,
        options: GroupOptions,
        topic: impl Fn(&Found) -> &RemoteTopic,
    ) -> (RemoteGroup, Moved) {
        let mut moved = Moved(self.found.clone());
        loop {
            let found = moved.0.borrow_and_update().clone();
            let Some(found) = found else {
                moved.wait().await;
                continue;
            };
            let opened: Result<RemoteGroup, TopicError> = tokio::select! {
                opened = topic(&found).group(name, options.clone()) => opened,
                () = moved.wait() => continue,
            };
            match opened {
                Ok(group) => return (group, moved),
                Err(error) => {
                    tracing::warn!(%error, name, "opening a group of the queue");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn publish(topic: &RemoteTopic, message: Message) -> Result<Receipt, QueueError> {
    match tokio::time::timeout(PUBLISH_MAX, topic.publish(message)).await {
        Ok(Ok(receipt)) => Ok(receipt),
        Ok(Err(error)) => Err(QueueError::Refused(error.to_string())),
        Err(_) => Err(QueueError::Late),
    }
}

/// Looks for the queue until nobody has the link any more.
async fn look(
    mut topology: watch::Receiver<Arc<Topology>>,
    peers: PeerClient,
    secret: String,
    tell: watch::Sender<Option<Arc<Found>>>,
) {
    loop {
        let addr = topology
            .borrow_and_update()
            .of(Role::Queue)
            .next()
            .map(|node| node.addr);
        if let Some(addr) = addr
            && let Ok(port) = peers.get::<Port>(addr, "/mq", LOOK_MAX).await
            && tell.borrow().as_ref().map(|found| found.port.addr) != Some(port.addr)
            && let Ok(found) = tokio::time::timeout(OPEN_MAX, find(port, &secret)).await
        {
            match found {
                Ok(found) => {
                    tell.send_replace(Some(Arc::new(found)));
                }
                Err(error) => tracing::warn!(%error, "the queue's topics"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            changed = topology.changed() => if changed.is_err() {
                // No more news, but the queue may still move.
                tokio::time::sleep(LOOK_EVERY).await;
            },
            () = tell.closed() => return,
        }
    }
}

async fn find(port: Port, secret: &str) -> Result<Found, TopicError> {
    let client = Client::connect_with_secret(port.addr, secret);
    Ok(Found {
        photos: client.topic(PHOTOS, photos_topic()).await?,
        revocations: client.topic(REVOCATIONS, revocations_topic()).await?,
        client,
        port,
    })
}

/// Tells when the queue is found at another place.
#[derive(Debug)]
pub(crate) struct Moved(watch::Receiver<Option<Arc<Found>>>);

impl Moved {
    pub(crate) async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            // The look-out is gone, and with it the runtime: nothing will move any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The photo jobs, through every move and restart of the queue.
#[derive(Debug)]
pub(crate) struct Jobs {
    link: QueueLink,
}

impl Consumer for Jobs {
    type Delivery = RemoteLease;

    async fn receive(&self, max: NonZeroUsize) -> Result<Vec<RemoteLease>, TakeError> {
        loop {
            let (group, mut moved) = (self
                .link
                .group(WORKERS, workers_group(), |found| &found.photos))
            .await;
            let taken = tokio::select! {
                taken = group.take(max.get()) => taken,
                () = moved.wait() => continue,
            };
            match taken {
                Err(TakeError::NoGroup | TakeError::Closed) => tokio::time::sleep(PAUSE).await,
                taken => return taken,
            }
        }
    }
}
