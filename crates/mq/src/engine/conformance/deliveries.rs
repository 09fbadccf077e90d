//! Laws of publishing, receiving and settling.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    Broken, Case, PATIENCE, SLACK, acked, failed, law, nothing, one, publish, take, text, up_to,
};
use crate::engine::Engine;
use crate::error::SettleError;
use crate::lease::Settle;
use crate::message::Message;
use crate::traits::{Consumer, Delivery};

pub(super) async fn what_was_published_comes_back<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "what was published comes back";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut sent = vec![
        Message::new(""),
        Message::new(every_byte),
        Message::new("\r\n\0'\"")
            .key(vec![0, 255, 10, 13])
            .header("a", "1")
            .header("a", vec![0, 13, 10, 255])
            .header("content-type; ü\n", ""),
    ];
    if Case::<E>::CAN.dedup {
        sent.push(Message::new("d").dedup_id(vec![0, 255, 32, 10, 42]));
    }
    let empty = publish(LAW, &topic, Vec::new()).await?;
    law!(LAW, empty.is_empty(), "an empty batch has receipts");
    let receipts = publish(LAW, &topic, sent.clone()).await?;
    let ids: BTreeSet<_> = receipts.iter().map(|r| r.id).collect();
    law!(LAW, ids.len() == sent.len(), "ids repeat: {receipts:?}");
    for (message, receipt) in sent.iter().zip(&receipts) {
        let got = one(LAW, &group).await?;
        let size = message.body().len();
        let mut now = got.message().clone();
        if message.dedup.is_none() {
            // An engine may add one of its own, to send again after a lost connection.
            now.dedup = None;
        }
        let came: Vec<_> = now.headers().collect();
        law!(
            LAW,
            now == *message,
            "a message of {size} bytes has {}, headers {came:?}, key {:?}, dedup id {:?}",
            now.body().len(),
            now.ordering_key(),
            now.deduplication_id()
        );
        law!(
            LAW,
            got.id() == receipt.id,
            "id {} and not {}",
            got.id(),
            receipt.id
        );
        law!(LAW, !receipt.duplicate, "the first is a duplicate");
        law!(LAW, got.attempt() == 1, "attempt {}", got.attempt());
        let lease = got.remaining();
        law!(
            LAW,
            !lease.is_zero() && lease <= PATIENCE,
            "a lease of {lease:?}"
        );
        got.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    Ok(())
}

pub(super) async fn messages_come_in_order<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "messages come in order";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    let count = case.scale.messages;
    let mut ids = Vec::new();
    for first in (0..count).step_by(50) {
        let batch = (first..count.min(first + 50)).map(|n| n.to_string().into());
        ids.extend(publish(LAW, &topic, batch.collect()).await?);
    }
    let mut next = 0;
    while next < count {
        let got = take(LAW, &group, 20.min(count - next)).await?;
        for delivery in &got {
            law!(
                LAW,
                text(delivery) == next.to_string(),
                "{next} came out of order"
            );
            law!(LAW, delivery.id() == ids[next].id, "{next} has another id");
            next += 1;
        }
        acked(LAW, got).await?;
    }
    Ok(())
}

pub(super) async fn consumers_of_a_group_compete<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "consumers of a group compete";
    let long = case.group();
    let (topic, first) = case.pair(LAW, long.clone()).await?;
    let name = case.name(LAW);
    let second = case.engine.consumer(&name, "g", long).await;
    let second = second.map_err(|e| failed(LAW)(&e))?;
    let batch = (0..40).map(|n| n.to_string().into());
    publish(LAW, &topic, batch.collect()).await?;
    // Each gets half while the other holds its own.
    let (a, b) = tokio::try_join!(take(LAW, &first, 20), take(LAW, &second, 20))?;
    let seen: BTreeSet<_> = a.iter().chain(&b).map(text).collect();
    law!(LAW, seen.len() == 40, "only {} of 40 were seen", seen.len());
    acked(LAW, a).await?;
    acked(LAW, b).await
}

pub(super) async fn groups_each_get_every_message<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "groups each get every message";
    let name = case.name(LAW);
    let options = if Case::<E>::CAN.groups_of_held {
        case.scale.topics.clone()
    } else {
        case.scale.topics.clone().hold_without_groups(false)
    };
    let topic = case.engine.producer(&name, options).await;
    let topic = topic.map_err(|e| failed(LAW)(&e))?;
    let mut groups = Vec::new();
    for group in ["a", "b"] {
        let group = case.engine.consumer(&name, group, case.group()).await;
        groups.push(group.map_err(|e| failed(LAW)(&e))?);
    }
    publish(LAW, &topic, vec!["1".into(), "2".into()]).await?;
    for group in &groups {
        let got = take(LAW, group, 2).await?;
        let seen: Vec<_> = got.iter().map(text).collect();
        law!(LAW, seen == ["1", "2"], "{seen:?}");
        acked(LAW, got).await?;
    }
    if !Case::<E>::CAN.groups_of_held {
        let name = format!("{name}-held");
        drop(case.topic(LAW, &name).await?);
        let first = case.engine.consumer(&name, "a", case.group()).await;
        first.map_err(|e| failed(LAW)(&e))?;
        let second = case.engine.consumer(&name, "b", case.group()).await;
        law!(
            LAW,
            matches!(second, Err(crate::TopicError::Unsupported(_))),
            "a second group gave {:?}",
            second.err()
        );
    }
    Ok(())
}

pub(super) async fn what_is_acknowledged_never_comes_back<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "what is acknowledged never comes back";
    let (topic, group) = case.pair(LAW, case.leased()).await?;
    publish(LAW, &topic, vec!["1".into(), "2".into()]).await?;
    acked(LAW, take(LAW, &group, 2).await?).await?;
    nothing(LAW, &group, case.scale.lease + SLACK).await
}

pub(super) async fn a_lease_that_ends_is_lost<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "a lease that ends is lost";
    let (topic, group) = case.pair(LAW, case.leased()).await?;
    publish(LAW, &topic, vec!["1".into()]).await?;
    let mut late = one(LAW, &group).await?;
    nothing(LAW, &group, late.remaining() / 2).await?;
    let again = one(LAW, &group).await?;
    // Over a connection the holder's clock runs a little late.
    let early = late.remaining();
    law!(
        LAW,
        early <= SLACK,
        "it came {early:?} before the lease ended"
    );
    tokio::time::sleep(early).await;
    law!(LAW, again.id() == late.id(), "another message");
    law!(LAW, again.attempt() == 2, "attempt {}", again.attempt());
    let extended = late.extend(case.scale.lease).await;
    law!(
        LAW,
        matches!(extended, Err(SettleError::LeaseLost)),
        "a late extend gave {extended:?}"
    );
    let settled = late.ack().await;
    law!(
        LAW,
        matches!(settled, Err(SettleError::LeaseLost)),
        "a late ack gave {settled:?}"
    );
    // The late one took nothing from the one that holds it now.
    again.ack().await.map_err(|e| failed(LAW)(&e))?;
    nothing(LAW, &group, case.scale.lease + SLACK).await
}

pub(super) async fn an_extended_lease_holds<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "an extended lease holds";
    let (topic, group) = case.pair(LAW, case.leased()).await?;
    publish(LAW, &topic, vec!["1".into()]).await?;
    let mut held = one(LAW, &group).await?;
    for _ in 0..4 {
        nothing(LAW, &group, case.scale.lease / 2).await?;
        let extended = held.extend(case.scale.lease).await;
        extended.map_err(|e| failed(LAW)(&e))?;
        let left = held.remaining();
        law!(LAW, left > case.scale.lease / 2, "{left:?} after an extend");
    }
    held.ack().await.map_err(|e| failed(LAW)(&e))
}

pub(super) async fn a_failed_delivery_comes_again<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a failed delivery comes again";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    publish(LAW, &topic, vec!["1".into()]).await?;
    let first = one(LAW, &group).await?;
    let id = first.id();
    first
        .nack(Duration::ZERO)
        .await
        .map_err(|e| failed(LAW)(&e))?;
    let second = one(LAW, &group).await?;
    let seen = (second.id(), second.attempt());
    law!(LAW, seen == (id, 2), "message and attempt {seen:?}");
    let wait = case.scale.lease * 2;
    let settled = second.nack(wait).await;
    if Case::<E>::CAN.retry_delays {
        settled.map_err(|e| failed(LAW)(&e))?;
        nothing(LAW, &group, wait / 2).await?;
    } else {
        law!(
            LAW,
            matches!(settled, Err(SettleError::Unsupported(_))),
            "a delayed retry gave {settled:?}"
        );
    }
    let third = one(LAW, &group).await?;
    law!(LAW, third.attempt() == 3, "attempt {}", third.attempt());
    third.ack().await.map_err(|e| failed(LAW)(&e))
}

pub(super) async fn a_dropped_delivery_comes_again<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a dropped delivery comes again";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    publish(LAW, &topic, vec!["1".into()]).await?;
    drop(one(LAW, &group).await?);
    let again = one(LAW, &group).await?;
    law!(LAW, again.attempt() == 2, "attempt {}", again.attempt());
    again.ack().await.map_err(|e| failed(LAW)(&e))
}

pub(super) async fn a_receive_that_is_dropped_loses_nothing<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a receive that is dropped loses nothing";
    let (topic, group) = case.pair(LAW, case.leased().deliveries_max(0)).await?;
    let idle = format!("{}-idle", case.name(LAW));
    let other = case.engine.consumer(&idle, "g", case.group()).await;
    let other = other.map_err(|e| failed(LAW)(&e))?;
    let batch: Vec<Message> = (0..20).map(|n| n.to_string().into()).collect();
    let mut left: BTreeSet<String> = (0..20).map(|n| n.to_string()).collect();
    let (published, ()) = tokio::join!(publish(LAW, &topic, batch), async {
        // Dropped wherever it happens to be.
        for micros in [0, 1, 50, 200, 500, 1000, 2000, 5000, 10_000, 20_000] {
            let soon = Duration::from_micros(micros);
            drop(tokio::time::timeout(soon, group.receive(up_to(2))).await);
        }
    });
    published?;
    // More than any server lets wait at once.
    for _ in 0..600 {
        drop(tokio::time::timeout(Duration::ZERO, other.receive(up_to(1))).await);
        tokio::task::yield_now().await;
    }
    while !left.is_empty() {
        for delivery in take(LAW, &group, 1).await? {
            left.remove(&text(&delivery));
            delivery.ack().await.map_err(|e| failed(LAW)(&e))?;
        }
    }
    Ok(())
}

pub(super) async fn a_waiting_receive_is_woken<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a waiting receive is woken";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    for _ in 0..3 {
        let (got, sent) = tokio::join!(one(LAW, &group), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            publish(LAW, &topic, vec!["1".into()]).await
        });
        sent?;
        got?.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    Ok(())
}

pub(super) async fn a_released_delivery_uses_up_no_attempt<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a released delivery uses up no attempt";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    publish(LAW, &topic, vec!["1".into()]).await?;
    let released = one(LAW, &group).await?.settle(Settle::Release).await;
    let again = one(LAW, &group).await?;
    let attempt = again.attempt();
    if Case::<E>::CAN.release {
        released.map_err(|e| failed(LAW)(&e))?;
        law!(LAW, attempt == 1, "attempt {attempt}");
    } else {
        law!(
            LAW,
            matches!(released, Err(SettleError::Unsupported(_))),
            "a release gave {released:?}"
        );
        law!(LAW, attempt == 2, "attempt {attempt}");
    }
    again.ack().await.map_err(|e| failed(LAW)(&e))
}
