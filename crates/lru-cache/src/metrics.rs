//! What a cache has done, through the `metrics` facade.

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use metrics::{counter, gauge};

use crate::Stats;

impl Stats {
    /// Reports these counters to the installed recorder, under the label `cache`. Call it when the
    /// recorder is read or at an interval; a look-up itself reports nothing and costs nothing.
    ///
    /// * `stackbeam_lru_cache_lookups_total` with `outcome`: `hit`, `miss`
    /// * `stackbeam_lru_cache_inserts_total`, `stackbeam_lru_cache_refusals_total`
    /// * `stackbeam_lru_cache_departures_total` with `cause`: `evicted`, `expired`, `replaced`, `removed`
    /// * `stackbeam_lru_cache_entries`, `stackbeam_lru_cache_weight` (in the unit of the weigher)
    pub fn report(&self, cache: &str) {
        let labels = |key, value: &str| -> [(&'static str, String); 2] {
            [("cache", cache.to_owned()), (key, value.to_owned())]
        };
        for (outcome, count) in [("hit", self.hits), ("miss", self.misses)] {
            counter!(
                "stackbeam_lru_cache_lookups_total",
                &labels("outcome", outcome)
            )
            .absolute(count);
        }
        for (cause, count) in [
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("replaced", self.replaced),
            ("removed", self.removed),
        ] {
            counter!(
                "stackbeam_lru_cache_departures_total",
                &labels("cause", cause)
            )
            .absolute(count);
        }
        let cache = || cache.to_owned();
        counter!("stackbeam_lru_cache_inserts_total", "cache" => cache()).absolute(self.inserted);
        counter!("stackbeam_lru_cache_refusals_total", "cache" => cache()).absolute(self.refused);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let (entries, weight) = (self.entries as f64, self.weight as f64);
        gauge!("stackbeam_lru_cache_entries", "cache" => cache()).set(entries);
        gauge!("stackbeam_lru_cache_weight", "cache" => cache()).set(weight);
    }
}
