//! Ids that say where their row lives.
//!
//! The low ten bits of every id are its slot, one of 1,024 virtual shards; the shard map says which
//! shard serves a slot. Whatever belongs to a user (articles, comments on them, favourites of them,
//! photos) carries that user's slot, so it stays in one shard with the user for ever.

use serde::{Deserialize, Serialize};

/// One of the virtual shards, below [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Slot(pub(crate) u16);

/// How many virtual shards there are. Part of the format of ids: it never changes.
pub(crate) const SLOTS: u16 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 10;

/// Milliseconds since 1970 at which article ids begin: 2026-01-01. 41 bits of them last until 2095.
const EPOCH_MS: u64 = 1_767_225_600_000;
const MS_BITS: u32 = 41;
const SALT_BITS: u32 = 12;

/// A 63-bit id, so that it fits SQLite's signed integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Id(pub(crate) u64);

impl Id {
    /// An id without order, for a user: 53 bits of `chance` and the slot that they fall into.
    pub(crate) const fn scattered(chance: u64) -> Self {
        Self(chance >> 1)
    }

    /// An id that sorts by time, for something that lives in `slot`.
    pub(crate) const fn at(now_ms: u64, chance: u64, slot: Slot) -> Self {
        let ms = now_ms.saturating_sub(EPOCH_MS) & ((1 << MS_BITS) - 1);
        let salt = chance & ((1 << SALT_BITS) - 1);
        Self((((ms << SALT_BITS) | salt) << SLOT_BITS) | slot.0 as u64)
    }

    /// The virtual shard that the row lives in.
    #[expect(clippy::cast_possible_truncation, reason = "ten bits are left")]
    pub(crate) const fn slot(self) -> Slot {
        Slot((self.0 & (SLOTS as u64 - 1)) as u16)
    }

    /// Thirteen characters of Crockford's base 32, lower case.
    pub(crate) fn text(self) -> String {
        (0..TEXT_LEN)
            .rev()
            .map(|place| char::from(ALPHABET[(self.0 >> (place * 5) & 31) as usize]))
            .collect()
    }

    /// Reads what [`Id::text`] wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut id = 0_u64;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == byte)?;
            id = id.checked_mul(32)?.checked_add(digit as u64)?;
        }
        i64::try_from(id).is_ok().then_some(Self(id))
    }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const TEXT_LEN: usize = 13;

impl rusqlite::ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl rusqlite::types::FromSql for Id {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let raw = i64::column_result(value)?;
        u64::try_from(raw)
            .map(Self)
            .map_err(|_| rusqlite::types::FromSqlError::OutOfRange(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_keeps_its_slot() {
        for id in [
            Id::scattered(u64::MAX),
            Id::scattered(0),
            Id::at(EPOCH_MS + 5, 77, Slot(1023)),
        ] {
            assert_eq!(Id::parse(&id.text()), Some(id));
        }
        assert_eq!(Id::at(EPOCH_MS + 5, 77, Slot(1023)).slot(), Slot(1023));
        assert!(Id::at(EPOCH_MS + 6, 0, Slot(0)) > Id::at(EPOCH_MS + 5, 4095, Slot(1023)));
    }

    #[test]
    fn text_that_no_id_wrote_is_refused() {
        for text in [
            "",
            "zzzzzzzzzzzzz",
            "0000000000000000",
            "UPPERCASE0000",
            "000000000000u",
        ] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }
}
