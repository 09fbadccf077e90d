//! A login page in axum: the session in a `__Host-` cookie, no state on the server.
//!
//! `cargo run --example axum --features axum`, then
//! `curl -i -X POST localhost:3000/login/ada` and `curl -i --cookie '__Host-id=…' localhost:3000/`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use stackbeam_session::{
    Authenticated, Fresh, Key, KeyRing, Level, MemoryRevocations, Policy, Session, SessionLayer,
    Sessions, Timestamp,
};

async fn home(who: Option<Authenticated>) -> String {
    who.map_or_else(
        || "Hello, stranger.\n".to_owned(),
        |who| format!("Hello, {}.\n", who.subject),
    )
}

async fn login(session: Session, Path(name): Path<String>) -> Result<String, StatusCode> {
    // Check the password here.
    session
        .login(Level::Aal1, &name, ())
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(format!("Welcome, {name}.\n"))
}

async fn logout(
    session: Session,
    State(revocations): State<Arc<MemoryRevocations>>,
) -> Result<&'static str, StatusCode> {
    if let Some(ended) = session.logout() {
        // With more than one server, send the message to the others.
        revocations
            .revoke_session(ended, Timestamp::now())
            .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    }
    Ok("Bye.\n")
}

async fn delete_account(who: Fresh<300>) -> String {
    format!("Gone, {}.\n", who.subject)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policy = Policy::aal2();
    let key = Key::generate()?;
    let revocations = Arc::new(MemoryRevocations::new(&key, policy.absolute())?);
    let ring = KeyRing::new(key, policy.absolute())?;
    let sessions =
        Sessions::<(), _>::new(ring, "login", "localhost", policy, Arc::clone(&revocations))?;
    let app = Router::new()
        .route("/", get(home).delete(delete_account))
        .route("/login/{name}", post(login))
        .route("/logout", post(logout))
        .layer(SessionLayer::cookie(sessions, "id"))
        .with_state(revocations);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
