//! Random operations beside a model.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Broken, NOW, Names, failed, law};
use crate::store::{
    MemoryStore, NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, fresh_version,
};

/// Random operations, one after the other, beside [`MemoryStore`], which is the model.
pub(super) async fn the_store_is_as_the_model<S: SubjectIndex>(
    store: &Arc<S>,
    steps: usize,
) -> Result<(), Broken> {
    const LAW: &str = "the store is as the model";
    let names = Names::new(LAW)?;
    let model = MemoryStore::default();
    let seed = fresh_version().map_err(|error| failed(LAW)(&error))?;
    let mut state = seed;
    let mut draw = |below: u64| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let mut now = NOW;
    // Versions are the store's own; these belong together.
    let mut versions = [(0, 0); 4];
    for step in 0..steps {
        let which = usize::try_from(draw(4)).unwrap_or_default();
        let name = names.record(u8::try_from(which).unwrap_or_default());
        let later = |seconds: u64| now.after(Duration::from_secs(seconds));
        let data = vec![u8::try_from(draw(256)).unwrap_or_default(); 3];
        let operation = draw(6);
        let (here, there) = match operation {
            0 => {
                let record = NewRecord {
                    subject: names.subject(if draw(2) == 0 { "7" } else { "8" }),
                    data,
                    expires_at: later(1 + draw(20)),
                };
                let here = store.create(name, record.clone(), now).await;
                let there = model.create(name, record, now).await;
                if let (Ok(here), Ok(there)) = (&here, &there) {
                    versions[which] = (*here, *there);
                }
                (shown(here.map(|_| ())), shown(there.map(|_| ())))
            }
            1 => {
                let (ours, models) = versions[which];
                let here = store.update(name, ours, data.clone(), now).await;
                let there = model.update(name, models, data, now).await;
                if let (Ok(here), Ok(there)) = (&here, &there) {
                    // Half of the time the old version is kept, so that conflicts come up.
                    if draw(2) == 0 {
                        versions[which] = (*here, *there);
                    }
                }
                (shown(here.map(|_| ())), shown(there.map(|_| ())))
            }
            2 => {
                let until = later(draw(30));
                (
                    shown(store.touch(name, until, now).await),
                    shown(model.touch(name, until, now).await),
                )
            }
            3 => (
                shown(store.delete(name, now).await),
                shown(model.delete(name, now).await),
            ),
            4 => {
                now = later(draw(6));
                continue;
            }
            _ => {
                let (here, there) = (store.load(name, now).await, model.load(name, now).await);
                let seen = |record: Record| {
                    (
                        record.data,
                        record.subject,
                        record.created_at,
                        record.expires_at,
                    )
                };
                let same =
                    here.as_ref().ok().cloned().map(seen) == there.as_ref().ok().cloned().map(seen);
                law!(
                    LAW,
                    same,
                    "seed {seed}, step {step}: {here:?} and not {there:?}"
                );
                (shown(here.map(|_| ())), shown(there.map(|_| ())))
            }
        };
        law!(
            LAW,
            here == there,
            "seed {seed}, step {step}, operation {operation}: {here} and not {there}"
        );
        for subject in ["7", "8"] {
            let listed = store.list(names.subject(subject), now).await;
            let listed = listed.map_err(|error| failed(LAW)(&error))?;
            let expected = model.list(names.subject(subject), now).await;
            let expected = expected.map_err(|error| failed(LAW)(&error))?;
            let keys =
                |all: &[(StoreKey, Record)]| all.iter().map(|(key, _)| *key).collect::<Vec<_>>();
            law!(
                LAW,
                keys(&listed) == keys(&expected),
                "seed {seed}, step {step}: the lists differ"
            );
        }
    }
    Ok(())
}

/// A result without what differs from store to store.
fn shown<T: fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict { .. }) => "a conflict".to_owned(),
        result => format!("{result:?}"),
    }
}
