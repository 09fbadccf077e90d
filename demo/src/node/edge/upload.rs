//! A request's body: short ones are held so that they can be sent again, long ones stream through.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::answers::Refusal;
use super::{BoxError, OutBody};

/// Longer bodies are refused, unread where they announce their length.
pub(super) const BODY_BYTES_MAX: u64 = 12_000_000;

/// Bodies up to this length can be sent to a second server.
pub(super) const REPLAY_BYTES_MAX: usize = 64 << 10;

/// A client that sends nothing of its body for this long is given up.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);

/// How long, and how much, the edge goes on reading a body that it has refused: a connection closed
/// over unread bytes is reset, and the reset can overtake the answer.
const LINGER_MAX: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: usize = 256 << 20;

/// A body ready to be sent upstream.
pub(super) enum Upload {
    /// All of it.
    Whole(Bytes),
    /// The beginning and the rest as it arrives.
    Stream(Arc<Stream>),
}

/// A body that can be begun only once.
pub(super) struct Stream {
    inner: Mutex<Inner>,
    begun: AtomicBool,
    too_large: AtomicBool,
    client_broke: AtomicBool,
}

struct Inner {
    ahead: Option<Bytes>,
    rest: Incoming,
    length: u64,
    stall: Pin<Box<Sleep>>,
}

impl Upload {
    /// Reads ahead until the body ends or is too long to be held.
    pub(super) async fn read(mut body: Incoming) -> Result<Self, Refusal> {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let mut ahead = BytesMut::new();
        let read = async {
            while ahead.len() <= REPLAY_BYTES_MAX {
                match body.frame().await {
                    None => return Ok(true),
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            ahead.extend_from_slice(data);
                        }
                    }
                    Some(Err(_)) => return Err(Refusal::BrokenBody),
                }
            }
            Ok(false)
        };
        // One bound on the whole of the short part: a trickle must not hold a place for ever.
        let ended = tokio::time::timeout(STALL_MAX, read)
            .await
            .map_err(|_| Refusal::Stalled)??;
        let ahead = ahead.freeze();
        if ended {
            return Ok(Self::Whole(ahead));
        }
        let length = u64::try_from(ahead.len()).unwrap_or(u64::MAX);
        Ok(Self::Stream(Arc::new(Stream {
            inner: Mutex::new(Inner {
                ahead: Some(ahead),
                rest: body,
                length,
                stall: Box::pin(tokio::time::sleep(STALL_MAX)),
            }),
            begun: AtomicBool::new(false),
            too_large: AtomicBool::new(false),
            client_broke: AtomicBool::new(false),
        })))
    }

    /// The body for one attempt.
    pub(super) fn for_attempt(&self) -> OutBody {
        match self {
            Self::Whole(bytes) => Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Self::Stream(stream) => Attempt(Arc::clone(stream)).boxed_unsync(),
        }
    }

    /// Whether another attempt would send the same bytes.
    pub(super) fn can_repeat(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Stream(stream) => !stream.begun.load(Ordering::Acquire),
        }
    }

    /// What the client did wrong with its body while it streamed, if anything.
    pub(super) fn fault(&self) -> Option<Refusal> {
        let Self::Stream(stream) = self else {
            return None;
        };
        if stream.too_large.load(Ordering::Acquire) {
            Some(Refusal::TooLarge)
        } else if stream.client_broke.load(Ordering::Acquire) {
            Some(Refusal::BrokenBody)
        } else {
            None
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

struct Attempt(Arc<Stream>);

impl Body for Attempt {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let stream = &self.0;
        stream.begun.store(true, Ordering::Release);
        let mut inner = stream.inner.lock();
        if let Some(ahead) = inner.ahead.take() {
            inner.stall.as_mut().reset(Instant::now() + STALL_MAX);
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        let frame = match Pin::new(&mut inner.rest).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(inner.stall.as_mut().poll(cx));
                stream.client_broke.store(true, Ordering::Release);
                return Poll::Ready(Some(Err("the client stopped sending".into())));
            }
        };
        inner.stall.as_mut().reset(Instant::now() + STALL_MAX);
        match frame {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                stream.client_broke.store(true, Ordering::Release);
                Poll::Ready(Some(Err(error.into())))
            }
            Some(Ok(frame)) => {
                let more = frame.data_ref().map_or(0, Bytes::len);
                inner.length += u64::try_from(more).unwrap_or(u64::MAX);
                if inner.length > BODY_BYTES_MAX {
                    stream.too_large.store(true, Ordering::Release);
                    return Poll::Ready(Some(Err("the body is too long".into())));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.0.inner.lock();
        let ahead = inner
            .ahead
            .as_ref()
            .and_then(|ahead| u64::try_from(ahead.len()).ok())
            .unwrap_or(0);
        let mut hint = SizeHint::new();
        if let Some(rest) = inner.rest.size_hint().exact() {
            hint.set_exact(ahead + rest);
        }
        hint
    }
}

/// Reads a refused body to its end in the background, within bounds, so that the answer arrives.
pub(super) fn linger(mut body: Incoming) {
    tokio::spawn(async move {
        let read = async {
            let mut length = 0_usize;
            while let Some(Ok(frame)) = body.frame().await {
                length = length.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                if length > LINGER_BYTES_MAX {
                    break;
                }
            }
        };
        let _given_up = tokio::time::timeout(LINGER_MAX, read).await;
    });
}
