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
};
use tower::ServiceExt;

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
