//! What every engine must do, as a suite that a stranger's engine can run.
//!
//! ```
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use stackbeam_mq::Queue;
//! use stackbeam_mq::engine::conformance::{self, Scale};
//!
//! let queue = Queue::open(dir.path())?;
//! conformance::all(&queue, Scale::short()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each law makes topics of its own, with names that were never used, so an engine that is in use is not disturbed.
//! Where [`Capabilities`] says that an engine cannot do something, the law is that it says
//! `Unsupported`. [`survives`] is for a server that can be killed and started again.

mod chaos;
mod deliveries;
mod options;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Capabilities, Engine};
use crate::message::Message;
use crate::options::{GroupOptions, TopicOptions};
use crate::traits::{Consumer, Delivery, Producer};

pub use chaos::survives;

/// A law that an engine broke.
#[derive(Debug)]
pub struct Broken {
    law: &'static str,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.what)
    }
}

impl std::error::Error for Broken {}

/// How much is done, and how long a lease is.
#[derive(Debug, Clone)]
pub struct Scale {
    messages: usize,
    lease: Duration,
    topics: TopicOptions,
}

impl Scale {
    /// Seconds on any engine: 200 messages, leases of half a second.
    #[must_use]
    pub fn short() -> Self {
        Self {
            messages: 200,
            lease: Duration::from_millis(500),
            topics: TopicOptions::new(),
        }
    }

    /// 5 000 messages, leases of a second.
    #[must_use]
    pub fn full() -> Self {
        Self {
            messages: 5000,
            lease: Duration::from_secs(1),
            ..Self::short()
        }
    }

    /// What topics are made with, where a law asks for nothing else. Defaults to [`TopicOptions::new`].
    #[must_use]
    pub fn topics(mut self, options: TopicOptions) -> Self {
        self.topics = options;
        self
    }
}

/// Runs all laws, side by side.
///
/// # Errors
/// The first law that does not hold, and what was seen.
///
/// # Cancel safety
/// A dropped future leaves its topics behind, as a finished one does.
pub async fn all<E: Engine>(engine: &E, scale: Scale) -> Result<(), Broken> {
    let tag = RandomState::new().hash_one(scale.messages);
    let case = &Case { engine, scale, tag };
    tokio::try_join!(
        Box::pin(deliveries::what_was_published_comes_back(case)),
        Box::pin(deliveries::messages_come_in_order(case)),
        Box::pin(deliveries::consumers_of_a_group_compete(case)),
        Box::pin(deliveries::groups_each_get_every_message(case)),
        Box::pin(deliveries::what_is_acknowledged_never_comes_back(case)),
        Box::pin(deliveries::a_lease_that_ends_is_lost(case)),
        Box::pin(deliveries::an_extended_lease_holds(case)),
        Box::pin(deliveries::a_failed_delivery_comes_again(case)),
        Box::pin(deliveries::a_dropped_delivery_comes_again(case)),
        Box::pin(deliveries::a_receive_that_is_dropped_loses_nothing(case)),
        Box::pin(deliveries::a_waiting_receive_is_woken(case)),
        Box::pin(deliveries::a_released_delivery_uses_up_no_attempt(case)),
        Box::pin(options::used_up_and_hopeless_messages_become_dead_letters(
            case
        )),
        Box::pin(options::a_dedup_id_is_stored_once(case)),
        Box::pin(options::a_delayed_message_waits(case)),
        Box::pin(options::the_higher_priority_comes_first(case)),
        Box::pin(options::one_key_is_one_after_another(case)),
        Box::pin(options::a_group_may_start_at_the_end(case)),
        Box::pin(options::in_flight_has_a_bound(case)),
        Box::pin(options::a_full_topic_hands_the_message_back(case)),
        Box::pin(options::names_are_checked_and_kept_apart(case)),
        Box::pin(chaos::each_message_is_acknowledged_once(case)),
    )?;
    Ok(())
}

macro_rules! law {
    ($law:expr, $holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(Broken { law: $law, what: format!($($what)*) });
        }
    };
}
use law;

/// How long anything that must come may take. Generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a lease may end later than it says, at the most, before a law is broken.
const SLACK: Duration = Duration::from_millis(300);

fn failed(law: &'static str) -> impl Fn(&dyn fmt::Display) -> Broken {
    move |error| Broken {
        law,
        what: format!("unexpected: {error}"),
    }
}

struct Case<'a, E> {
    engine: &'a E,
    scale: Scale,
    tag: u64,
}

impl<E: Engine> Case<'_, E> {
    const CAN: Capabilities = E::CAPABILITIES;

    /// A name that no other law uses.
    fn name(&self, law: &'static str) -> String {
        let short: String = law
            .split(' ')
            .filter_map(|word| word.chars().next())
            .collect();
        format!("suite-{:x}-{short}", self.tag)
    }

    /// Leases that do not end by themselves, however busy the machine is.
    fn group(&self) -> GroupOptions {
        GroupOptions::new().lease(PATIENCE)
    }

    /// Leases that end.
    fn leased(&self) -> GroupOptions {
        GroupOptions::new().lease(self.scale.lease)
    }

    /// A topic with a group.
    async fn pair(
        &self,
        law: &'static str,
        group: GroupOptions,
    ) -> Result<(E::Producer, E::Consumer), Broken> {
        let name = self.name(law);
        let topic = self.topic(law, &name).await?;
        let group = self.engine.consumer(&name, "g", group).await;
        Ok((topic, group.map_err(|e| failed(law)(&e))?))
    }

    async fn topic(&self, law: &'static str, name: &str) -> Result<E::Producer, Broken> {
        let topic = self.engine.producer(name, self.scale.topics.clone()).await;
        topic.map_err(|e| failed(law)(&e))
    }
}

async fn publish<P: Producer>(
    law: &'static str,
    to: &P,
    messages: Vec<Message>,
) -> Result<Vec<crate::Receipt>, Broken> {
    let count = messages.len();
    let done = tokio::time::timeout(PATIENCE, to.publish(messages)).await;
    let receipts = done
        .map_err(|e| failed(law)(&e))?
        .map_err(|e| failed(law)(&e))?;
    law!(
        law,
        receipts.len() == count,
        "{} receipts for {count}",
        receipts.len()
    );
    Ok(receipts)
}

fn up_to(max: usize) -> NonZeroUsize {
    NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN)
}

/// Receives exactly so many.
async fn take<C: Consumer>(
    law: &'static str,
    from: &C,
    count: usize,
) -> Result<Vec<C::Delivery>, Broken> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let max = up_to(count - all.len());
        let Ok(got) = tokio::time::timeout(PATIENCE, from.receive(max)).await else {
            let what = format!("{} of {count} came", all.len());
            return Err(Broken { law, what });
        };
        let got = got.map_err(|e| failed(law)(&e))?;
        law!(
            law,
            (1..=max.get()).contains(&got.len()),
            "a receive of {max} gave {}",
            got.len()
        );
        all.extend(got);
    }
    Ok(all)
}

async fn one<C: Consumer>(law: &'static str, from: &C) -> Result<C::Delivery, Broken> {
    let mut got = take(law, from, 1).await?;
    got.pop().ok_or_else(|| failed(law)(&"nothing"))
}

/// That nothing comes for this long.
async fn nothing<C: Consumer>(law: &'static str, from: &C, within: Duration) -> Result<(), Broken> {
    match tokio::time::timeout(within, from.receive(up_to(10))).await {
        Err(_) => Ok(()),
        Ok(Err(e)) => Err(failed(law)(&e)),
        Ok(Ok(got)) => {
            let seen: Vec<_> = got
                .iter()
                .map(|d| (d.message().body().clone(), d.attempt()))
                .collect();
            Err(Broken {
                law,
                what: format!("it came although it may not: {seen:?}"),
            })
        }
    }
}

async fn acked<D: Delivery>(law: &'static str, deliveries: Vec<D>) -> Result<(), Broken> {
    for delivery in deliveries {
        delivery.ack().await.map_err(|e| failed(law)(&e))?;
    }
    Ok(())
}

fn text<D: Delivery>(delivery: &D) -> String {
    String::from_utf8_lossy(delivery.message().body()).into_owned()
}
