//! What went wrong elsewhere, by its number, and that it does not here.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use stackbeam_session::{
    Authenticated, Key, KeyRing, Level, MemoryRevocations, MemoryStore, NewRecord, NoRevocations,
    Policy, PublicKey, References, RingError, SecretKey, Session, SessionId, SessionLayer,
    Sessions, Store, StoreError, StoreKey, SubjectKey, Timestamp, TokenKey, VerifyError, paseto,
};
use tower::ServiceExt;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn sessions<K: TokenKey>(key: K) -> Sessions<u8, NoRevocations, K> {
    let ring = KeyRing::new(key, DAY).unwrap();
    Sessions::new(ring, "login", "a", Policy::aal2(), NoRevocations).unwrap()
}

/// What "login" for "a" authenticates: each piece with its length before it.
fn implicit() -> Vec<u8> {
    let mut implicit = Vec::new();
    for piece in ["stackbeam-session 1", "login", "a"] {
        implicit.extend_from_slice(&(piece.len() as u64).to_le_bytes());
        implicit.extend_from_slice(piece.as_bytes());
    }
    implicit
}

const CLAIMS: &str = r#"{"sub":"7","jti":"AAAAAAAAAAAAAAAAAAAAAA","iat":"2027-01-15T08:00:00Z","exp":"2027-01-15T09:00:00Z","abs":"2027-01-16T08:00:00Z","data":7}"#;

/// rack-session: a request in flight saved a session that was deleted meanwhile.
#[tokio::test]
async fn cve_2025_46336_a_deleted_session_stays_deleted() {
    let (store, key) = (MemoryStore::default(), Key::generate().unwrap());
    let name = StoreKey::new(&key, SessionId::generate().unwrap());
    let record = NewRecord {
        subject: SubjectKey::new(&key, "7"),
        data: b"a".to_vec(),
        expires_at: NOW.after(DAY),
    };
    store.create(name, record, NOW).await.unwrap();
    // One request has loaded it, another logs out, and the first saves.
    let loaded = store.load(name, NOW).await.unwrap();
    assert!(store.delete(name, NOW).await.unwrap());
    let saved = store.update(name, loaded.version, b"b".to_vec(), NOW).await;
    assert!(matches!(saved, Err(StoreError::Gone)));
    assert!(matches!(store.load(name, NOW).await, Err(StoreError::Gone)));
}

/// ASP.NET Core: the tag was computed over other bytes than were checked. A key that does not do what it should is
/// refused when it is loaded, and what was minted meanwhile can be ended by its time.
#[test]
fn cve_2026_40372_a_key_that_does_not_behave_is_refused_and_an_interval_can_be_revoked() {
    let (one, two) = (
        SecretKey::generate().unwrap(),
        SecretKey::generate().unwrap(),
    );
    let mut halves = URL_SAFE_NO_PAD
        .decode(&one.to_paserk()["k4.secret.".len()..])
        .unwrap();
    halves[32..].copy_from_slice(two.public().as_bytes());
    let mixed = SecretKey::from_bytes(&halves).unwrap();
    assert!(matches!(KeyRing::new(mixed, DAY), Err(RingError::Key(_))));
    let sessions = sessions(one);
    let token = sessions.issue("7", 7, NOW).unwrap();
    let (from, to) = (NOW.before(DAY), NOW.after(Duration::from_secs(1)));
    sessions
        .ring()
        .revoke_issued_between(from, to, None, NOW)
        .unwrap();
    assert_eq!(
        sessions.verify(&token, NOW).err(),
        Some(VerifyError::KeyNotAccepted)
    );
    assert!(
        sessions
            .verify(&sessions.issue("7", 7, to).unwrap(), to)
            .is_ok()
    );
}

/// rack-session: what could not be decrypted was decoded without a check.
#[test]
fn cve_2026_39324_nothing_reads_a_token_that_did_not_open() {
    let (local, public) = (
        sessions(Key::generate().unwrap()),
        sessions(SecretKey::generate().unwrap()),
    );
    let body = URL_SAFE_NO_PAD.encode(CLAIMS);
    let signed = public.issue("7", 7, NOW).unwrap();
    let renamed = signed.replacen("public", "local", 1);
    for text in [
        CLAIMS,
        &body,
        &format!("v4.local.{body}"),
        &signed,
        &renamed,
    ] {
        assert!(local.verify(text, NOW).is_err(), "{text}");
    }
}

/// jsonwebtoken: a claim of the wrong type was taken as absent.
#[test]
fn cve_2026_25537_a_claim_of_the_wrong_type_is_refused() {
    let key = Key::generate().unwrap();
    let sessions = sessions(key.clone());
    let verify = |claims: &str| {
        let token = paseto::encrypt(&key, claims.as_bytes(), key.id().as_bytes(), &implicit());
        sessions.verify(&token.unwrap(), NOW)
    };
    assert!(verify(CLAIMS).is_ok());
    for wrong in ["\"never\"", "null", "4102444800", "[]", "true", "\"\""] {
        let claims = CLAIMS.replace("\"2027-01-15T09:00:00Z\"", wrong);
        assert_eq!(verify(&claims).err(), Some(VerifyError::Claims), "{claims}");
    }
    assert_eq!(
        verify(&CLAIMS.replace("\"exp\"", "\"xep\"")).err(),
        Some(VerifyError::Claims)
    );
}

/// Many: the verifier's public key taken as a secret one, `none`, keys inside the token.
#[test]
fn cve_2015_9235_the_public_key_is_no_secret_key() {
    let secret = SecretKey::generate().unwrap();
    let public: PublicKey = secret.public().clone();
    let as_local = Key::from_bytes(public.as_bytes()).unwrap();
    let forged = paseto::encrypt(
        &as_local,
        CLAIMS.as_bytes(),
        public.id().as_bytes(),
        &implicit(),
    );
    let forged = forged.unwrap();
    let verifier = sessions(public);
    for text in [forged.clone(), forged.replacen("local", "public", 1)] {
        assert!(verifier.verify(&text, NOW).is_err());
    }
    let none = format!("v4.none.{}", URL_SAFE_NO_PAD.encode(CLAIMS));
    assert_eq!(
        verifier.verify(&none, NOW).err(),
        Some(VerifyError::Malformed)
    );
}

/// Java: a signature of zeros held for everything; and keys of small order, under which more than one does.
#[test]
fn cve_2022_21449_a_signature_of_zeros_is_none() {
    let key = SecretKey::generate().unwrap();
    let verifier = sessions(key.public().clone());
    let one = [&[1_u8][..], &[0; 63]].concat();
    for signature in [&[0; 64][..], &one] {
        let body = URL_SAFE_NO_PAD.encode([CLAIMS.as_bytes(), signature].concat());
        let footer = URL_SAFE_NO_PAD.encode(key.id().as_bytes());
        let token = format!("v4.public.{body}.{footer}");
        assert_eq!(
            verifier.verify(&token, NOW).err(),
            Some(VerifyError::NotAuthentic)
        );
    }
    let identity = PublicKey::from_bytes(&one[..32]);
    assert!(identity.is_err() || KeyRing::new(identity.unwrap(), DAY).is_err());
}

/// OWASP cheat sheets 2242: a list of ended tokens by their text was passed by another text of the same token.
#[test]
fn a_session_is_ended_whatever_the_text_of_its_token() {
    let key = Key::generate().unwrap();
    let known = MemoryRevocations::new(&key, DAY).unwrap();
    let ring = KeyRing::new(key, DAY).unwrap();
    let sessions = Sessions::<u8, _>::new(ring, "login", "a", Policy::aal2(), known).unwrap();
    let token = sessions.issue("7", 7, NOW).unwrap();
    let claims = sessions.verify(&token, NOW).unwrap().claims;
    let other = sessions.renew(claims.clone(), NOW).unwrap();
    sessions
        .revocations()
        .revoke_session(claims.session, NOW)
        .unwrap();
    let (body, _) = token.rsplit_once('.').unwrap();
    for text in [
        &token,
        &other,
        &format!("{token}="),
        &format!("{token}."),
        body,
    ] {
        assert!(sessions.verify(text, NOW).is_err(), "{text}");
    }
}

fn site() -> (Router, String) {
    let layer = SessionLayer::cookie(sessions(Key::generate().unwrap()), "id").clock(|| NOW);
    let token = layer.sessions().issue("7", 7, NOW).unwrap();
    let router = Router::new()
        .route(
            "/me",
            get(async |who: Authenticated<u8>| who.subject.clone()),
        )
        .route(
            "/in",
            get(async |session: Session<u8>| session.login(Level::Aal1, "8", 8).unwrap()),
        )
        .layer(layer);
    (router, token)
}

async fn ask(router: &Router, path: &str, cookie: &[u8]) -> Response<Body> {
    let request = Request::get(path).header("cookie", cookie);
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

/// Flask, twice: a cache kept one user's answer, or cookie, for another.
#[tokio::test]
async fn cve_2023_30861_and_cve_2026_27205_caches_are_told() {
    let (router, token) = site();
    let read = ask(&router, "/me", format!("__Host-id={token}").as_bytes()).await;
    assert_eq!(read.headers()["vary"], "cookie");
    assert_eq!(read.headers()["cache-control"], "private, no-cache");
    let set = ask(&router, "/in", b"a=b").await;
    assert!(set.headers().contains_key("set-cookie"));
    assert_eq!(set.headers()["vary"], "cookie");
    assert_eq!(set.headers()["cache-control"], "no-store");
}

/// Rack, PHP, ASP.NET, Django: another name passed for one with a prefix, by decoding or trimming.
#[tokio::test]
async fn cve_2020_8184_no_other_name_passes_for_the_cookies() {
    let (router, token) = site();
    let good = format!("a=b; __Host-id={token}");
    assert_eq!(
        ask(&router, "/me", good.as_bytes()).await.status(),
        StatusCode::OK
    );
    for name in [
        "__%48ost-id",
        "\u{2005}__Host-id",
        "__host-id",
        "__Host-id ",
        "\t__Host-id",
        "__Host-id[]",
        "x__Host-id",
    ] {
        let cookie = format!("{name}={token}");
        let status = ask(&router, "/me", cookie.as_bytes()).await.status();
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{name}");
    }
    let twice = format!("__Host-id={token}; __Host-id={token}");
    assert_eq!(
        ask(&router, "/me", twice.as_bytes()).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

/// golang-jwt: memory by dots; branca: a panic by a short token.
#[test]
fn cve_2025_30204_and_cve_2020_35918_neither_dots_nor_short_tokens_hurt() {
    let sessions = sessions(Key::generate().unwrap());
    let dots = ".".repeat(10_000_000);
    assert_eq!(
        sessions.verify(&dots, NOW).err(),
        Some(VerifyError::TooLong)
    );
    let dots = format!("v4.local.{}", &dots[..4000]);
    assert_eq!(
        sessions.verify(&dots, NOW).err(),
        Some(VerifyError::Malformed)
    );
    let token = sessions.issue("7", 7, NOW).unwrap();
    for end in 0..token.len() {
        assert!(sessions.verify(&token[..end], NOW).is_err());
    }
}

/// Many refresh tokens: an answer that was lost, or two tabs, logged an honest user out.
#[tokio::test]
async fn a_lost_answer_to_a_renewal_logs_nobody_out() {
    let key = Key::generate().unwrap();
    let references = References::new(MemoryStore::default(), key, Policy::aal2()).unwrap();
    let first = references.begin("7", b"", NOW).await.unwrap();
    let lost = references.renew(&first, NOW).await.unwrap();
    let again = references
        .renew(&first, NOW.after(Duration::from_secs(20)))
        .await
        .unwrap();
    assert_eq!(lost.reference, again.reference);
    assert!(again.redelivered);
    assert!(references.load(&again.reference, NOW).await.is_ok());
}

/// passport and others: the session id of before the login was kept.
#[tokio::test]
async fn cve_2022_25896_a_login_has_an_id_of_its_own() {
    let (router, token) = site();
    let before = format!("__Host-id={token}");
    let answer = ask(&router, "/in", before.as_bytes()).await;
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    let after = set.split(';').next().unwrap();
    assert_ne!(before, after);
    let one = sessions(Key::generate().unwrap());
    let ids = [(); 2].map(|()| {
        let token = one.issue("7", 7, NOW).unwrap();
        *one.verify(&token, NOW).unwrap().claims.session.as_bytes()
    });
    assert_ne!(ids[0], ids[1]);
}

/// Superset, Laravel: a secret that everybody knows.
#[test]
fn cve_2023_27524_a_placeholder_is_no_key() {
    for placeholder in [[0; 32], [b'x'; 32]] {
        let key = Key::from_bytes(&placeholder).unwrap();
        assert!(matches!(KeyRing::new(key, DAY), Err(RingError::Key(_))));
    }
    assert!(Key::from_bytes(b"secret").is_err());
}
