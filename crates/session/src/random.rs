//! Randomness: from the operating system for keys, and for what each token needs from a generator of the
//! thread that the system seeds.

use core::cell::RefCell;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use crate::key::KeyError;

/// Bytes that the generator is run for at a time: ten tokens.
const POOL: usize = 512;
/// How often the pool is filled from one seed of the system.
const FILLS_MAX: u32 = 128;

struct Pool {
    bytes: Zeroizing<[u8; POOL]>,
    left: usize,
    /// Of the next fill. Each fill draws a new one behind its bytes, so what was given out cannot be computed
    /// again from what is in memory.
    seed: Zeroizing<[u8; 32]>,
    /// How often this seed of the system may still be used.
    fills: u32,
    /// The process that seeded the pool. A child after a fork must not use it again.
    process: u32,
}

thread_local! {
    static BYTES: RefCell<Pool> = RefCell::new(Pool {
        bytes: Zeroizing::new([0; POOL]),
        left: 0,
        seed: Zeroizing::new([0; 32]),
        fills: 0,
        process: 0,
    });
}

impl Pool {
    fn fill(&mut self, process: u32) -> Result<(), KeyError> {
        self.left = 0;
        if self.fills == 0 || self.process != process {
            self.fills = 0;
            system(&mut self.seed[..])?;
            self.fills = FILLS_MAX;
            self.process = process;
        }
        let mut generator = ChaCha20Rng::from_seed(*self.seed);
        generator.fill_bytes(&mut self.bytes[..]);
        generator.fill_bytes(&mut self.seed[..]);
        self.fills -= 1;
        self.left = POOL;
        Ok(())
    }

    /// False for a buffer that is larger than the pool.
    fn take(&mut self, buffer: &mut [u8], process: u32) -> Result<bool, KeyError> {
        if buffer.len() > POOL {
            return Ok(false);
        }
        if self.left < buffer.len() || self.process != process {
            self.fill(process)?;
        }
        let end = self.left;
        let given = &mut self.bytes[end - buffer.len()..end];
        buffer.copy_from_slice(given);
        given.fill(0);
        core::hint::black_box(&*given);
        self.left -= buffer.len();
        Ok(true)
    }
}

/// Fills `buffer` from the operating system, one call each time. For keys.
pub(crate) fn system(buffer: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(buffer).map_err(|error| KeyError::Random(error.to_string()))
}

/// Fills `buffer` from a pool of this thread, each byte of which is given out once and wiped.
///
/// The bytes of one token by system calls cost a tenth of issuing it, so a generator (ChaCha20 of a library)
/// fills the pool, which the system seeds anew every 64 KiB. Pool and seed are thrown away when the process id
/// differs from the one that seeded them: after a fork nothing is repeated.
pub(crate) fn pooled(buffer: &mut [u8]) -> Result<(), KeyError> {
    pooled_pieces([buffer])
}

/// [`pooled`], for several at once: asking for the process id costs more than the bytes of a token.
pub(crate) fn pooled_pieces<const N: usize>(pieces: [&mut [u8]; N]) -> Result<(), KeyError> {
    let process = std::process::id();
    for piece in pieces {
        let taken = BYTES.try_with(|pool| pool.borrow_mut().take(piece, process));
        // The thread is ending and its pool is gone.
        taken
            .unwrap_or(Ok(false))
            .and_then(|taken| if taken { Ok(()) } else { system(piece) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_come_twice_across_refills() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let mut bytes = [0; 24];
            pooled(&mut bytes).unwrap();
            assert!(seen.insert(bytes));
        }
        let mut long = [0; POOL + 1];
        pooled(&mut long).unwrap();
        assert!(long.iter().any(|byte| *byte != 0));
    }

    #[test]
    fn a_pool_of_another_process_is_thrown_away() {
        pooled(&mut [0; 8]).unwrap();
        let left = || BYTES.with(|pool| pool.borrow().left);
        let before = left();
        let seed = BYTES.with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.process ^= 1;
            *pool.seed
        });
        pooled(&mut [0; 8]).unwrap();
        assert_eq!(left(), POOL - 8, "filled anew; there were {before}");
        BYTES.with(|pool| {
            let pool = pool.borrow();
            assert_eq!(pool.fills, FILLS_MAX - 1, "and seeded anew");
            let mut next = ChaCha20Rng::from_seed(seed);
            let mut bytes = [0; POOL];
            next.fill_bytes(&mut bytes);
            assert_ne!(pool.bytes[..8], bytes[..8]);
        });
    }

    #[test]
    fn the_system_seeds_the_pool_anew_and_what_was_given_out_is_wiped() {
        let mut bytes = [0; POOL];
        let mut seeds = std::collections::HashSet::new();
        for _ in 0..2 * FILLS_MAX {
            pooled(&mut bytes).unwrap();
            BYTES.with(|pool| {
                let pool = pool.borrow();
                assert!(pool.bytes.iter().all(|byte| *byte == 0));
                assert!(pool.fills < FILLS_MAX);
                assert!(seeds.insert(*pool.seed));
            });
        }
    }
}
