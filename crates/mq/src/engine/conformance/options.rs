//! Laws of what options and messages ask for: done, or refused.

use std::time::Duration;

use super::{Broken, Case, PATIENCE, SLACK, failed, law, nothing, one, publish, take, text};
use crate::engine::Engine;
use crate::error::{PublishError, TopicError};
use crate::lease::Settle;
use crate::message::{Message, dead_header};
use crate::options::{GroupOptions, Start, WhenFull};
use crate::traits::{Delivery, Producer};

/// That a publish is refused as unsupported and gives its message back.
async fn refused<P: Producer>(law: &'static str, to: &P, message: Message) -> Result<(), Broken> {
    let back = to.publish(vec!["plain".into(), message.clone()]).await;
    let told = matches!(&back, Err(PublishError::Unsupported { messages, .. })
        if messages.len() == 2 && messages[1] == message);
    law!(law, told, "a publish gave {back:?}");
    Ok(())
}

fn unsupported<T>(law: &'static str, made: Result<T, TopicError>) -> Result<(), Broken> {
    let error = made.err();
    law!(
        law,
        matches!(error, Some(TopicError::Unsupported(_))),
        "a group gave {error:?}"
    );
    Ok(())
}

pub(super) async fn used_up_and_hopeless_messages_become_dead_letters<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "used-up and hopeless messages become dead letters";
    let name = case.name(LAW);
    let dead = format!("{name}-dead");
    drop(case.topic(LAW, &dead).await?);
    let graves = case.engine.consumer(&dead, "g", GroupOptions::new()).await;
    let graves = graves.map_err(|e| failed(LAW)(&e))?;
    let options = case.leased().deliveries_max(2).dead_letter(dead);
    let (topic, group) = case.pair(LAW, options).await?;
    let header = |d: &dyn Fn(&str) -> Option<bytes::Bytes>, name| {
        d(name).map(|v| String::from_utf8_lossy(&v).into_owned())
    };
    let sent = ["failed", "expired", "hopeless"];
    let mut held = Vec::new();
    for body in sent {
        let message = Message::new(body).key("k").header("own", "1");
        let receipt = publish(LAW, &topic, vec![message]).await?[0];
        let mut attempts = 2;
        match body {
            "failed" => {
                for _ in 0..2 {
                    let settled = one(LAW, &group).await?.nack(Duration::ZERO).await;
                    settled.map_err(|e| failed(LAW)(&e))?;
                }
            }
            "expired" => {
                for _ in 0..2 {
                    held.push(one(LAW, &group).await?);
                }
                // Brokers look when somebody asks.
                nothing(LAW, &group, case.scale.lease + SLACK).await?;
            }
            _ => {
                attempts = 1;
                let reason = "ü: no use".to_owned();
                let settled = one(LAW, &group)
                    .await?
                    .settle(Settle::Dead { reason })
                    .await;
                settled.map_err(|e| failed(LAW)(&e))?;
            }
        }
        let letter = one(LAW, &graves).await?;
        law!(LAW, text(&letter) == body, "{} for {body}", text(&letter));
        let get = |name: &str| letter.message().header_value(name).cloned();
        law!(
            LAW,
            letter.message().ordering_key().is_some_and(|k| k == "k") && get("own").is_some(),
            "{body} lost its key or header"
        );
        let told = [
            dead_header::TOPIC,
            dead_header::GROUP,
            dead_header::ID,
            dead_header::ATTEMPTS,
        ]
        .map(|n| header(&get, n));
        let right = [
            name.clone(),
            "g".into(),
            receipt.id.to_string(),
            attempts.to_string(),
        ]
        .map(Some);
        law!(LAW, told == right, "{body} says {told:?} and not {right:?}");
        let reason = header(&get, dead_header::REASON).unwrap_or_default();
        let fits = !reason.is_empty() && (body != "hopeless" || reason == "ü: no use");
        law!(LAW, fits, "{body} died of {reason:?}");
        letter.ack().await.map_err(|e| failed(LAW)(&e))?;
        nothing(LAW, &group, Duration::from_millis(50)).await?;
    }
    Ok(())
}

pub(super) async fn a_dedup_id_is_stored_once<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "a dedup id is stored once";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    let message = |body: &'static str| Message::new(body).dedup_id("17");
    if !Case::<E>::CAN.dedup {
        return refused(LAW, &topic, message("a")).await;
    }
    let first = publish(LAW, &topic, vec![message("a")]).await?;
    let second = publish(LAW, &topic, vec![message("b"), "c".into()]).await?;
    law!(LAW, !first[0].duplicate, "the first is a duplicate");
    law!(
        LAW,
        second[0].duplicate && second[0].id == first[0].id,
        "{second:?} after {first:?}"
    );
    // Also in another topic's eyes, and when the first one is gone.
    let got = take(LAW, &group, 2).await?;
    let seen: Vec<_> = got.iter().map(text).collect();
    law!(LAW, seen == ["a", "c"], "{seen:?}");
    super::acked(LAW, got).await?;
    let third = publish(LAW, &topic, vec![message("d")]).await?;
    law!(LAW, third[0].duplicate, "stored again after its ack");
    let other = case.topic(LAW, &format!("{}-2", case.name(LAW))).await?;
    let there = publish(LAW, &other, vec![message("e")]).await?;
    law!(LAW, !there[0].duplicate, "an id of another topic counts");
    Ok(())
}

pub(super) async fn a_delayed_message_waits<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "a delayed message waits";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    let delay = Duration::from_secs(1);
    let message = Message::new("late").delay(delay);
    if !Case::<E>::CAN.delays {
        refused(LAW, &topic, message).await?;
        let long_gone = Message::new("at").at(std::time::UNIX_EPOCH + Duration::from_secs(1 << 33));
        return refused(LAW, &topic, long_gone).await;
    }
    let long_gone = Message::new("past").at(std::time::UNIX_EPOCH);
    let begun = tokio::time::Instant::now();
    publish(LAW, &topic, vec![message, "now".into(), long_gone]).await?;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let got = one(LAW, &group).await?;
        let (body, after) = (text(&got), begun.elapsed());
        law!(
            LAW,
            body != "late" || after >= delay,
            "it came after {after:?}"
        );
        seen.push(body);
        got.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    seen.sort();
    law!(LAW, seen == ["late", "now", "past"], "{seen:?}");
    Ok(())
}

pub(super) async fn the_higher_priority_comes_first<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "the higher priority comes first";
    let (topic, group) = case.pair(LAW, case.group()).await?;
    let message = |p: u8| Message::new(p.to_string()).priority(p);
    if !Case::<E>::CAN.priorities {
        return refused(LAW, &topic, message(1)).await;
    }
    publish(LAW, &topic, [0, 3, 7, 3].map(message).into()).await?;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let got = one(LAW, &group).await?;
        seen.push((got.message().priority_class(), got.id()));
        got.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    let order: Vec<_> = seen.iter().map(|(p, _)| *p).collect();
    law!(
        LAW,
        order == [7, 3, 3, 0] && seen[1].1 < seen[2].1,
        "{seen:?}"
    );
    Ok(())
}

pub(super) async fn one_key_is_one_after_another<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "one key is one after another";
    let name = case.name(LAW);
    let topic = case.topic(LAW, &name).await?;
    let options = case.group().ordered_keys(true);
    let group = case.engine.consumer(&name, "g", options).await;
    if !Case::<E>::CAN.ordered_keys {
        return unsupported(LAW, group);
    }
    let group = group.map_err(|e| failed(LAW)(&e))?;
    let message = |body: &'static str, key: &'static str| Message::new(body).key(key);
    let batch = vec![
        message("a1", "a"),
        message("a2", "a"),
        message("b1", "b"),
        message("b2", "b"),
        "free".into(),
    ];
    publish(LAW, &topic, batch).await?;
    let mut got = take(LAW, &group, 3).await?;
    let seen: Vec<_> = got.iter().map(text).collect();
    law!(LAW, seen == ["a1", "b1", "free"], "first {seen:?}");
    nothing(LAW, &group, Duration::from_millis(100)).await?;
    let a1 = got.remove(0);
    a1.nack(Duration::from_millis(300))
        .await
        .map_err(|e| failed(LAW)(&e))?;
    // What waits for its retry holds its successors back, too.
    nothing(LAW, &group, Duration::from_millis(100)).await?;
    super::acked(LAW, got).await?;
    let mut rest = Vec::new();
    for _ in 0..3 {
        let next = one(LAW, &group).await?;
        rest.push(text(&next));
        next.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    let a: Vec<_> = rest.iter().filter(|b| b.starts_with('a')).collect();
    law!(LAW, a == ["a1", "a2"], "then {rest:?}");
    Ok(())
}

pub(super) async fn a_group_may_start_at_the_end<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a group may start at the end";
    let name = case.name(LAW);
    let topic = case.topic(LAW, &name).await?;
    publish(LAW, &topic, vec!["before".into()]).await?;
    let options = case.group().start(Start::End);
    let group = case.engine.consumer(&name, "g", options).await;
    if !Case::<E>::CAN.start_at_end {
        unsupported(LAW, group)?;
        let group = case.engine.consumer(&name, "g", case.group()).await;
        let group = group.map_err(|e| failed(LAW)(&e))?;
        let got = one(LAW, &group).await?;
        law!(LAW, text(&got) == "before", "{}", text(&got));
        return got.ack().await.map_err(|e| failed(LAW)(&e));
    }
    let group = group.map_err(|e| failed(LAW)(&e))?;
    publish(LAW, &topic, vec!["after".into()]).await?;
    let got = one(LAW, &group).await?;
    law!(LAW, text(&got) == "after", "{}", text(&got));
    got.ack().await.map_err(|e| failed(LAW)(&e))
}

pub(super) async fn in_flight_has_a_bound<E: Engine>(case: &Case<'_, E>) -> Result<(), Broken> {
    const LAW: &str = "in flight has a bound";
    let name = case.name(LAW);
    let topic = case.topic(LAW, &name).await?;
    let options = case.group().in_flight_max(2);
    let group = case.engine.consumer(&name, "g", options).await;
    if !Case::<E>::CAN.in_flight_max {
        return unsupported(LAW, group);
    }
    let group = group.map_err(|e| failed(LAW)(&e))?;
    let batch = (0..4).map(|n| n.to_string().into());
    publish(LAW, &topic, batch.collect()).await?;
    let mut held = take(LAW, &group, 2).await?;
    nothing(LAW, &group, Duration::from_millis(200)).await?;
    let first = held.remove(0);
    first.ack().await.map_err(|e| failed(LAW)(&e))?;
    held.push(one(LAW, &group).await?);
    nothing(LAW, &group, Duration::from_millis(200)).await?;
    super::acked(LAW, held).await
}

pub(super) async fn a_full_topic_hands_the_message_back<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "a full topic hands the message back";
    let name = case.name(LAW);
    let options = case.scale.topics.clone();
    let options = options.messages_max(3).when_full(WhenFull::Refuse);
    let topic = case.engine.producer(&name, options).await;
    if !Case::<E>::CAN.bounds {
        return unsupported(LAW, topic);
    }
    let topic = topic.map_err(|e| failed(LAW)(&e))?;
    let group = case.engine.consumer(&name, "g", case.group()).await;
    let group = group.map_err(|e| failed(LAW)(&e))?;
    for _ in 0..3 {
        publish(LAW, &topic, vec!["in".into()]).await?;
    }
    let mut tries = 0;
    let back = loop {
        match topic.publish(vec!["out".into()]).await {
            // A broker may count a moment late.
            Ok(_) if tries < 3 => tries += 1,
            other => break other,
        }
    };
    law!(
        LAW,
        matches!(&back, Err(PublishError::Full { messages, .. }) if messages[0].body() == "out"),
        "a full topic gave {back:?}"
    );
    super::acked(LAW, take(LAW, &group, 3 + tries).await?).await?;
    let mut again = topic.publish(vec!["in".into()]).await;
    let begun = tokio::time::Instant::now();
    while again.is_err() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
        again = topic.publish(vec!["in".into()]).await;
    }
    again.map(drop).map_err(|e| failed(LAW)(&e))
}

pub(super) async fn names_are_checked_and_kept_apart<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "names are checked and kept apart";
    for bad in [String::new(), "x".repeat(256)] {
        let made = case.engine.producer(&bad, case.scale.topics.clone()).await;
        let length = bad.len();
        law!(
            LAW,
            matches!(made, Err(TopicError::Name(n)) if n == length),
            "a name of {length} bytes gave {:?}",
            made.err()
        );
    }
    let base = case.name(LAW);
    let names = [
        ".", "-", "_", " ", "*", ">", "ü", "/", "%2E", "A", "a", "'\"{}\\",
    ];
    for name in names {
        let topic = case.topic(LAW, &format!("{base}{name}")).await?;
        publish(LAW, &topic, vec![name.into()]).await?;
    }
    for name in names {
        let full = format!("{base}{name}");
        let group = case.engine.consumer(&full, name, case.group()).await;
        let group = group.map_err(|e| failed(LAW)(&e))?;
        let got = one(LAW, &group).await?;
        law!(LAW, text(&got) == name, "{name:?} gave {:?}", text(&got));
        got.ack().await.map_err(|e| failed(LAW)(&e))?;
    }
    Ok(())
}
