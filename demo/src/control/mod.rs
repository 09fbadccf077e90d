//! The control API and the live page, for the person at this machine alone.

mod admit;
pub(crate) mod client;
pub(crate) mod run_file;
pub(crate) mod steer;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::node::config::Role;
use crate::supervisor::events::Event;
use crate::supervisor::{Action, Snapshot, Supervisor};

/// How often the page hears news.
const NEWS: Duration = Duration::from_millis(250);
/// Pages that may be open at once; a further one is refused.
const STREAMS_MAX: usize = 32;
/// The longest injected replica lag.
const LAG_MS_MAX: u64 = 10_000;

/// A file of the page: where it is, what it is, and its text.
macro_rules! page_file {
    ($path:literal, $kind:literal, $file:literal) => {
        ($path, $kind, include_str!(concat!("../../web/", $file)))
    };
}

/// The whole page. It needs nothing from anywhere else.
const PAGE: [(&str, &str, &str); 9] = [
    page_file!("/", "text/html", "index.html"),
    page_file!("/style.css", "text/css", "style.css"),
    page_file!("/icon.svg", "image/svg+xml", "icon.svg"),
    page_file!("/app.js", "text/javascript", "app.js"),
    page_file!("/log.js", "text/javascript", "log.js"),
    page_file!("/map.js", "text/javascript", "map.js"),
    page_file!("/page.js", "text/javascript", "page.js"),
    page_file!("/tour.js", "text/javascript", "tour.js"),
    page_file!("/users.js", "text/javascript", "users.js"),
];

#[derive(Clone)]
struct Control {
    supervisor: Supervisor,
    token: Arc<str>,
    port: u16,
    streams: Arc<Semaphore>,
}

/// One line of news for the page.
#[derive(Serialize)]
struct News {
    snapshot: Arc<Snapshot>,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct AfterQuery {
    #[serde(default)]
    after: u64,
}

/// Serves the page and the API on `listener` until the process ends.
pub(crate) async fn serve(
    listener: TcpListener,
    supervisor: Supervisor,
    token: &str,
) -> std::io::Result<()> {
    let control = Control {
        supervisor,
        token: token.into(),
        port: listener.local_addr()?.port(),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    axum::serve(listener, router(control)).await
}

fn router(control: Control) -> Router {
    let api = Router::new()
        .route("/api/status", get(status))
        .route("/api/events", get(events))
        .route("/api/stream", get(stream))
        .route("/api/nodes/{id}/{action}", post(act))
        .route("/api/scale/{role}/{to}", post(scale))
        .route("/api/lag/{ms}", post(lag))
        .route("/api/keys/rotate", post(rotate_keys))
        .route("/api/down", post(down))
        .route_layer(middleware::from_fn_with_state(control.clone(), known));
    let page = PAGE
        .into_iter()
        .fold(Router::new(), |page, (path, kind, text)| {
            page.route(path, asset(kind, text))
        });
    api.merge(page)
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "there is nothing here; the page is at /\n",
            )
        })
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "looking is GET, acting is POST\n",
            )
        })
        .layer(middleware::from_fn_with_state(control.clone(), admit))
        .with_state(control)
}

fn asset(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Control> {
    let kind = format!("{kind}; charset=utf-8");
    get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
}

/// Lets in only who belongs here, and says to browsers what the page may do.
async fn admit(State(control): State<Control>, request: Request, next: Next) -> Response {
    let mut response = match admit::place(request.headers(), control.port) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets through only who knows the run's token.
async fn known(State(control): State<Control>, request: Request, next: Next) -> Response {
    match admit::token(request.headers(), &control.token) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn status(State(control): State<Control>) -> Json<Arc<Snapshot>> {
    Json(control.supervisor.snapshot.borrow().clone())
}

async fn events(
    State(control): State<Control>,
    Query(query): Query<AfterQuery>,
) -> Json<Vec<Event>> {
    Json(control.supervisor.events.after(query.after))
}

/// News four times a second, a JSON line each. A reader that comes back says up to where it has
/// `after`; for a reader that is slow nothing is queued: it gets the newest state next.
async fn stream(State(control): State<Control>, Query(query): Query<AfterQuery>) -> Response {
    let Ok(place) = Arc::clone(&control.streams).try_acquire_owned() else {
        let full = "too many pages are open; close some\n";
        return (StatusCode::SERVICE_UNAVAILABLE, full).into_response();
    };
    let start = (control, query.after, place, Duration::ZERO);
    let news = futures_util::stream::unfold(start, |(control, seen, place, wait)| async move {
        tokio::time::sleep(wait).await;
        let events = control.supervisor.events.after(seen);
        let seen = events.last().map_or(seen, |event| event.seq);
        let news = News {
            snapshot: control.supervisor.snapshot.borrow().clone(),
            events,
        };
        let mut line = serde_json::to_vec(&news).unwrap_or_default();
        line.push(b'\n');
        let line = Ok::<_, Infallible>(Bytes::from(line));
        Some((line, (control, seen, place, NEWS)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(news)).into_response()
}

fn answer(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}

/// One word of a path as what it stands for; the refusal lists what it could have been.
fn word<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    let word: StrDeserializer<'_, WordError> = word.into_deserializer();
    T::deserialize(word).map_err(|error| error.to_string())
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a whole number that can be meant here"))
}

async fn act(
    State(control): State<Control>,
    Path((id, action)): Path<(String, String)>,
) -> Response {
    answer(match word::<Action>(&action) {
        Ok(action) => control.supervisor.act(&id, action).await,
        Err(why) => Err(why),
    })
}

async fn scale(
    State(control): State<Control>,
    Path((role, to)): Path<(String, String)>,
) -> Response {
    answer(match (word::<Role>(&role), number(&to)) {
        (Ok(role), Ok(to)) => control.supervisor.scale(role, to).await,
        (Err(why), _) | (_, Err(why)) => Err(why),
    })
}

async fn lag(State(control): State<Control>, Path(ms): Path<String>) -> Response {
    answer(match number::<u64>(&ms) {
        Ok(ms) if ms <= LAG_MS_MAX => control.supervisor.lag(Duration::from_millis(ms)).await,
        Ok(_) => Err(format!("a lag of at most {LAG_MS_MAX} ms can be injected")),
        Err(why) => Err(why),
    })
}

async fn rotate_keys(State(control): State<Control>) -> Response {
    answer(control.supervisor.rotate_keys().await)
}

async fn down(State(control): State<Control>) -> Response {
    control.supervisor.down();
    StatusCode::ACCEPTED.into_response()
}

/// The address of the page, token and all.
pub(crate) fn page_url(addr: SocketAddr, token: &str) -> String {
    format!("http://{addr}/#{token}")
}
