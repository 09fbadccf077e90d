//! Tokens of others: JSON web tokens, Fernet tokens and private cookies, authentic and not.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::Sha256;
use stackbeam_session::Timestamp;
use stackbeam_session::jwt::{Algorithm, JwtKey, JwtRules, open_jws, untrusted_kid};
use stackbeam_session::legacy::{Fernet, PrivateCookie};

struct Known {
    jwt: JwtKey,
    rules: JwtRules,
    fernet: Fernet,
    cookie: PrivateCookie,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known {
    jwt: JwtKey::hmac(Algorithm::Hs256, b"at least as long as the hash: 32 bytes").unwrap(),
    rules: JwtRules::new("i", "a"),
    fernet: Fernet::from_text("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap(),
    cookie: PrivateCookie::from_master(&(0..64).collect::<Vec<u8>>()).unwrap(),
});

fuzz_target!(|input: &[u8]| {
    let (known, now) = (&*KNOWN, Timestamp::from_secs(1_800_000_000));
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(known.rules.verify::<Value>(&known.jwt, text, now).is_err());
        assert!(open_jws(&known.jwt, text).is_err());
        let _ = untrusted_kid(text);
        assert!(known.fernet.open(text, Duration::from_secs(60), now).is_err());
        assert!(known.cookie.open("id", text).is_err());
        let _ = JwtKey::from_jwk(Algorithm::EdDsa, text);
        let _ = JwtKey::from_jwk(Algorithm::Es256, text);
        let _ = JwtKey::from_jwk(Algorithm::Rs256, text);
        let _ = JwtKey::from_jwk(Algorithm::Hs256, text);
    }
    // Authentic, whatever the header and the claims say: what is before the first zero byte is the header.
    let (header, claims) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&br#"{"alg":"HS256","typ":"JWT"}"#[..], input),
    };
    let front = format!("{}.{}", text(header), text(claims));
    let tag = hmac_sha256(b"at least as long as the hash: 32 bytes", front.as_bytes());
    let token = format!("{front}.{}", text(&tag));
    let verified = known.rules.verify::<Value>(&known.jwt, &token, now);
    if verified.is_ok() {
        let claims: Value = serde_json::from_slice(claims).unwrap();
        assert_eq!(claims["iss"], "i");
        let header: Value = serde_json::from_slice(header).unwrap();
        assert_eq!(header["alg"], "HS256");
        assert!(header.get("crit").is_none() && header.get("jwk").is_none());
    }
    let _ = untrusted_kid(&token);
});

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
