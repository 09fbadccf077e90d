//! Published vectors, through the public API. Their provenance is in `vectors/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use serde_json::Value;
use stackbeam_session::paserk::{self, PasswordCost};
use stackbeam_session::{Key, PublicKey, SecretKey, paseto};

fn tests(file: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(file).unwrap();
    file["tests"].as_array().unwrap().clone()
}

fn text<'a>(test: &'a Value, name: &str) -> &'a str {
    test[name].as_str().unwrap_or_default()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn bytes(test: &Value, name: &str) -> Vec<u8> {
    hex(text(test, name))
}

/// Runs each test, and says how many were good and how many had to fail.
fn each(file: &str, mut run: impl FnMut(&Value, bool)) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for test in tests(file) {
        let fails = test["expect-fail"].as_bool().unwrap();
        run(&test, fails);
        *if fails { &mut bad } else { &mut good } += 1;
    }
    (good, bad)
}

#[test]
fn all_seventeen_paseto_vectors_hold() {
    let file = include_str!("vectors/paseto-v4.json");
    let counts = each(file, |test, fails| {
        let token = text(test, "token");
        let (footer, implicit) = (
            text(test, "footer").as_bytes(),
            text(test, "implicit-assertion").as_bytes(),
        );
        let name = text(test, "name");
        let opened = if test["key"].is_string() {
            let key = Key::from_bytes(&bytes(test, "key")).unwrap();
            paseto::decrypt(&key, token, Some(footer), implicit)
        } else {
            let key = PublicKey::from_bytes(&bytes(test, "public-key")).unwrap();
            paseto::verify(&key, token, Some(footer), implicit)
        };
        if fails {
            assert!(opened.is_err(), "{name}");
            return;
        }
        let payload = text(test, "payload").as_bytes();
        let opened = opened.unwrap();
        assert_eq!(&opened.payload[..], payload, "{name}");
        assert_eq!(opened.footer, footer, "{name}");
        assert_eq!(paseto::untrusted_footer(token).unwrap(), footer, "{name}");
        let again = if test["key"].is_string() {
            let key = Key::from_bytes(&bytes(test, "key")).unwrap();
            let nonce = bytes(test, "nonce").try_into().unwrap();
            paseto::encrypt_with_nonce(&key, &nonce, payload, footer, implicit)
        } else {
            let key = SecretKey::from_bytes(&bytes(test, "secret-key")).unwrap();
            paseto::sign(&key, payload, footer, implicit)
        };
        assert_eq!(again.unwrap(), token, "{name}");
    });
    assert_eq!(counts, (12, 5));
}

#[test]
fn a_footer_taken_off_or_put_on_is_refused() {
    let key = Key::generate().unwrap();
    let pair = SecretKey::generate().unwrap();
    let local = paseto::encrypt(&key, b"x", b"f", b"").unwrap();
    let public = paseto::sign(&pair, b"x", b"f", b"").unwrap();
    for (token, check) in [
        (
            &local,
            &(|token: &str, footer: Option<&[u8]>| {
                paseto::decrypt(&key, token, footer, b"").is_ok()
            }) as &dyn Fn(&str, Option<&[u8]>) -> bool,
        ),
        (&public, &|token, footer| {
            paseto::verify(pair.public(), token, footer, b"").is_ok()
        }),
    ] {
        assert!(check(token, Some(b"f")) && check(token, None));
        assert!(!check(token, Some(b"g")) && !check(token, Some(b"")));
        let bare = token.rsplit_once('.').unwrap().0;
        for footer in [None, Some(&b"f"[..]), Some(b"")] {
            assert!(!check(bare, footer), "a footer that was taken off");
            assert!(!check(&format!("{bare}."), footer));
        }
        assert!(!check(&format!("{token}.Zg"), None));
    }
}

#[test]
fn plain_keys_and_their_ids_hold_both_ways() {
    macro_rules! plain {
        ($file:literal, $key:ident) => {
            each(include_str!($file), |test, fails| {
                let name = text(test, "name");
                let paserk = text(test, "paserk");
                if fails && test["key"].is_null() {
                    assert!($key::from_paserk(paserk).is_err(), "{name}");
                    return;
                }
                let key = $key::from_bytes(&bytes(test, "key"));
                assert_eq!(key.is_err(), fails, "{name}");
                if let Ok(key) = key {
                    assert_eq!(key.to_paserk().as_str(), paserk, "{name}");
                    let again = $key::from_paserk(paserk).unwrap();
                    assert_eq!(again.to_paserk(), key.to_paserk(), "{name}");
                }
            })
        };
    }
    macro_rules! ids {
        ($file:literal, $key:ident) => {
            each(include_str!($file), |test, fails| {
                let key = $key::from_bytes(&bytes(test, "key"));
                assert_eq!(key.is_err(), fails, "{}", text(test, "name"));
                if let Ok(key) = key {
                    assert_eq!(key.paserk_id(), text(test, "paserk"));
                }
            })
        };
    }
    assert_eq!(plain!("vectors/paserk-k4.local.json", Key), (3, 2));
    assert_eq!(plain!("vectors/paserk-k4.public.json", PublicKey), (3, 1));
    assert_eq!(plain!("vectors/paserk-k4.secret.json", SecretKey), (3, 2));
    assert_eq!(ids!("vectors/paserk-k4.lid.json", Key), (3, 1));
    assert_eq!(ids!("vectors/paserk-k4.pid.json", PublicKey), (3, 2));
    assert_eq!(ids!("vectors/paserk-k4.sid.json", SecretKey), (3, 1));
}

#[test]
fn keys_wrapped_under_a_key_open_and_come_back() {
    let local = each(
        include_str!("vectors/paserk-k4.local-wrap.pie.json"),
        |test, fails| {
            let wrapping = Key::from_bytes(&bytes(test, "wrapping-key")).unwrap();
            let key = paserk::unwrap::<Key>(text(test, "paserk"), &wrapping);
            assert_eq!(key.is_err(), fails, "{test}");
            if let Ok(key) = key {
                let is = Key::from_bytes(&bytes(test, "unwrapped")).unwrap();
                assert_eq!(key.to_paserk(), is.to_paserk());
                let again = paserk::wrap(&key, &wrapping).unwrap();
                let again = paserk::unwrap::<Key>(&again, &wrapping).unwrap();
                assert_eq!(again.to_paserk(), is.to_paserk());
            }
        },
    );
    let secret = each(
        include_str!("vectors/paserk-k4.secret-wrap.pie.json"),
        |test, fails| {
            let wrapping = Key::from_bytes(&bytes(test, "wrapping-key")).unwrap();
            let key = paserk::unwrap::<SecretKey>(text(test, "paserk"), &wrapping);
            assert_eq!(key.is_err(), fails, "{test}");
            if let Ok(key) = key {
                let is = SecretKey::from_bytes(&bytes(test, "unwrapped")).unwrap();
                assert_eq!(key.to_paserk(), is.to_paserk());
                let again = paserk::wrap(&key, &wrapping).unwrap();
                assert!(paserk::unwrap::<SecretKey>(&again, &Key::generate().unwrap()).is_err());
                let again = paserk::unwrap::<SecretKey>(&again, &wrapping).unwrap();
                assert_eq!(again.to_paserk(), is.to_paserk());
            }
        },
    );
    assert_eq!((local, secret), ((2, 2), (2, 2)));
}

#[test]
fn sealed_keys_open_and_come_back() {
    let counts = each(
        include_str!("vectors/paserk-k4.seal.json"),
        |test, fails| {
            let pair = SecretKey::from_bytes(&bytes(test, "sealing-secret-key")).unwrap();
            assert_eq!(
                pair.public().as_bytes()[..],
                bytes(test, "sealing-public-key")
            );
            let key = paserk::unseal(text(test, "paserk"), &pair);
            assert_eq!(key.is_err(), fails, "{test}");
            if let Ok(key) = key {
                let is = Key::from_bytes(&bytes(test, "unsealed")).unwrap();
                assert_eq!(key.to_paserk(), is.to_paserk());
                let again = paserk::seal(&key, pair.public()).unwrap();
                assert!(paserk::unseal(&again, &SecretKey::generate().unwrap()).is_err());
                let again = paserk::unseal(&again, &pair).unwrap();
                assert_eq!(again.to_paserk(), is.to_paserk());
            }
        },
    );
    assert_eq!(counts, (2, 2));
}

#[test]
fn local_keys_wrapped_under_a_password_open() {
    let most = PasswordCost::default();
    let counts = each(
        include_str!("vectors/paserk-k4.local-pw.json"),
        |test, fails| {
            let password = text(test, "password").as_bytes();
            let key = paserk::unwrap_with_password::<Key>(text(test, "paserk"), password, most);
            assert_eq!(key.is_err(), fails, "{test}");
            if let Ok(key) = key {
                let is = Key::from_bytes(&bytes(test, "unwrapped")).unwrap();
                assert_eq!(key.to_paserk(), is.to_paserk());
            }
        },
    );
    assert_eq!(counts, (3, 3));
}

#[test]
fn secret_keys_wrapped_under_a_password_open() {
    let most = PasswordCost::default();
    let counts = each(
        include_str!("vectors/paserk-k4.secret-pw.json"),
        |test, fails| {
            let password = text(test, "password").as_bytes();
            let key =
                paserk::unwrap_with_password::<SecretKey>(text(test, "paserk"), password, most);
            assert_eq!(key.is_err(), fails, "{test}");
            if let Ok(key) = key {
                let is = SecretKey::from_bytes(&bytes(test, "unwrapped")).unwrap();
                assert_eq!(key.to_paserk(), is.to_paserk());
            }
        },
    );
    assert_eq!(counts, (3, 3));
}

#[test]
fn a_key_wrapped_under_a_password_comes_back() {
    let key = Key::generate().unwrap();
    let cheap = PasswordCost::new(64 << 10, 1);
    let wrapped = paserk::wrap_with_password(&key, b"horse", cheap).unwrap();
    let open =
        |password: &[u8], most| paserk::unwrap_with_password::<Key>(&wrapped, password, most);
    assert_eq!(open(b"horse", cheap).unwrap().to_paserk(), key.to_paserk());
    assert!(open(b"mule", cheap).is_err());
    assert!(matches!(
        open(b"horse", PasswordCost::new(63 << 10, 1)),
        Err(paserk::PaserkError::TooCostly)
    ));
}

#[test]
fn keys_that_are_no_points_and_halves_that_do_not_match_do_nothing() {
    // Of small order, not canonical, and no point at all.
    for bad in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f",
    ] {
        let key = PublicKey::from_bytes(&hex(bad)).unwrap();
        let zero = format!("v4.public.{}", "A".repeat(88));
        assert!(paseto::verify(&key, &zero, None, b"").is_err());
        assert!(paserk::seal(&Key::generate().unwrap(), &key).is_err());
    }
    let (one, two) = (
        SecretKey::generate().unwrap(),
        SecretKey::generate().unwrap(),
    );
    let mut mixed = hex_of(&one);
    mixed[32..].copy_from_slice(two.public().as_bytes());
    let mixed = SecretKey::from_bytes(&mixed).unwrap();
    assert!(paseto::sign(&mixed, b"x", b"", b"").is_err());
}

fn hex_of(key: &SecretKey) -> Vec<u8> {
    use base64::Engine as _;
    let text = key.to_paserk();
    let text = text.strip_prefix("k4.secret.").unwrap();
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}
