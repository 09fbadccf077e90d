//! The laws of many callers at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Broken, END, NOW, Names, failed, is_gone, law};
use crate::policy::Policy;
use crate::store::{ReferenceError, References, Store, StoreError, SubjectIndex};

/// Requests in flight at one time.
const TASKS: usize = 50;

/// Runs `count` futures, at most [`TASKS`] at a time on threads of the runtime.
async fn parallel<F, T>(
    law: &'static str,
    count: usize,
    make: impl Fn(usize) -> F,
) -> Result<Vec<T>, Broken>
where
    F: Future<Output = Result<T, Broken>> + Send + 'static,
    T: Send + 'static,
{
    let mut done = Vec::with_capacity(count);
    let mut next = 0..count;
    let mut running = tokio::task::JoinSet::new();
    loop {
        while running.len() < TASKS
            && let Some(number) = next.next()
        {
            running.spawn(make(number));
        }
        match running.join_next().await {
            None => return Ok(done),
            Some(Ok(result)) => done.push(result?),
            Some(Err(error)) => return Err(failed(law)(&error)),
        }
    }
}

pub(super) async fn one_of_many_creators_wins<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "one of many creators wins";
    let names = Names::new(LAW)?;
    let name = names.record(1);
    let made = parallel(LAW, TASKS, |number| {
        let record = names.new_record(&number.to_le_bytes());
        let store = Arc::clone(store);
        async move {
            match store.create(name, record, NOW).await {
                Ok(version) => Ok(Some((version, number))),
                Err(StoreError::Exists) => Ok(None),
                Err(error) => Err(failed(LAW)(&error)),
            }
        }
    });
    let winners: Vec<_> = made.await?.into_iter().flatten().collect();
    law!(LAW, winners.len() == 1, "{} won", winners.len());
    let record = store
        .load(name, NOW)
        .await
        .map_err(|error| failed(LAW)(&error))?;
    let (version, number) = winners[0];
    law!(
        LAW,
        record.version == version && record.data == number.to_le_bytes(),
        "another's record"
    );
    Ok(())
}

pub(super) async fn a_deleted_record_never_comes_back<S: SubjectIndex>(
    store: &Arc<S>,
    races: usize,
) -> Result<(), Broken> {
    const LAW: &str = "a deleted record never comes back";
    for _ in 0..races {
        let names = Names::new(LAW)?;
        let name = names.record(1);
        let made = store.create(name, names.new_record(b"a"), NOW).await;
        made.map_err(|error| failed(LAW)(&error))?;
        let handles: Vec<_> = (0..6_u8)
            .map(|number| {
                let store = Arc::clone(store);
                tokio::spawn(async move {
                    let end = END.after(Duration::from_secs(number.into()));
                    let done = match number {
                        0 => store.delete(name, NOW).await.map(|_| ()),
                        1 | 2 => store.touch(name, end, NOW).await,
                        _ => store
                            .modify(name, NOW, |data| data.push(number))
                            .await
                            .map(|_| ()),
                    };
                    match done {
                        Ok(()) | Err(StoreError::Gone) => Ok(()),
                        Err(error) => Err(error),
                    }
                })
            })
            .collect();
        for handle in handles {
            let done = handle.await.map_err(|error| failed(LAW)(&error))?;
            law!(LAW, done.is_ok(), "{done:?}");
        }
        law!(LAW, is_gone(&store.load(name, NOW).await), "it came back");
        let listed = store.list(names.subject("7"), NOW).await;
        law!(
            LAW,
            matches!(&listed, Ok(all) if all.is_empty()),
            "listed: {listed:?}"
        );
    }
    Ok(())
}

pub(super) async fn no_update_is_lost<S: Store>(
    store: &Arc<S>,
    updates: usize,
) -> Result<(), Broken> {
    const LAW: &str = "no update is lost";
    let names = Names::new(LAW)?;
    let name = names.record(1);
    let made = store
        .create(name, names.new_record(&0_u64.to_le_bytes()), NOW)
        .await;
    made.map_err(|error| failed(LAW)(&error))?;
    let count = |data: &[u8]| data.try_into().map_or(u64::MAX, u64::from_le_bytes);
    parallel(LAW, updates, |_| {
        let store = Arc::clone(store);
        async move {
            let more = |data: &mut Vec<u8>| {
                let next = count(data).wrapping_add(1);
                *data = next.to_le_bytes().to_vec();
            };
            let done = store.modify(name, NOW, more).await;
            done.map_err(|error| failed(LAW)(&error))
        }
    })
    .await?;
    let record = store
        .load(name, NOW)
        .await
        .map_err(|error| failed(LAW)(&error))?;
    let counted = count(&record.data);
    law!(LAW, counted == updates as u64, "{counted} of {updates}");
    Ok(())
}

pub(super) async fn one_renewal_has_one_successor<S: Store>(
    store: &Arc<S>,
    renewals: usize,
) -> Result<(), Broken> {
    const LAW: &str = "one reference has one successor";
    let names = Names::new(LAW)?;
    let references = References::new(Arc::clone(store), names.key, Policy::aal2());
    let references = Arc::new(references.map_err(|error| failed(LAW)(&error))?);
    let first = references.begin("7", b"state", NOW).await;
    let first = first.map_err(|error| failed(LAW)(&error))?;
    let renewed = parallel(LAW, renewals, |_| {
        let (references, first) = (Arc::clone(&references), first.clone());
        async move {
            let renewed = references.renew(&first, NOW).await;
            renewed.map_err(|error| failed(LAW)(&error))
        }
    });
    let renewed = renewed.await?;
    let second = &renewed[0].reference;
    let same = renewed.iter().all(|renewed| renewed.reference == *second);
    law!(LAW, same && *second != first, "the successors differ");
    let did = renewed
        .iter()
        .filter(|renewed| !renewed.redelivered)
        .count();
    law!(LAW, did == 1, "{did} replaced it");
    law!(LAW, renewed[0].data == b"state", "the data changed");
    // Inside the grace the old one is good; after it, it ends the session.
    let inside = NOW.after(Duration::from_secs(29));
    law!(
        LAW,
        references.load(&first, inside).await.is_ok(),
        "refused inside the grace"
    );
    let after = NOW.after(Duration::from_secs(31));
    law!(
        LAW,
        references.load(second, after).await.is_ok(),
        "the successor was refused"
    );
    let reused = references.renew(&first, after).await;
    law!(
        LAW,
        matches!(reused, Err(ReferenceError::Reused)),
        "reuse gave {reused:?}"
    );
    let over = references.load(second, after).await;
    law!(
        LAW,
        matches!(over, Err(ReferenceError::Ended)),
        "after reuse: {over:?}"
    );
    Ok(())
}
