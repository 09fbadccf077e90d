//! Writing claims; a verifier without `std` has no use for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::{Claims, Level, SessionId, Unreadable};
use crate::format::Encoding;
use crate::time::Timestamp;
use crate::wipe::Wiped;

impl Level {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Aal1 => 1,
            Self::Aal2 => 2,
            Self::Aal3 => 3,
        }
    }
}

/// [`Claims`] that are about to be written, of a subject and data that somebody else holds.
#[derive(Clone, Copy)]
pub(crate) struct Unsealed<'a, T> {
    pub(crate) subject: &'a str,
    pub(crate) session: SessionId,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
    pub(crate) authenticated_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    pub(crate) generation: u64,
    pub(crate) level: Level,
    pub(crate) data: &'a T,
}

impl<'a, T> From<&'a Claims<T>> for Unsealed<'a, T> {
    fn from(claims: &'a Claims<T>) -> Self {
        Self {
            subject: &claims.subject,
            session: claims.session,
            issued_at: claims.issued_at,
            not_before: claims.not_before,
            expires_at: claims.expires_at,
            authenticated_at: claims.authenticated_at,
            ends_at: claims.ends_at,
            generation: claims.generation,
            level: claims.level,
            data: &claims.data,
        }
    }
}

/// Room for the claims of most sites and a tag.
const ROOM: usize = 512;

impl<T: Serialize> Unsealed<'_, T> {
    /// The payload, behind `front` bytes of room.
    pub(crate) fn write(&self, encoding: Encoding, front: usize) -> Result<Wiped, Unreadable> {
        let mut payload = Wiped(Vec::with_capacity(front + ROOM));
        payload.0.resize(front, 0);
        match encoding {
            Encoding::Json => self.to_json(payload),
            #[cfg(feature = "compact")]
            Encoding::Postcard => crate::compact::write(self, payload),
        }
    }

    /// What says nothing is left out: no `nbf`, `auth_time` when it is `iat`, generation 0, level 1.
    fn to_json(&self, mut json: Wiped) -> Result<Wiped, Unreadable> {
        let out = &mut json.0;
        out.extend_from_slice(b"{\"sub\":");
        serde_json::to_writer(&mut *out, self.subject)?;
        out.extend_from_slice(b",\"jti\":\"");
        let mut id = [0; 22];
        let written = URL_SAFE_NO_PAD.encode_slice(self.session.0, &mut id)?;
        out.extend_from_slice(&id[..written]);
        push_time(out, b"\",\"iat\":\"", self.issued_at)?;
        if let Some(time) = self.not_before {
            push_time(out, b"\",\"nbf\":\"", time)?;
        }
        push_time(out, b"\",\"exp\":\"", self.expires_at)?;
        if self.authenticated_at != self.issued_at {
            push_time(out, b"\",\"auth_time\":\"", self.authenticated_at)?;
        }
        push_time(out, b"\",\"abs\":\"", self.ends_at)?;
        out.push(b'"');
        if self.generation != 0 {
            out.extend_from_slice(b",\"gen\":");
            serde_json::to_writer(&mut *out, &self.generation)?;
        }
        if self.level != Level::Aal1 {
            out.extend_from_slice(b",\"lvl\":");
            out.push(b'0' + self.level.number());
        }
        out.extend_from_slice(b",\"data\":");
        serde_json::to_writer(&mut *out, self.data)?;
        out.push(b'}');
        Ok(json)
    }
}

fn push_time(out: &mut Vec<u8>, key: &[u8], time: Timestamp) -> Result<(), Unreadable> {
    out.extend_from_slice(key);
    if let Some(text) = time.to_text() {
        out.extend_from_slice(&text);
        return Ok(());
    }
    let time = (time.to_jiff()).ok_or_else(|| Unreadable::from("a time after the year 9999"))?;
    out.extend_from_slice(time.to_string().as_bytes());
    Ok(())
}
