//! The drill in which clients send what nobody should send.

use std::time::Duration;

use http::Method;
use serde_json::json;
use stackbeam_session::{Key, KeyRing, Sessions, Timestamp};

use super::stage::{Stage, kept_folder};
use super::{Check, DrillError, trouble};
use crate::app::id::Id;
use crate::node::config::{Secrets, Without};
use crate::node::load::client::{Ask, Payload};
use crate::node::queue::{revocations, session_policy};
use crate::options::UpOptions;
use crate::supervisor::Condition;

/// A PNG of 50 000 by 50 000 pixels in 74 bytes: 7.5 GB for whoever decodes it.
const BOMB: [u8; 74] = [
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 195, 80, 0, 0, 195, 80, 8,
    2, 0, 0, 0, 196, 205, 170, 157, 0, 0, 0, 17, 73, 68, 65, 84, 120, 156, 99, 96, 24, 5, 163, 96,
    20, 12, 119, 0, 0, 3, 232, 0, 1, 179, 166, 211, 70, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96,
    130,
];

/// The body that is too large everywhere.
const HUGE: usize = 100 << 20;

/// A request, and the answers that the API allows for it.
struct Case {
    name: &'static str,
    ask: Ask,
    allowed: &'static [u16],
}

pub(super) async fn bad_input(without: Without, seed: u64) -> Result<Vec<Check>, DrillError> {
    let (_folder, state) = kept_folder()?;
    let options = UpOptions {
        without,
        state: Some(state.clone()),
        ..UpOptions::default()
    };
    let stage = Stage::set(options, seed).await?;
    let world = &stage.users.world;
    let person = world
        .crowd
        .lock()
        .everybody()
        .first()
        .cloned()
        .ok_or_else(|| DrillError("nobody has registered".to_owned()))?;
    let token = person.token().unwrap_or_default();
    let secrets: Secrets = std::fs::read(state.join("secrets.json"))
        .map_err(|error| trouble("the keys")(&error))
        .and_then(|text| {
            serde_json::from_slice(&text).map_err(|error| trouble("the keys")(&error))
        })?;
    let expired = old_token(&secrets.token_key)?;
    let cases = cases(&token, &expired);
    let asked = cases.len();
    let mut bad = Vec::new();
    for Case { name, ask, allowed } in cases {
        match world.client.send(ask).await {
            Ok(answer) => {
                let said = !answer.body.is_empty();
                if !allowed.contains(&answer.status.as_u16()) || !said {
                    bad.push(format!("{name}: {}", answer.summary()));
                }
            }
            Err(failure) => bad.push(format!("{name}: {} {}", failure.class.name(), failure.why)),
        }
    }
    let alive = stage
        .until("every process is up", |snapshot| {
            snapshot
                .nodes
                .iter()
                .all(|node| node.condition == Condition::Up)
        })
        .await?;
    let restarts: u32 = alive.nodes.iter().map(|node| node.restarts).sum();
    let outcomes = stage.finish("bad-input").await?;
    let mut refused = outcomes.check(
        "requests not answered as the API says",
        format!("{} of {asked}", bad.len()),
        0,
        bad.is_empty(),
    );
    refused.why = bad;
    Ok(vec![
        refused,
        outcomes.check("processes that fell", restarts, 0, restarts == 0),
        outcomes.nothing_lost(),
    ])
}

/// A token of this run's own key that was issued to a user two years ago.
fn old_token(key: &str) -> Result<String, DrillError> {
    let failed = trouble("an expired token");
    let key = Key::from_text(key).map_err(|error| failed(&error))?;
    let policy = session_policy();
    let none = revocations(&key).map_err(|error| failed(&error))?;
    let ring = KeyRing::new(key, policy.absolute()).map_err(|error| failed(&error))?;
    let sessions = Sessions::<(), _>::new(ring, "login", "conduit", policy, none)
        .map_err(|error| failed(&error))?;
    let then = Timestamp::now().before(Duration::from_secs(2 * 365 * 86_400));
    sessions
        .issue(&Id::scattered(7).text(), (), then)
        .map_err(|error| failed(&error))
}

fn cases(token: &str, expired: &str) -> Vec<Case> {
    let raw = |content_type, bytes: &[u8]| Payload::Raw {
        content_type,
        bytes: bytes.to_vec(),
    };
    let json = "application/json";
    let post = |path: &str, payload| Ask::post(path, payload).with_token(Some(token.to_owned()));
    let as_who = |token: &str| Ask::get("/api/user").with_token(Some(token.to_owned()));
    let case = |name, ask, allowed| Case { name, ask, allowed };
    let photo = |bytes: &[u8]| Payload::File {
        name: "photo.png".to_owned(),
        content_type: "image/png",
        bytes: bytes.to_vec(),
    };
    let mut forged = token.to_owned();
    forged.replace_range(
        20..21,
        if token.as_bytes()[20] == b'A' {
            "B"
        } else {
            "A"
        },
    );
    vec![
        case(
            "half a JSON",
            post("/api/articles", raw(json, b"{\"article\": {")),
            &[400, 422],
        ),
        case(
            "no JSON at all",
            Ask::post("/api/users", raw(json, b"\xff\xfe\x00")),
            &[400, 422],
        ),
        case(
            "an empty body",
            Ask::post("/api/users/login", Payload::None),
            &[400, 415, 422],
        ),
        case(
            "numbers for names",
            Ask::post(
                "/api/users",
                Payload::Json(json!({"user": {"username": 1, "email": [], "password": null}})),
            ),
            &[422],
        ),
        case(
            "a list for an object",
            post("/api/articles", Payload::Json(json!([1, 2]))),
            &[422],
        ),
        case(
            "JSON that is nested ten thousand deep",
            post("/api/articles", raw(json, "[".repeat(10_000).as_bytes())),
            &[400, 422],
        ),
        case(
            "a text for JSON",
            post("/api/articles", raw("text/plain", b"hello")),
            &[415],
        ),
        case(
            "a body of 100 MB",
            post("/api/articles", raw(json, &vec![b' '; HUGE])),
            &[413],
        ),
        case(
            "a photo of 100 MB",
            post("/api/photos", raw("image/png", &vec![0; HUGE])),
            &[413],
        ),
        case(
            "a photo that is text",
            post("/api/photos", photo(b"not a picture")),
            &[415, 422],
        ),
        case(
            "half a PNG",
            post("/api/photos", photo(&BOMB[..40])),
            &[422],
        ),
        case("a PNG bomb", post("/api/photos", photo(&BOMB)), &[422]),
        case("no token", Ask::get("/api/user"), &[401]),
        case("a token that is none", as_who("nonsense"), &[401]),
        case("a forged token", as_who(&forged), &[401]),
        case("an expired token", as_who(expired), &[401]),
        case(
            "an unknown article",
            Ask::get("/api/articles/no-such-thing"),
            &[404],
        ),
        case(
            "an unknown user",
            Ask::get("/api/profiles/no-such-user"),
            &[404],
        ),
        case(
            "an unknown photo",
            Ask::get("/api/photos/0000000000000"),
            &[404],
        ),
        case(
            "a path out of the folder",
            Ask::get("/photos/..%2f..%2fsecrets.json"),
            &[400, 404],
        ),
        case("an unknown page", Ask::get("/api/no/such/page"), &[404]),
        case(
            "a limit that is no number",
            Ask::get("/api/articles?limit=many"),
            &[422],
        ),
        case(
            "an offset below zero",
            Ask::get("/api/articles?offset=-1"),
            &[422],
        ),
        case(
            "an unknown method",
            Ask::get("/api/articles").with_method(Method::PATCH),
            &[405],
        ),
        case(
            "a method of no use",
            Ask::get("/api/articles").with_method(Method::TRACE),
            &[405],
        ),
    ]
}
