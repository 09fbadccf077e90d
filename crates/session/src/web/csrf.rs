//! Whether another site made the browser send a request.
//!
//! First what the browser says of itself (`Sec-Fetch-Site`), then `Origin` against `Host`. A request with a session
//! cookie that says neither needs a signed token: `Session::csrf_token` in the header `x-csrf-token`.
//!
//! Sources: OWASP's CSRF prevention cheat sheet; Go 1.25's `CrossOriginProtection`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method, Uri, header};
use subtle::ConstantTimeEq;

use crate::claims::SessionId;
use crate::hash::keyed;
use crate::key::Key;

pub(super) const HEADER: &str = "x-csrf-token";
const RANDOM: usize = 16;
const TAG: usize = 16;

#[derive(Clone, Default)]
pub(super) struct Guard {
    pub(super) off: bool,
    /// Origins besides the host's own, as browsers write them.
    pub(super) trusted: Vec<String>,
    pub(super) key: Option<Key>,
}

/// Who made the browser send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Here,
    Elsewhere,
    /// Neither header is there: no browser of today, or one that hides it.
    Unknown,
}

impl Guard {
    pub(super) fn from(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> From {
        if self.off || method.is_safe() {
            return From::Here;
        }
        let origin = headers.get(header::ORIGIN).map(http::HeaderValue::as_bytes);
        let trusted = |origin: &[u8]| self.trusted.iter().any(|known| known.as_bytes() == origin);
        if origin.is_some_and(trusted) {
            return From::Here;
        }
        if let Some(site) = headers.get("sec-fetch-site") {
            return match site.as_bytes() {
                b"same-origin" | b"none" => From::Here,
                _ => From::Elsewhere,
            };
        }
        let Some(origin) = origin else {
            return From::Unknown;
        };
        let host = headers.get(header::HOST).map(http::HeaderValue::as_bytes);
        let host = host.or_else(|| uri.authority().map(|host| host.as_str().as_bytes()));
        // `null`, and an origin without a scheme, is nobody's.
        let start = origin.windows(3).position(|part| part == b"://");
        let ours = start.is_some_and(|start| host == Some(&origin[start + 3..]));
        if ours { From::Here } else { From::Elsewhere }
    }

    /// Whether the request brings a signed token of this session.
    pub(super) fn is_signed(&self, headers: &HeaderMap, session: SessionId) -> bool {
        let token = headers.get(HEADER).and_then(|value| value.to_str().ok());
        token.is_some_and(|token| self.verifies(token, session))
    }

    pub(super) fn verifies(&self, token: &str, session: SessionId) -> bool {
        let Some(key) = self.key.as_ref().filter(|_| token.len() <= 64) else {
            return false;
        };
        let raw = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        let Some((random, tag)) = raw.split_first_chunk::<RANDOM>() else {
            return false;
        };
        self::tag(key, session, random).ct_eq(tag).into()
    }

    #[cfg(feature = "axum")]
    pub(super) fn token(&self, session: SessionId) -> Result<Option<String>, crate::key::KeyError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let mut random = [0; RANDOM];
        crate::random::pooled(&mut random)?;
        let tag = tag(key, session, &random);
        Ok(Some(URL_SAFE_NO_PAD.encode([random, tag].concat())))
    }
}

fn tag(key: &Key, session: SessionId, random: &[u8; RANDOM]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    let label = b"stackbeam-session csrf 1";
    keyed(&mut tag, key.bytes(), &[label, &session.0, random]);
    tag
}
