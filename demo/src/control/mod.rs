//! The control API and the live page, for the person at this machine alone.
//!
//! Reading needs the run's token as much as acting does. Every request must name a loopback `Host`
//! (against DNS rebinding) and, when it says where it comes from, our own `Origin` (against other
//! pages in the same browser).

pub(crate) mod client;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::node::config::Role;
use crate::node::peer::same;
use crate::supervisor::events::Event;
use crate::supervisor::{Action, Snapshot, Supervisor};

/// How often the page hears news.
const NEWS: Duration = Duration::from_millis(250);
/// The longest injected replica lag.
const LAG_MS_MAX: u64 = 10_000;

/// Carries the token where a header can be set.
const TOKEN_HEADER: &str = "x-stackbeam-token";
/// Carries it in the browser after the first visit.
const TOKEN_COOKIE: &str = "stackbeam-control";

#[derive(Clone)]
struct Control {
    supervisor: Supervisor,
    token: Arc<str>,
    port: u16,
}

#[derive(Deserialize)]
struct TokenQuery {
    token: Option<String>,
}

/// One batch of news for the page.
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
    };
    let router = Router::new()
        .route("/", get(page))
        .route(
            "/app.js",
            get(|| {
                asset(
                    "text/javascript; charset=utf-8",
                    include_str!("../../web/app.js"),
                )
            }),
        )
        .route(
            "/style.css",
            get(|| {
                asset(
                    "text/css; charset=utf-8",
                    include_str!("../../web/style.css"),
                )
            }),
        )
        .route("/api/status", get(status))
        .route("/api/events", get(events))
        .route("/api/stream", get(stream))
        .route("/api/nodes/{id}/{action}", post(act))
        .route("/api/scale/{role}/{to}", post(scale))
        .route("/api/lag/{ms}", post(lag))
        .route("/api/down", post(down))
        .layer(middleware::from_fn_with_state(control.clone(), admit))
        .with_state(control);
    axum::serve(listener, router).await
}

/// Lets in only who belongs here.
async fn admit(State(control): State<Control>, request: Request, next: Next) -> Response {
    if let Err(refusal) = check(&control, request.headers(), request.uri().query()) {
        return refusal.into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

fn check(
    control: &Control,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<(), (StatusCode, &'static str)> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let ours = [
        format!("127.0.0.1:{}", control.port),
        format!("localhost:{}", control.port),
    ];
    let host = text(header::HOST).unwrap_or_default();
    if !ours.iter().any(|ours| ours == host) {
        return Err((
            StatusCode::FORBIDDEN,
            "this page answers to 127.0.0.1 and localhost only\n",
        ));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let same_origin = origin
            .strip_prefix("http://")
            .is_some_and(|origin| ours.iter().any(|ours| ours == origin));
        if !same_origin {
            return Err((StatusCode::FORBIDDEN, "not from another page\n"));
        }
    }
    let cookie = text(header::COOKIE).and_then(|cookies| {
        cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == TOKEN_COOKIE)
            .map(|(_, value)| value)
    });
    let in_query = query.and_then(|query| {
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == "token")
            .map(|(_, value)| value)
    });
    let shown = headers
        .get(TOKEN_HEADER)
        .and_then(|value| value.to_str().ok())
        .or(in_query)
        .or(cookie);
    if shown.is_some_and(|shown| same(shown.as_bytes(), control.token.as_bytes())) {
        Ok(())
    } else {
        Err((
            StatusCode::UNAUTHORIZED,
            "open the whole address that `stackbeam up` printed: it carries this run's token\n",
        ))
    }
}

/// The page. The token moves from the address into a cookie, so that it does not stay in the history.
async fn page(State(control): State<Control>, Query(query): Query<TokenQuery>) -> Response {
    if query.token.is_some() {
        let cookie = format!(
            "{TOKEN_COOKIE}={}; Path=/; HttpOnly; SameSite=Strict",
            control.token
        );
        return (
            [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, "/".to_owned()),
            ],
            StatusCode::SEE_OTHER,
        )
            .into_response();
    }
    asset(
        "text/html; charset=utf-8",
        include_str!("../../web/index.html"),
    )
    .await
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
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

/// News four times a second. A reader that comes back says where it was by `Last-Event-ID`; a reader
/// that is too slow simply gets the newest state next: nothing is queued for it.
async fn stream(
    State(control): State<Control>,
    headers: HeaderMap,
) -> Sse<impl futures_util::Stream<Item = Result<SseEvent, Infallible>>> {
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0_u64);
    let news = futures_util::stream::unfold((control, seen), |(control, seen)| async move {
        tokio::time::sleep(NEWS).await;
        let events = control.supervisor.events.after(seen);
        let seen = events.last().map_or(seen, |event| event.seq);
        let news = News {
            snapshot: control.supervisor.snapshot.borrow().clone(),
            events,
        };
        let event = SseEvent::default()
            .id(seen.to_string())
            .json_data(&news)
            .unwrap_or_default();
        Some((Ok(event), (control, seen)))
    });
    Sse::new(news).keep_alive(KeepAlive::default())
}

fn answer(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}

async fn act(
    State(control): State<Control>,
    Path((id, action)): Path<(String, Action)>,
) -> Response {
    answer(control.supervisor.act(&id, action).await)
}

async fn scale(State(control): State<Control>, Path((role, to)): Path<(Role, u16)>) -> Response {
    answer(control.supervisor.scale(role, to).await)
}

async fn lag(State(control): State<Control>, Path(ms): Path<u64>) -> Response {
    if ms > LAG_MS_MAX {
        return answer(Err(format!(
            "a lag of at most {LAG_MS_MAX} ms can be injected"
        )));
    }
    answer(control.supervisor.lag(Duration::from_millis(ms)).await)
}

async fn down(State(control): State<Control>) -> Response {
    control.supervisor.down();
    StatusCode::ACCEPTED.into_response()
}

/// The address of the page, token and all.
pub(crate) fn page_url(addr: SocketAddr, token: &str) -> String {
    format!("http://{addr}/?token={token}")
}
