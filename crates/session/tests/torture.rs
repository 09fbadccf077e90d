//! Mutated tokens: none is accepted, and each accepted token has exactly one text.
//!
//! `cargo xtask torture session` does ten million in release mode; a plain test does a few thousand.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use stackbeam_session::{
    IssuingKey, Key, KeyRing, MemoryStore, NoRevocations, Policy, References, SecretKey, Sessions,
    Timestamp,
};

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Ten million over all kinds; signatures cost a hundred times what a tag does, and get their share.
fn share(all: usize) -> usize {
    if cfg!(debug_assertions) {
        all / 10_000
    } else {
        all
    }
}

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

const ALPHABET: &[u8; 66] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.";

/// Another text than `token`: one to three changes of the kinds that attackers and networks make.
fn mutated(token: &str, other: &str, draw: &mut Draw) -> String {
    loop {
        let mut bytes = token.as_bytes().to_vec();
        for _ in 0..=draw.below(3) {
            let at = draw.below(bytes.len());
            let letter = ALPHABET[draw.below(ALPHABET.len())];
            match draw.below(9) {
                0 | 1 => bytes[at] = letter,
                2 => bytes.insert(at, letter),
                3 => drop(bytes.remove(at)),
                4 => bytes.truncate(at + 1),
                5 => bytes.push(letter),
                // The end of another good token, of the same length or not.
                6 => bytes.splice(at.., other.bytes().skip(at)).for_each(drop),
                7 => {
                    let to = draw.below(bytes.len());
                    bytes.swap(at, to);
                }
                // The last bits of a group, where base64 may have unused ones.
                _ => {
                    let last = bytes.len() - 1;
                    bytes[last] = letter;
                }
            }
            if bytes.is_empty() {
                bytes.push(letter);
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        if text != token && text != other {
            return text;
        }
    }
}

fn none_is_accepted<K: IssuingKey>(key: K, count: usize, seed: u64) {
    let ring = KeyRing::new(key, DAY).unwrap();
    let policy = Policy::new(DAY / 24, DAY);
    let sessions = Sessions::<u8, _, _>::new(ring, "login", "a", policy, NoRevocations).unwrap();
    let tokens = [0, 1].map(|user| sessions.issue(&user.to_string(), user, NOW).unwrap());
    assert!(
        tokens
            .iter()
            .all(|token| sessions.verify(token, NOW).is_ok())
    );
    let mut draw = Draw(seed);
    for number in 0..count {
        let text = mutated(&tokens[number % 2], &tokens[(number + 1) % 2], &mut draw);
        assert!(
            sessions.verify(&text, NOW).is_err(),
            "seed {seed}, number {number}: {text}"
        );
    }
}

fn seed() -> u64 {
    stackbeam_session::fresh_version().unwrap()
}

#[test]
fn no_mutated_local_token_is_accepted() {
    none_is_accepted(Key::generate().unwrap(), share(6_000_000), seed());
}

#[test]
fn no_mutated_signed_token_is_accepted() {
    none_is_accepted(SecretKey::generate().unwrap(), share(500_000), seed());
}

#[cfg(feature = "compact")]
#[test]
fn no_mutated_compact_token_is_accepted() {
    let key = stackbeam_session::CompactKey::generate().unwrap();
    none_is_accepted(key, share(3_000_000), seed());
}

#[tokio::test]
async fn no_mutated_reference_is_accepted() {
    let seed = seed();
    let key = Key::generate().unwrap();
    let references = References::new(MemoryStore::default(), key, Policy::aal2()).unwrap();
    let one = references.begin("7", b"", NOW).await.unwrap();
    let two = references.begin("8", b"", NOW).await.unwrap();
    let mut draw = Draw(seed);
    for number in 0..share(500_000) {
        let text = mutated(&one, &two, &mut draw);
        let refused = references.load(&text, NOW).await;
        assert!(refused.is_err(), "seed {seed}, number {number}: {text}");
    }
}
