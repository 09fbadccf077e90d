//! Text that says it is a token, of every kind, and references: none is authentic, and none panics.
#![no_main]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use libfuzzer_sys::fuzz_target;
use stackbeam_session::{
    Binding, CompactKey, Key, KeyId, MemoryStore, Policy, PublicKey, References, SecretKey,
    Timestamp, TokenKey, Verifier, paseto,
};

struct Known {
    local: Verifier<u8, Key>,
    public: Verifier<u8, PublicKey>,
    compact: Verifier<u8, CompactKey>,
    key: Key,
    secret: SecretKey,
    references: References<MemoryStore>,
    ids: [KeyId; 3],
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let seed: Vec<u8> = (0..32).map(|number| number * 7).collect();
    let key = Key::from_bytes(&seed).unwrap();
    let secret = SecretKey::from_seed(&seed).unwrap();
    let compact = CompactKey::from_bytes(&seed).unwrap();
    Known {
        ids: [key.id(), secret.id(), compact.id()],
        local: verifier(key.clone()),
        public: verifier(secret.public().clone()),
        compact: verifier(compact),
        references: References::new(MemoryStore::default(), key.clone(), Policy::aal2()).unwrap(),
        key,
        secret,
    }
});

fn verifier<K: TokenKey>(key: K) -> Verifier<u8, K> {
    Verifier::new([key], Binding::new("login", "a"), Policy::aal2()).unwrap()
}

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        check(text);
        for header in ["v4.local.", "v4.public."] {
            check(&format!("{header}{text}"));
        }
    }
    // Bytes in the right text, under the id of a key that is there.
    let [local, public, compact] = KNOWN.ids.map(|id| *id.as_bytes());
    check(&format!("v4.local.{}.{}", text(input), text(&local)));
    check(&format!("v4.public.{}.{}", text(input), text(&public)));
    check(&text(&[&[1], &compact[..4], input].concat()));
    check(&text(&[&[1], input].concat()));
});

fn check(token: &str) {
    let (known, now) = (&*KNOWN, Timestamp::from_secs(1_800_000_000));
    assert!(known.local.verify(token, now).is_err());
    assert!(known.public.verify(token, now).is_err());
    assert!(known.compact.verify(token, now).is_err());
    assert!(paseto::decrypt(&known.key, token, None, b"").is_err());
    assert!(paseto::verify(known.secret.public(), token, None, b"").is_err());
    let _ = paseto::untrusted_footer(token);
    let mut loading = pin!(known.references.load(token, now));
    let loaded = loading.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(loaded, Poll::Ready(Err(_))));
}

fn text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
