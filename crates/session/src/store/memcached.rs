//! A store in memcached: one item a record, one a subject, each change a compare-and-swap.

use std::fmt;
use std::time::Duration;

use memcache::{Client, CommandError, MemcacheError};

use super::text::{hex, pack, unpack};
use super::{
    ATTEMPTS_MAX, NewRecord, Record, Store, StoreError, StoreKey, SubjectIndex, SubjectKey, fits,
};
use crate::time::Timestamp;

/// A [`Store`] in memcached.
///
/// memcached forgets when it likes: an item that it drops is a session that has ended. A subject's list may be dropped
/// too, and its sessions are then not found by [`list`](SubjectIndex::list): raise the subject's generation
/// ([`Revocations`](crate::Revocations)) to end them. Calls run on tokio's threads for blocking work.
#[derive(Clone)]
pub struct MemcachedStore {
    client: Client,
    prefix: String,
}

/// Most sessions of one subject.
const SESSIONS_MAX: usize = 1000;
/// Longest time to live that memcached takes as a length; it takes more as a date.
const LENGTH_MAX: u64 = 30 * 86_400;
/// How long a call waits for the server.
const WAIT: Duration = Duration::from_secs(2);

type Item = (Vec<u8>, u32, Option<u64>);

impl MemcachedStore {
    /// Connects to `memcache://host:port`. `prefix` (at most 150 characters) keeps apart what shares a server.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no memcached.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self, StoreError> {
        if prefix.len() > 150 || prefix.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(StoreError::Unavailable(
                "the prefix cannot be used".to_owned(),
            ));
        }
        let (url, prefix) = (url.to_owned(), prefix.to_owned());
        blocking(move || {
            let client = Client::builder()
                .add_server(url.as_str())
                .map_err(unavailable)?
                .with_max_pool_size(16)
                .with_read_timeout(WAIT)
                .with_write_timeout(WAIT)
                .with_connection_timeout(WAIT)
                .build()
                .map_err(unavailable)?;
            client.version().map_err(unavailable)?;
            Ok(Self { client, prefix })
        })
        .await
    }

    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let store = self.clone();
        blocking(move || work(&store)).await
    }

    fn record(&self, key: StoreKey) -> String {
        format!("{}:r:{}", self.prefix, hex(key.as_bytes()))
    }

    fn subject(&self, subject: SubjectKey) -> String {
        format!("{}:s:{}", self.prefix, hex(subject.as_bytes()))
    }

    fn get(&self, name: &str) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        let mut found = self.client.gets::<Item>(&[name]).map_err(unavailable)?;
        match found.remove(name) {
            None => Ok(None),
            Some((value, _, Some(unique))) => Ok(Some((value, unique))),
            Some(_) => Err(StoreError::Unavailable(
                "an item without its number".to_owned(),
            )),
        }
    }

    fn find(&self, key: StoreKey, now: Timestamp) -> Result<(Record, u64), StoreError> {
        let (value, unique) = self.get(&self.record(key))?.ok_or(StoreError::Gone)?;
        let record = unpack(&value)?;
        if record.expires_at > now {
            Ok((record, unique))
        } else {
            Err(StoreError::Gone)
        }
    }

    /// Whether the item was still the one of this number. Never makes one.
    fn swap(
        &self,
        key: StoreKey,
        record: &Record,
        unique: u64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let life = life(record.expires_at, now);
        settled(
            self.client
                .cas(&self.record(key), &pack(record)[..], life, unique),
        )
    }

    /// Changes the list of a subject's sessions.
    fn index(
        &self,
        subject: SubjectKey,
        until: Timestamp,
        now: Timestamp,
        change: impl Fn(&mut Vec<[u8; 32]>),
    ) -> Result<(), StoreError> {
        let name = self.subject(subject);
        for _ in 0..ATTEMPTS_MAX {
            let known = self.get(&name)?;
            let old = known.as_ref().map_or(&[][..], |(value, _)| value);
            // The end of the list's own life, then names.
            let (end, names) = old
                .split_first_chunk()
                .map_or((0, &[][..]), |(end, names)| {
                    (u64::from_be_bytes(*end), names)
                });
            let mut names = names.as_chunks().0.to_vec();
            change(&mut names);
            if names.len() > SESSIONS_MAX {
                names.retain(|name| self.find(StoreKey::from_bytes(*name), now).is_ok());
            }
            if names.len() > SESSIONS_MAX {
                return Err(StoreError::Full(SESSIONS_MAX));
            }
            let end = until.max(Timestamp::from_secs(end));
            let mut value = end.as_secs().to_be_bytes().to_vec();
            value.extend_from_slice(names.as_flattened());
            let done = match known {
                Some((_, unique)) => self.client.cas(&name, &value[..], life(end, now), unique),
                None if names.is_empty() => return Ok(()),
                None => {
                    let added = self.client.add(&name, &value[..], life(end, now));
                    added.map(|()| true)
                }
            };
            if settled(done)? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable(
            "too many logins of one subject at once".to_owned(),
        ))
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?
}

fn unavailable(error: MemcacheError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Whether an `add` or `cas` took effect; that another came first is no failure.
fn settled(done: Result<bool, MemcacheError>) -> Result<bool, StoreError> {
    match done {
        Err(MemcacheError::CommandError(CommandError::KeyExists | CommandError::KeyNotFound)) => {
            Ok(false)
        }
        done => done.map_err(unavailable),
    }
}

/// A second more, so that it is the record's own time that ends it.
fn life(expires_at: Timestamp, now: Timestamp) -> u32 {
    let seconds = expires_at.since(now).as_secs().saturating_add(1);
    let seconds = if seconds > LENGTH_MAX {
        // As a date, by the clock that memcached goes by.
        Timestamp::now().as_secs().saturating_add(seconds)
    } else {
        seconds
    };
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

impl Store for MemcachedStore {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let version = fits(&record.data)?;
        let record = Record::new(record.subject, record.data, version, now, record.expires_at);
        self.run(move |store| {
            let name = store.record(key);
            let old = store.get(&name)?;
            if let Some((value, _)) = &old
                && unpack(value)?.expires_at > now
            {
                return Err(StoreError::Exists);
            }
            // The list first: a name without a record harms nobody, a record without a name does.
            store.index(record.subject, record.expires_at, now, |names| {
                if !names.contains(key.as_bytes()) {
                    names.push(*key.as_bytes());
                }
            })?;
            let made = match old {
                Some((_, unique)) => store.swap(key, &record, unique, now)?,
                None => {
                    let life = life(record.expires_at, now);
                    let added = store.client.add(&name, &pack(&record)[..], life);
                    settled(added.map(|()| true))?
                }
            };
            if made {
                Ok(version)
            } else {
                Err(StoreError::Exists)
            }
        })
        .await
    }

    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        self.run(move |store| Ok(store.find(key, now)?.0)).await
    }

    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let next = fits(&data)?;
        self.run(move |store| {
            loop {
                let (mut record, unique) = store.find(key, now)?;
                if record.version != version {
                    let version = record.version;
                    return Err(StoreError::Conflict { version });
                }
                record.data.clone_from(&data);
                record.version = next;
                // Another number under the same version: it was touched; go on.
                if store.swap(key, &record, unique, now)? {
                    return Ok(next);
                }
            }
        })
        .await
    }

    async fn touch(
        &self,
        key: StoreKey,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.run(move |store| {
            loop {
                let (mut record, unique) = store.find(key, now)?;
                if record.expires_at >= expires_at {
                    return Ok(());
                }
                record.expires_at = expires_at;
                if store.swap(key, &record, unique, now)? {
                    return store.index(record.subject, expires_at, now, |names| {
                        if !names.contains(key.as_bytes()) {
                            names.push(*key.as_bytes());
                        }
                    });
                }
            }
        })
        .await
    }

    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        self.run(move |store| {
            let Some((value, _)) = store.get(&store.record(key))? else {
                return Ok(false);
            };
            let record = unpack(&value)?;
            let was = store
                .client
                .delete(&store.record(key))
                .map_err(unavailable)?;
            store.index(record.subject, now, now, |names| {
                names.retain(|name| name != key.as_bytes());
            })?;
            Ok(was && record.expires_at > now)
        })
        .await
    }
}

impl SubjectIndex for MemcachedStore {
    async fn list(
        &self,
        subject: SubjectKey,
        now: Timestamp,
    ) -> Result<Vec<(StoreKey, Record)>, StoreError> {
        self.run(move |store| {
            let known = store.get(&store.subject(subject))?;
            let value = known.map_or_else(Vec::new, |(value, _)| value);
            let names = value.get(8..).unwrap_or_default().as_chunks::<32>().0;
            let mut all = Vec::with_capacity(names.len());
            for name in names {
                let key = StoreKey::from_bytes(*name);
                match store.find(key, now) {
                    Ok((record, _)) if record.subject == subject => all.push((key, record)),
                    Ok(_) | Err(StoreError::Gone) => {}
                    Err(error) => return Err(error),
                }
            }
            all.sort_by_key(|(key, record)| (record.created_at, *key));
            Ok(all)
        })
        .await
    }
}

impl fmt::Debug for MemcachedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
