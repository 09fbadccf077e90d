//! session beside the PASETO crates, the cookie crate's private jar, tower-sessions, axum_session and a Bloom
//! filter.

mod feed;

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use axum_session::{Session as AxumSession, SessionNullPool};
use fastbloom::BloomFilter;
use paseto_core::encodings::{Payload as CorePayload, WriteBytes};
use paseto_core::validation::NoValidation;
use pasetors::{
    keys::{AsymmetricKeyPair, Generate, SymmetricKey},
    token::UntrustedToken,
    version4::{LocalToken, PublicToken, V4},
};
use rusty_paseto::core::{
    Key as RustyKey, Local, Paseto, PasetoAsymmetricPrivateKey, PasetoAsymmetricPublicKey,
    PasetoNonce, PasetoSymmetricKey, Payload, Public, V4 as RustyV4,
};
use serde::{Deserialize, Serialize};
use stackbeam_session::{
    Authenticated, CompactKey, IssuingKey, Key, KeyRing, MemoryRevocations, MemoryStore, NewRecord,
    NoRevocations, Policy, Record, References, RevocationQuery, Revocations, SecretKey, SessionId,
    SessionLayer, Sessions, Store, StoreError, StoreKey, Timestamp,
};
use tower::Service;
use tower_sessions::{
    Expiry, MemoryStore as TheirStore, Session as TheirSession, SessionManagerLayer,
};

pub use feed::follow_if_asked;

use crate::kit::{Duel, Figure, Goal, Report, heap_bytes, keys};

/// Tokens in one batch.
const TOKENS: usize = 64;
const REVOKED: usize = 1_000_000;

type OtherSession = AxumSession<SessionNullPool>;
type Fallible<T> = Result<T, Box<dyn Error>>;

/// What a rival's user would put into a token to say what ours says.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    jti: String,
    iat: String,
    nbf: String,
    exp: String,
    data: Data,
}

#[derive(Serialize, Deserialize, Clone)]
struct Data {
    id: u64,
    roles: Vec<String>,
}

impl CorePayload for Claims {
    const SUFFIX: &'static str = "";
    fn encode(self, mut writer: impl WriteBytes) -> Result<(), Box<dyn Error + Send + Sync>> {
        writer.write(&serde_json::to_vec(&self)?);
        Ok(())
    }
    fn decode(payload: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(serde_json::from_slice(payload)?)
    }
}

fn data() -> Data {
    Data {
        id: 42,
        roles: ["admin", "editor", "reader"].map(str::to_owned).to_vec(),
    }
}

fn claims() -> Claims {
    Claims {
        sub: "user-42".to_owned(),
        jti: "BXDVEHlY9GwBmlD_oXZBEA".to_owned(),
        iat: "2026-01-01T00:00:00Z".to_owned(),
        nbf: "2026-01-01T00:00:00Z".to_owned(),
        exp: "2126-01-02T00:00:00Z".to_owned(),
        data: data(),
    }
}

fn checked(claims: &Claims) {
    assert!(claims.exp.as_str() > "2026-01-01T00:00:00Z");
    black_box(claims);
}

fn times(mut one: impl FnMut()) -> impl FnMut() {
    move || {
        for _ in 0..TOKENS {
            one();
        }
    }
}

fn policy() -> Policy {
    Policy::new(Duration::from_secs(3600), Duration::from_secs(86_400))
}

fn ours<K: IssuingKey>(key: K) -> Fallible<Sessions<Data, NoRevocations, K>> {
    let ring = KeyRing::new(key, policy().absolute())?;
    Ok(Sessions::new(
        ring,
        "login",
        "example.org",
        policy(),
        NoRevocations,
    )?)
}

const ISSUE: &str =
    "subject, id, times, a number and three roles; nonce, JSON and sealing included";
const VERIFY: &str = "text to claims whose times were checked; ours checks key id, purpose and all times, the rivals' expiry is a comparison of texts";

pub(super) fn figures(report: &mut Report<'_>) -> Fallible<()> {
    local(report)?;
    public(report)?;
    compact(report)?;
    revocation(report)?;
    writes(report)?;
    layer(report)?;
    feed::logout(report)
}

/// What does a login cost (claims to text), and what does each request cost (text to checked claims)?
fn local(report: &mut Report<'_>) -> Fallible<()> {
    let sessions = ours(Key::generate()?)?;
    let now = Timestamp::now();
    let token = sessions.issue("user-42", data(), now)?;

    let pasetors_key = SymmetricKey::<V4>::generate()?;
    let pasetors = |claims: &Claims| -> Fallible<String> {
        let payload = serde_json::to_vec(claims)?;
        Ok(LocalToken::encrypt(
            &pasetors_key,
            &payload,
            None,
            Some(b"login"),
        )?)
    };
    let pasetors_token = pasetors(&claims())?;

    let mut secret = [0_u8; 32];
    for (part, key) in secret.chunks_exact_mut(8).zip(keys(7)) {
        part.copy_from_slice(&key.to_le_bytes());
    }
    let rusty_key = PasetoSymmetricKey::<RustyV4, Local>::from(RustyKey::from(secret));
    let rusty = |claims: &Claims| -> Fallible<String> {
        let payload = serde_json::to_string(claims)?;
        let nonce = RustyKey::<32>::try_new_random()?;
        let nonce = PasetoNonce::<RustyV4, Local>::from(&nonce);
        Ok(Paseto::<RustyV4, Local>::builder()
            .set_payload(Payload::from(payload.as_str()))
            .try_encrypt(&rusty_key, &nonce)?)
    };
    let rusty_token = rusty(&claims())?;

    let v4_key = paseto_v4::LocalKey::from(secret);
    let v4 = |claims| -> Fallible<String> {
        Ok(paseto_v4::UnencryptedToken::new(claims)
            .encrypt(&v4_key)?
            .to_string())
    };
    let v4_token = v4(claims())?;

    Duel::new(
        "v4.local issue",
        TOKENS as u64,
        times(|| {
            black_box(sessions.issue("user-42", data(), now).expect("a token"));
        }),
    )
    .against(
        "pasetors",
        times(|| {
            black_box(pasetors(&claims()).expect("a token"));
        }),
    )
    .against(
        "rusty_paseto",
        times(|| {
            black_box(rusty(&claims()).expect("a token"));
        }),
    )
    .against(
        "paseto-v4",
        times(|| {
            black_box(v4(claims()).expect("a token"));
        }),
    )
    .goal(Goal::Times(1.7))
    .how(ISSUE)
    .run(report);

    Duel::new(
        "v4.local verify",
        TOKENS as u64,
        times(|| {
            black_box(sessions.verify(black_box(&token), now).expect("authentic"));
        }),
    )
    .against(
        "pasetors",
        times(|| {
            let untrusted =
                UntrustedToken::try_from(black_box(&pasetors_token).as_str()).expect("a token");
            let trusted = LocalToken::decrypt(&pasetors_key, &untrusted, None, Some(b"login"));
            let trusted = trusted.expect("authentic");
            checked(&serde_json::from_str(trusted.payload()).expect("claims"));
        }),
    )
    .against(
        "rusty_paseto",
        times(|| {
            let token = black_box(&rusty_token);
            let payload = Paseto::<RustyV4, Local>::try_decrypt(token, &rusty_key, None, None);
            checked(&serde_json::from_str(&payload.expect("authentic")).expect("claims"));
        }),
    )
    .against(
        "paseto-v4",
        times(|| {
            let token: paseto_v4::EncryptedToken<Claims> =
                black_box(&v4_token).parse().expect("a token");
            let opened = token.decrypt(&v4_key, &NoValidation::dangerous_no_validation());
            checked(&opened.expect("authentic").claims);
        }),
    )
    .goal(Goal::Times(1.35))
    .how(VERIFY)
    .run(report);
    Ok(())
}

/// And where the verifier must not be able to mint?
fn public(report: &mut Report<'_>) -> Fallible<()> {
    let sessions = ours(SecretKey::generate()?)?.cached(10_000)?;
    let now = Timestamp::now();
    let token = sessions.issue("user-42", data(), now)?;

    let pair = AsymmetricKeyPair::<V4>::generate()?;
    let pasetors = |claims: &Claims| -> Fallible<String> {
        let payload = serde_json::to_vec(claims)?;
        Ok(PublicToken::sign(
            &pair.secret,
            &payload,
            None,
            Some(b"login"),
        )?)
    };
    let pasetors_token = pasetors(&claims())?;
    let secret = pair.secret.as_bytes();
    let rusty_secret = RustyKey::<64>::from(<&[u8; 64]>::try_from(secret)?);
    let rusty_secret = PasetoAsymmetricPrivateKey::<RustyV4, Public>::from(&rusty_secret);
    let rusty_public = RustyKey::<32>::from(<&[u8; 32]>::try_from(&secret[32..])?);
    let rusty_public = PasetoAsymmetricPublicKey::<RustyV4, Public>::from(&rusty_public);
    let rusty = |claims: &Claims| -> Fallible<String> {
        let payload = serde_json::to_string(claims)?;
        Ok(Paseto::<RustyV4, Public>::builder()
            .set_payload(Payload::from(payload.as_str()))
            .try_sign(&rusty_secret)?)
    };
    let rusty_token = rusty(&claims())?;
    let v4_secret = paseto_v4::SecretKey::random()?;
    let v4_public = v4_secret.public_key();
    let v4 = |claims| -> Fallible<String> {
        Ok(paseto_v4::UnsignedToken::new(claims)
            .sign(&v4_secret)?
            .to_string())
    };
    let v4_token = v4(claims())?;

    let pasetors_verify = || {
        let untrusted =
            UntrustedToken::try_from(black_box(&pasetors_token).as_str()).expect("a token");
        let trusted = PublicToken::verify(&pair.public, &untrusted, None, Some(b"login"));
        checked(&serde_json::from_str(trusted.expect("authentic").payload()).expect("claims"));
    };
    let rusty_verify = || {
        let token = black_box(&rusty_token);
        let payload = Paseto::<RustyV4, Public>::try_verify(token, &rusty_public, None, None);
        checked(&serde_json::from_str(&payload.expect("authentic")).expect("claims"));
    };
    let v4_verify = || {
        let token: paseto_v4::SignedToken<Claims> = black_box(&v4_token).parse().expect("a token");
        let opened = token.verify(&v4_public, &NoValidation::dangerous_no_validation());
        checked(&opened.expect("authentic").claims);
    };

    Duel::new(
        "v4.public issue",
        TOKENS as u64,
        times(|| {
            black_box(sessions.issue("user-42", data(), now).expect("a token"));
        }),
    )
    .against(
        "pasetors",
        times(|| {
            black_box(pasetors(&claims()).expect("a token"));
        }),
    )
    .against(
        "rusty_paseto",
        times(|| {
            black_box(rusty(&claims()).expect("a token"));
        }),
    )
    .against(
        "paseto-v4",
        times(|| {
            black_box(v4(claims()).expect("a token"));
        }),
    )
    .goal(Goal::Times(1.8))
    .how(format!("{ISSUE}; feature aws-lc-rs"))
    .run(report);

    Duel::new(
        "v4.public verify",
        TOKENS as u64,
        times(|| {
            black_box(sessions.verify(black_box(&token), now).expect("authentic"));
        }),
    )
    .against("pasetors", times(pasetors_verify))
    .against("rusty_paseto", times(rusty_verify))
    .against("paseto-v4", times(v4_verify))
    .goal(Goal::Times(1.0))
    .how(VERIFY)
    .run(report);

    Duel::new(
        "v4.public verify again, through the cache",
        TOKENS as u64,
        times(|| {
            black_box(
                sessions
                    .verify_shared(black_box(&token), now)
                    .expect("authentic"),
            );
        }),
    )
    .against("pasetors", times(pasetors_verify))
    .against("rusty_paseto", times(rusty_verify))
    .against("paseto-v4", times(v4_verify))
    .goal(Goal::Times(40.0))
    .how("one token of a cache of 10 000; times, key and revocation are checked each time")
    .run(report);
    Ok(())
}

/// How short and how fast is a token that only this server's cookies carry?
fn compact(report: &mut Report<'_>) -> Fallible<()> {
    let sessions = ours(CompactKey::generate()?)?;
    let now = Timestamp::now();
    let token = sessions.issue("user-42", data(), now)?;
    let jar_key = cookie::Key::generate();
    let jar = |claims: &Claims| -> Fallible<String> {
        let mut jar = cookie::CookieJar::new();
        jar.private_mut(&jar_key)
            .add(("id", serde_json::to_string(claims)?));
        Ok(jar
            .get("id")
            .map(|cookie| cookie.value().to_owned())
            .unwrap_or_default())
    };
    let jar_value = jar(&claims())?;
    report.figure(
        Figure::new("compact length", token.len() as f64, "characters")
            .against("cookie's private jar", jar_value.len() as f64)
            .goal(Goal::AtMost(120.0))
            .how("user id, session id, times, a number and three roles"),
    );
    Duel::new(
        "compact issue",
        TOKENS as u64,
        times(|| {
            black_box(sessions.issue("user-42", data(), now).expect("a token"));
        }),
    )
    .against(
        "cookie's private jar",
        times(|| {
            black_box(jar(&claims()).expect("a value"));
        }),
    )
    .goal(Goal::Times(2.0))
    .how(ISSUE)
    .run(report);
    let original = cookie::Cookie::new("id", jar_value);
    Duel::new(
        "compact verify",
        TOKENS as u64,
        times(|| {
            black_box(sessions.verify(black_box(&token), now).expect("authentic"));
        }),
    )
    .against(
        "cookie's private jar",
        times(|| {
            let jar = cookie::CookieJar::new();
            let opened = jar.private(&jar_key).decrypt(black_box(&original).clone());
            checked(&serde_json::from_str(opened.expect("authentic").value()).expect("claims"));
        }),
    )
    .goal(Goal::Times(2.0))
    .how(VERIFY)
    .run(report);
    Ok(())
}

/// What do a million ended sessions cost in memory, and each request in time?
fn revocation(report: &mut Report<'_>) -> Fallible<()> {
    let now = Timestamp::now();
    let id = |number: u64| {
        let mut bytes = [0; 16];
        for (part, key) in bytes.chunks_exact_mut(8).zip(keys(number)) {
            part.copy_from_slice(&key.to_le_bytes());
        }
        SessionId::from_bytes(bytes)
    };
    let key = Key::generate()?;
    let (bytes, known) = heap_bytes(|| {
        let known = MemoryRevocations::new(&key, policy().absolute()).expect("a set");
        for number in 0..REVOKED as u64 {
            known.revoke_session(id(number), now).expect("room");
        }
        known
    });
    let mut bloom = BloomFilter::with_false_pos(0.001).expected_items(REVOKED);
    for number in 0..REVOKED as u64 {
        bloom.insert(id(number).as_bytes());
    }
    let template = ours(Key::generate()?)?;
    let token = template.issue("user-42", data(), now)?;
    let mut claims = template.verify(&token, now)?.claims;
    let strangers: Vec<_> = (0..1 << 16).map(|number| id((1 << 40) + number)).collect();
    let mut wrong = 0;
    for stranger in &strangers {
        claims.session = *stranger;
        let verdict = known.check(&RevocationQuery::new(&claims), now);
        wrong += usize::from(verdict != stackbeam_session::Verdict::Good);
    }
    report.figure(
        Figure::new("1 000 000 ended sessions", bytes as f64 / 1e6, "MB")
            .goal(Goal::AtMost(40.0))
            .how("heap after the last, by a counting allocator"),
    );
    report.figure(
        Figure::new("false positives in 65 536 checks", wrong as f64, "")
            .goal(Goal::AtMost(0.0))
            .how("ids that were never ended"),
    );
    let (mut ours, mut theirs) = (strangers.iter().cycle(), strangers.iter().cycle());
    Duel::new(
        "check of a session among 1 000 000 ended",
        TOKENS as u64,
        times(|| {
            claims.session = *ours.next().expect("a cycle");
            black_box(known.check(&RevocationQuery::new(&claims), now));
        }),
    )
    .against(
        "a Bloom filter of 0.1 % (fastbloom)",
        times(|| {
            black_box(bloom.contains(theirs.next().expect("a cycle").as_bytes()));
        }),
    )
    .goal(Goal::AtMost(20.0))
    .how("the whole check: hash, set, subject, prefixes, global")
    .run(report);
    Ok(())
}

/// Counts the writes that reach a store.
struct Counting(MemoryStore, AtomicUsize);

impl Counting {
    fn count(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

impl Store for Counting {
    async fn create(
        &self,
        key: StoreKey,
        record: NewRecord,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.count();
        self.0.create(key, record, now).await
    }
    async fn load(&self, key: StoreKey, now: Timestamp) -> Result<Record, StoreError> {
        self.0.load(key, now).await
    }
    async fn update(
        &self,
        key: StoreKey,
        version: u64,
        data: Vec<u8>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.count();
        self.0.update(key, version, data, now).await
    }
    async fn touch(
        &self,
        key: StoreKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.count();
        self.0.touch(key, until, now).await
    }
    async fn delete(&self, key: StoreKey, now: Timestamp) -> Result<bool, StoreError> {
        self.count();
        self.0.delete(key, now).await
    }
}

/// How often is a store written for a user who only reads?
fn writes(report: &mut Report<'_>) -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = Counting(MemoryStore::default(), AtomicUsize::new(0));
    let references = References::new(store, Key::generate()?, policy())?;
    let begun = Timestamp::now();
    runtime.block_on(async {
        let reference = references.begin("user-42", b"state", begun).await?;
        for read in 0..1000 {
            references
                .load(&reference, begun.after(Duration::from_secs(3 * read)))
                .await?;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let writes = references.store().1.load(Ordering::Relaxed);
    report.figure(
        Figure::new("store writes in 1 000 reads by one active user", writes as f64, "writes")
            .against("tower-sessions, always_save", 1000.0)
            .goal(Goal::AtMost(2.0))
            .how("a read every 3 s, idle time one hour, the login's write counted; the rival's one a request is by its definition"),
    );
    Ok(())
}

/// What does a layer add to a request of a bare axum route?
fn layer(report: &mut Report<'_>) -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    // axum_session spawns a task when its layer is made.
    let _entered = runtime.enter();
    let key = Key::generate()?;
    let now = Timestamp::now();
    let build = |cached: bool| -> Fallible<(Router, String)> {
        let known = Arc::new(MemoryRevocations::new(&key, policy().absolute())?);
        known.revoke_subject("somebody-else", now)?;
        let ring = KeyRing::new(key.clone(), policy().absolute())?;
        let mut sessions = Sessions::<u64, _>::new(ring, "login", "example.org", policy(), known)?;
        if cached {
            sessions = sessions.cached(10_000)?;
        }
        let layer = SessionLayer::cookie(sessions, "id");
        let token = layer.sessions().issue("user-42", 7, now)?;
        let route = get(async |who: Authenticated<u64>| who.data.to_string());
        Ok((
            Router::new().route("/", route).layer(layer),
            format!("__Host-id={token}"),
        ))
    };
    let bare = Router::new().route("/", get(async || 7.to_string()));
    let (cached, cached_cookie) = build(true)?;
    let (cold, cold_cookie) = build(false)?;
    let expiry = Expiry::OnInactivity(time::Duration::hours(1));
    let theirs = Router::new()
        .route(
            "/in",
            get(async |session: TheirSession| {
                session.insert("user", 7_u64).await.expect("a store");
            }),
        )
        .route(
            "/",
            get(async |session: TheirSession| {
                session
                    .get::<u64>("user")
                    .await
                    .expect("a store")
                    .expect("logged in")
                    .to_string()
            }),
        )
        .layer(SessionManagerLayer::new(TheirStore::default()).with_expiry(expiry));
    let others = runtime.block_on(async {
        let config = axum_session::SessionConfig::default().with_ip_and_user_agent(false);
        let store = axum_session::SessionStore::<SessionNullPool>::new(None, config);
        store.await
    })?;
    let others = Router::new()
        .route(
            "/in",
            get(async |session: OtherSession| session.set("user", 7_u64)),
        )
        .route(
            "/",
            get(async |session: OtherSession| {
                session.get::<u64>("user").expect("logged in").to_string()
            }),
        )
        .layer(axum_session::SessionLayer::new(others));
    let call = |router: &mut Router, path: &str, cookie: &str| {
        let request = http::Request::get(path)
            .header("cookie", cookie)
            .body(Body::empty());
        let response = runtime.block_on(router.call(request.expect("a request")));
        response.expect("infallible")
    };
    // What a browser would send after a login.
    let cookies_of = |router: &Router| -> Fallible<String> {
        let answer = call(&mut router.clone(), "/in", "a=b");
        let set = answer.headers().get_all("set-cookie").iter();
        let pairs = set.map(|cookie| {
            Ok(cookie
                .to_str()?
                .split(';')
                .next()
                .unwrap_or_default()
                .to_owned())
        });
        Ok(pairs.collect::<Fallible<Vec<_>>>()?.join("; "))
    };
    let (their_cookie, other_cookie) = (cookies_of(&theirs)?, cookies_of(&others)?);
    let mut contestants = [
        (bare, "a=b"),
        (cached, &cached_cookie),
        (cold, &cold_cookie),
        (theirs, &their_cookie),
        (others, &other_cookie),
    ];
    let mut medians = [(); 5].map(|()| Vec::new());
    for round in 0..31 {
        for turn in 0..5 {
            let which = (round + turn) % 5;
            let (router, cookie) = &mut contestants[which];
            let started = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            for _ in 0..2000 {
                assert_eq!(black_box(call(router, "/", cookie)).status(), 200);
            }
            let ended = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let seconds = (ended.tv_sec - started.tv_sec) as f64;
            let spent = seconds * 1e9 + (ended.tv_nsec - started.tv_nsec) as f64;
            medians[which].push(spent / 2000.0);
        }
    }
    let [bare, cached, cold, theirs, others] = medians.map(|mut turns| {
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 2]
    });
    let how = "CPU time of a request less that of a bare axum route (which is told), in process, median of 31 rounds in turn; a subject has been ended";
    let how = format!(
        "{how}; axum_session, memory alone, a read: {:.0} ns",
        others - bare
    );
    for (name, value, goal) in [
        (
            "layer over bare axum: cached check with revocation",
            cached,
            1.0,
        ),
        (
            "layer over bare axum: cold v4.local with revocation",
            cold,
            2.0,
        ),
    ] {
        report.figure(
            Figure::new(name, value - bare, "ns")
                .against("tower-sessions, memory store, a read", theirs - bare)
                .goal(Goal::AtMostTimes(goal))
                .how(format!("{how}; bare {bare:.0} ns")),
        );
    }
    Ok(())
}
