//! A real browser logs in, is renewed, steps up and logs out, and its cookie behaves as the docs say.
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Html;
use axum::routing::{get, post};
use stackbeam_session::{
    Aal2, AtLeast, Authenticated, Key, KeyRing, Level, MemoryRevocations, Policy, Session,
    SessionLayer, Sessions, Timestamp,
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// What the browser does, each step's answer a line. The second origin is another site of the same server.
const PAGE: &str = r#"<!doctype html><pre id="log"></pre><script>
const log = [];
const say = (what) => log.push(what);
const go = async (method, path, options) => {
  const answer = await fetch(path, { method, ...options });
  say(`${method} ${path.replace(/.*\/\/[^/]*/, "elsewhere ")} ${answer.status} ${await answer.text()}`);
};
(async () => {
  try {
    await go("GET", "/who");
    await go("POST", "/in");
    await go("GET", "/who");
    say(`script sees "${document.cookie}"`);
    await go("POST", "/change");
    await go("GET", "/aal2");
    await go("POST", "/up");
    await go("GET", "/aal2");
    await go("POST", "/pass");
    await go("GET", "/who");
    await go("POST", "/pass");
    await go("GET", "/who");
    await go("POST", "http://127.0.0.1:PORT/change", { mode: "no-cors", credentials: "include" });
    await go("GET", "/refused");
    await go("POST", "/out");
    await go("GET", "/who");
    await go("GET", "/cookie");
  } catch (error) { say(`failed: ${error}`); }
  document.getElementById("log").textContent = log.join("\n");
})();
</script>"#;

const EXPECTED: &str = r#"GET /who 200 nobody
POST /in 200 in
GET /who 200 42
script sees ""
POST /change 200 changed
GET /aal2 401 {"error":"another factor is needed"}
POST /up 200 in
GET /aal2 200 two factors
POST /pass 200 half an hour
GET /who 200 42
POST /pass 200 half an hour
GET /who 200 42
POST elsewhere /change 0 
GET /refused 200 1
POST /out 200 out
GET /who 200 nobody
GET /cookie 200 none"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium: cargo xtask services"]
async fn a_browser_logs_in_is_renewed_steps_up_and_logs_out() {
    let (passed, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let policy = Policy::aal2();
    let key = Key::generate().unwrap();
    let revocations = Arc::new(MemoryRevocations::new(&key, policy.absolute()).unwrap());
    let ring = KeyRing::new(key, policy.absolute()).unwrap();
    let sessions =
        Sessions::<(), _>::new(ring, "login", "localhost", policy, Arc::clone(&revocations))
            .unwrap();
    let clock = Arc::clone(&passed);
    let count = Arc::clone(&refused);
    let layer = SessionLayer::cookie(sessions, "id")
        .clock(move || NOW.after(Duration::from_secs(clock.load(Ordering::SeqCst))))
        .reject(move |why| match why {
            stackbeam_session::Refusal::CrossSite => {
                count.fetch_add(1, Ordering::SeqCst);
                (StatusCode::FORBIDDEN, String::new())
            }
            stackbeam_session::Refusal::TooLow { .. } => {
                let body = r#"{"error":"another factor is needed"}"#;
                (StatusCode::UNAUTHORIZED, body.to_owned())
            }
            why => (StatusCode::UNAUTHORIZED, why.to_string()),
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let page = PAGE.replace("PORT", &port.to_string());
    let login = |level| {
        post(async move |session: Session| {
            session.login(level, "42", ()).unwrap();
            "in"
        })
    };
    let router = Router::new()
        .route("/", get(async move || Html(page)))
        .route(
            "/who",
            get(async |who: Option<Authenticated>| {
                who.map_or_else(|| "nobody".to_owned(), |who| who.subject.clone())
            }),
        )
        .route("/in", login(Level::Aal1))
        .route("/up", login(Level::Aal2))
        .route("/aal2", get(async |_: AtLeast<Aal2>| "two factors"))
        .route("/change", post(async |_: Authenticated| "changed"))
        .route(
            "/pass",
            post(async move || {
                passed.fetch_add(1800, Ordering::SeqCst);
                "half an hour"
            }),
        )
        .route(
            "/refused",
            get(async move || refused.load(Ordering::SeqCst).to_string()),
        )
        .route(
            "/out",
            post(async move |session: Session| {
                if let Some(ended) = session.logout() {
                    revocations.revoke_session(ended, NOW).unwrap();
                }
                "out"
            }),
        )
        .route(
            "/cookie",
            get(async |headers: HeaderMap| {
                let cookie = headers
                    .get("cookie")
                    .map(|cookie| cookie.to_str().unwrap().to_owned());
                cookie.unwrap_or_else(|| "none".to_owned())
            }),
        )
        .layer(layer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let profile = tempfile::tempdir().unwrap();
    let browser = tokio::task::spawn_blocking(move || {
        Command::new("chromium")
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--dump-dom",
            ])
            .arg("--virtual-time-budget=20000")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://localhost:{port}/"))
            .output()
            .unwrap()
    });
    let dom = String::from_utf8(browser.await.unwrap().stdout).unwrap();
    let log = dom.split_once("<pre id=\"log\">").unwrap().1;
    let log = log.split_once("</pre>").unwrap().0.replace("&quot;", "\"");
    assert_eq!(log, EXPECTED);
}
