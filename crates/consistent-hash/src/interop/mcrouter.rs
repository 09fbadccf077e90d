//! mcrouter: its CRC32 pools and weighted CH3. Plain CH3 is [`Ch3`].

use alloc::vec::Vec;

use super::spooky::hash32;
use crate::ch3::ch3;
use crate::error::{BuildError, check_fraction, check_size};
use crate::{Ch3, mix};

/// The place of a key in a pool with the hash function `Crc32`. `None` for an empty pool.
#[must_use]
pub fn crc32(key: &[u8], pool: u32) -> Option<u32> {
    (crc32fast::hash(key) & 0x7fff_ffff).checked_rem(pool)
}

key_hash! {
    /// The CRC32 of [`crc32`] as a [`KeyHash`](crate::KeyHash): the place is its remainder by the servers of the
    /// pool, as [`Modulo`](crate::Modulo) gives it.
    Crc32Mcrouter = "mcrouter-crc32/1", |key| u64::from(crc32fast::hash(key) & 0x7fff_ffff)
}

/// Weighted CH3: the place that CH3 gives is taken with the probability of its weight, else the key is
/// hashed again with a number behind it, at most [`WeightedCh3::RETRIES`] times.
///
/// ```
/// use stackbeam_consistent_hash::interop::mcrouter::WeightedCh3;
///
/// let pool = WeightedCh3::new([1.0, 1.0, 0.7])?;
/// assert!(pool.place(b"user:42") < 3);
/// # Ok::<(), stackbeam_consistent_hash::BuildError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCh3 {
    weights: Vec<f64>,
}

impl WeightedCh3 {
    /// How often a key is hashed again.
    pub const RETRIES: u32 = 32;

    /// With the weight of each place.
    ///
    /// # Errors
    ///
    /// [`BuildError::Size`] for no place or more than [`Ch3::NODES_MAX`]; [`BuildError::Fraction`] for a
    /// weight outside of 0 to 1.
    pub fn new(weights: impl IntoIterator<Item = f64>) -> Result<Self, BuildError> {
        let mut list = Vec::new();
        for weight in weights {
            check_fraction("weight", weight, 0.0, 1.0)?;
            list.push(weight);
            check_size("nodes", list.len() as u64, 1, u64::from(Ch3::NODES_MAX))?;
        }
        check_size("nodes", list.len() as u64, 1, u64::from(Ch3::NODES_MAX))?;
        Ok(Self { weights: list })
    }

    /// The place of a key.
    #[must_use]
    pub fn place(&self, key: &[u8]) -> u32 {
        let count = mix::to_u32(self.weights.len());
        let mut salted = key.to_vec();
        let mut place = 0;
        for salt in 0..Self::RETRIES {
            place = ch3(&salted, count);
            let drawn = u64::from(hash32(&salted, SEED));
            if drawn < mix::floor(self.weights[place as usize] * f64::from(u32::MAX)) {
                break;
            }
            salted.truncate(key.len());
            // The digits of the number, the lowest first.
            let mut rest = salt;
            loop {
                salted.push(b'0' + mix::low8(rest % 10));
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
        }
        place
    }
}

const SEED: u32 = 0xface_2014;
