//! Writing claims; a verifier without `std` has no use for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Claims, Id, Iso, Level, Unreadable};
use crate::format::Encoding;

#[derive(Serialize)]
struct Written<'a, T> {
    sub: &'a str,
    jti: Id,
    iat: Iso,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<Iso>,
    exp: Iso,
    auth_time: Iso,
    abs: Iso,
    #[serde(rename = "gen", skip_serializing_if = "is_zero")]
    generation: u64,
    #[serde(skip_serializing_if = "Level::is_lowest")]
    lvl: Level,
    data: &'a T,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Level {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Aal1 => 1,
            Self::Aal2 => 2,
            Self::Aal3 => 3,
        }
    }

    fn is_lowest(&self) -> bool {
        *self == Self::Aal1
    }
}

impl Serialize for Level {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.0.to_text() {
            return serializer
                .serialize_str(core::str::from_utf8(&text).map_err(serde::ser::Error::custom)?);
        }
        let time = (self.0.to_jiff())
            .ok_or_else(|| serde::ser::Error::custom("a time after the year 9999"))?;
        serializer.collect_str(&time)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 22];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0.0, &mut text);
        let text = written
            .ok()
            .and_then(|end| core::str::from_utf8(&text[..end]).ok());
        serializer.serialize_str(text.ok_or_else(|| serde::ser::Error::custom("an id"))?)
    }
}

impl<T: Serialize> Claims<T> {
    pub(crate) fn write(&self, encoding: Encoding) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        match encoding {
            Encoding::Json => {
                let mut json = Zeroizing::new(Vec::with_capacity(512));
                serde_json::to_writer(&mut *json, &self.written())?;
                Ok(json)
            }
            #[cfg(feature = "compact")]
            Encoding::Postcard => Ok(Zeroizing::new(crate::compact::write(self)?)),
        }
    }

    fn written(&self) -> Written<'_, T> {
        Written {
            sub: &self.subject,
            jti: Id(self.session),
            iat: Iso(self.issued_at),
            nbf: self.not_before.map(Iso),
            exp: Iso(self.expires_at),
            auth_time: Iso(self.authenticated_at),
            abs: Iso(self.ends_at),
            generation: self.generation,
            lvl: self.level,
            data: &self.data,
        }
    }
}
