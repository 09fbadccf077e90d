//! Items in the shared cache, and the changes that the protocols ask for.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stackbeam_lru_cache::{Life, Stats, sync};

/// Bytes that an item costs besides its key and value: the entry, its weight, its part of index and
/// policy, and what the allocator and the counted pointer add to key and value.
const OVERHEAD: usize = 32 + 8 + 7 + 16 + 2 * 16;

/// Largest value, as in memcached.
pub(super) const VALUE_MAX: usize = 1 << 20;

/// Before the value: the number that changes with the item, and the client's flags.
const HEAD: usize = 12;

type Key = Box<[u8]>;

/// A head and a value, in one piece.
type Item = Arc<[u8]>;

pub(super) struct Store {
    items: sync::Cache<Key, Item>,
    /// Who changes what it has read does so alone. Readers take no part.
    stripes: [Mutex<()>; 64],
    hasher: RandomState,
    unique: AtomicU64,
}

/// An item as it is read.
pub(super) struct Read<'a>(&'a [u8]);

impl<'a> Read<'a> {
    pub(super) fn unique(&self) -> u64 {
        self.0.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    pub(super) fn flags(&self) -> u32 {
        let flags = self.0.get(8..HEAD).and_then(<[u8]>::first_chunk);
        flags.copied().map_or(0, u32::from_le_bytes)
    }

    pub(super) fn value(&self) -> &'a [u8] {
        &self.0[HEAD..]
    }
}

/// How to store.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// What came of a change.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Changed {
    Done,
    /// The mode says no.
    Not,
    /// The number is another one.
    Otherwise,
    NotFound,
    TooLarge,
    NoNumber,
}

impl Store {
    pub(super) fn new(bytes: u64) -> Self {
        let items = sync::Builder::new(bytes)
            .with_weigher(|key: &Key, item: &Item| (key.len() + item.len() + OVERHEAD) as u64);
        Self {
            items: items.build(),
            stripes: [const { Mutex::new(()) }; 64],
            hasher: RandomState::new(),
            unique: AtomicU64::new(1),
        }
    }

    /// Lets `read` see an item, if it is there.
    pub(super) fn look(&self, key: &[u8], read: impl FnOnce(Read<'_>)) -> bool {
        let mut found = false;
        // Refusing it saves a copy of the counted pointer.
        let _refused = self.items.get_if(key, |item| {
            found = true;
            read(Read(item));
            false
        });
        found
    }

    /// How long an item lives still; nothing if it is not there.
    pub(super) fn left(&self, key: &[u8]) -> Option<Duration> {
        self.items.left(key)
    }

    fn alone<T>(&self, key: &[u8], work: impl FnOnce() -> T) -> T {
        let at = usize::try_from(self.hasher.hash_one(key) % 64).unwrap_or_default();
        let _alone = self.stripes[at].lock();
        work()
    }

    fn put(&self, key: &[u8], flags: u32, parts: [&[u8]; 2], life: Life) -> Changed {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(HEAD + parts[0].len() + parts[1].len());
        bytes.extend(unique.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        parts.iter().for_each(|part| bytes.extend(*part));
        self.items.insert_with(key.into(), bytes.into(), life);
        Changed::Done
    }

    /// Stores a value, if the mode and the number (if any) of the present item allow it.
    pub(super) fn store(
        &self,
        key: &[u8],
        mode: Mode,
        unique: Option<u64>,
        (flags, value, life): (u32, &[u8], Life),
    ) -> Changed {
        self.alone(key, || {
            let present = if mode == Mode::Set && unique.is_none() {
                None
            } else {
                self.items.peek(key)
            };
            let present = present.as_deref().map(Read);
            match (&present, unique) {
                (None, Some(_)) => return Changed::NotFound,
                (Some(item), Some(unique)) if item.unique() != unique => {
                    return Changed::Otherwise;
                }
                _ => {}
            }
            match (mode, present) {
                (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => {
                    self.put(key, flags, [value, b""], life)
                }
                (Mode::Append | Mode::Prepend, Some(item)) => {
                    if item.value().len() + value.len() > VALUE_MAX {
                        return Changed::TooLarge;
                    }
                    let parts = if mode == Mode::Append {
                        [item.value(), value]
                    } else {
                        [value, item.value()]
                    };
                    self.put(key, item.flags(), parts, self.same_life(key))
                }
                _ => Changed::Not,
            }
        })
    }

    /// The life that an item has still.
    fn same_life(&self, key: &[u8]) -> Life {
        match self.left(key) {
            None | Some(Duration::MAX) => Life::new(),
            Some(left) => Life::new().ttl(left),
        }
    }

    /// Adds to or takes from a number in digits, and lets `read` see what it is then.
    pub(super) fn count(&self, key: &[u8], up: bool, by: u64, read: impl FnOnce(&[u8])) -> Changed {
        self.alone(key, || {
            let Some(item) = self.items.peek(key) else {
                return Changed::NotFound;
            };
            let digits = std::str::from_utf8(Read(&item).value()).ok();
            let Some(number) = digits.and_then(|digits| digits.trim_end().parse::<u64>().ok())
            else {
                return Changed::NoNumber;
            };
            let number = if up {
                number.wrapping_add(by)
            } else {
                number.saturating_sub(by)
            };
            let digits = number.to_string();
            read(digits.as_bytes());
            let life = self.same_life(key);
            self.put(key, Read(&item).flags(), [digits.as_bytes(), b""], life)
        })
    }

    /// Gives an item another life.
    pub(super) fn touch(&self, key: &[u8], life: Life) -> bool {
        self.alone(key, || {
            let item = self.items.peek(key);
            let found = item.is_some();
            if let Some(item) = item {
                self.items.insert_with(key.into(), item, life);
            }
            found
        })
    }

    pub(super) fn delete(&self, key: &[u8], unique: Option<u64>) -> Changed {
        self.alone(key, || {
            if let Some(unique) = unique
                && let Some(item) = self.items.peek(key)
                && Read(&item).unique() != unique
            {
                return Changed::Otherwise;
            }
            match self.items.remove(key) {
                Some(_) => Changed::Done,
                None => Changed::NotFound,
            }
        })
    }

    pub(super) fn clear(&self) {
        self.items.remove_where(|_, _| true);
    }

    pub(super) fn stats(&self) -> Stats {
        self.items.stats()
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.items.capacity()
    }
}
