//! Text that says it is a key, in each form, and the text of a ring's keys.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use stackbeam_session::{Key, KeyRing, PublicKey, SecretKey, SourceError, paserk};

static KEY: LazyLock<Key> =
    LazyLock::new(|| Key::from_bytes(&(0..32).map(|n| n * 7).collect::<Vec<u8>>()).unwrap());
static SECRET: LazyLock<SecretKey> =
    LazyLock::new(|| SecretKey::from_seed(&[7, 1].repeat(16)).unwrap());

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    check(text);
    for header in [
        "k4.local.",
        "k4.secret.",
        "k4.public.",
        "k4.seal.",
        "k4.local-wrap.pie.",
        "k4.secret-wrap.pie.",
        "k4.local-pw.",
        "k4.secret-pw.",
    ] {
        check(&format!("{header}{text}"));
    }
});

fn check(text: &str) {
    if let Ok(key) = Key::from_text(text)
        && text.starts_with('k')
    {
        assert_eq!(key.to_paserk().as_str(), text);
    }
    if let Ok(key) = SecretKey::from_paserk(text) {
        assert_eq!(key.to_paserk().as_str(), text);
    }
    if let Ok(key) = PublicKey::from_paserk(text) {
        assert_eq!(key.to_paserk(), text);
    }
    assert!(paserk::unwrap::<Key>(text, &KEY).is_err());
    assert!(paserk::unwrap::<SecretKey>(text, &KEY).is_err());
    assert!(paserk::unseal(text, &SECRET).is_err());
    // What text asks for more memory than this is refused before any is taken.
    let most = paserk::PasswordCost::new(1 << 20, 1);
    assert!(paserk::unwrap_with_password::<Key>(text, b"password", most).is_err());
    let read = || Ok::<_, SourceError>(Some(text.to_owned().into()));
    let _ = KeyRing::<Key>::from_source(&read, Duration::from_secs(60));
    let _ = KeyRing::<PublicKey>::from_source(&read, Duration::from_secs(60));
}
