//! MongoDB: the hash of a value in a hashed index or a hashed shard key.

use md5::{Digest, Md5};

/// A BSON value, as far as hashing tells values apart.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// The key that is below all others.
    MinKey,
    /// The key that is above all others.
    MaxKey,
    /// Null. A missing field is hashed as null.
    Null,
    /// A 32-bit number.
    Int32(i32),
    /// A 64-bit number: hashes as the same number in another type.
    Int64(i64),
    /// A floating-point number: hashed without its fraction. NaN is hashed as 0, and what is out of
    /// range as the nearest 64-bit number, except that 2^63 is hashed as -2^63.
    Double(f64),
    /// Text, or a symbol.
    String(&'a str),
    /// A document: its fields in order.
    Document(&'a [(&'a str, Self)]),
    /// An array. MongoDB refuses arrays in hashed indexes; one inside a document can be hashed.
    Array(&'a [Self]),
    /// Bytes with a subtype; 4 is a UUID.
    Binary {
        /// The subtype.
        subtype: u8,
        /// The bytes, at most 2^31 - 1.
        bytes: &'a [u8],
    },
    /// An ObjectId.
    ObjectId([u8; 12]),
    /// A boolean.
    Bool(bool),
    /// Milliseconds since 1970.
    DateTime(i64),
    /// The internal timestamp: seconds in the upper half, a counter in the lower.
    Timestamp(u64),
}

/// The hash of a value: what `convertShardKeyToHashed` returns.
///
/// ```
/// use stackbeam_consistent_hash::interop::mongodb::{Value, hash};
///
/// assert_eq!(hash(&Value::Int32(42)), -944302157085130861);
/// assert_eq!(hash(&Value::Double(42.123)), -944302157085130861);
/// ```
///
/// Documents are hashed to any depth by recursion; MongoDB itself allows a depth of 100.
#[must_use]
pub fn hash(value: &Value<'_>) -> i64 {
    hash_with_seed(value, 0)
}

/// The place of a hash on a [`Ring`](crate::Ring), whose positions are unsigned: in the same order, so that
/// a chunk's range of hashes is a range of positions.
#[must_use]
pub const fn position(hash: i64) -> u64 {
    hash.cast_unsigned() ^ 1 << 63
}

key_hash! {
    /// [`hash()`] as a [`KeyHash`](crate::KeyHash), moved to its [`position`]: of a key of bytes as a
    /// [`String`](Value::String), of a number as an [`Int64`](Value::Int64). (Bytes that are not UTF-8 are hashed as
    /// they are.)
    Md5MongoDb = "mongodb-hashed-position/1",
    |key| position(finish(Md5::new_with_prefix(0_i32.to_le_bytes()), |digest| {
        digest.update(15_i32.to_le_bytes());
        text(digest, key);
    })),
    |number: u64| position(hash(&Value::Int64(number.cast_signed())))
}

/// As [`hash`], with a seed. Indexes and shard keys use the seed 0.
#[must_use]
pub fn hash_with_seed(value: &Value<'_>, seed: i32) -> i64 {
    finish(Md5::new_with_prefix(seed.to_le_bytes()), |digest| {
        add(digest, value, None);
    })
}

fn finish(mut digest: Md5, add: impl FnOnce(&mut Md5)) -> i64 {
    add(&mut digest);
    let digest: [u8; 16] = digest.finalize().into();
    super::le64(&digest, 0).cast_signed()
}

fn text(digest: &mut Md5, text: &[u8]) {
    digest.update(length(text.len() + 1));
    digest.update(text);
    digest.update([0]);
}

fn add(digest: &mut Md5, value: &Value<'_>, name: Option<&str>) {
    let (order, number): (i32, Option<i64>) = match value {
        Value::MinKey => (-1, None),
        Value::MaxKey => (127, None),
        Value::Null => (5, None),
        Value::Int32(number) => (10, Some(i64::from(*number))),
        Value::Int64(number) => (10, Some(*number)),
        Value::Double(number) => (10, Some(whole(*number))),
        Value::String(_) => (15, None),
        Value::Document(_) => (20, None),
        Value::Array(_) => (25, None),
        Value::Binary { .. } => (30, None),
        Value::ObjectId(_) => (35, None),
        Value::Bool(_) => (40, None),
        Value::DateTime(_) => (45, None),
        Value::Timestamp(_) => (47, None),
    };
    digest.update(order.to_le_bytes());
    if let Some(name) = name {
        digest.update(name.as_bytes());
        digest.update([0]);
    }
    if let Some(number) = number {
        digest.update(number.to_le_bytes());
    }
    match value {
        Value::String(string) => text(digest, string.as_bytes()),
        Value::Document(fields) => {
            for (name, value) in *fields {
                add(digest, value, Some(name));
            }
            end(digest);
        }
        Value::Array(values) => {
            for (n, value) in values.iter().enumerate() {
                add(digest, value, Some(&alloc::format!("{n}")));
            }
            end(digest);
        }
        Value::Binary { subtype, bytes } => {
            digest.update(length(bytes.len()));
            digest.update([*subtype]);
            digest.update(bytes);
        }
        Value::ObjectId(id) => digest.update(id),
        Value::Bool(yes) => digest.update([u8::from(*yes)]),
        Value::DateTime(millis) => digest.update(millis.to_le_bytes()),
        Value::Timestamp(stamp) => digest.update(stamp.to_le_bytes()),
        Value::MinKey
        | Value::MaxKey
        | Value::Null
        | Value::Int32(_)
        | Value::Int64(_)
        | Value::Double(_) => {}
    }
}

/// The end of a document: a type of its own, without name and value.
fn end(digest: &mut Md5) {
    digest.update(0_i32.to_le_bytes());
}

fn length(bytes: usize) -> [u8; 4] {
    crate::mix::low32(bytes as u64).to_le_bytes()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "saturating, and NaN as 0, is the rule"
)]
fn whole(number: f64) -> i64 {
    // An overflow that MongoDB keeps for the sake of old indexes.
    if number == 9_223_372_036_854_775_808.0 {
        i64::MIN
    } else {
        number as i64
    }
}
