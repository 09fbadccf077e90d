//! Bytes from a memcached: an answer that lies within them, the same whatever comes after, or nonsense.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackbeam_lru_cache::tier::fuzz_replies;

fuzz_target!(|input: &[u8]| fuzz_replies(input));
