//! What was issued, verified and refused.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::verify::VerifyError;

/// What [`Sessions`](crate::Sessions) and its clones did since they were made. Counters only grow;
/// `verified + refused()` is how often something was to be verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Tokens issued: logins and renewals.
    pub issued: u64,
    /// Tokens that held.
    pub verified: u64,
    /// Those of them that the cache knew.
    pub verified_from_cache: u64,
    /// Refused, because they are no token, or too long.
    pub malformed: u64,
    /// Refused, because their key is unknown, expired or revoked.
    pub key_not_accepted: u64,
    /// Refused, because they are forged, damaged, or of another purpose, or hold other claims.
    pub not_authentic: u64,
    /// Refused, because their time is over, or has not come.
    pub out_of_time: u64,
    /// Refused, because their session has been ended.
    pub revoked: u64,
    /// Refused, because it is not known which sessions have been ended.
    pub stale: u64,
}

impl SessionStats {
    /// All that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.malformed
            + self.key_not_accepted
            + self.not_authentic
            + self.out_of_time
            + self.revoked
            + self.stale
    }

    /// Reports through the [`metrics`](https://docs.rs/metrics) facade, under the purpose of the tokens or another name. Call
    /// it every few seconds or before a scrape; a request costs nothing for it.
    ///
    /// * `stackbeam_session_tokens_issued_total`
    /// * `stackbeam_session_tokens_verified_total` by `from`: `token`, `cache`
    /// * `stackbeam_session_tokens_refused_total` by `why`: `malformed`, `key`, `not_authentic`, `time`, `revoked`,
    ///   `stale`
    #[cfg(feature = "metrics")]
    pub fn report(&self, sessions: &str) {
        use metrics::counter;
        let name = || ("sessions", sessions.to_owned());
        let issued = counter!("stackbeam_session_tokens_issued_total", &[name()]);
        issued.absolute(self.issued);
        let from_token = self.verified.saturating_sub(self.verified_from_cache);
        for (from, value) in [("token", from_token), ("cache", self.verified_from_cache)] {
            let labels = [name(), ("from", from.to_owned())];
            counter!("stackbeam_session_tokens_verified_total", &labels).absolute(value);
        }
        for (why, value) in [
            ("malformed", self.malformed),
            ("key", self.key_not_accepted),
            ("not_authentic", self.not_authentic),
            ("time", self.out_of_time),
            ("revoked", self.revoked),
            ("stale", self.stale),
        ] {
            let labels = [name(), ("why", why.to_owned())];
            counter!("stackbeam_session_tokens_refused_total", &labels).absolute(value);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    issued: AtomicU64,
    verified: AtomicU64,
    cached: AtomicU64,
    refused: [AtomicU64; 6],
}

impl Counters {
    pub(crate) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn verified<V>(&self, result: &Result<V, VerifyError>) {
        let counter = match result {
            Ok(_) => &self.verified,
            Err(why) => {
                &self.refused[match why {
                    VerifyError::TooLong | VerifyError::Malformed => 0,
                    VerifyError::KeyNotAccepted => 1,
                    VerifyError::NotAuthentic | VerifyError::Claims => 2,
                    VerifyError::FromTheFuture | VerifyError::Expired => 3,
                    VerifyError::Revoked => 4,
                    VerifyError::Stale => 5,
                }]
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(feature = "cache")]
    pub(crate) fn cached(&self) {
        self.cached.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> SessionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [malformed, key, not_authentic, time, revoked, stale] = &self.refused;
        SessionStats {
            verified_from_cache: read(&self.cached),
            issued: read(&self.issued),
            verified: read(&self.verified),
            malformed: read(malformed),
            key_not_accepted: read(key),
            not_authentic: read(not_authentic),
            out_of_time: read(time),
            revoked: read(revoked),
            stale: read(stale),
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::SessionStats;

    #[test]
    fn the_recorder_gets_what_the_stats_say() {
        let stats = SessionStats {
            issued: 3,
            verified: 9,
            verified_from_cache: 4,
            revoked: 2,
            ..SessionStats::default()
        };
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || stats.report("login"));
        let text = recorder.handle().render();
        for line in [
            r#"stackbeam_session_tokens_issued_total{sessions="login"} 3"#,
            r#"stackbeam_session_tokens_verified_total{sessions="login",from="token"} 5"#,
            r#"stackbeam_session_tokens_verified_total{sessions="login",from="cache"} 4"#,
            r#"stackbeam_session_tokens_refused_total{sessions="login",why="revoked"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
