//! Stories about the API, over shards in this process.

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::alone;

/// Sends one request; returns status, JSON (null without a body) and whether a position came back.
async fn send(
    api: &Router,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> (StatusCode, Value, bool) {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Token {token}"));
    }
    let bytes = match body {
        Value::Null => Vec::new(),
        Value::String(raw) => raw.clone().into_bytes(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let request = request
        .header("content-type", "application/json")
        .body(Body::from(bytes))
        .unwrap();
    let response = api.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let position = response.headers().contains_key("set-cookie");
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (
        status,
        serde_json::from_slice(&body).unwrap_or(Value::Null),
        position,
    )
}

async fn register(api: &Router, name: &str) -> String {
    let user = json!({"user": {
        "username": name, "email": format!("{name}@example.org"), "password": "long enough"
    }});
    let (status, body, position) = send(api, "POST", "/api/users", "", &user).await;
    assert_eq!((status, position), (StatusCode::CREATED, true), "{body}");
    body["user"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_was_written_is_read_on_every_number_of_shards() {
    for shards in [1, 2, 5] {
        let api = alone(shards);
        let (ann, bob) = (register(&api, "ann").await, register(&api, "bob").await);
        let article = json!({"article": {
            "title": "One", "description": "d", "body": "b", "tagList": ["z", "a", "z"]
        }});
        let (_, first, _) = send(&api, "POST", "/api/articles", &ann, &article).await;
        let (_, second, _) = send(&api, "POST", "/api/articles", &ann, &article).await;
        assert_eq!(first["article"]["tagList"], json!(["z", "a"]));
        assert_ne!(first["article"]["slug"], second["article"]["slug"]);
        let slug = second["article"]["slug"].as_str().unwrap();
        let (_, followed, _) =
            send(&api, "POST", "/api/profiles/ann/follow", &bob, &Value::Null).await;
        assert_eq!(followed["profile"]["following"], json!(true));
        let (_, liked, _) = send(
            &api,
            "POST",
            &format!("/api/articles/{slug}/favorite"),
            &bob,
            &Value::Null,
        )
        .await;
        assert_eq!(liked["article"]["favoritesCount"], json!(1));
        let (_, feed, _) = send(
            &api,
            "GET",
            "/api/articles/feed?limit=1",
            &bob,
            &Value::Null,
        )
        .await;
        assert_eq!(feed["articlesCount"], json!(2));
        assert_eq!(feed["articles"][0]["author"]["following"], json!(true));
        let (_, found, _) =
            send(&api, "GET", "/api/articles?favorited=bob", "", &Value::Null).await;
        assert_eq!(found["articlesCount"], json!(1), "{shards} shards");
        let (status, refused, _) = send(
            &api,
            "DELETE",
            &format!("/api/articles/{slug}"),
            &bob,
            &Value::Null,
        )
        .await;
        assert_eq!(
            (status, &refused["errors"]["article"][0]),
            (StatusCode::FORBIDDEN, &json!("forbidden"))
        );
    }
}

#[tokio::test]
async fn a_name_can_be_had_again_after_its_user_left_it() {
    let api = alone(3);
    let ann = register(&api, "ann").await;
    let rename = json!({"user": {"username": "bea"}});
    assert_eq!(
        send(&api, "PUT", "/api/user", &ann, &rename).await.0,
        StatusCode::OK
    );
    let again =
        json!({"user": {"username": "ann", "email": "c@example.org", "password": "long enough"}});
    assert_eq!(
        send(&api, "POST", "/api/users", "", &again).await.0,
        StatusCode::CREATED
    );
    let taken =
        json!({"user": {"username": "bea", "email": "d@example.org", "password": "long enough"}});
    let (status, body, _) = send(&api, "POST", "/api/users", "", &taken).await;
    assert_eq!(
        (status, &body["errors"]["username"][0]),
        (StatusCode::CONFLICT, &json!("has already been taken"))
    );
}

#[tokio::test]
async fn bad_input_is_the_clients_fault_and_says_why() {
    let api = alone(2);
    let ann = register(&api, "ann").await;
    let raw = |text: &str| Value::String(text.to_owned());
    let article = |field: &str, value: Value| {
        let mut fields = json!({"title": "t", "description": "d", "body": "b"});
        fields[field] = value;
        json!({"article": fields})
    };
    let cases = [
        ("POST", "/api/articles", raw("{"), 422),
        ("POST", "/api/articles", raw("[]"), 422),
        (
            "POST",
            "/api/articles",
            raw("{\"article\": {\"title\": \"\\ud800\"}}"),
            422,
        ),
        ("POST", "/api/articles", raw(&"[".repeat(100_000)), 422),
        ("POST", "/api/articles", raw(&"x".repeat(300_000)), 413),
        ("POST", "/api/articles", article("title", json!(7)), 422),
        (
            "POST",
            "/api/articles",
            article("title", json!("nul \u{0}")),
            422,
        ),
        (
            "POST",
            "/api/articles",
            article("title", json!("x".repeat(256))),
            422,
        ),
        (
            "POST",
            "/api/articles",
            article("tagList", json!(["a", 1])),
            422,
        ),
        (
            "POST",
            "/api/articles",
            article("tagList", Value::Null),
            422,
        ),
        ("GET", "/api/articles?limit=0", Value::Null, 422),
        ("GET", "/api/articles?limit=-1", Value::Null, 422),
        (
            "GET",
            "/api/articles?offset=99999999999999999999",
            Value::Null,
            422,
        ),
        ("GET", "/api/articles?offset=4000000000", Value::Null, 422),
        ("GET", "/api/articles?tag=%ff%00", Value::Null, 200),
        ("GET", "/api/articles/0000000000001", Value::Null, 404),
        ("GET", "/api/profiles/%00", Value::Null, 404),
        (
            "DELETE",
            "/api/articles/x-0000000000001/comments/nine",
            Value::Null,
            404,
        ),
        ("PATCH", "/api/articles", Value::Null, 405),
        ("GET", "/nowhere", Value::Null, 404),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer, _) = send(&api, method, path, &ann, &body).await;
        assert_eq!(status.as_u16(), expected, "{method} {path} {answer}");
        assert!(
            status.is_success() || answer["errors"].is_object(),
            "{method} {path} {answer}"
        );
    }
    for token in ["x", "v4.local.AAAA", &ann[..ann.len() - 4]] {
        let (status, answer, _) = send(&api, "GET", "/api/user", token, &Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    }
}
