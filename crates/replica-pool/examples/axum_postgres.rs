//! A web service over replicated PostgreSQL servers: posts go to the primary, gets to a replica that
//! has what this client posted last. The position travels in a header, so any web server may answer.
//!
//! ```sh
//! # Servers that stream already, in an order that never changes, as a superuser:
//! export SERVERS="postgres://postgres@db0/postgres postgres://postgres@db1/postgres"
//! cargo run --example axum_postgres --features postgres
//! curl -i -d hello localhost:8080/notes                  # answers `x-position: 123`
//! curl -i -H 'x-position: 123' localhost:8080/notes      # sees "hello", from a replica
//! curl -i localhost:8080/stats
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use stackbeam_replica_pool::postgres::{PgConnection, Postgres, PostgresOptions, ServerAddress};
use stackbeam_replica_pool::{Coordinator, Freshness, Lease, MemberId, Outcome, Pool, PoolOptions};

type Failed = (StatusCode, String);
/// Which server answered at which position, and what.
type Answer = Result<([(&'static str, String); 2], String), Failed>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = std::env::var("SERVERS").map_err(|_| "set SERVERS to the servers' addresses")?;
    let servers: Vec<_> = servers.split_whitespace().map(ServerAddress::new).collect();
    let members = 0..MemberId::try_from(servers.len())?;
    let engine = Arc::new(Postgres::new(servers, PostgresOptions::default())?);

    // In a larger system one process does this, and the web servers have only the pool.
    engine.bootstrap().await?;
    let options = Postgres::coordinator_options();
    let coordinator = Coordinator::start(Arc::clone(&engine), members.clone(), options, |notice| {
        println!("{notice:?}");
    });
    coordinator.watch().reigns(None).await?;

    let pool = Pool::new(engine, members, PoolOptions::default());
    let lease = pool.write().await?;
    lease
        .batch_execute("CREATE TABLE IF NOT EXISTS notes (id bigserial PRIMARY KEY, text text)")
        .await?;
    lease.good();

    let app = Router::new()
        .route("/notes", get(list).post(add))
        .route("/stats", get(stats))
        .with_state(pool);
    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn add(State(pool): State<Pool<Postgres>>, text: String) -> Answer {
    let lease = pool.write().await.map_err(unavailable)?;
    // A server that hangs never answers; the lease ends when it is found out.
    let gone = lease.revoked();
    let work = async {
        lease
            .execute("INSERT INTO notes (text) VALUES ($1)", &[&text])
            .await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(lease.position().await?)
    };
    let done = tokio::select! {
        done = work => done,
        () = gone => Err("the primary does not answer".into()),
    };
    match done {
        Ok(position) => Ok((finish(lease, position), String::new())),
        Err(error) => {
            lease.finish(Outcome::Broken);
            // The insert may have been carried out: only the client can know whether to repeat it.
            Err((StatusCode::BAD_GATEWAY, format!("outcome unknown: {error}")))
        }
    }
}

async fn list(State(pool): State<Pool<Postgres>>, headers: HeaderMap) -> Answer {
    let position = headers
        .get("x-position")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let freshness = position.map_or(Freshness::Any, Freshness::AtLeast);
    let lease = pool.read(freshness).await.map_err(unavailable)?;
    let read = async {
        let reached = lease.position().await?;
        let rows = lease
            .query("SELECT text FROM notes ORDER BY id DESC LIMIT 20", &[])
            .await?;
        let lines = rows.iter().map(|row| row.try_get::<_, String>(0));
        let notes = lines.collect::<Result<Vec<_>, _>>()?.join("\n");
        Ok::<_, Box<dyn Error + Send + Sync>>((reached, notes))
    };
    match read.await {
        Ok((reached, notes)) => Ok((finish(lease, reached), notes)),
        Err(error) => {
            lease.finish(Outcome::Broken);
            Err((StatusCode::BAD_GATEWAY, error.to_string()))
        }
    }
}

async fn stats(State(pool): State<Pool<Postgres>>) -> String {
    format!("{:#?}\n", pool.stats())
}

fn finish(lease: Lease<Postgres>, position: u64) -> [(&'static str, String); 2] {
    let server = PgConnection::member(&lease).to_string();
    lease.finish(Outcome::At(position));
    [("x-position", position.to_string()), ("x-server", server)]
}

/// Nothing was sent to a database: the client may try again.
fn unavailable(error: impl Error) -> Failed {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
