//! Tokens of others: Fernet's published vectors, the RFCs' examples, and attacks on JWT.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use stackbeam_session::jwt::{Algorithm, JwtError, JwtKey, JwtRules, open_jws, untrusted_kid};
use stackbeam_session::legacy::{Fernet, LegacyError, PrivateCookie};
use stackbeam_session::{PublicKey, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn list(text: &str) -> Vec<Value> {
    serde_json::from_str::<Vec<Value>>(text).unwrap()
}

fn time(test: &Value) -> Timestamp {
    let time: jiff::Timestamp = test["now"].as_str().unwrap().parse().unwrap();
    Timestamp::from_secs(time.as_second().try_into().unwrap())
}

#[test]
fn all_ten_fernet_vectors_hold() {
    let text = |test: &Value, name: &str| test[name].as_str().unwrap().to_owned();
    let secret = |test: &Value| Fernet::from_text(&text(test, "secret")).unwrap();
    let open = |test: &Value| {
        let ttl = Duration::from_secs(test["ttl_sec"].as_u64().unwrap());
        secret(test).open(&text(test, "token"), ttl, time(test))
    };
    let mut run = 0;
    for test in list(include_str!("vectors/fernet-generate.json")) {
        let iv: Vec<u8> = serde_json::from_value(test["iv"].clone()).unwrap();
        let source = text(&test, "src");
        let sealed =
            secret(&test).seal_with(source.as_bytes(), &iv.try_into().unwrap(), time(&test));
        assert_eq!(sealed.unwrap(), text(&test, "token"));
        run += 1;
    }
    for test in list(include_str!("vectors/fernet-verify.json")) {
        assert_eq!(open(&test).unwrap()[..], *text(&test, "src").as_bytes());
        run += 1;
    }
    for test in list(include_str!("vectors/fernet-invalid.json")) {
        let refused = open(&test).unwrap_err();
        if test["desc"].as_str().unwrap().starts_with("incorrect mac") {
            assert_eq!(refused, LegacyError::NotAuthentic);
        }
        run += 1;
    }
    assert_eq!(run, 10);
}

#[test]
fn a_cookie_of_a_private_jar_opens_under_its_name_alone() {
    let master = cookie::Key::generate();
    let mut jar = cookie::CookieJar::new();
    jar.private_mut(&master).add(("id", "user-42"));
    let value = jar.get("id").unwrap().value().to_owned();
    let reader = PrivateCookie::from_master(master.master()).unwrap();
    assert_eq!(reader.open("id", &value).unwrap(), "user-42");
    assert_eq!(reader.open("ie", &value), Err(LegacyError::NotAuthentic));
    assert!(reader.open("id", &value[..30]).is_err());
    assert!(reader.open("id", "").is_err());
    let other = PrivateCookie::from_master(cookie::Key::generate().master()).unwrap();
    assert_eq!(other.open("id", &value), Err(LegacyError::NotAuthentic));
    assert!(PrivateCookie::from_master(&[1; 32]).is_err());
}

/// RFC 7515, appendix A.1.
const RFC7515_A1: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const RFC7515_A1_KEY: &str = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
/// RFC 7515, appendix A.3.
const RFC7515_A3: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const RFC7515_A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// RFC 8037, appendix A.4.
const RFC8037_A4: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const RFC8037_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

#[test]
fn the_examples_of_the_rfcs_open() {
    let key = JwtKey::from_jwk(Algorithm::Hs256, RFC7515_A1_KEY).unwrap();
    let payload = open_jws(&key, RFC7515_A1).unwrap();
    assert!(payload.starts_with(b"{\"iss\":\"joe\""));
    let key = JwtKey::from_jwk(Algorithm::Es256, RFC7515_A3_KEY).unwrap();
    assert!(open_jws(&key, RFC7515_A3).is_ok());
    assert_eq!(open_jws(&key, RFC7515_A1), Err(JwtError::Algorithm));
    // r = s = 0 is no signature.
    let (signed, _) = RFC7515_A3.rsplit_once('.').unwrap();
    let psychic = format!("{signed}.{}", "A".repeat(86));
    assert_eq!(open_jws(&key, &psychic), Err(JwtError::NotAuthentic));
    let key = JwtKey::from_jwk(Algorithm::EdDsa, RFC8037_KEY).unwrap();
    assert_eq!(
        open_jws(&key, RFC8037_A4).unwrap(),
        b"Example of Ed25519 signing"
    );
    for (algorithm, jwk) in [
        (Algorithm::Rs256, RFC7515_A1_KEY),
        (Algorithm::Hs256, RFC7515_A3_KEY),
        (Algorithm::Hs512, r#"{"kty":"oct","k":"AAAA"}"#),
        (Algorithm::Es384, RFC7515_A3_KEY),
    ] {
        assert!(JwtKey::from_jwk(algorithm, jwk).is_err());
    }
}

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdeX";

/// Signs whatever it is given, as an issuer would.
fn hs256(header: &str, payload: &str) -> String {
    let parts = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = parts.join(".");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn verify(header: &str, payload: &str) -> Result<Value, JwtError> {
    let key = JwtKey::hmac(Algorithm::Hs256, SECRET)?;
    let rules = JwtRules::new("us", "me");
    let claims = rules.verify::<Value>(&key, &hs256(header, payload), NOW)?;
    Ok(claims.data)
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;

fn payload(change: impl FnOnce(&mut Value)) -> String {
    let mut payload = json!({"iss":"us","aud":["other","me"],"sub":"7","exp":1_800_000_060,"iat":1_800_000_000,"x":1});
    change(&mut payload);
    payload.to_string()
}

#[test]
fn a_good_token_is_taken_and_its_key_id_can_be_read_before() {
    let data = verify(HEADER, &payload(|_| ())).unwrap();
    assert_eq!(data["x"], 1);
    assert_eq!(
        untrusted_kid(&hs256(HEADER, "{}")).unwrap().as_deref(),
        Some("k1")
    );
    assert!(verify(&HEADER.replace("JWT", "application/jwt"), &payload(|_| ())).is_ok());
    assert!(verify(HEADER, &payload(|claims| claims["aud"] = json!("me"))).is_ok());
    let float = payload(|_| ()).replace("1800000060", "1800000000.5");
    assert!(verify(HEADER, &float).is_ok());
}

#[test]
fn claims_that_are_missing_wrong_or_twice_there_are_refused() {
    for (change, why) in [
        (json!({"exp": null}), JwtError::Claims),
        (json!({"exp": "never"}), JwtError::Claims),
        (json!({"exp": "1800000060"}), JwtError::Claims),
        (json!({"exp": -1}), JwtError::Claims),
        (json!({"exp": 1_799_999_970}), JwtError::Expired),
        (json!({"nbf": "0"}), JwtError::Claims),
        (json!({"nbf": 1_800_000_031}), JwtError::FromTheFuture),
        (json!({"iat": 1_800_000_031}), JwtError::FromTheFuture),
        (json!({"iss": "them"}), JwtError::NotForUs),
        (json!({"iss": ["us"]}), JwtError::Claims),
        (json!({"aud": "you"}), JwtError::NotForUs),
        (json!({"aud": ["me", 1]}), JwtError::Claims),
        (json!({"sub": 7}), JwtError::Claims),
    ] {
        let changed = payload(|claims| {
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
        });
        assert_eq!(verify(HEADER, &changed), Err(why), "{change}");
    }
    for gone in ["exp", "iss", "aud"] {
        let without = payload(|claims| drop(claims.as_object_mut().unwrap().remove(gone)));
        assert!(verify(HEADER, &without).is_err(), "{gone}");
    }
    let twice = payload(|_| ()).replacen('{', r#"{"exp":1900000000,"#, 1);
    assert_eq!(verify(HEADER, &twice), Err(JwtError::Claims));
    assert_eq!(verify(HEADER, "[]"), Err(JwtError::Claims));
}

#[test]
fn headers_that_ask_for_another_algorithm_or_key_are_refused() {
    for alg in ["none", "None", "NONE", "hs256", "HS512", "RS256", ""] {
        let header = HEADER.replace("HS256", alg);
        assert_eq!(
            verify(&header, &payload(|_| ())),
            Err(JwtError::Algorithm),
            "{alg}"
        );
    }
    for extra in [
        r#""jku":"https://evil.example""#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""x5u":"https://evil.example""#,
        r#""x5c":[]"#,
        r#""crit":["exp"]"#,
        r#""zip":"DEF""#,
    ] {
        let header = HEADER.replacen('{', &format!("{{{extra},"), 1);
        assert_eq!(
            verify(&header, &payload(|_| ())),
            Err(JwtError::Header),
            "{extra}"
        );
    }
    let twice = HEADER.replacen('{', r#"{"alg":"none","#, 1);
    assert_eq!(verify(&twice, &payload(|_| ())), Err(JwtError::Malformed));
    for typ in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"at+jwt"}"#] {
        assert_eq!(verify(typ, &payload(|_| ())), Err(JwtError::NotForUs));
    }
    // The public key of another algorithm as the secret of this one.
    let pair = stackbeam_session::SecretKey::generate().unwrap();
    let public = JwtKey::ed25519(PublicKey::from_bytes(pair.public().as_bytes()).unwrap()).unwrap();
    let token = hs256(HEADER, &payload(|_| ()));
    assert_eq!(open_jws(&public, &token), Err(JwtError::Algorithm));
    assert!(JwtKey::hmac(Algorithm::Hs256, &SECRET[1..]).is_err());
}

#[test]
fn a_token_has_one_text_and_three_parts() {
    let key = JwtKey::hmac(Algorithm::Hs256, SECRET).unwrap();
    let token = hs256(HEADER, &payload(|_| ()));
    assert!(open_jws(&key, &token).is_ok());
    for bad in [
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}\n"),
        token.replace('.', ".."),
        token[..token.len() - 1].to_owned(),
        format!("{}.", token.rsplit_once('.').unwrap().0),
        ".".repeat(8000),
        "a".repeat(8193),
        String::new(),
    ] {
        assert!(
            open_jws(&key, &bad).is_err(),
            "{}",
            &bad[..bad.len().min(40)]
        );
    }
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet
        .chars()
        .nth((alphabet.find(last).unwrap() + 1) % 64)
        .unwrap();
    let unused_bits = format!("{}{next}", &token[..token.len() - 1]);
    assert!(open_jws(&key, &unused_bits).is_err());
}
