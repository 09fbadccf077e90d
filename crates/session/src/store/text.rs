//! Names as hex digits, and records as bytes, for stores that know nothing else.

#[cfg(feature = "memcached")]
use super::{Record, StoreError, SubjectKey};
#[cfg(feature = "memcached")]
use crate::time::Timestamp;

pub(super) fn hex(bytes: &[u8; 32]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    (bytes.iter())
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(feature = "redis")]
pub(super) fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    let digit = |c: u8| {
        char::from(c)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Version, creation, expiry, subject; then the data.
#[cfg(feature = "memcached")]
pub(super) fn pack(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(56 + record.data.len());
    for number in [
        record.version,
        record.created_at.as_secs(),
        record.expires_at.as_secs(),
    ] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(record.subject.as_bytes());
    bytes.extend_from_slice(&record.data);
    bytes
}

#[cfg(feature = "memcached")]
pub(super) fn unpack(bytes: &[u8]) -> Result<Record, StoreError> {
    let (front, data) = bytes
        .split_first_chunk::<56>()
        .ok_or_else(|| StoreError::Unavailable("a value that is no record".to_owned()))?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&front[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    let mut subject = [0; 32];
    subject.copy_from_slice(&front[24..]);
    Ok(Record::new(
        SubjectKey::from_bytes(subject),
        data.to_vec(),
        number(0),
        Timestamp::from_secs(number(8)),
        Timestamp::from_secs(number(16)),
    ))
}
