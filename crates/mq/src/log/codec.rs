//! Numbers and byte strings as the log, the snapshots and the connections write them.

use std::time::Duration;

use bytes::Bytes;

pub(crate) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// Above this, a number on the disk is nonsense.
pub(crate) const SMALL: u64 = 1 << 60;

/// Appends a LEB128 number.
pub(crate) fn put(b: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        b.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    b.push((n & 0x7F) as u8);
}

pub(crate) fn put_bytes(b: &mut Vec<u8>, bytes: &[u8]) {
    put(b, bytes.len() as u64);
    b.extend_from_slice(bytes);
}

/// Reads what `put` and `put_bytes` wrote; `None` at anything else.
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a Bytes, at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let b = self.byte()?;
            if shift == 63 && b > 1 {
                return None;
            }
            n |= u64::from(b & 0x7F) << shift;
            if b & 0x80 == 0 {
                return Some(n);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }

    /// A number that can be counted on from: no count, time or position of a real queue comes near the limit.
    pub(crate) fn small(&mut self) -> Option<u64> {
        self.u64().filter(|n| *n < SMALL)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        u32::try_from(self.u64()?).ok()
    }

    /// A count of items that take at least `size` bytes each: never more than can be there.
    pub(crate) fn count(&mut self, size: usize) -> Option<usize> {
        let n = usize::try_from(self.u64()?).ok()?;
        (n <= (self.bytes.len() - self.at) / size.max(1)).then_some(n)
    }

    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let n = self.count(1)?;
        let b = &self.bytes[self.at..self.at + n];
        self.at += n;
        Some(b)
    }

    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        self.slice().map(|b| self.bytes.slice_ref(b))
    }

    pub(crate) fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

pub(crate) fn le32(b: &[u8]) -> u32 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

pub(crate) fn le64(b: &[u8]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}
