//! Where tokens are found, and the cookie that carries one.

use http::{HeaderMap, HeaderValue, header};

use super::seen::Refusal;
use crate::verify::VerifyError;

/// When a browser sends the cookie with a request that another site made it send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "what browsers know")]
pub enum SameSite {
    /// Never, not even when a link is followed: whoever comes from a mail is not logged in at first.
    Strict,
    /// When a link is followed.
    #[default]
    Lax,
    /// Always: for what is embedded in other sites.
    None,
}

/// A cookie by its full name.
#[derive(Clone, Debug)]
pub(super) struct Cookie {
    pub(super) name: String,
    pub(super) same_site: SameSite,
    pub(super) secure: bool,
}

impl Cookie {
    pub(super) fn set(&self, token: &str, max_age: u64) -> Option<HeaderValue> {
        let same_site = match self.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let name = &self.name;
        let secure = if self.secure { " Secure;" } else { "" };
        let text = format!(
            "{name}={token}; Path=/; Max-Age={max_age};{secure} HttpOnly; SameSite={same_site}"
        );
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(super) fn end(&self) -> Option<HeaderValue> {
        self.set("", 0)
    }

    /// Whether this `Set-Cookie` is of our name.
    pub(super) fn is(&self, value: &HeaderValue) -> bool {
        let rest = value.as_bytes().strip_prefix(self.name.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"="))
    }
}

/// Where tokens are looked for.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Header(String),
    Cookie(Cookie),
}

pub(super) fn find<'a>(headers: &'a HeaderMap, place: &Place) -> Result<&'a str, Refusal> {
    let mut found = None;
    let mut take = |token: &'a [u8]| {
        let token = std::str::from_utf8(token).map_err(|_| VerifyError::Malformed)?;
        if found.replace(token).is_some() {
            Err(Refusal::Ambiguous)
        } else {
            Ok(())
        }
    };
    match place {
        Place::Header(scheme) => {
            for value in headers.get_all(header::AUTHORIZATION) {
                let value = value.as_bytes();
                if let Some((word, rest)) = value.split_at_checked(scheme.len())
                    && word.eq_ignore_ascii_case(scheme.as_bytes())
                    && let Some(token) = rest.strip_prefix(b" ")
                {
                    take(token.trim_ascii())?;
                }
            }
        }
        Place::Cookie(cookie) => {
            // Bytes of names are compared as they are: nothing decoded, nothing but the separator's
            // blank taken off, so no other name can pass for ours.
            for value in headers.get_all(header::COOKIE) {
                for pair in value.as_bytes().split(|byte| *byte == b';') {
                    let pair = pair.strip_prefix(b" ").unwrap_or(pair);
                    if let Some(rest) = pair.strip_prefix(cookie.name.as_bytes())
                        && let Some(token) = rest.strip_prefix(b"=")
                    {
                        take(token)?;
                    }
                }
            }
        }
    }
    found.ok_or(Refusal::Missing)
}
