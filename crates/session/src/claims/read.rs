//! The strict reading of a payload in JSON.

use alloc::string::String;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::unique::{has_unique_keys, unique};
use super::{Claims, Id, Iso, Level, SessionId, Unreadable};
use crate::format::Encoding;
use crate::time::Timestamp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    sub: String,
    jti: Id,
    iat: Iso,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Iso>,
    exp: Iso,
    /// That of `iat` when it is left out.
    #[serde(default, deserialize_with = "present")]
    auth_time: Option<Iso>,
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

impl<'de> Deserialize<'de> for Iso {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| Timestamp::from_iso(text).map(Self)))
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(Self::of))
    }
}

impl Id {
    fn of(text: &str) -> Option<Self> {
        // Sixteen bytes are 22 characters; a slice of more room is what the library asks for.
        let mut bytes = [0; 18];
        let written = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let id = bytes[..written].try_into().ok()?;
        Some(Self(SessionId(id)))
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
        let claims = match canonical(json) {
            Some(claims) => claims,
            None => any(json)?,
        };
        let data = serde_json::from_str(claims.data)?;
        // The text of the data is JSON, or it had not been read.
        if claims.data.contains('{') && !has_unique_keys(claims.data) {
            unique(claims.data.as_bytes())?;
        }
        Ok(claims.with(data))
    }
}

impl Claims<&str> {
    fn with<T>(self, data: T) -> Claims<T> {
        Claims {
            subject: self.subject,
            session: self.session,
            issued_at: self.issued_at,
            not_before: self.not_before,
            expires_at: self.expires_at,
            authenticated_at: self.authenticated_at,
            ends_at: self.ends_at,
            generation: self.generation,
            level: self.level,
            data,
        }
    }
}

/// Claims in any JSON, the text of their data as it is.
fn any(json: &[u8]) -> Result<Claims<&str>, Unreadable> {
    // Duplicates of our own claims are refused by what serde derives.
    let read: Read<'_> = serde_json::from_slice(json)?;
    Ok(Claims {
        subject: read.sub,
        session: read.jti.0,
        authenticated_at: read.auth_time.as_ref().unwrap_or(&read.iat).0,
        issued_at: read.iat.0,
        not_before: read.nbf.map(|time| time.0),
        expires_at: read.exp.0,
        ends_at: read.abs.0,
        generation: read.generation,
        level: read.lvl,
        data: read.data.get(),
    })
}

/// The same for the very bytes that [`write`](super::write) writes, three times as fast; `None` leaves it to [`any`].
fn canonical(json: &[u8]) -> Option<Claims<&str>> {
    let rest = json.strip_prefix(b"{\"sub\":\"")?;
    let plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    let end = rest.iter().position(|byte| !plain(byte))?;
    let subject = core::str::from_utf8(&rest[..end]).ok()?;
    let rest = rest[end..].strip_prefix(b"\",\"jti\":\"")?;
    let (id, rest) = rest.split_at_checked(22)?;
    let session = Id::of(core::str::from_utf8(id).ok()?)?.0;
    let (issued_at, rest) = time(rest, b"\",\"iat\":\"")?;
    let (not_before, rest) =
        time(rest, b"\",\"nbf\":\"").map_or((None, rest), |(time, rest)| (Some(time), rest));
    let (expires_at, rest) = time(rest, b"\",\"exp\":\"")?;
    let (authenticated_at, rest) = time(rest, b"\",\"auth_time\":\"").unwrap_or((issued_at, rest));
    let (ends_at, rest) = time(rest, b"\",\"abs\":\"")?;
    let rest = rest.strip_prefix(b"\"")?;
    let (generation, rest) = number(rest, b",\"gen\":").unwrap_or((0, rest));
    let (level, rest) = number(rest, b",\"lvl\":").unwrap_or((1, rest));
    let data = rest.strip_prefix(b",\"data\":")?.strip_suffix(b"}")?;
    Some(Claims {
        subject: subject.into(),
        session,
        issued_at,
        not_before,
        expires_at,
        authenticated_at,
        ends_at,
        generation,
        level: Level::of(u8::try_from(level).ok()?)?,
        data: core::str::from_utf8(data).ok()?,
    })
}

fn time<'a>(json: &'a [u8], key: &[u8]) -> Option<(Timestamp, &'a [u8])> {
    let (text, rest) = json.strip_prefix(key)?.split_first_chunk()?;
    Some((Timestamp::from_text(text)?, rest))
}

fn number<'a>(json: &'a [u8], key: &[u8]) -> Option<(u64, &'a [u8])> {
    let rest = json.strip_prefix(key)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    // JSON has no zeros in front.
    if end > 1 && rest[0] == b'0' {
        return None;
    }
    let number = core::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, &rest[end..]))
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

    /// What [`canonical`] takes, [`any`] takes too, and both read the same.
    fn same(json: &[u8]) -> Option<bool> {
        let canonical = canonical(json)?;
        // The data is looked at later; a value is what `any` finds at its place.
        let sound = serde_json::from_str::<de::IgnoredAny>(canonical.data).is_ok();
        let any = any(json).ok().filter(|_| sound);
        Some(any.map_or(!sound, |any| {
            any.subject == canonical.subject
                && any.session == canonical.session
                && any.issued_at == canonical.issued_at
                && any.not_before == canonical.not_before
                && any.expires_at == canonical.expires_at
                && any.authenticated_at == canonical.authenticated_at
                && any.ends_at == canonical.ends_at
                && any.generation == canonical.generation
                && any.level == canonical.level
                && any.data.trim_ascii() == canonical.data.trim_ascii()
        }))
    }

    #[cfg(feature = "std")]
    mod written {
        use super::*;
        use proptest::prelude::{any, *};

        prop_compose! {
            fn claims()(
                subject in any::<String>(),
                id in any::<[u8; 16]>(),
                times in prop::array::uniform4(946_684_800_u64..4_102_444_800),
                not_before in prop::option::of(0_u64..4_102_444_800),
                generation in prop_oneof![Just(0), any::<u64>()],
                level in 1_u8..=3,
                data in prop_oneof![Just("7"), Just("null"), Just("{}"), Just(r#"{"a":[{"a":"}\"{"}]}"#)],
                fresh in any::<bool>(),
            ) -> Claims<serde_json::Value> {
                let [issued, expires, authenticated, ends] = times.map(Timestamp::from_secs);
                Claims {
                    subject,
                    session: SessionId(id),
                    issued_at: issued,
                    not_before: not_before.map(Timestamp::from_secs),
                    expires_at: expires,
                    authenticated_at: if fresh { issued } else { authenticated },
                    ends_at: ends,
                    generation,
                    level: Level::of(level).unwrap_or_default(),
                    data: serde_json::from_str(data).unwrap_or_default(),
                }
            }
        }

        fn written(claims: &Claims<serde_json::Value>) -> crate::wipe::Wiped {
            let unsealed = crate::claims::Unsealed::from(claims);
            unsealed.write(Encoding::Json, 0).unwrap()
        }

        proptest! {
            #[test]
            fn what_is_written_is_read_as_any_json_is_and_comes_back(claims in claims()) {
                let json = written(&claims);
                let read = Claims::<serde_json::Value>::from_json(&json).unwrap();
                prop_assert_eq!(&read.subject, &claims.subject);
                prop_assert_eq!(read.session, claims.session);
                prop_assert_eq!(read.authenticated_at, claims.authenticated_at);
                prop_assert_eq!(read.not_before, claims.not_before);
                prop_assert_eq!((read.generation, read.level), (claims.generation, claims.level));
                prop_assert_eq!(&read.data, &claims.data);
                let escaped = json[..json.len() - 2].contains(&b'\\');
                let old = claims.not_before.is_some_and(|time| time.as_secs() < 946_684_800);
                prop_assert!(same(&json).unwrap_or(escaped || old));
            }

            #[test]
            fn one_byte_changed_is_read_the_same_or_refused_by_both(
                claims in claims(),
                at in any::<prop::sample::Index>(),
                byte in prop_oneof![Just(b'"'), Just(b'\\'), Just(b'}'), Just(b'0'), any::<u8>()],
            ) {
                let mut json = written(&claims).to_vec();
                let at = at.index(json.len());
                json[at] = byte;
                prop_assert_ne!(same(&json), Some(false), "{}", String::from_utf8_lossy(&json));
            }
        }
    }
}
