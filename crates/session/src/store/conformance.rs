//! What every store must do, as a suite that a stranger's store can run.
//!
//! ```
//! # async fn doc() -> Result<(), stackbeam_session::conformance::Broken> {
//! use std::sync::Arc;
//! use stackbeam_session::{MemoryStore, conformance};
//!
//! let store = Arc::new(MemoryStore::default());
//! conformance::all(&store, conformance::Scale::short()).await
//! # }
//! ```
//!
//! Needs a tokio runtime with more than one thread, or the races are none. Each law uses names of its own, so a
//! store that is in use is not disturbed.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{NewRecord, References, Store, StoreError, StoreKey, SubjectIndex, SubjectKey};
use super::{RECORD_BYTES_MAX, ReferenceError};
use crate::claims::SessionId;
use crate::key::Key;
use crate::policy::Policy;
use crate::time::Timestamp;

/// A law that a store broke.
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

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    updates: usize,
    renewals: usize,
    races: usize,
    steps: usize,
}

impl Scale {
    /// Seconds on any store.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            updates: 500,
            renewals: 100,
            races: 30,
            steps: 300,
        }
    }

    /// 10 000 updates of one record, 1 000 renewals of one session, 300 races.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            updates: 10_000,
            renewals: 1000,
            races: 300,
            steps: 3000,
        }
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const END: Timestamp = Timestamp::from_secs(1_800_003_600);
/// Requests in flight at one time.
const TASKS: usize = 50;

/// Runs all laws.
///
/// # Errors
/// The first law that does not hold, and what was seen.
pub async fn all<S: SubjectIndex>(store: &Arc<S>, scale: Scale) -> Result<(), Broken> {
    only_create_makes_a_record(store).await?;
    what_was_stored_comes_back(store).await?;
    an_update_happens_on_the_version_it_names(store).await?;
    what_has_expired_is_gone(store).await?;
    a_record_made_anew_is_another(store).await?;
    a_subject_has_its_own_sessions(store).await?;
    one_of_many_creators_wins(store).await?;
    a_deleted_record_never_comes_back(store, scale.races).await?;
    no_update_is_lost(store, scale.updates).await?;
    one_renewal_has_one_successor(store, scale.renewals).await?;
    the_store_is_as_the_model(store, scale.steps).await
}

macro_rules! law {
    ($law:expr, $holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(Broken { law: $law, what: format!($($what)*) });
        }
    };
}

struct Names {
    key: Key,
}

impl Names {
    fn new(law: &'static str) -> Result<Self, Broken> {
        let key = Key::generate().map_err(|error| failed(law)(&error))?;
        Ok(Self { key })
    }

    fn record(&self, number: u8) -> StoreKey {
        StoreKey::new(&self.key, SessionId::from_bytes([number; 16]))
    }

    fn subject(&self, name: &str) -> SubjectKey {
        SubjectKey::new(&self.key, name)
    }

    fn new_record(&self, data: &[u8]) -> NewRecord {
        NewRecord {
            subject: self.subject("7"),
            data: data.to_vec(),
            expires_at: END,
        }
    }
}

fn failed(law: &'static str) -> impl Fn(&dyn fmt::Display) -> Broken {
    move |error| Broken {
        law,
        what: format!("unexpected: {error}"),
    }
}

fn is_gone<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Gone))
}

async fn only_create_makes_a_record<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "only create makes a record";
    let names = Names::new(LAW)?;
    let name = names.record(1);
    law!(
        LAW,
        is_gone(&store.load(name, NOW).await),
        "a record from nowhere"
    );
    law!(
        LAW,
        is_gone(&store.update(name, 0, vec![1], NOW).await),
        "update made one"
    );
    law!(
        LAW,
        is_gone(&store.touch(name, END, NOW).await),
        "touch made one"
    );
    law!(
        LAW,
        is_gone(&store.modify(name, NOW, |_| ()).await),
        "modify made one"
    );
    law!(
        LAW,
        matches!(store.delete(name, NOW).await, Ok(false)),
        "delete found one"
    );
    law!(
        LAW,
        is_gone(&store.load(name, NOW).await),
        "something made one"
    );
    let made = store.create(name, names.new_record(b"a"), NOW).await;
    law!(LAW, made.is_ok(), "create did not: {made:?}");
    let again = store.create(name, names.new_record(b"b"), NOW).await;
    law!(
        LAW,
        matches!(again, Err(StoreError::Exists)),
        "create twice gave {again:?}"
    );
    let found = store.load(name, NOW).await.map(|record| record.data);
    law!(
        LAW,
        matches!(&found, Ok(data) if data == b"a"),
        "create twice left {found:?}"
    );
    Ok(())
}

async fn what_was_stored_comes_back<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "what was stored comes back";
    let names = Names::new(LAW)?;
    let every_byte: Vec<u8> = (0..=255).cycle().take(RECORD_BYTES_MAX).collect();
    for (number, data) in [&b""[..], b"\r\n\0'\"", &every_byte]
        .into_iter()
        .enumerate()
    {
        let name = names.record(u8::try_from(number).unwrap_or_default());
        let made = store.create(name, names.new_record(data), NOW).await;
        let version = made.map_err(|error| failed(LAW)(&error))?;
        let record = store
            .load(name, NOW)
            .await
            .map_err(|error| failed(LAW)(&error))?;
        let length = data.len();
        law!(LAW, record.data == data, "{length} bytes changed");
        law!(
            LAW,
            record.version == version,
            "another version than create said"
        );
        law!(LAW, record.subject == names.subject("7"), "another subject");
        law!(
            LAW,
            (record.created_at, record.expires_at) == (NOW, END),
            "times: {record:?}"
        );
        let updated = store.update(name, version, data.to_vec(), NOW).await;
        law!(
            LAW,
            updated.is_ok(),
            "update of {length} bytes: {updated:?}"
        );
    }
    let too_long = vec![0; RECORD_BYTES_MAX + 1];
    let refused = store
        .create(names.record(9), names.new_record(&too_long), NOW)
        .await;
    law!(
        LAW,
        matches!(refused, Err(StoreError::TooLong(_))),
        "too long gave {refused:?}"
    );
    Ok(())
}

async fn an_update_happens_on_the_version_it_names<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "an update happens on the version it names";
    let names = Names::new(LAW)?;
    let name = names.record(1);
    let made = store.create(name, names.new_record(b"a"), NOW).await;
    let first = made.map_err(|error| failed(LAW)(&error))?;
    let updated = store.update(name, first, b"b".to_vec(), NOW).await;
    let second = updated.map_err(|error| failed(LAW)(&error))?;
    law!(LAW, first != second, "the version stayed");
    let late = store.update(name, first, b"c".to_vec(), NOW).await;
    let told = matches!(late, Err(StoreError::Conflict { version }) if version == second);
    law!(LAW, told, "a late update gave {late:?}");
    let touched = store
        .touch(name, END.after(Duration::from_secs(9)), NOW)
        .await;
    law!(LAW, touched.is_ok(), "touch: {touched:?}");
    let on_time = store.update(name, second, b"d".to_vec(), NOW).await;
    law!(LAW, on_time.is_ok(), "an update after a touch: {on_time:?}");
    Ok(())
}

async fn what_has_expired_is_gone<S: SubjectIndex>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "what has expired is gone";
    let names = Names::new(LAW)?;
    let name = names.record(1);
    let made = store.create(name, names.new_record(b"a"), NOW).await;
    let version = made.map_err(|error| failed(LAW)(&error))?;
    let later = END.after(Duration::from_secs(5));
    store
        .touch(name, NOW, NOW)
        .await
        .map_err(|error| failed(LAW)(&error))?;
    law!(
        LAW,
        store
            .load(name, END.before(Duration::from_secs(1)))
            .await
            .is_ok(),
        "touch shortened"
    );
    law!(
        LAW,
        is_gone(&store.load(name, END).await),
        "it was there at its end"
    );
    store
        .touch(name, later, NOW)
        .await
        .map_err(|error| failed(LAW)(&error))?;
    law!(
        LAW,
        store.load(name, END).await.is_ok(),
        "touch did not move the end"
    );
    law!(
        LAW,
        is_gone(
            &store
                .touch(name, later.after(Duration::from_secs(9)), later)
                .await
        ),
        "a touch revived it"
    );
    law!(
        LAW,
        is_gone(&store.update(name, version, vec![2], later).await),
        "an update revived it"
    );
    let listed = store.list(names.subject("7"), later).await;
    law!(
        LAW,
        matches!(&listed, Ok(all) if all.is_empty()),
        "listed: {listed:?}"
    );
    law!(
        LAW,
        matches!(store.delete(name, later).await, Ok(false)),
        "delete found it"
    );
    Ok(())
}

async fn a_record_made_anew_is_another<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "a record made anew is another";
    let names = Names::new(LAW)?;
    for expires in [false, true] {
        let name = names.record(expires.into());
        let made = store.create(name, names.new_record(b"old"), NOW).await;
        let old = made.map_err(|error| failed(LAW)(&error))?;
        let now = if expires { END } else { NOW };
        if !expires {
            store
                .delete(name, NOW)
                .await
                .map_err(|error| failed(LAW)(&error))?;
        }
        let mut record = names.new_record(b"new");
        record.expires_at = END.after(Duration::from_secs(60));
        let again = store.create(name, record, now).await;
        law!(LAW, again.is_ok(), "made anew: {again:?}");
        let late = store.update(name, old, b"late".to_vec(), now).await;
        law!(
            LAW,
            matches!(late, Err(StoreError::Conflict { .. })),
            "a late update gave {late:?}"
        );
        let found = store.load(name, now).await.map(|record| record.data);
        law!(
            LAW,
            matches!(&found, Ok(data) if data == b"new"),
            "left {found:?}"
        );
    }
    Ok(())
}

async fn a_subject_has_its_own_sessions<S: SubjectIndex>(store: &Arc<S>) -> Result<(), Broken> {
    const LAW: &str = "a subject has its own sessions";
    let names = Names::new(LAW)?;
    for number in 0..6 {
        let mut record = names.new_record(&[number]);
        record.subject = names.subject(if number < 4 { "7" } else { "8" });
        let now = NOW.after(Duration::from_secs(number.into()));
        let made = store.create(names.record(number), record, now).await;
        made.map_err(|error| failed(LAW)(&error))?;
    }
    let list = async |subject: &str| {
        let all = store.list(names.subject(subject), NOW).await;
        let all = all.map_err(|error| failed(LAW)(&error))?;
        Ok::<_, Broken>(
            all.iter()
                .map(|(_, record)| record.data[0])
                .collect::<Vec<_>>(),
        )
    };
    let (seven, eight) = (list("7").await?, list("8").await?);
    law!(
        LAW,
        (&seven[..], &eight[..]) == (&[0, 1, 2, 3], &[4, 5]),
        "{seven:?} and {eight:?}"
    );
    store
        .delete(names.record(1), NOW)
        .await
        .map_err(|error| failed(LAW)(&error))?;
    let seven = list("7").await?;
    law!(LAW, seven == [0, 2, 3], "after a delete: {seven:?}");
    let ended = store.keep_newest(names.subject("7"), 2, NOW).await;
    let seven = list("7").await?;
    law!(
        LAW,
        matches!(ended, Ok(1)) && seven == [2, 3],
        "two newest: {ended:?} {seven:?}"
    );
    let except = Some(names.record(3));
    let ended = store.delete_all(names.subject("7"), except, NOW).await;
    let (seven, eight) = (list("7").await?, list("8").await?);
    law!(LAW, matches!(ended, Ok(1)), "ended {ended:?}");
    law!(
        LAW,
        (&seven[..], &eight[..]) == (&[3], &[4, 5]),
        "{seven:?} and {eight:?}"
    );
    Ok(())
}

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

async fn one_of_many_creators_wins<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
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

async fn a_deleted_record_never_comes_back<S: SubjectIndex>(
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

async fn no_update_is_lost<S: Store>(store: &Arc<S>, updates: usize) -> Result<(), Broken> {
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

async fn one_renewal_has_one_successor<S: Store>(
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

/// Random operations, one after the other, beside [`MemoryStore`](super::MemoryStore), which is the model.
async fn the_store_is_as_the_model<S: SubjectIndex>(
    store: &Arc<S>,
    steps: usize,
) -> Result<(), Broken> {
    const LAW: &str = "the store is as the model";
    let names = Names::new(LAW)?;
    let model = super::MemoryStore::default();
    let seed = super::fresh_version().map_err(|error| failed(LAW)(&error))?;
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
                let seen = |record: super::Record| {
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
            let keys = |all: &[(StoreKey, super::Record)]| {
                all.iter().map(|(key, _)| *key).collect::<Vec<_>>()
            };
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
