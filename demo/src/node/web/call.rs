//! One request at work: who asks, what it has seen, and its commands and queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use stackbeam_lru_cache::load::LoadError;
use stackbeam_session::SessionId;
use stackbeam_shard_router::Key;

use super::Web;
use super::fault::Fault;
use super::position::Position;
use crate::app::id::{Id, SLOTS, Slot};
use crate::app::store::{NameKind, Read, ReadReply, Refusal, Write, WriteReply};
use crate::node::now_ms;
use crate::node::shards::{self, ShardsError};

/// What handlers work with. Clones share everything.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) web: Arc<Web>,
    seen: Arc<Seen>,
    request: u128,
    token: Option<Arc<str>>,
    pub(crate) now_ms: u64,
}

struct Seen {
    position: Mutex<Position>,
    wrote: AtomicBool,
}

/// Builds the [`Call`] before the handler, and sends the position back after a write, also when the
/// request as a whole failed later on.
pub(crate) async fn layer(
    State(web): State<Arc<Web>>,
    mut request: Request,
    next: Next,
) -> Response {
    web.requests.fetch_add(1, Ordering::Relaxed);
    let call = Call::new(web, request.headers());
    request.extensions_mut().insert(call.clone());
    let mut response = next.run(request).await;
    if call.seen.wrote.load(Ordering::Relaxed)
        && let Ok(cookie) = HeaderValue::from_str(&call.seen.position.lock().set_cookie())
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Fault::Unavailable("the route lacks its layer".to_owned()))
    }
}

impl Call {
    fn new(web: Arc<Web>, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let mut position = Position::default();
        if let Some(cookies) = text("cookie") {
            position = Position::from_cookies(cookies);
        }
        let request = text("x-request-id")
            .filter(|id| id.len() == 32)
            .and_then(|id| u128::from_str_radix(id, 16).ok())
            .unwrap_or_else(|| fastrand::u128(..));
        let token = text("authorization")
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("token"))
            .map(|(_, token)| token.trim().into());
        Self {
            web,
            seen: Arc::new(Seen {
                position: Mutex::new(position),
                wrote: AtomicBool::new(false),
            }),
            request,
            token,
            now_ms: now_ms(),
        }
    }

    /// Who asks, if anybody says so. A token that is there has to be good.
    pub(crate) fn viewer(&self) -> Result<Option<Id>, Fault> {
        self.token
            .as_deref()
            .map(|token| self.web.auth.verify(token))
            .transpose()
    }

    /// Who asks.
    pub(crate) fn user(&self) -> Result<Id, Fault> {
        self.viewer()?.ok_or(Fault::MissingToken)
    }

    /// The session of the token, which has to be there; `None` when it has ended already.
    pub(crate) fn session(&self) -> Result<Option<SessionId>, Fault> {
        let token = self.token.as_deref().ok_or(Fault::MissingToken)?;
        self.web.auth.session(token)
    }

    /// The id of one command of this request: the same when the edge sends the request again.
    fn command_id(&self, step: u64) -> u128 {
        // Odd, so that steps differ; any such constant would do.
        const STRIDE: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        self.request
            .wrapping_add(u128::from(step).wrapping_mul(STRIDE))
    }

    /// Bits that look random and are the same when the edge sends the request again.
    pub(crate) fn chance(&self, step: u64) -> u64 {
        Key::Bytes(&self.command_id(step.wrapping_add(1 << 32)).to_le_bytes()).hash()
    }

    fn shard(&self, slot: Slot) -> u16 {
        shards::home(&self.web.map.map(), slot)
    }

    /// The shard that a row with this id lives in.
    pub(crate) fn home(&self, id: Id) -> u16 {
        self.shard(id.slot())
    }

    /// The shard of a name's row in the directory.
    pub(crate) fn directory(&self, kind: NameKind, name: &str) -> u16 {
        let hash = Key::Bytes(format!("{}:{name}", kind.as_str()).as_bytes()).hash();
        self.shard(Slot(u16::try_from(hash % u64::from(SLOTS)).unwrap_or(0)))
    }

    /// Carries out a command of this request. `step` tells its commands apart.
    pub(crate) async fn write(
        &self,
        shard: u16,
        step: u64,
        command: Write,
    ) -> Result<Result<WriteReply, Refusal>, Fault> {
        let (lsn, reply) = self
            .web
            .shards
            .write(shard, self.command_id(step), command)
            .await?;
        self.seen.position.lock().advance(shard, lsn);
        self.seen.wrote.store(true, Ordering::Relaxed);
        Ok(reply)
    }

    /// Asks a shard, through the cache. A cached answer is used only if it is as new as this client
    /// has to see.
    pub(crate) async fn read(&self, shard: u16, query: Read) -> Result<ReadReply, Fault> {
        let min_lsn = self.seen.position.lock().of(shard);
        let shards = self.web.shards.clone();
        let asked = query.clone();
        let load = move || async move {
            let (lsn, reply) = shards.read(shard, asked, min_lsn).await?;
            Ok::<_, ShardsError>(Arc::new((lsn, reply)))
        };
        let without = self.web.ignore_positions;
        let answer = self
            .web
            .cache
            .get_or_load_if(&(shard, query), |known| without || known.0 >= min_lsn, load)
            .await
            .map_err(|error| match error {
                LoadError::Failed(error) => Fault::from((*error).clone()),
                other => Fault::Unavailable(other.to_string()),
            })?;
        Ok(answer.1.clone()?)
    }

    /// Asks past the cache, for decisions that a refusal hangs on.
    pub(crate) async fn read_now(&self, shard: u16, query: Read) -> Result<ReadReply, Fault> {
        let min_lsn = self.seen.position.lock().of(shard);
        Ok(self.web.shards.read(shard, query, min_lsn).await?.1?)
    }
}

/// An answer of another kind than the question asks for: a version that does not fit.
pub(crate) fn unexpected<T: std::fmt::Debug>(reply: T) -> Fault {
    Fault::Unavailable(format!("an answer of another version: {reply:?}"))
}
