//! Laws under random use, and of a server that dies.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    Broken, Case, PATIENCE, SLACK, Scale, failed, law, nothing, publish, take, text, up_to,
};
use crate::engine::Engine;
use crate::error::{PublishError, SettleError, TakeError};
use crate::message::Message;
use crate::sim::splitmix;
use crate::traits::{Consumer, Delivery, Producer};

/// Consumers that acknowledge, fail, drop and hold at random; the twin is a count of acknowledgements.
pub(super) async fn each_message_is_acknowledged_once<E: Engine>(
    case: &Case<'_, E>,
) -> Result<(), Broken> {
    const LAW: &str = "each message is acknowledged once";
    let (topic, group) = case.pair(LAW, case.leased().deliveries_max(0)).await?;
    let (count, seed) = (case.scale.messages, case.tag);
    let acks = &RefCell::new(BTreeMap::<String, u32>::new());
    let consumer = |mut seed: u64| {
        let group = &group;
        async move {
            while acks.borrow().len() < count {
                let soon = Duration::from_millis(200);
                let max = up_to(1 + usize::try_from(splitmix(&mut seed) % 5).unwrap_or(0));
                let Ok(got) = tokio::time::timeout(soon, group.receive(max)).await else {
                    continue;
                };
                for mut delivery in got.map_err(|e| failed(LAW)(&e))? {
                    let body = text(&delivery);
                    let settled = match splitmix(&mut seed) % 100 {
                        0..10 => {
                            drop(delivery);
                            continue;
                        }
                        10..25 => delivery.nack(Duration::ZERO).await.map(|()| false),
                        25..28 => {
                            let over = delivery.remaining() + SLACK;
                            tokio::time::sleep(over).await;
                            // Whether somebody was faster shows in the count.
                            delivery.ack().await.map(|()| true)
                        }
                        28..40 => match delivery.extend(case.scale.lease).await {
                            Ok(()) => delivery.ack().await.map(|()| true),
                            Err(e) => Err(e),
                        },
                        _ => delivery.ack().await.map(|()| true),
                    };
                    match settled {
                        Ok(true) => *acks.borrow_mut().entry(body).or_default() += 1,
                        Ok(false) => (),
                        // A neighbour was held too long.
                        Err(SettleError::LeaseLost) => (),
                        Err(e) => return Err(failed(LAW)(&e)),
                    }
                }
            }
            Ok(())
        }
    };
    let producer = async {
        for first in (0..count).step_by(7) {
            let batch = (first..count.min(first + 7)).map(|n| {
                let message = Message::new(n.to_string());
                if Case::<E>::CAN.dedup {
                    message.dedup_id(n.to_string())
                } else {
                    message
                }
            });
            let batch: Vec<_> = batch.collect();
            let receipts = publish(LAW, &topic, batch.clone()).await?;
            if Case::<E>::CAN.dedup && first % 3 == 0 {
                let again = publish(LAW, &topic, batch).await?;
                let same = again
                    .iter()
                    .zip(&receipts)
                    .all(|(a, b)| a.duplicate && a.id == b.id);
                law!(LAW, same, "{again:?} after {receipts:?}");
            }
        }
        Ok(())
    };
    let work = async {
        tokio::try_join!(
            producer,
            consumer(seed),
            consumer(seed + 1),
            consumer(seed + 2)
        )
    };
    let limit = PATIENCE * 4;
    match tokio::time::timeout(limit, work).await {
        Err(_) => {
            let what = format!(
                "seed {seed}: {} of {count} acknowledged",
                acks.borrow().len()
            );
            return Err(Broken { law: LAW, what });
        }
        Ok(done) => drop(done?),
    }
    let twice: Vec<_> = acks
        .borrow()
        .iter()
        .filter(|(_, n)| **n != 1)
        .map(|(body, n)| format!("{body} {n} times"))
        .collect();
    law!(LAW, twice.is_empty(), "seed {seed}: acknowledged {twice:?}");
    nothing(LAW, &group, case.scale.lease + SLACK).await
}

/// That nothing acknowledged is lost, in either direction, when the server behind the engine is killed.
///
/// `restart` kills the server and starts it again on the same data. Before, while and after it runs, a producer
/// publishes and a consumer takes. Then every message whose publish was acknowledged must have come, and none whose
/// delivery was acknowledged may come again. Producer and consumer are those from before: the engine connects
/// again by itself.
///
/// # Errors
/// The law that does not hold, or what `restart` said.
///
/// # Cancel safety
/// As [`all`](super::all).
pub async fn survives<E: Engine>(
    engine: &E,
    scale: Scale,
    restart: impl Future<Output = Result<(), String>>,
) -> Result<(), Broken> {
    const LAW: &str = "nothing acknowledged is lost";
    use std::hash::BuildHasher;
    let tag = std::hash::RandomState::new().hash_one(1);
    let case = &Case { engine, scale, tag };
    let (topic, group) = case.pair(LAW, case.leased().deliveries_max(0)).await?;
    let done = &RefCell::new(false);
    let before: Vec<Message> = (0..100).map(|n| format!("b{n}").into()).collect();
    publish(LAW, &topic, before.clone()).await?;
    let mut gone = BTreeSet::new();
    for delivery in take(LAW, &group, 40).await? {
        let body = text(&delivery);
        delivery.ack().await.map_err(|e| failed(LAW)(&e))?;
        gone.insert(body);
    }
    let held = take(LAW, &group, 10).await?;

    let producer = async {
        let (mut sent, mut more) = (BTreeSet::new(), 30);
        for n in 0.. {
            if *done.borrow() {
                more -= 1;
            }
            if more == 0 {
                break;
            }
            let body = format!("d{n}");
            let mut message = Message::new(body.clone());
            if Case::<E>::CAN.dedup {
                message = message.dedup_id(body.clone());
            }
            let begun = tokio::time::Instant::now();
            loop {
                match topic.publish(vec![message.clone()]).await {
                    Ok(_) => break,
                    Err(PublishError::Unknown(_) | PublishError::Closed)
                        if begun.elapsed() < PATIENCE =>
                    {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(e) => return Err(failed(LAW)(&e)),
                }
            }
            sent.insert(body);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(sent)
    };
    let killer = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let restarted = restart.await;
        done.replace(true);
        restarted.map_err(|e| failed(LAW)(&e))
    };
    let (sent, ()) = tokio::try_join!(producer, killer)?;
    drop(held);
    let mut open: BTreeSet<String> = before.iter().map(lossy).chain(sent).collect();
    let all = open.clone();
    open.retain(|body| !gone.contains(body));
    let begun = tokio::time::Instant::now();
    let mut seen = BTreeMap::<String, u32>::new();
    while !open.is_empty() {
        law!(
            LAW,
            begun.elapsed() < PATIENCE * 2,
            "{} of {} acknowledged messages never came: {:?}",
            open.len(),
            all.len(),
            open.iter().next()
        );
        let got = match tokio::time::timeout(PATIENCE, group.receive(up_to(10))).await {
            Ok(Ok(got)) => got,
            Ok(Err(TakeError::Broker(_) | TakeError::Closed | TakeError::Disk(_))) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Ok(Err(e)) => return Err(failed(LAW)(&e)),
            Err(_) => continue,
        };
        for delivery in got {
            let body = text(&delivery);
            law!(LAW, !gone.contains(&body), "{body} came after its ack");
            law!(LAW, all.contains(&body), "{body} was never published");
            if delivery.ack().await.is_ok() {
                open.remove(&body);
                let times = seen.entry(body).or_default();
                *times += 1;
                law!(
                    LAW,
                    *times == 1 || !Case::<E>::CAN.dedup,
                    "a message was stored {times} times"
                );
            }
        }
    }
    nothing(LAW, &group, case.scale.lease + SLACK).await
}

fn lossy(message: &Message) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}
