//! A stateless web server: the Conduit API over sharded data.

mod articles;
mod auth;
mod body;
mod call;
mod fault;
mod position;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::{Lru, sync};
use stackbeam_shard_router::Router as ShardRouter;

use auth::Auth;
use fault::Fault;

use super::shards::{self, Shards, ShardsError};
use super::{NodeContext, NodeError};
use crate::app::store::{Read, ReadReply, Refusal};

/// Answers that are cached, at most, and for how long. The position of a client decides whether it may
/// have a cached answer; this bounds how old an answer is that a client without a position gets.
const CACHED_MAX: u64 = 10_000;
const CACHED_FOR: Duration = Duration::from_millis(500);

type Answer = Arc<(u64, Result<ReadReply, Refusal>)>;

/// What all requests share.
pub(crate) struct Web {
    auth: Auth,
    shards: Shards,
    map: ShardRouter,
    cache: ReadThrough<(u16, Read), Answer, ShardsError, Lru>,
    /// The safety device `lsn-routing` is taken out: whatever is cached will do.
    ignore_positions: bool,
}

impl Web {
    fn new(shards: Shards, token_key: &str, ignore_positions: bool) -> Result<Self, NodeError> {
        let cache = sync::Builder::new(CACHED_MAX)
            .with_ttl(CACHED_FOR)
            .build::<Lru>();
        Ok(Self {
            auth: Auth::new(token_key)?,
            map: shards::even(shards.count())?,
            shards,
            cache: ReadThrough::new(cache),
            ignore_positions,
        })
    }
}

/// The API's routes.
fn routes(web: Arc<Web>) -> Router {
    let api = Router::new()
        .route("/users", post(users::register))
        .route("/users/login", post(users::login))
        .route("/user", get(users::current_user).put(users::update_user))
        .route("/profiles/{name}", get(users::profile))
        .route(
            "/profiles/{name}/follow",
            post(users::follow).delete(users::unfollow),
        )
        .route("/articles", get(articles::list).post(articles::create))
        .route("/articles/feed", get(articles::feed))
        .route(
            "/articles/{slug}",
            get(articles::get)
                .put(articles::update)
                .delete(articles::delete),
        )
        .route(
            "/articles/{slug}/favorite",
            post(articles::favorite).delete(articles::unfavorite),
        )
        .route(
            "/articles/{slug}/comments",
            get(articles::comments).post(articles::comment),
        )
        .route(
            "/articles/{slug}/comments/{id}",
            delete(articles::delete_comment),
        )
        .route("/tags", get(articles::tags))
        .method_not_allowed_fallback(|| async { Fault::NotAllowed });
    Router::new()
        .nest("/api", api)
        .fallback(|| async { Fault::NoSuchPage })
        .layer(from_fn_with_state(web, call::layer))
}

/// Runs a web server until it is told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let web = Web::new(
        Shards::of(&context)?,
        &context.config.secrets.token_key,
        context.config.without.lsn_routing,
    )?;
    let router = routes(Arc::new(web)).merge(context.base_routes::<()>());
    let listener = context.listen().await?;
    context.serve(listener, router).await
}

#[cfg(test)]
const TEST_KEY: &str = "9f2c51d07be84a3364c1f0a8d95e7b123c6a08f4e7519d2bb04f86c2a1d37e55";

/// For tests: an API over so many shards in this process.
#[cfg(test)]
fn alone(count: u16) -> Router {
    let local = shards::local::Local::new(count).expect("SQLite in memory");
    let web = Web::new(Shards::Local(Arc::new(local)), TEST_KEY, false).expect("a good key");
    routes(Arc::new(web))
}
