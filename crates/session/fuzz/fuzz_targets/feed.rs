//! Messages and snapshots of the revocation feed, with the right tag and without: refused or applied.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stackbeam_session::{Key, MemoryRevocations, SessionId, Timestamp};

const SECRET: [u8; 32] = *b"\x01\x00\x04\x09\x10\x19$1@Qdy\x90\xa9\xc4\xe1\x00!Di\x90\xb9\xe4\x11@q\xa4\xd9\x10I\x84\xc1";
/// The feed's own key, as `MemoryRevocations::new` derives it.
static FEED: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut feed = [0; 32];
    feed.copy_from_slice(&keyed(32, &SECRET, &[b"stackbeam-session revocation feed 1"]));
    feed
});

fn keyed(length: usize, key: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
    let mut state = blake2b_simd::Params::new().hash_length(length).key(key).to_state();
    for piece in pieces {
        state.update(piece);
    }
    state.finalize().as_bytes().to_vec()
}

fuzz_target!(|input: &[u8]| {
    let now = Timestamp::from_secs(1_800_000_000);
    let key = Key::from_bytes(&SECRET).unwrap();
    let known = MemoryRevocations::new(&key, Duration::from_secs(3600)).unwrap().capacity(64);
    assert!(known.apply(input, now).is_err());
    assert!(known.load(input, now).is_err());
    let version: &[u8] = &[2];
    for front in [&[][..], version, b"\x02S"] {
        let body = [front, input].concat();
        let sealed = [&body[..], &keyed(16, &*FEED, &[b"t", &body])].concat();
        let _ = known.apply(&sealed, now);
        let _ = known.load(&sealed, now);
    }
    // What was taken is told on, and understood.
    let other = MemoryRevocations::new(&key, Duration::from_secs(3600)).unwrap();
    other.load(&known.snapshot(now), now).unwrap();
    let message = known.revoke_session(SessionId::from_bytes([7; 16]), now);
    assert!(message.is_err() || other.apply(&message.unwrap(), now).is_ok());
});
