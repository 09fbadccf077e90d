//! The laws of one caller.

use std::sync::Arc;
use std::time::Duration;

use super::{Broken, END, NOW, Names, failed, is_gone, law};
use crate::store::{RECORD_BYTES_MAX, Store, StoreError, SubjectIndex};

pub(super) async fn only_create_makes_a_record<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
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

pub(super) async fn what_was_stored_comes_back<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
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

pub(super) async fn an_update_happens_on_the_version_it_names<S: Store>(
    store: &Arc<S>,
) -> Result<(), Broken> {
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

pub(super) async fn what_has_expired_is_gone<S: SubjectIndex>(
    store: &Arc<S>,
) -> Result<(), Broken> {
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

pub(super) async fn a_record_made_anew_is_another<S: Store>(store: &Arc<S>) -> Result<(), Broken> {
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

pub(super) async fn a_subject_has_its_own_sessions<S: SubjectIndex>(
    store: &Arc<S>,
) -> Result<(), Broken> {
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
