//! Wall time in whole seconds, as tokens carry it.

use core::fmt;
use core::time::Duration;
#[cfg(feature = "std")]
use std::time::{SystemTime, UNIX_EPOCH};

const YEAR_2000: u64 = 946_684_800;
/// Days from the first of March 1996 to the first of January 2000.
const FROM_MARCH_1996: u64 = 1401;
#[cfg(feature = "std")]
const YEAR_2100: u64 = 4_102_444_800;

/// Days of a month, in the years from 2000 to 2099.
const fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Seconds since the Unix epoch. Tokens carry whole seconds, so nothing here is finer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time of `seconds` since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The system's clock. The only place of this crate that reads it.
    #[must_use]
    #[cfg(feature = "std")]
    #[expect(clippy::disallowed_methods, reason = "the shell's one clock read")]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Seconds since the Unix epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// `self + by`, staying at the largest value instead of overflowing.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// `self - by`, staying at the epoch instead of going below it.
    #[must_use]
    pub const fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    #[cfg(feature = "std")]
    pub(crate) fn to_jiff(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_second(i64::try_from(self.0).ok()?).ok()
    }

    /// `YYYY-MM-DDTHH:MM:SSZ`, as `jiff` writes it, for the years that tokens are of: a token has four of
    /// them. `None` leaves it to `jiff`.
    #[cfg(feature = "std")]
    pub(crate) fn to_text(self) -> Option<[u8; 20]> {
        if !(YEAR_2000..YEAR_2100).contains(&self.0) {
            return None;
        }
        let (day, second) = ((self.0 - YEAR_2000) / 86_400, (self.0 - YEAR_2000) % 86_400);
        // Years begin in March here, so that the leap day is the last: day 0 is the first of March 1996, and of
        // these years each fourth is a leap year. (Howard Hinnant, "chrono-compatible low-level date algorithms".)
        let day = day + FROM_MARCH_1996;
        let (four, of_four) = (day / 1461, day % 1461);
        let of_years = (of_four / 365).min(3);
        let of_year = of_four - of_years * 365;
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5;
        let (month, later) = if month < 10 {
            (month + 3, 0)
        } else {
            (month - 9, 1)
        };
        let year = 1996 + four * 4 + of_years + later;
        let mut text = *b"0000-00-00T00:00:00Z";
        let parts = [
            (0, year / 100),
            (2, year % 100),
            (5, month),
            (8, day + 1),
            (11, second / 3600),
            (14, second / 60 % 60),
            (17, second % 60),
        ];
        for (at, number) in parts {
            let [tens, ones] = [number / 10, number % 10].map(|digit| digit.to_le_bytes()[0]);
            text[at] = b'0' + tens;
            text[at + 1] = b'0' + ones;
        }
        Some(text)
    }

    /// The reverse of [`to_text`](Self::to_text), for exactly what it writes.
    pub(crate) fn from_text(text: &[u8; 20]) -> Option<Self> {
        let two = |at: usize| {
            let [tens, ones] = [text[at], text[at + 1]].map(|digit| digit.wrapping_sub(b'0'));
            (tens < 10 && ones < 10).then_some(u64::from(tens) * 10 + u64::from(ones))
        };
        let marks = [
            (4, b'-'),
            (7, b'-'),
            (10, b'T'),
            (13, b':'),
            (16, b':'),
            (19, b'Z'),
        ];
        if marks.iter().any(|(at, mark)| text[*at] != *mark) || &text[..2] != b"20" {
            return None;
        }
        let (year, month, day) = (2000 + two(2)?, two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (years, month) = if month > 2 {
            (year - 1996, month - 3)
        } else {
            (year - 1997, month + 9)
        };
        let days = years * 365 + years / 4 + (153 * month + 2) / 5 + day - 1 - FROM_MARCH_1996;
        Some(Self(
            YEAR_2000 + days * 86_400 + hour * 3600 + minute * 60 + second,
        ))
    }

    /// Reads a time of RFC 3339, cut to the second; `None` when it is none, or before 1970.
    #[must_use]
    pub fn from_iso(text: &str) -> Option<Self> {
        if let Some(time) = text.as_bytes().try_into().ok().and_then(Self::from_text) {
            return Some(time);
        }
        let time: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(time.as_second()).ok().map(Self)
    }
}

#[cfg(feature = "std")]
impl From<SystemTime> for Timestamp {
    /// A time before 1970 becomes the epoch.
    fn from(time: SystemTime) -> Self {
        Self(
            time.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        )
    }
}

/// RFC 3339 in UTC, as [`from_iso`](Timestamp::from_iso) and the text of a key source read it. A time beyond
/// the year 9999 is written as its seconds.
#[cfg(feature = "std")]
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_jiff() {
            Some(time) => time.fmt(f),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({}s)", self.0)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_century_is_written_and_read_as_the_library_does() {
        for day in 0..36_525_u64 {
            let time = Timestamp(YEAR_2000 + day * 86_400 + day * 7919 % 86_400);
            let expected = time.to_jiff().unwrap().to_string();
            let text = time.to_text().unwrap();
            assert_eq!(text, expected.as_bytes());
            assert_eq!(Timestamp::from_text(&text), Some(time));
            assert_eq!(Timestamp::from_iso(&time.to_string()), Some(time));
        }
        assert_eq!(Timestamp(YEAR_2000 - 1).to_text(), None);
        assert_eq!(Timestamp(YEAR_2100).to_text(), None);
        for bad in [
            b"2026-02-29T00:00:00Z",
            b"2026-13-01T00:00:00Z",
            b"2026-00-01T00:00:00Z",
            b"2026-01-00T00:00:00Z",
            b"2026-01-01T24:00:00Z",
            b"2026-01-01T00:60:00Z",
            b"2026-01-01T00:00:6:Z",
            b"2026-01-01 00:00:00Z",
        ] {
            assert_eq!(Timestamp::from_text(bad), None);
        }
    }
}
