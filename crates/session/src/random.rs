//! Randomness: from the operating system, with a small pool for what each token needs.

use core::cell::RefCell;

use zeroize::{Zeroize, Zeroizing};

use crate::key::KeyError;

/// Bytes that one system call brings: sixteen nonces of a token.
const POOL: usize = 512;

struct Pool {
    bytes: Zeroizing<[u8; POOL]>,
    left: usize,
    /// The process that filled the pool. A child after a fork must not use it again.
    process: u32,
}

thread_local! {
    static BYTES: RefCell<Pool> = RefCell::new(Pool {
        bytes: Zeroizing::new([0; POOL]),
        left: 0,
        process: 0,
    });
}

/// Fills `buffer` from the operating system, one call each time. For keys.
pub(crate) fn system(buffer: &mut [u8]) -> Result<(), KeyError> {
    getrandom::fill(buffer).map_err(|error| KeyError::Random(error.to_string()))
}

/// Fills `buffer` from a pool of this thread, each byte of which is given out once and wiped.
///
/// A system call costs more than sealing a token, so one fills sixteen nonces. The pool is thrown
/// away when the process id differs from the one that filled it: after a fork nothing is repeated.
pub(crate) fn pooled(buffer: &mut [u8]) -> Result<(), KeyError> {
    if buffer.len() > POOL {
        return system(buffer);
    }
    let process = std::process::id();
    BYTES
        .try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.left < buffer.len() || pool.process != process {
                pool.left = 0;
                system(&mut pool.bytes[..])?;
                pool.left = POOL;
                pool.process = process;
            }
            let end = pool.left;
            let given = &mut pool.bytes[end - buffer.len()..end];
            buffer.copy_from_slice(given);
            given.zeroize();
            pool.left -= buffer.len();
            Ok(())
        })
        // The thread is ending and its pool is gone.
        .unwrap_or_else(|_| system(buffer))
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
        BYTES.with(|pool| pool.borrow_mut().process ^= 1);
        pooled(&mut [0; 8]).unwrap();
        assert_eq!(left(), POOL - 8, "filled anew; there were {before}");
    }
}
