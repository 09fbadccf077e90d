//! A buffer that is overwritten on drop.

use alloc::vec::Vec;
use core::ops::Deref;

/// What a token holds, between its text and the claims.
///
/// As good as safe code can: it is overwritten, and the compiler must believe that somebody looks. A volatile
/// write of each byte, which `zeroize` does, costs a twentieth of opening a token.
#[expect(unnameable_types, missing_debug_implementations, reason = "sealed")]
pub struct Wiped(pub(crate) Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&*self.0);
    }
}

impl Deref for Wiped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
