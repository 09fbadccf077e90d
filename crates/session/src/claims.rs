//! What a token says, and the strict reading of it.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::{self, KeyError};
use crate::time::Timestamp;

/// Deepest nesting of arrays and objects inside a payload.
const DEPTH_MAX: usize = 16;

/// The id of one session: 128 random bits. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let mut id = [0; 16];
        key::fill(&mut id)?;
        Ok(Self(id))
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
    /// When this token ends unless it is renewed.
    pub expires_at: Timestamp,
    /// When the subject last proved who it is.
    pub authenticated_at: Timestamp,
    /// When the session ends, renewed or not.
    pub ends_at: Timestamp,
    /// The subject's generation at login; a later generation ends this session.
    pub generation: u64,
    /// What the application put in.
    pub data: T,
}

impl<T> fmt::Debug for Claims<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<T> {
    sub: String,
    jti: Id,
    iat: Iso,
    exp: Iso,
    auth_time: Iso,
    abs: Iso,
    #[serde(rename = "gen", default, skip_serializing_if = "is_zero")]
    generation: u64,
    data: T,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

struct Iso(Timestamp);

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self
            .0
            .to_iso()
            .ok_or_else(|| serde::ser::Error::custom("a time after the year 9999"))?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Iso {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::from_iso(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("not an RFC 3339 time"))
    }
}

struct Id(SessionId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0.0))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(de::Error::custom)?;
        let id = bytes
            .try_into()
            .map_err(|_| de::Error::custom("a session id has 16 bytes"))?;
        Ok(Self(SessionId(id)))
    }
}

impl<T: Serialize> Claims<T> {
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Wire {
            sub: self.subject.clone(),
            jti: Id(self.session),
            iat: Iso(self.issued_at),
            exp: Iso(self.expires_at),
            auth_time: Iso(self.authenticated_at),
            abs: Iso(self.ends_at),
            generation: self.generation,
            data: &self.data,
        })
    }
}

impl<T: DeserializeOwned> Claims<T> {
    /// Refuses duplicate keys at any depth, unknown and missing claims, and wrong types.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut unique = serde_json::Deserializer::from_slice(json);
        Unique(0).deserialize(&mut unique)?;
        unique.end()?;
        let wire: Wire<T> = serde_json::from_slice(json)?;
        Ok(Self {
            subject: wire.sub,
            session: wire.jti.0,
            issued_at: wire.iat.0,
            expires_at: wire.exp.0,
            authenticated_at: wire.auth_time.0,
            ends_at: wire.abs.0,
            generation: wire.generation,
            data: wire.data,
        })
    }
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
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(Self(inner))?;
            if !seen.insert(key) {
                return Err(de::Error::custom("a key occurs twice"));
            }
        }
        Ok(())
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
            (r#""data""#, r#""nonsense":1,"data""#),
            ("AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB"),
            ("AAAAAAAAAAAAAAAAAAAAAA", "AAAA"),
        ] {
            let changed = GOOD.replace(from, to);
            assert_ne!(changed, GOOD);
            assert!(!read(&changed), "{changed}");
        }
        assert!(!read(&GOOD.replace(
            r#"{"a":1}"#,
            &format!("{}{}", "[".repeat(40), "]".repeat(40))
        )));
    }
}
