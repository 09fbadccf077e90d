//! From text to claims: frame, signature, then what is said.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{BYTES_MAX, JwtError, JwtKey};
use crate::policy::LEEWAY_MAX;
use crate::time::Timestamp;

/// Header parameters that are refused wherever they stand: keys from elsewhere, extensions, compression.
const REFUSED: [&str; 8] = ["crit", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "zip"];

/// What a token must say to be taken.
#[derive(Clone, Debug)]
pub struct JwtRules {
    issuer: String,
    audience: String,
    typ: String,
    leeway: Duration,
}

/// The registered claims of a token that was taken, and all of them as `T`.
#[derive(Clone)]
#[non_exhaustive]
pub struct JwtClaims<T> {
    /// Who it is about, when the token says so.
    pub subject: Option<String>,
    /// The name of this token, when it has one.
    pub id: Option<String>,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made, when the token says so.
    pub issued_at: Option<Timestamp>,
    /// The whole payload.
    pub data: T,
}

impl<T> fmt::Debug for JwtClaims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtClaims")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl JwtRules {
    /// Tokens by this issuer for this audience, of type `JWT`.
    #[must_use]
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            typ: "JWT".to_owned(),
            leeway: Duration::from_secs(30),
        }
    }

    /// The type that the header must name, such as `at+jwt`; compared without case. Defaults to `JWT`.
    #[must_use]
    pub fn typ(mut self, typ: &str) -> Self {
        typ.clone_into(&mut self.typ);
        self
    }

    /// How far apart the clocks may be. Defaults to 30 s; at most [`LEEWAY_MAX`].
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway.min(LEEWAY_MAX);
        self
    }

    /// The claims of `token`, if it was signed with `key` and is good here and now.
    ///
    /// # Errors
    /// [`JwtError`] says why not.
    pub fn verify<T: DeserializeOwned>(
        &self,
        key: &JwtKey,
        token: &str,
        now: Timestamp,
    ) -> Result<JwtClaims<T>, JwtError> {
        let (header, payload) = open(key, token)?;
        let typ = header
            .get("typ")
            .and_then(Value::as_str)
            .ok_or(JwtError::NotForUs)?;
        let typ = match typ.split_at_checked("application/".len()) {
            Some((front, rest)) if front.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        if !typ.eq_ignore_ascii_case(&self.typ) {
            return Err(JwtError::NotForUs);
        }
        let claims = object(&payload).ok_or(JwtError::Claims)?;
        let text = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(JwtError::Claims),
        };
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => seconds(value).map(Some).ok_or(JwtError::Claims),
        };
        let expires_at = time("exp")?.ok_or(JwtError::Claims)?;
        let (not_before, issued_at) = (time("nbf")?, time("iat")?);
        let (subject, id) = (text("sub")?, text("jti")?);
        if text("iss")? != Some(&self.issuer) || !self.is_audience(&claims)? {
            return Err(JwtError::NotForUs);
        }
        if now.before(self.leeway) >= expires_at {
            return Err(JwtError::Expired);
        }
        let late = now.after(self.leeway);
        if [not_before, issued_at]
            .into_iter()
            .flatten()
            .any(|time| time > late)
        {
            return Err(JwtError::FromTheFuture);
        }
        Ok(JwtClaims {
            subject: subject.map(str::to_owned),
            id: id.map(str::to_owned),
            expires_at,
            issued_at,
            data: serde_json::from_value(Value::Object(claims)).map_err(|_| JwtError::Claims)?,
        })
    }

    fn is_audience(&self, claims: &Map<String, Value>) -> Result<bool, JwtError> {
        match claims.get("aud") {
            None => Ok(false),
            Some(Value::String(one)) => Ok(*one == self.audience),
            Some(Value::Array(many)) => {
                let names = many.iter().map(|one| one.as_str().ok_or(JwtError::Claims));
                let names = names.collect::<Result<Vec<_>, _>>()?;
                Ok(names.contains(&self.audience.as_str()))
            }
            Some(_) => Err(JwtError::Claims),
        }
    }
}

/// The payload of a signed token, whatever it is: the signature and the header are checked, no claim is.
///
/// # Errors
/// [`JwtError`] says why not.
pub fn open_jws(key: &JwtKey, token: &str) -> Result<Vec<u8>, JwtError> {
    open(key, token).map(|(_, payload)| payload)
}

/// The `kid` of a token that nobody has checked yet: good for choosing among configured keys, and for
/// nothing else. At most 256 bytes.
///
/// # Errors
/// [`JwtError::Malformed`] for anything but the frame of a token; `Ok(None)` without one.
pub fn untrusted_kid(token: &str) -> Result<Option<String>, JwtError> {
    let (header, ..) = cut(token)?;
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.len() <= 256 => Ok(Some(kid.clone())),
        Some(_) => Err(JwtError::Malformed),
    }
}

type Cut<'a> = (Map<String, Value>, &'a str, &'a str, &'a str);

/// Header, signed part, payload and signature, the last two still in base64.
fn cut(token: &str) -> Result<Cut<'_>, JwtError> {
    if token.len() > BYTES_MAX {
        return Err(JwtError::TooLong);
    }
    let (signed, tag) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
    let header = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| JwtError::Malformed)?;
    let header = object(&header).ok_or(JwtError::Malformed)?;
    Ok((header, signed, payload, tag))
}

fn open(key: &JwtKey, token: &str) -> Result<(Map<String, Value>, Vec<u8>), JwtError> {
    let (header, signed, payload, tag) = cut(token)?;
    let algorithm = header.get("alg").and_then(Value::as_str);
    if algorithm != Some(key.algorithm().name()) {
        return Err(JwtError::Algorithm);
    }
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err(JwtError::Header);
    }
    // Decoding refuses a further dot, padding and unused bits: a token has one text.
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| JwtError::Malformed)?;
    let tag = URL_SAFE_NO_PAD
        .decode(tag)
        .map_err(|_| JwtError::Malformed)?;
    if !key.verifies(signed.as_bytes(), &tag) {
        return Err(JwtError::NotAuthentic);
    }
    Ok((header, payload))
}

/// A JSON object in which no key occurs twice.
fn object(json: &[u8]) -> Option<Map<String, Value>> {
    crate::claims::unique(json).ok()?;
    serde_json::from_slice(json).ok()
}

/// A `NumericDate`: seconds, whole or not; never a text, never below zero.
fn seconds(value: &Value) -> Option<Timestamp> {
    if let Some(whole) = value.as_u64() {
        return Some(Timestamp::from_secs(whole));
    }
    let exact = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Duration::try_from_secs_f64(exact)
        .ok()
        .map(|time| Timestamp::from_secs(time.as_secs()))
}
