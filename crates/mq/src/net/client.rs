//! A queue that another process serves.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::counters;
use super::link::Link;
use super::wire::{self, Address, Leased};
use crate::error::{PublishError, SettleError, TakeError, TopicError};
use crate::lease::Settle;
use crate::log::codec::{Reader, micros, put, put_bytes};
use crate::log::settings::{put_group_options, put_topic_options};
use crate::message::{Message, MessageId, Receipt};
use crate::options::{GroupOptions, TopicOptions};
use crate::shell::instant;
use crate::stats::Stats;
use crate::traits::{Consumer, Delivery, Producer};

/// A connection to a [`Server`](super::Server) that mends itself. Clones share it.
///
/// Connecting happens in the background; a server that is not there yet is waited for.
#[derive(Debug, Clone)]
pub struct Client {
    link: Arc<Link>,
}

impl Client {
    /// Starts connecting. Must be called on a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(address: impl Into<Address>) -> Self {
        Self::start(address.into(), None)
    }

    /// As [`connect`](Self::connect), to a server that asks for this secret. With another one, every request
    /// ends as if the server could not be reached.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect_with_secret(address: impl Into<Address>, secret: impl AsRef<[u8]>) -> Self {
        let mut hello = wire::begin(0, wire::HELLO);
        put_bytes(&mut hello, secret.as_ref());
        Self::start(address.into(), Some(hello))
    }

    fn start(address: Address, hello: Option<Vec<u8>>) -> Self {
        Self {
            link: Arc::new(Link::start(address, hello)),
        }
    }

    /// The topic of this name, made with these options if it is new.
    ///
    /// # Errors
    /// See [`TopicError`].
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the topic was made; ask again.
    pub async fn topic(
        &self,
        name: &str,
        options: TopicOptions,
    ) -> Result<RemoteTopic, TopicError> {
        let id = self.name(wire::TOPIC, name, |b| {
            put_bytes(b, name.as_bytes());
            put_topic_options(b, &options);
        });
        Ok(RemoteTopic {
            client: self.clone(),
            id: id.await?,
        })
    }

    async fn name(
        &self,
        kind: u8,
        name: &str,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, TopicError> {
        if !(1..=255).contains(&name.len()) {
            return Err(TopicError::Name(name.len()));
        }
        let answer = self.link.ask(kind, fill).await.ok_or(TopicError::Closed)?;
        let mut r = answer.body();
        match answer.status {
            wire::OK => r.u32().ok_or(TopicError::Closed),
            wire::TOO_MANY => Err(TopicError::TooMany(r.count(0).unwrap_or(0))),
            wire::UNKNOWN => Err(TopicError::Disk(answer.what())),
            _ => Err(TopicError::Closed),
        }
    }

    /// Counters of the whole queue; `None` when the server cannot be reached.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn stats(&self) -> Option<Stats> {
        let answer = self.link.ask(wire::STATS, |_| ()).await?;
        if answer.status != wire::OK {
            return None;
        }
        counters::stats(&mut answer.body())
    }
}

/// A topic of a served queue.
#[derive(Debug, Clone)]
pub struct RemoteTopic {
    client: Client,
    id: u32,
}

impl RemoteTopic {
    /// Publishes one message; the future ends when the server has it as durable as the topic's options say.
    ///
    /// # Errors
    /// See [`PublishError`]; `Closed` after 15 s without an answer, and the outcome is then unknown.
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the message is stored; publish again with the same dedup id.
    pub async fn publish(
        &self,
        message: impl Into<Message> + Send,
    ) -> Result<Receipt, PublishError> {
        self.publish_all(vec![message.into()])
            .await?
            .pop()
            .ok_or(PublishError::Closed)
    }

    /// Publishes several messages as one: all of them are stored, or none.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// As [`publish`](Self::publish).
    pub async fn publish_all(
        &self,
        mut messages: Vec<Message>,
    ) -> Result<Vec<Receipt>, PublishError> {
        let size: usize = messages.iter().map(|m| m.body.len() + 64).sum();
        if size > wire::FRAME_MAX / 2 {
            return Err(PublishError::TooLarge {
                messages,
                size,
                max: wire::FRAME_MAX / 2,
            });
        }
        for m in messages.iter_mut().filter(|m| m.dedup.is_none()) {
            m.dedup = Some(self.client.link.dedup_id());
        }
        let asked = self.client.link.ask(wire::PUBLISH, |b| {
            put(b, u64::from(self.id));
            put(b, messages.len() as u64);
            for m in &messages {
                wire::put_message(b, m);
            }
        });
        let answer = asked.await.ok_or(PublishError::Closed)?;
        let mut r = answer.body();
        match answer.status {
            wire::OK => wire::receipts(&mut r).ok_or(PublishError::Closed),
            wire::FULL => Err(PublishError::Full {
                messages,
                waiting: r.u64().unwrap_or(0),
            }),
            wire::TOO_LARGE => {
                let mut n = || r.u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                Err(PublishError::TooLarge {
                    size: n(),
                    max: n(),
                    messages,
                })
            }
            wire::UNKNOWN => Err(PublishError::Unknown(answer.what())),
            _ => Err(PublishError::Closed),
        }
    }

    /// The consumer group of this name, made with these options if it is new.
    ///
    /// # Errors
    /// See [`TopicError`].
    ///
    /// # Cancel safety
    /// A dropped future leaves it open whether the group was made; ask again.
    pub async fn group(
        &self,
        name: &str,
        options: GroupOptions,
    ) -> Result<RemoteGroup, TopicError> {
        let id = self.client.name(wire::GROUP, name, |b| {
            put(b, u64::from(self.id));
            put_bytes(b, name.as_bytes());
            put_group_options(b, &options);
        });
        Ok(RemoteGroup {
            client: self.client.clone(),
            id: id.await?,
        })
    }
}

/// A consumer group of a served queue. Clones, and other processes, compete.
#[derive(Debug, Clone)]
pub struct RemoteGroup {
    client: Client,
    id: u32,
}

impl RemoteGroup {
    /// Waits until something is ready and leases up to `max` messages (10 000 at most), through reconnects.
    ///
    /// # Errors
    /// See [`TakeError`].
    ///
    /// # Cancel safety
    /// A dropped future calls the request back. Messages that were on their way are released, which uses up no
    /// attempt; if the connection is lost just then, they come back when their lease ends.
    pub async fn take(&self, max: usize) -> Result<Vec<RemoteLease>, TakeError> {
        let asked = self.client.link.take(self.id, max.clamp(1, 10_000));
        let answer = asked.await.ok_or(TakeError::Closed)?;
        let mut r = answer.body();
        match answer.status {
            wire::OK => self.leases(&mut r).ok_or(TakeError::Closed),
            wire::NO_GROUP => Err(TakeError::NoGroup),
            wire::DAMAGED => Err(TakeError::Damaged {
                id: r.u64().unwrap_or(0),
                file: r.string().unwrap_or_default(),
                offset: r.u64().unwrap_or(0),
                what: r.string().unwrap_or_default(),
            }),
            wire::UNKNOWN => Err(TakeError::Disk(answer.what())),
            _ => Err(TakeError::Closed),
        }
    }

    fn leases(&self, r: &mut Reader<'_>) -> Option<Vec<RemoteLease>> {
        let now = instant();
        let year = Duration::from_hours(24 * 365);
        let lease = |leased: Leased| RemoteLease {
            group: self.clone(),
            until: now + leased.remaining.min(year),
            leased,
            settled: false,
        };
        Some(wire::leases(r)?.into_iter().map(lease).collect())
    }
}

/// A leased message of a served queue; [`Delivery`] says what to do with it. One that is dropped unsettled is given
/// back in the background, if a connection is there; else its lease ends by itself.
#[derive(Debug)]
pub struct RemoteLease {
    group: RemoteGroup,
    leased: Leased,
    until: Instant,
    settled: bool,
}

impl RemoteLease {
    /// When the message was stored.
    #[must_use]
    pub fn published_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(self.leased.published)
    }

    async fn ask(&self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), SettleError> {
        let asked = self.group.client.link.ask(kind, fill);
        let answer = asked.await.ok_or(SettleError::Closed)?;
        match answer.status {
            wire::OK => Ok(()),
            wire::LEASE_LOST => Err(SettleError::LeaseLost),
            wire::UNKNOWN => Err(SettleError::Unknown(answer.what())),
            _ => Err(SettleError::Closed),
        }
    }
}

impl Drop for RemoteLease {
    fn drop(&mut self) {
        if !self.settled {
            let how = Settle::Retry {
                after: Duration::ZERO,
            };
            self.group.client.link.tell(wire::SETTLE, |b| {
                wire::put_outcome(b, self.group.id, &self.leased, &how);
            });
        }
    }
}

impl Producer for RemoteTopic {
    fn publish(
        &self,
        batch: Vec<Message>,
    ) -> impl Future<Output = Result<Vec<Receipt>, PublishError>> + Send {
        self.publish_all(batch)
    }
}

impl Consumer for RemoteGroup {
    type Delivery = RemoteLease;

    fn receive(
        &self,
        max: NonZeroUsize,
    ) -> impl Future<Output = Result<Vec<RemoteLease>, TakeError>> + Send {
        self.take(max.get())
    }
}

/// A dropped future of `settle` or `extend` leaves it open whether the server has recorded it. When the connection
/// was lost after it had, `LeaseLost` is possible although it is done.
impl Delivery for RemoteLease {
    fn message(&self) -> &Message {
        &self.leased.message
    }

    fn id(&self) -> MessageId {
        MessageId(self.leased.seq)
    }

    fn attempt(&self) -> u32 {
        self.leased.attempt
    }

    fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(instant())
    }

    async fn extend(&mut self, by: Duration) -> Result<(), SettleError> {
        let from = instant();
        let fill = |b: &mut Vec<u8>| {
            wire::put_lease(b, self.group.id, &self.leased);
            put(b, micros(by));
        };
        self.ask(wire::EXTEND, fill).await?;
        self.until = from + by;
        Ok(())
    }

    async fn settle(mut self, how: Settle) -> Result<(), SettleError> {
        self.settled = true;
        let fill = |b: &mut Vec<u8>| wire::put_outcome(b, self.group.id, &self.leased, &how);
        self.ask(wire::SETTLE, fill).await
    }
}
