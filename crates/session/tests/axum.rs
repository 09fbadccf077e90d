//! The layer and the extractors in a real axum router.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of tests that fails, fails the test"
)]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use stackbeam_session::{
    Authenticated, Key, KeyRing, NoRevocations, Policy, Refusal, SessionLayer, Sessions, Timestamp,
    claims_of,
};
use tower::{Layer, ServiceExt};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn sessions() -> Sessions<u8> {
    let policy = Policy::aal2();
    let ring = KeyRing::new(Key::generate().unwrap(), policy.absolute()).unwrap();
    Sessions::new(ring, "login", "example.org", policy, NoRevocations).unwrap()
}

fn router(layer: SessionLayer<u8, NoRevocations>) -> Router {
    Router::new()
        .route(
            "/me",
            get(async |who: Authenticated<u8>| who.subject.clone()),
        )
        .route(
            "/maybe",
            get(async |who: Option<Authenticated<u8>>| {
                who.map_or_else(|| "nobody".to_owned(), |who| who.subject.clone())
            }),
        )
        .layer(layer)
}

async fn ask(router: &Router, path: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(parts, ()),
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn a_header_with_the_chosen_word_logs_in_and_the_refusal_is_the_applications_own() {
    let sessions = sessions();
    let token = sessions.issue("42", 0, NOW).unwrap();
    let layer = SessionLayer::authorization(sessions, "Token")
        .clock(|| NOW)
        .reject(|why| match why {
            Refusal::Missing => (
                StatusCode::UNAUTHORIZED,
                r#"{"errors":{"token":["is missing"]}}"#.to_owned(),
            ),
            _ => (
                StatusCode::UNAUTHORIZED,
                r#"{"errors":{"token":["is invalid"]}}"#.to_owned(),
            ),
        });
    let router = router(layer);
    let good = format!("Token {token}");
    let (response, body) = ask(&router, "/me", &[("authorization", &good)]).await;
    assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "42"));
    assert_eq!(response.headers()["vary"], "authorization");
    assert!(
        response.headers()["cache-control"]
            .to_str()
            .unwrap()
            .contains("private")
    );
    let (_, body) = ask(
        &router,
        "/maybe",
        &[("authorization", &good.replace("Token", "token"))],
    )
    .await;
    assert_eq!(body, "42");
    let (response, body) = ask(&router, "/me", &[]).await;
    assert_eq!(
        (response.status(), body.as_str()),
        (
            StatusCode::UNAUTHORIZED,
            r#"{"errors":{"token":["is missing"]}}"#
        )
    );
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(ask(&router, "/maybe", &[]).await.1, "nobody");
    let bearer = good.replace("Token", "Bearer");
    assert_eq!(
        ask(&router, "/maybe", &[("authorization", &bearer)])
            .await
            .1,
        "nobody"
    );
    for bad in ["Token x", "Token ", "Token v4.local.AAAA"] {
        let (response, body) = ask(&router, "/maybe", &[("authorization", bad)]).await;
        assert_eq!(
            (response.status(), body.contains("invalid")),
            (StatusCode::UNAUTHORIZED, true),
            "{bad}"
        );
    }
    let (response, _) = ask(
        &router,
        "/me",
        &[("authorization", &good), ("authorization", &good)],
    )
    .await;
    assert_eq!(
        response.status(),
        StatusCode::UNAUTHORIZED,
        "two tokens are refused"
    );
}

#[tokio::test]
async fn a_cookie_logs_in_is_renewed_at_half_its_idle_time_and_an_old_one_counts_as_none() {
    let sessions = sessions();
    let layer = SessionLayer::cookie(sessions.clone(), "id");
    let token = layer.sessions().issue("42", 0, NOW).unwrap();
    let at = |after: u64| {
        let layer = SessionLayer::cookie(sessions.clone(), "id");
        router(layer.clock(move || NOW.after(Duration::from_secs(after))))
    };
    let cookie = format!("theme=dark; __Host-id={token}");
    let (response, body) = ask(&at(0), "/me", &[("cookie", &cookie)]).await;
    assert_eq!(body, "42");
    assert!(
        !response.headers().contains_key("set-cookie"),
        "nothing changed"
    );
    assert_eq!(response.headers()["vary"], "cookie");

    let (response, body) = ask(&at(1800), "/me", &[("cookie", &cookie)]).await;
    assert_eq!(body, "42");
    let set = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(set.starts_with("__Host-id=v4.local."), "{set}");
    assert!(
        set.ends_with("; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    assert_eq!(response.headers()["cache-control"], "no-store");
    let fresh = set.split(';').next().unwrap();
    assert_eq!(ask(&at(5000), "/me", &[("cookie", fresh)]).await.1, "42");

    assert_eq!(
        ask(&at(5000), "/maybe", &[("cookie", &cookie)]).await.1,
        "nobody"
    );
    let (response, _) = ask(
        &at(0),
        "/me",
        &[("cookie", &format!("{cookie}; __Host-id=x"))],
    )
    .await;
    assert_eq!(
        response.status(),
        StatusCode::UNAUTHORIZED,
        "two cookies of the name are refused"
    );
    for spoof in [
        "__host-id",
        "__Host-id ",
        "\u{2003}__Host-id",
        "__Host%2Did",
        " __Host-id",
    ] {
        let (response, _) = ask(
            &at(0),
            "/me",
            &[("cookie", &format!("a=b; {spoof}={token}"))],
        )
        .await;
        assert_eq!(
            response.status(),
            StatusCode::UNAUTHORIZED,
            "{spoof:?} is another name"
        );
    }
}

#[tokio::test]
async fn a_route_outside_the_layer_is_a_mistake_of_the_server_and_says_so() {
    let router = Router::new().route("/me", get(async |_: Authenticated<u8>| "in"));
    assert_eq!(
        ask(&router, "/me", &[]).await.0.status(),
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

mod web {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::extract::Request as AxumRequest;
    use axum::routing::post;
    use stackbeam_session::{Aal2, AtLeast, Fresh, Level, SameSite, Session};

    use super::*;

    /// A site with a clock that can be set, and a browser that keeps one cookie.
    struct Site {
        router: Router,
        clock: Arc<AtomicU64>,
    }

    fn site(
        change: impl FnOnce(SessionLayer<u8, NoRevocations>) -> SessionLayer<u8, NoRevocations>,
    ) -> Site {
        let clock = Arc::new(AtomicU64::new(NOW.as_secs()));
        let read = Arc::clone(&clock);
        let layer = SessionLayer::cookie(sessions(), "id")
            .clock(move || Timestamp::from_secs(read.load(Ordering::SeqCst)));
        let router = Router::new()
            .route(
                "/",
                get(async |session: Session<u8>| {
                    format!("{:?}", session.claims().map(|c| c.subject.clone()))
                }),
            )
            .route(
                "/in",
                post(async |session: Session<u8>| {
                    session
                        .login(Level::Aal1, "42", 7)
                        .map_or(StatusCode::FORBIDDEN, |_| StatusCode::OK)
                }),
            )
            .route(
                "/up",
                post(async |session: Session<u8>| {
                    session
                        .login(Level::Aal2, "42", 7)
                        .map_or(StatusCode::FORBIDDEN, |_| StatusCode::OK)
                }),
            )
            .route(
                "/out",
                post(async |session: Session<u8>| {
                    if session.logout().is_some() {
                        StatusCode::OK
                    } else {
                        StatusCode::GONE
                    }
                }),
            )
            .route(
                "/fail",
                post(async |session: Session<u8>| {
                    drop(session.login(Level::Aal1, "42", 7));
                    StatusCode::INTERNAL_SERVER_ERROR
                }),
            )
            .route(
                "/change",
                post(async |who: Authenticated<u8>| who.data.to_string()),
            )
            .route("/fresh", get(async |_: Fresh<300, u8>| "fresh"))
            .route("/aal2", get(async |_: AtLeast<Aal2, u8>| "two factors"))
            .route(
                "/csrf",
                get(async |session: Session<u8>| session.csrf_token().unwrap().unwrap_or_default()),
            )
            .layer(change(layer));
        Site { router, clock }
    }

    impl Site {
        async fn send(
            &self,
            method: &str,
            path: &str,
            headers: &[(&str, &str)],
        ) -> (Response<()>, String) {
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "example.org");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request: AxumRequest = request.body(Body::empty()).unwrap();
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (
                Response::from_parts(parts, ()),
                String::from_utf8(body.to_vec()).unwrap(),
            )
        }

        async fn login(&self, path: &str) -> String {
            let (response, _) = self
                .send("POST", path, &[("sec-fetch-site", "same-origin")])
                .await;
            assert_eq!(response.status(), StatusCode::OK);
            let set = response.headers()["set-cookie"]
                .to_str()
                .unwrap()
                .to_owned();
            assert_eq!(response.headers()["cache-control"], "no-store");
            set.split(';').next().unwrap().to_owned()
        }

        fn pass(&self, seconds: u64) {
            self.clock.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_visitor_gets_no_cookie_and_a_handler_logs_in_and_out() {
        let site = site(|layer| layer);
        let (response, body) = site.send("GET", "/", &[]).await;
        assert_eq!(body, "None");
        assert!(!response.headers().contains_key("set-cookie"));
        assert_eq!(response.headers()["vary"], "cookie");
        let cookie = site.login("/in").await;
        let (response, body) = site.send("GET", "/", &[("cookie", &cookie)]).await;
        assert_eq!(body, r#"Some("42")"#);
        assert_eq!(response.headers()["cache-control"], "private, no-cache");
        let from = [
            ("cookie", cookie.as_str()),
            ("sec-fetch-site", "same-origin"),
        ];
        let (response, _) = site.send("POST", "/out", &from).await;
        let set = response.headers()["set-cookie"].to_str().unwrap();
        assert_eq!(
            set,
            "__Host-id=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        );
        assert_eq!(response.headers()["clear-site-data"], "\"cookies\"");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn a_login_is_kept_when_the_answer_is_an_error() {
        let site = site(|layer| layer.same_site(SameSite::Strict));
        let (response, _) = site
            .send("POST", "/fail", &[("sec-fetch-site", "none")])
            .await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            response.headers()["set-cookie"]
                .to_str()
                .unwrap()
                .ends_with("SameSite=Strict")
        );
    }

    #[tokio::test]
    async fn a_step_up_opens_what_a_password_alone_does_not() {
        let site = site(|layer| layer);
        let cookie = site.login("/in").await;
        let ask =
            async |path: &str, cookie: &str| site.send("GET", path, &[("cookie", cookie)]).await;
        let (response, _) = ask("/aal2", &cookie).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            response.headers()["www-authenticate"],
            r#"Bearer error="insufficient_user_authentication", acr_values="aal2""#
        );
        let up = site.login("/up").await;
        assert_eq!(ask("/aal2", &up).await.1, "two factors");
        site.pass(300);
        assert_eq!(ask("/fresh", &up).await.1, "fresh");
        site.pass(1);
        let (response, _) = ask("/fresh", &up).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(
            response.headers()["www-authenticate"]
                .to_str()
                .unwrap()
                .contains(r#"max_age="300""#)
        );
    }

    #[tokio::test]
    async fn a_request_that_another_site_sends_changes_nothing() {
        let key = Key::generate().unwrap();
        let site = site(|layer| {
            layer
                .trust_origins(&["https://app.example"])
                .csrf_key(key)
                .unwrap()
        });
        let cookie = site.login("/in").await;
        let change = async |headers: &[(&str, &str)]| {
            let mut all = vec![("cookie", cookie.as_str())];
            all.extend_from_slice(headers);
            site.send("POST", "/change", &all).await.0.status()
        };
        for (headers, status) in [
            (&[("sec-fetch-site", "same-origin")][..], StatusCode::OK),
            (&[("sec-fetch-site", "none")], StatusCode::OK),
            (&[("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
            (&[("sec-fetch-site", "same-site")], StatusCode::FORBIDDEN),
            (&[("origin", "https://example.org")], StatusCode::OK),
            (&[("origin", "https://evil.example")], StatusCode::FORBIDDEN),
            (
                &[("origin", "https://example.org.evil")],
                StatusCode::FORBIDDEN,
            ),
            (&[("origin", "null")], StatusCode::FORBIDDEN),
            (
                &[
                    ("origin", "https://app.example"),
                    ("sec-fetch-site", "cross-site"),
                ],
                StatusCode::OK,
            ),
            (&[], StatusCode::FORBIDDEN),
            (&[("x-csrf-token", "AAAA")], StatusCode::FORBIDDEN),
        ] {
            assert_eq!(change(headers).await, status, "{headers:?}");
        }
        let token = site.send("GET", "/csrf", &[("cookie", &cookie)]).await.1;
        assert_eq!(change(&[("x-csrf-token", &token)]).await, StatusCode::OK);
        let other = site.login("/in").await;
        let of_other = site.send("GET", "/csrf", &[("cookie", &other)]).await.1;
        assert_eq!(
            change(&[("x-csrf-token", &of_other)]).await,
            StatusCode::FORBIDDEN
        );
        // A read changes nothing, so it may come from anywhere.
        let from = [
            ("cookie", cookie.as_str()),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(site.send("GET", "/", &from).await.1, r#"Some("42")"#);
        let (response, _) = site
            .send("POST", "/in", &[("sec-fetch-site", "cross-site")])
            .await;
        assert_eq!(
            response.status(),
            StatusCode::FORBIDDEN,
            "a login from another site"
        );
        assert!(!response.headers().contains_key("set-cookie"));
    }

    #[tokio::test]
    async fn a_cookie_that_is_too_long_is_refused() {
        let site = site(|layer| layer);
        let long = format!("__Host-id=v4.local.{}", "A".repeat(4096));
        let headers = [("cookie", long.as_str()), ("sec-fetch-site", "none")];
        assert_eq!(
            site.send("POST", "/change", &headers).await.0.status(),
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(site.send("GET", "/", &[("cookie", &long)]).await.1, "None");
    }
}

#[tokio::test]
async fn a_service_that_is_no_axum_handler_asks_the_extensions() {
    let sessions = sessions();
    let token = sessions.issue("ann", 7, Timestamp::now()).unwrap();
    let service = tower::service_fn(async |request: Request<()>| {
        let who = claims_of::<u8>(request.extensions());
        Ok::<_, std::convert::Infallible>(Response::new(who.map(|claims| claims.data)))
    });
    let service = SessionLayer::authorization(sessions, "Token").layer(service);
    let request = |token: &str| Request::get("/").header("authorization", format!("Token {token}"));
    let answer = service.clone().oneshot(request(&token).body(()).unwrap());
    assert_eq!(answer.await.unwrap().into_body(), Ok(7));
    let answer = service.oneshot(Request::new(()));
    assert_eq!(answer.await.unwrap().into_body(), Err(Refusal::Missing));
    // Where no layer was passed, nobody asks.
    assert_eq!(
        claims_of::<u8>(Request::new(()).extensions()).map(drop),
        Err(Refusal::Missing)
    );
}

mod moved {
    use super::*;
    use stackbeam_session::{Adopted, Fresh, Level, MemoryRevocations, legacy::PrivateCookie};
    use std::sync::Arc;

    const OLD: &str = "sid";

    struct Site {
        router: Router,
        revocations: Arc<MemoryRevocations>,
        jar: cookie::Key,
    }

    /// A site that had private cookies of the `cookie` crate before.
    fn site() -> Site {
        let (policy, key) = (Policy::aal2(), Key::generate().unwrap());
        let revocations = MemoryRevocations::new(&key, policy.absolute()).unwrap();
        let revocations = Arc::new(revocations);
        let ring = KeyRing::new(key, policy.absolute()).unwrap();
        let known = Arc::clone(&revocations);
        let sessions = Sessions::<u8, _>::new(ring, "login", "a", policy, known).unwrap();
        let jar = cookie::Key::generate();
        let reader = PrivateCookie::from_master(jar.master()).unwrap();
        let layer =
            SessionLayer::cookie(sessions, "id")
                .clock(|| NOW)
                .adopt(OLD, move |value, now| {
                    let subject = reader.open(OLD, value).ok()?;
                    Some(Adopted::new(
                        &subject,
                        now.before(Duration::from_secs(7200)),
                        7,
                    ))
                });
        let router = Router::new()
            .route(
                "/me",
                get(async |who: Authenticated<u8>| who.subject.clone()),
            )
            .route("/pay", get(async |_: Fresh<300, u8>| "paid"))
            .layer(layer);
        Site {
            router,
            revocations,
            jar,
        }
    }

    impl Site {
        fn old_cookie(&self, subject: &str) -> String {
            let mut jar = cookie::CookieJar::new();
            let cookie = cookie::Cookie::new(OLD, subject.to_owned());
            jar.private_mut(&self.jar).add(cookie);
            format!("{OLD}={}", jar.get(OLD).unwrap().value())
        }
    }

    fn set(response: &Response<()>) -> Vec<&str> {
        let all = response.headers().get_all("set-cookie").iter();
        all.map(|value| value.to_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_site_moves_and_nobody_logs_in_again() {
        let site = site();
        let old = site.old_cookie("42");
        let (response, body) = ask(&site.router, "/me", &[("cookie", &old)]).await;
        assert_eq!((response.status(), body.as_str()), (StatusCode::OK, "42"));
        let set = set(&response);
        let ours = set[0].split(';').next().unwrap();
        assert!(ours.starts_with("__Host-id=") && set.len() == 2, "{set:?}");
        assert!(set[1].starts_with("sid=;") && set[1].contains("Max-Age=0"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        let (again, body) = ask(&site.router, "/me", &[("cookie", ours)]).await;
        assert_eq!((again.status(), body.as_str()), (StatusCode::OK, "42"));
        // It is not taken for a fresh login, and both cookies are ours.
        let (response, _) = ask(&site.router, "/pay", &[("cookie", ours)]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let both = format!("{old}; {ours}");
        let (response, _) = ask(&site.router, "/me", &[("cookie", &both)]).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().get("set-cookie").is_none());
    }

    #[tokio::test]
    async fn an_old_cookie_brings_nobody_back_who_was_ended() {
        let site = site();
        let old = site.old_cookie("42");
        site.revocations.revoke_subject("42", NOW).unwrap();
        let (response, _) = ask(&site.router, "/me", &[("cookie", &old)]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let other = site.old_cookie("43");
        let (response, _) = ask(&site.router, "/me", &[("cookie", &other)]).await;
        let cookie = set(&response)[0].split(';').next().unwrap().to_owned();
        site.revocations.revoke_subject("43", NOW).unwrap();
        // Nor is it looked at beside a cookie of ours that does not hold.
        for cookies in [format!("{cookie}; {other}"), format!("{OLD}=garbage")] {
            let (response, _) = ask(&site.router, "/me", &[("cookie", &cookies)]).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{cookies}");
            assert!(response.headers().get("set-cookie").is_none());
        }
        assert_eq!(Adopted::new("7", NOW, ()).level, Level::Aal1);
    }
}
