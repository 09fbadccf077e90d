//! What a token says, and the strict reading of it.

#[cfg(feature = "std")]
mod write;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::format::Encoding;
use crate::time::Timestamp;

/// Deepest nesting of arrays and objects inside a payload.
const DEPTH_MAX: usize = 16;

/// The id of one session: 128 random bits. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    /// A new random id.
    ///
    /// # Errors
    /// [`KeyError::Random`](crate::KeyError::Random) when the system has no randomness.
    #[cfg(feature = "std")]
    pub fn generate() -> Result<Self, crate::key::KeyError> {
        let mut id = [0; 16];
        crate::random::pooled(&mut id)?;
        Ok(Self(id))
    }

    /// The id of these bytes, as [`as_bytes`](Self::as_bytes) gave them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes. Who holds them cannot forge a token, but may revoke by them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// How surely the subject proved who it is: NIST SP 800-63B-4. A session never rises by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the standard has three levels")]
pub enum Level {
    /// One factor.
    #[default]
    Aal1,
    /// Two factors.
    Aal2,
    /// Two factors, one of them hardware that resists phishing.
    Aal3,
}

impl Level {
    pub(crate) const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Aal1),
            2 => Some(Self::Aal2),
            3 => Some(Self::Aal3),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(u8::deserialize(deserializer)?).ok_or_else(|| de::Error::custom("not a level"))
    }
}

/// What a verified token says about who is asking.
#[derive(Clone)]
#[non_exhaustive]
pub struct Claims<T> {
    /// Who logged in.
    pub subject: String,
    /// This session.
    pub session: SessionId,
    /// When this token was made.
    pub issued_at: Timestamp,
    /// From when on it holds, when that is later than `issued_at`.
    pub not_before: Option<Timestamp>,
    /// When this token ends unless it is renewed.
    pub expires_at: Timestamp,
    /// When the subject last proved who it is.
    pub authenticated_at: Timestamp,
    /// When the session ends, renewed or not.
    pub ends_at: Timestamp,
    /// The subject's generation at login; a later generation ends this session.
    pub generation: u64,
    /// How surely the subject proved who it is.
    pub level: Level,
    /// What the application put in.
    pub data: T,
}

impl<T> fmt::Debug for Claims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("ends_at", &self.ends_at)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// The claims cannot be written or read; why is nobody's business outside.
#[derive(Debug)]
pub(crate) struct Unreadable(
    #[cfg_attr(
        not(feature = "std"),
        expect(dead_code, reason = "told to issuers alone")
    )]
    pub(crate) String,
);

impl<E: fmt::Display> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(alloc::format!("{error}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    sub: String,
    jti: Id,
    iat: Iso,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Iso>,
    exp: Iso,
    auth_time: Iso,
    abs: Iso,
    #[serde(rename = "gen", default)]
    generation: u64,
    #[serde(default)]
    lvl: Level,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A `null` is not the same as nothing: it is a claim of the wrong type.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Iso>, D::Error> {
    Iso::deserialize(deserializer).map(Some)
}

struct Iso(Timestamp);

impl<'de> Deserialize<'de> for Iso {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| Timestamp::from_iso(text).map(Self)))
    }
}

struct Id(SessionId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| {
            // Sixteen bytes are 22 characters; a slice of more room is what the library asks for.
            let mut bytes = [0; 18];
            let written = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
            let id = bytes[..written].try_into().ok()?;
            Some(Self(SessionId(id)))
        }))
    }
}

/// Reads a text without copying it first.
struct Text<F>(F);

impl<F: FnOnce(&str) -> Option<V>, V> Visitor<'_> for Text<F> {
    type Value = V;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time of RFC 3339, or a session id of 22 characters")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<V, E> {
        (self.0)(text).ok_or_else(|| E::custom("a claim is not of its form"))
    }
}

impl<T: DeserializeOwned> Claims<T> {
    pub(crate) fn read(bytes: &[u8], encoding: Encoding) -> Result<Self, Unreadable> {
        match encoding {
            Encoding::Json => Self::from_json(bytes),
            #[cfg(feature = "compact")]
            Encoding::Postcard => crate::compact::read(bytes),
        }
    }

    /// Refuses duplicate keys at any depth, unknown and missing claims, and wrong types.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Unreadable> {
        // Duplicates of our own claims are refused by what serde derives.
        let read: Read<'_> = serde_json::from_slice(json)?;
        let data = read.data.get();
        if data.contains('{') {
            unique(data.as_bytes())?;
        }
        Ok(Self {
            subject: read.sub,
            session: read.jti.0,
            issued_at: read.iat.0,
            not_before: read.nbf.map(|time| time.0),
            expires_at: read.exp.0,
            authenticated_at: read.auth_time.0,
            ends_at: read.abs.0,
            generation: read.generation,
            level: read.lvl,
            data: serde_json::from_str(data)?,
        })
    }
}

/// Refuses JSON in which a key occurs twice in one object, at any depth.
pub(crate) fn unique(json: &[u8]) -> Result<(), serde_json::Error> {
    let mut walk = serde_json::Deserializer::from_slice(json);
    Unique(0).deserialize(&mut walk)?;
    walk.end()
}

/// Walks a value and refuses a key that occurs twice in one object. The PASETO specification asks
/// for it; `serde_json` alone lets the last one win inside maps and unknown fields.
struct Unique(usize);

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(Self(inner))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys: Vec<String> = Vec::new();
        while let Some(key) = map.next_key()? {
            map.next_value_seed(Self(inner))?;
            keys.push(key);
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(de::Error::custom("a key occurs twice"))
        } else {
            Ok(())
        }
    }
}

impl Unique {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.0 >= DEPTH_MAX {
            Err(E::custom("nested too deeply"))
        } else {
            Ok(self.0 + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"sub":"7","jti":"AAAAAAAAAAAAAAAAAAAAAA","iat":"2026-01-01T00:00:00Z",
        "exp":"2026-01-01T01:00:00+00:00","auth_time":"2026-01-01T00:00:00Z","abs":"2026-01-02T00:00:00Z","data":{"a":1}}"#;

    fn read(json: &str) -> bool {
        Claims::<serde_json::Value>::from_json(json.as_bytes()).is_ok()
    }

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        assert!(read(GOOD));
        assert!(!read(
            &GOOD.replace(r#""sub":"7""#, r#""sub":"7","sub":"8""#)
        ));
        assert!(!read(&GOOD.replace(r#"{"a":1}"#, r#"{"a":1,"a":2}"#)));
        assert!(!read(
            &GOOD.replace(r#"{"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#)
        ));
    }

    #[test]
    fn a_claim_of_the_wrong_type_is_refused_and_not_taken_as_absent() {
        for (from, to) in [
            (r#""exp":"2026-01-01T01:00:00+00:00""#, r#""exp":"never""#),
            (
                r#""exp":"2026-01-01T01:00:00+00:00""#,
                r#""exp":1767229200"#,
            ),
            (r#""exp":"2026-01-01T01:00:00+00:00""#, r#""exp":null"#),
            (r#""exp":"2026-01-01T01:00:00+00:00","#, ""),
            (r#""sub":"7""#, r#""sub":7"#),
            (r#""data""#, r#""gen":"1","data""#),
            (r#""data""#, r#""gen":-1,"data""#),
            (r#""data""#, r#""nbf":null,"data""#),
            (r#""data""#, r#""lvl":0,"data""#),
            (r#""data""#, r#""lvl":"2","data""#),
            (r#""data""#, r#""nonsense":1,"data""#),
            ("AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB"),
            ("AAAAAAAAAAAAAAAAAAAAAA", "AAAA"),
        ] {
            let changed = GOOD.replace(from, to);
            assert_ne!(changed, GOOD);
            assert!(!read(&changed), "{changed}");
        }
        let deep = format!("{}{}{}", "[".repeat(20), "{}", "]".repeat(20));
        assert!(!read(&GOOD.replace(r#"{"a":1}"#, &deep)));
    }
}
