//! A stateless web server: the Conduit API over sharded data, photos, and a page for browsers.

mod articles;
mod auth;
mod body;
mod call;
mod fault;
mod page;
#[cfg(test)]
mod photo_tests;
mod photos;
mod position;
mod revoked;
#[cfg(test)]
mod revoked_tests;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use stackbeam_lru_cache::load::ReadThrough;
use stackbeam_lru_cache::{Lru, sync};
use stackbeam_session::{KeyRing, KeysInFile, Timestamp};
use stackbeam_shard_router::Router as ShardRouter;
use tokio::sync::{Semaphore, watch};

use auth::Auth;
use fault::Fault;

use super::config::Role;
use super::objects::Objects;
use super::peer::peers_only;
use super::queue::link::QueueLink;
use super::queue::session_policy;
use super::shards::{self, Shards, ShardsError};
use super::{NodeContext, NodeError};
use crate::app::store::{Read, ReadReply, Refusal};
pub(crate) use revoked::Source;

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
    objects: Objects,
    /// None for one server alone.
    queue: Option<QueueLink>,
    /// Turns to read an upload.
    uploads: Semaphore,
    requests: AtomicU64,
    /// The safety device `lsn-routing` is taken out: whatever is cached will do.
    ignore_positions: bool,
}

impl Web {
    fn new(
        shards: Shards,
        objects: Objects,
        queue: Option<QueueLink>,
        auth: Auth,
        ignore_positions: bool,
    ) -> Result<Self, NodeError> {
        let cache = sync::Builder::new(CACHED_MAX)
            .with_ttl(CACHED_FOR)
            .build::<Lru>();
        Ok(Self {
            auth,
            map: ShardRouter::new(shards::placed(shards.count())?),
            shards,
            cache: ReadThrough::new(cache),
            objects,
            queue,
            uploads: Semaphore::new(photos::UPLOADS_AT_ONCE),
            requests: AtomicU64::new(0),
            ignore_positions,
        })
    }
}

/// The routes that everybody may call: the page, the API, the photos.
fn routes(web: Arc<Web>) -> Router {
    let api = Router::new()
        .route("/users", post(users::register))
        .route("/users/login", post(users::login))
        .route("/users/logout", post(revoked::logout))
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
        .route(
            "/photos",
            post(photos::upload).layer(DefaultBodyLimit::disable()),
        )
        .route("/photos/{id}", get(photos::get))
        .method_not_allowed_fallback(|| async { Fault::NotAllowed });
    Router::new()
        .route("/", get(page::home))
        .route("/assets/{file}", get(page::asset))
        .route("/photos/{file}", get(photos::serve))
        .nest("/api", api)
        .method_not_allowed_fallback(|| async { Fault::NotAllowed })
        .fallback(|| async { Fault::NoSuchPage })
        .layer(from_fn_with_state(web, call::layer))
}

/// The routes for peers: how this server is, and which sessions have ended as far as it knows.
fn peer_routes(web: Arc<Web>, id: &str, secret: &str) -> Router {
    let id = id.to_owned();
    let status = async move |State(web): State<Arc<Web>>| Json(status(&web, &id));
    Router::new()
        .route("/status", get(status))
        .route(
            "/revocations",
            get(|State(web): State<Arc<Web>>| async move {
                web.auth.logouts().known().snapshot(Timestamp::now())
            }),
        )
        .route_layer(from_fn_with_state(Arc::from(secret), peers_only))
        .with_state(web)
}

fn status(web: &Web, id: &str) -> Value {
    let cache = web.cache.cache().stats();
    let (keys, signs) = web.auth.keys();
    json!({
        "id": id,
        "role": "web",
        "requests": web.requests.load(Ordering::Relaxed),
        "cache": {
            "hits": cache.hits, "misses": cache.misses, "entries": cache.entries,
            "evicted": cache.evicted, "expired": cache.expired,
        },
        "uploads": photos::UPLOADS_AT_ONCE - web.uploads.available_permits(),
        "revocations": web.auth.logouts().known().len(),
        "keys": { "known": keys, "signs": signs },
        "queue": web.queue.as_ref().is_some_and(QueueLink::is_found),
    })
}

/// Runs a web server until it is told to stop.
pub(crate) async fn run(context: NodeContext) -> Result<(), NodeError> {
    let config = &context.config;
    let objects = Objects::open(&config.objects, &config.id).map_err(|source| NodeError::Io {
        what: format!("opening {}", config.objects.display()),
        source,
    })?;
    // A run without a queue is one server alone.
    let has_queue = context.topology.borrow().of(Role::Queue).next().is_some();
    let queue = has_queue.then(|| {
        QueueLink::follow(
            context.topology.clone(),
            context.peers.clone(),
            &config.secrets.peer,
        )
    });
    let file = KeysInFile::new(&config.session_keys);
    let ring = KeyRing::from_source(&file, session_policy().absolute())
        .map_err(|error| NodeError::Role(format!("{}: {error}", config.session_keys.display())))?;
    let web = Arc::new(Web::new(
        Shards::of(&context)?,
        objects,
        queue,
        Auth::new(&config.secrets.token_key, ring)?,
        config.without.lsn_routing,
    )?);
    let keeper = Arc::clone(&web);
    tokio::spawn(async move { keeper.auth.follow_keys(&file).await });
    tokio::select! {
        () = hear_of_logouts(&context, &web) => {}
        () = context.stopping() => return Ok(()),
    }
    let router = routes(Arc::clone(&web))
        .merge(peer_routes(web, &config.id, &config.secrets.peer))
        .merge(context.base_routes::<()>());
    let listener = context.listen().await?;
    context.serve(listener, router).await
}

/// Starts following the feed of ended sessions, and waits until nothing is missing. Before that a
/// server would take tokens for good that are not.
async fn hear_of_logouts(context: &NodeContext, web: &Web) {
    let Some(queue) = web.queue.clone() else {
        return;
    };
    let id = &context.config.id;
    let known = web.auth.logouts().known();
    let (tell, mut told) = watch::channel(Source::Nowhere);
    tokio::spawn(revoked::follow(id.clone(), Arc::clone(known), queue, tell));
    let (topology, peers) = (&context.topology, &context.peers);
    let say = |text: &str| context.event(text);
    if revoked::complete(id, known, topology, peers, &mut told, say).await == Source::Server {
        context.event("the queue is away: took the ended sessions from another web server");
    }
}

#[cfg(test)]
const TEST_KEY: &str = "9f2c51d07be84a3364c1f0a8d95e7b123c6a08f4e7519d2bb04f86c2a1d37e55";

#[cfg(test)]
fn auth(key: &str) -> Auth {
    let signs = stackbeam_session::Key::from_text(key).expect("a good key");
    let ring = KeyRing::new(signs, session_policy().absolute()).expect("a good key");
    Auth::new(key, ring).expect("a good key")
}

/// For tests: an API over so many shards in this process, without a queue and without a folder.
#[cfg(test)]
pub(super) fn alone(count: u16) -> Router {
    let local = shards::local::Local::new(count).expect("SQLite in memory");
    let shards = Shards::Local(Arc::new(local));
    let web =
        Web::new(shards, Objects::nowhere(), None, auth(TEST_KEY), false).expect("a web server");
    routes(Arc::new(web))
}

/// For tests: a web server of a run that has a queue, once it knows which sessions have ended.
#[cfg(test)]
pub(crate) async fn in_run(
    id: &str,
    shards: Shards,
    objects: Objects,
    queue: QueueLink,
    secrets: &super::config::Secrets,
    topology: &watch::Receiver<Arc<super::config::Topology>>,
) -> (Router, Source) {
    let auth = auth(&secrets.token_key);
    let web = Web::new(shards, objects, Some(queue.clone()), auth, false).expect("a web server");
    let web = Arc::new(web);
    let known = Arc::clone(web.auth.logouts().known());
    let (tell, mut told) = watch::channel(Source::Nowhere);
    tokio::spawn(revoked::follow(
        id.to_owned(),
        Arc::clone(&known),
        queue,
        tell,
    ));
    let peers = super::peer::PeerClient::new(&secrets.peer);
    let source = revoked::complete(id, &known, topology, &peers, &mut told, |_| ()).await;
    let peer_routes = peer_routes(Arc::clone(&web), id, &secrets.peer);
    (routes(web).merge(peer_routes), source)
}
