//! A login page in axum: the session in a `__Host-` cookie, no state on the server.
//!
//! `cargo run --example axum --features axum`, then
//! `curl -i -X POST localhost:3000/login/ada` and `curl -i --cookie '__Host-id=…' localhost:3000/`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use stackbeam_session::{
    Authenticated, Key, KeyRing, NoRevocations, Policy, SessionLayer, Sessions, Timestamp,
};

type Layer = SessionLayer<(), NoRevocations>;

async fn home(who: Option<Authenticated<()>>) -> String {
    who.map_or_else(
        || "Hello, stranger.\n".to_owned(),
        |who| format!("Hello, {}.\n", who.subject),
    )
}

async fn login(
    State(layer): State<Layer>,
    Path(name): Path<String>,
) -> Result<(HeaderMap, String), (StatusCode, String)> {
    // Check the password here.
    let failed =
        |error: &dyn std::fmt::Display| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let token = layer
        .sessions()
        .issue(&name, (), Timestamp::now())
        .map_err(|error| failed(&error))?;
    let headers = layer
        .login_cookie(&token)
        .map(|cookie| (header::SET_COOKIE, cookie));
    Ok((headers.into_iter().collect(), format!("Welcome, {name}.\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::aal2();
    let ring = KeyRing::new(Key::generate()?, policy.absolute())?;
    let sessions = Sessions::new(ring, "login", "localhost", policy, NoRevocations)?;
    let layer = SessionLayer::cookie(sessions, "id");
    let app = Router::new()
        .route("/", get(home))
        .route("/login/{name}", post(login))
        .layer(layer.clone())
        .with_state(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
