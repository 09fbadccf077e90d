//! How far a client has seen each shard: the cookie by which it reads its own writes.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Shards that one cookie names, at most; what is beyond is ignored.
const SHARDS_MAX: usize = 64;

/// The position of the newest write that the client knows of, by shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position(BTreeMap<u16, u64>);

impl Position {
    /// Reads `<shard>.<lsn>-<shard>.<lsn>` out of a `Cookie` header. Nonsense counts as nothing.
    pub(crate) fn from_cookies(cookies: &str) -> Self {
        let mut position = Self::default();
        for cookie in cookies.split(';') {
            let Some(value) = cookie.trim().strip_prefix("position=") else {
                continue;
            };
            for part in value.split('-').take(SHARDS_MAX) {
                if let Some((shard, lsn)) = part.split_once('.')
                    && let (Ok(shard), Ok(lsn)) = (shard.parse(), lsn.parse())
                {
                    position.advance(shard, lsn);
                }
            }
        }
        position
    }

    /// The client has seen this much of a shard.
    pub(crate) fn advance(&mut self, shard: u16, lsn: u64) {
        if self.0.len() < SHARDS_MAX || self.0.contains_key(&shard) {
            let known = self.0.entry(shard).or_default();
            *known = lsn.max(*known);
        }
    }

    /// What a read of a shard has to show at least.
    pub(crate) fn of(&self, shard: u16) -> u64 {
        self.0.get(&shard).copied().unwrap_or(0)
    }

    /// The `Set-Cookie` value.
    pub(crate) fn set_cookie(&self) -> String {
        let mut text = String::from("position=");
        for (place, (shard, lsn)) in self.0.iter().enumerate() {
            let dash = if place == 0 { "" } else { "-" };
            let _infallible = write!(text, "{dash}{shard}.{lsn}");
        }
        text.push_str("; Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn a_position_survives_its_cookie_and_only_grows() {
        let mut position = Position::from_cookies("a=b; position=0.7-3.9-x.y-4; c=d");
        position.advance(3, 4);
        assert_eq!((position.of(0), position.of(3), position.of(1)), (7, 9, 0));
        let sent = position.set_cookie();
        assert!(sent.starts_with("position=0.7-3.9;"));
        assert_eq!(Position::from_cookies(&sent), position);
    }
}
