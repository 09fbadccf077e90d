//! An authentic token with any payload: refused, or claims that another reading of the JSON confirms.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use stackbeam_session::{
    Binding, Key, Policy, SecretKey, Timestamp, Verifier, VerifyError, paseto,
};

static KEY: LazyLock<Key> =
    LazyLock::new(|| Key::from_bytes(&(0..32).map(|n| n * 7).collect::<Vec<u8>>()).unwrap());
static VERIFIER: LazyLock<Verifier<Value, Key>> = LazyLock::new(|| {
    Verifier::new([KEY.clone()], Binding::new("login", "a"), Policy::aal2()).unwrap()
});
static PUBLIC: LazyLock<SecretKey> =
    LazyLock::new(|| SecretKey::from_seed(&[7, 1].repeat(16)).unwrap());

/// What `Binding::new("login", "a")` authenticates: each piece with its length before it.
fn implicit() -> Vec<u8> {
    let mut implicit = Vec::new();
    for piece in ["stackbeam-session 1", "login", "a"] {
        implicit.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        implicit.extend_from_slice(piece.as_bytes());
    }
    implicit
}

fuzz_target!(|input: &[u8]| {
    check(input);
    // With the claims that are needed, so that what is behind them is reached.
    let front = br#"{"sub":"7","jti":"AAAAAAAAAAAAAAAAAAAAAA","iat":"2027-01-15T08:00:00Z","exp":"2027-01-15T09:00:00Z","abs":"2027-01-16T08:00:00Z""#;
    check(&[front, input].concat());
    check(&[&front[..], b",\"data\":", input, b"}"].concat());
});

fn check(payload: &[u8]) {
    if payload.len() > 2048 {
        return;
    }
    let implicit = implicit();
    let now = Timestamp::from_secs(1_800_000_000);
    let token = paseto::encrypt(&KEY, payload, KEY.id().as_bytes(), &implicit).unwrap();
    let claims = match VERIFIER.verify(&token, now) {
        Ok(claims) => claims,
        Err(why) => {
            assert_ne!(why, VerifyError::NotAuthentic);
            return;
        }
    };
    let value: Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(value["sub"], claims.subject);
    assert_eq!(value["data"], claims.data);
    let generation = value.get("gen").map_or(Some(0), Value::as_u64);
    assert_eq!(generation, Some(claims.generation));
    let level = value.get("lvl").map_or(Some(1), Value::as_u64);
    assert_eq!(level, Some(claims.level as u64 + 1));
    // The same payload signed and not encrypted says the same.
    let signed = paseto::sign(&PUBLIC, payload, PUBLIC.id().as_bytes(), &implicit).unwrap();
    assert!(paseto::verify(PUBLIC.public(), &signed, None, &implicit).is_ok());
}
