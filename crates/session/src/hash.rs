//! BLAKE2b of a library, keyed and plain, and the part of a key's schedule that never changes.

use core::fmt;

use blake2b_simd::{Params, State};

/// Fills `out` (at most 64 bytes) with the keyed hash of `pieces`, one after the other.
pub(crate) fn keyed(out: &mut [u8], key: &[u8], pieces: &[&[u8]]) {
    let mut params = Params::new();
    finish(
        params.hash_length(out.len()).key(key).to_state(),
        out,
        pieces,
    );
}

/// Fills `out` (at most 64 bytes) with the hash of `pieces`, one after the other.
pub(crate) fn plain(out: &mut [u8], pieces: &[&[u8]]) {
    finish(Params::new().hash_length(out.len()).to_state(), out, pieces);
}

fn finish(mut state: State, out: &mut [u8], pieces: &[&[u8]]) {
    for piece in pieces {
        state.update(piece);
    }
    out.copy_from_slice(state.finalize().as_bytes());
}

/// The two keyed states that every `v4.local` token starts from, with the block of the key behind
/// them: a quarter of the hashing of a short token.
#[derive(Clone)]
pub(crate) struct Schedule {
    encrypt: State,
    authenticate: State,
}

impl Schedule {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let state = |length: usize, label: &[u8]| {
            let mut params = Params::new();
            let mut state = params.hash_length(length).key(key).to_state();
            state.update(label);
            state
        };
        Self {
            encrypt: state(56, b"paseto-encryption-key"),
            authenticate: state(32, b"paseto-auth-key-for-aead"),
        }
    }

    /// Key and nonce of the cipher, and the key of the tag, for one token.
    pub(crate) fn split(&self, nonce: &[u8; 32], cipher: &mut [u8; 56], tag: &mut [u8; 32]) {
        cipher.copy_from_slice(self.encrypt.clone().update(nonce).finalize().as_bytes());
        tag.copy_from_slice(
            self.authenticate
                .clone()
                .update(nonce)
                .finalize()
                .as_bytes(),
        );
    }
}

impl Drop for Schedule {
    /// As good as safe code can: the states are overwritten, and the compiler must believe that
    /// somebody looks.
    fn drop(&mut self) {
        self.encrypt = Params::new().to_state();
        self.authenticate = Params::new().to_state();
        core::hint::black_box(&*self);
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule(..)")
    }
}
